"""Tokenizing: from corpus to token file, against the library alone on the same texts and cores.

    python bench/tokenizing.py [--data FILES...]

The library's rate is that of one call with all texts in memory; ours includes finding and parsing
the rows, checking the ids and writing them. Without --data the texts are those of the demo.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--megabytes", type=float, default=20, help="of text, at most")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    import sentencepiece

    from mlxprune import machine
    from mlxprune.config.data import Data
    from mlxprune.config.schema import TrainTokenizer
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.data.index import open_corpus
    from mlxprune.data.indexing import build_index
    from mlxprune.data.sources import find_sources
    from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
    from mlxprune.tokenization.token_file import encode_corpus
    from mlxprune.tokenization.tokenizer import load_tokenizer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("corpus", "tokenizer", "tokens"):
            (folder / part).mkdir()
        paths = arguments.data
        if not paths:
            write_demo_corpus(folder / "texts", int(arguments.megabytes * 1e6 / 6))
            paths = [str(folder / "texts")]
        data = Data(paths=paths)
        build_index(data, find_sources(data), folder / "corpus")
        found = open_corpus(folder / "corpus", data)
        # The first documents: spread ones would have us read the whole corpus for a part of it.
        part = np.ones(len(found), np.uint8)
        part[np.cumsum(found.index["bytes"]) <= arguments.megabytes * 1e6] = 0
        texts = [text for _, text in found.texts(part == 0)]
        size = sum(len(text.encode()) for text in texts)
        settings = TrainTokenizer(vocab_size=arguments.vocab_size, max_bytes=8_000_000)
        train_tokenizer(settings, iter(texts), machine.cores(), folder / "tokenizer")
        loaded = load_tokenizer(folder / "tokenizer")
        library = sentencepiece.SentencePieceProcessor(
            model_file=str(folder / "tokenizer" / "tokenizer.model")
        )
        rates: dict[str, list[float]] = {"library": [], "ours": []}
        for _ in range(arguments.rounds):
            began = time.perf_counter()
            library.encode(texts, num_threads=machine.cores())
            rates["library"].append(size / (time.perf_counter() - began))
            began = time.perf_counter()
            encode_corpus(found, part, 1, loaded, folder / "tokens", lambda done, total: None)
            rates["ours"].append(size / (time.perf_counter() - began))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    share = medians["ours"] / medians["library"]
    if arguments.json:
        print(json.dumps({"bytes": size, "bytes_per_second": medians, "of_the_library": share}))
        return
    print(
        f"{size / 1e6:.1f} MB of text, vocabulary {arguments.vocab_size}, {machine.cores()} cores"
    )
    for name, rate in medians.items():
        print(f"  {name:<8} {rate / 1e6:6.2f} MB/s")
    print(f"  ours is {share:.0%} of the library alone")


if __name__ == "__main__":
    main()
