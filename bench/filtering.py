"""Filtering: new text through a model, and through zlib, from end to end, in turns.

    pip install datatrove
    python bench/filtering.py [--megabytes 20] [--rounds 3] [--model pico] [--without datatrove]

    filter       mlxprune filter under a model: rows read, encoded, scored, judged, written
    scorer       mlxprune's scorer alone: the same documents, tokens ready, as many processes
    free         mlxprune filter under zlib: what reading, encoding and writing cost without a model
    datatrove    datatrove's own loop on the same text and cores: JsonlReader, a LambdaFilter that
                 compresses by zlib, JsonlWriter under zstd; a task and a worker a core

All work on the same JSON Lines, made of the demo's documents, in as many files as there are cores.
MB/s are of text in, and of whole commands: processes are started each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from indexing import write_corpus
from turns import summary

import mlxprune
from mlxprune import machine
from mlxprune.config.data import Data
from mlxprune.config.loading import validate_config
from mlxprune.config.schema import TrainTokenizer
from mlxprune.config.slices import Slice
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row
from mlxprune.data.sources import find_sources
from mlxprune.execution.lifecycle import alone
from mlxprune.filtering.basis import FilterBasis, ModelNeed
from mlxprune.filtering.cuts import Cuts, range_interval
from mlxprune.filtering.filter_text import filter_text
from mlxprune.model.architecture import full_config, preset_of
from mlxprune.model.device_choice import settle_device
from mlxprune.model.weights import initialise_model, save_model
from mlxprune.scoring.score_corpus import ScoreJob, score_corpus
from mlxprune.tokenization.prepare import prepare_text
from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
from mlxprune.tokenization.tokenizer import load_tokenizer

NAMES = ("filter", "scorer", "free", "datatrove")
BITS = 3.2  # of zlib, a byte: about the median of the demo's documents


def make_model(folder: Path, preset: str, paths: list[str], context: int) -> Path:
    """A model with weights as they are before training, and a tokenizer of the texts."""
    found = find_sources(Data.model_validate({"paths": paths})).sources
    texts = (row.text for source in found for row in read_rows(source) if isinstance(row, Row))
    (folder / "tokenizer").mkdir(parents=True)
    settings = TrainTokenizer(vocab_size=8192, max_bytes=8_000_000)  # type: ignore[call-arg]
    train_tokenizer(settings, texts, machine.cores(), folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    config = full_config(
        preset_of(preset), tokenizer.vocab_size, context, tokenizer.prefix, tokenizer.end
    )
    save_model(initialise_model(config, 0), config, folder / "tokenizer", folder / "model")
    return folder / "model"


def by_model(data: Data, model: Path, context: int) -> Callable[[Path], None]:
    def work(out: Path) -> None:
        mlxprune.filter(data, out, model=str(model), most=8192, context=context)

    return work


def by_scorer(data: Data, model: Path, context: int, folder: Path) -> Callable[[Path], None]:
    """The tokens are made once, before anybody looks at a clock."""
    config = validate_config(
        {"data": data.model_dump(mode="json"), "score": {"context": context}}, "bench"
    )
    with alone(config, folder, []) as execution:
        corpus, tokens = prepare_text(execution, model)

    def work(out: Path) -> None:
        with alone(config, out, []) as execution:
            settle_device(execution)
            documents = np.arange(len(corpus))
            job = ScoreJob(
                model=model, tokens=folder / "tokens" / "main",
                documents=documents[tokens.lengths(documents) > 0], target=out / "s.parquet",
                parts=out / "parts", fingerprint="bench", context=context,
                settings=config.score, memory_bytes=None, metadata={},
            )  # fmt: skip
            score_corpus(execution, job, corpus)

    return work


def by_zlib(data: Data, tokenizer: Path) -> Callable[[Path], None]:
    choice = Slice.model_validate({"max": BITS, "metric": "bpb", "reference": "zlib"})
    basis = FilterBasis(
        name="zlib", choice=choice, seed=0,
        config=validate_config({"data": {"paths": ["-"]}}, "bench"),
        needs=[ModelNeed("zlib", tokenizer)],
        cuts=Cuts(by="corpus", whole=range_interval(choice), groups={}), identity={},
    )  # fmt: skip
    return lambda out: filter_text(basis, data, out) and None


def keeps(document: Any) -> bool:
    """The same choice as by zlib here."""
    text = document.text.encode()
    return 8 * len(zlib.compress(text, 6)) <= BITS * len(text)


def by_datatrove(folder: Path) -> Callable[[Path], None]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    cores = machine.cores()

    def work(out: Path) -> None:
        steps = [
            JsonlReader(str(folder), glob_pattern="part-*.jsonl"),
            LambdaFilter(keeps),
            JsonlWriter(str(out), output_filename="${rank}.jsonl.zst", compression="zstd"),
        ]
        LocalPipelineExecutor(
            steps, tasks=cores, workers=cores, logging_dir=str(out / "logs"), skip_completed=False
        ).run()

    return work


@contextlib.contextmanager
def silent() -> Any:
    """What libraries and their workers print is no figure."""
    saved, null = (os.dup(1), os.dup(2)), os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(null, number)
        yield
    finally:
        sys.stdout.flush()
        for number, old in zip((1, 2), saved, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(null)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="pico", help="a preset")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "in").mkdir()
        paths = write_corpus(work / "in", arguments.megabytes, machine.cores())
        size = sum(Path(path).stat().st_size for path in paths) / 1e6
        data = Data.model_validate({"paths": paths})
        context = arguments.context
        model = make_model(work / "made", arguments.model, paths, context)
        contestants: dict[str, Callable[[Path], None]] = {}
        for name in NAMES:
            if name in arguments.without:
                continue
            if name == "filter":
                contestants[name] = by_model(data, model, context)
            elif name == "scorer":
                contestants[name] = by_scorer(data, model, context, work / "ready")
            elif name == "free":
                contestants[name] = by_zlib(data, work / "made" / "tokenizer")
            else:
                contestants[name] = by_datatrove(work / "in")
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(arguments.rounds):
            for name, run in contestants.items():
                out = work / f"{name}-{number}"
                began = time.perf_counter()
                with silent():
                    run(out)
                rates[name].append(size / (time.perf_counter() - began))
                shutil.rmtree(out)
    known = (("filter", "scorer"), ("free", "datatrove"))
    pairs = [pair for pair in known if {*pair} <= {*rates}]
    result = [summary({a: rates[a], b: rates[b]}, a) for a, b in pairs]
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    if arguments.json:
        print(json.dumps({"megabytes": size, "rates": rates, "pairs": result}))
        return
    print(f"{size:.1f} MB of JSON Lines, preset {arguments.model}, {machine.cores()} cores")
    for name, rate in medians.items():
        print(f"{name:<10} {rate:8.2f} MB/s")
    for (ours, other), rows in zip(pairs, result, strict=True):
        ratio = rows[1]["ours_over_it"]
        print(f"{ours} has {ratio:.2f} times the rate of {other} (by round {rows[1]['by_round']})")


if __name__ == "__main__":
    main()
