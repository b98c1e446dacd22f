"""Later windows: what their first input should be, measured on a model that needs its prefix.

    python bench/later_windows.py [--steps 600]

Two equal models are trained on the same text: one on sequences that always begin with a prefix
token, as Gemma and Llama were, one on sequences packed without any, as ours are. Both score long
documents in windows; what is shown is the mean loss in all windows but the first.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PREFIX = 0  # an id that stands nowhere in text
BATCH = 16


def train(ids: np.ndarray, config: dict[str, Any], context: int, steps: int, prefix: bool) -> Any:
    """AdamW over random stretches of the text, each behind a prefix or not."""
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.weights import initialise_model

    model = initialise_model(config, 0)
    its = make_optimizer("adamw", 3e-3, 0.1)
    its.init(model.trainable_parameters())
    step = backend.step_function(model, its, 1, 1.0)
    draw = np.random.default_rng(0)
    for number in range(steps):
        at = draw.integers(1, len(ids) - context, BATCH)
        targets = np.stack([ids[a : a + context] for a in at]).astype(np.int32)
        inputs = np.stack([ids[a - 1 : a + context - 1] for a in at]).astype(np.int32)
        if prefix:
            inputs[:, 0] = PREFIX
        step(
            inputs, targets, 3e-3 * min(1.0, (number + 1) / 50, (steps - number) / (0.2 * steps))
        )()
    return model


def later_loss(model: Any, tokens: Any, documents: np.ndarray, **policy: Any) -> float:
    """Mean loss in nats a token, without the first window of each document."""
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.windows import WindowPolicy

    whole = score_documents(model, tokens, documents, WindowPolicy(**policy))
    first = {**policy, "long_documents": "truncate"}
    head = score_documents(model, tokens, documents, WindowPolicy(**first))
    losses, counts = (
        float(whole[name].sum() - head[name].sum()) for name in ("nll_sum", "num_tokens")
    )
    return losses / counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--model", default="pico")
    arguments = parser.parse_args()
    from mlxprune.config.data import Data
    from mlxprune.config.schema import TrainTokenizer
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.data.readers import read_rows
    from mlxprune.data.rows import Row
    from mlxprune.data.sources import find_sources
    from mlxprune.model.architecture import full_config, preset_of
    from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
    from mlxprune.tokenization.token_file import Tokens
    from mlxprune.tokenization.tokenizer import load_tokenizer

    context = arguments.context
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer").mkdir()
        write_demo_corpus(folder / "texts")
        sources = find_sources(Data.model_validate({"paths": [str(folder / "texts")]})).sources
        texts = [r.text for s in sources for r in read_rows(s) if isinstance(r, Row)]
        train_tokenizer(TrainTokenizer(vocab_size=2048), iter(texts), 2, folder / "tokenizer")
        encoded = load_tokenizer(folder / "tokenizer").encode(texts)
    held_out = [d for i, d in enumerate(encoded) if i % 10 == 0 and len(d) > 3 * context]
    rest = [d for i, d in enumerate(encoded) if i % 10]
    ids = np.array([i for d in rest for i in d])
    flat = np.array([i for d in held_out for i in d], np.uint16)
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in held_out])]).astype(np.int64)
    config = full_config(preset_of(arguments.model), 2048, context, PREFIX, 1)
    documents = np.arange(len(held_out))
    print(f"{len(held_out)} documents of {len(flat):,} tokens in windows of {context}, later ones:")
    print(f"{'trained':<16} {'overlap':>7} {'last token':>11} {'prefix':>8}  prefix minus last")
    for words, prefix in (("with a prefix", True), ("without", False)):
        model = train(ids, config, context, arguments.steps, prefix)
        tokens = Tokens(flat, offsets, 2048, PREFIX if prefix else 1, 1)
        for overlap in (0, context // 4):
            losses = [
                later_loss(
                    model, tokens, documents, context=context, overlap=overlap,
                    long_documents="windows", max_tokens_per_document=None, batch_tokens=4096,
                    start=start,
                )
                for start in ("last", "prefix")
            ]  # fmt: skip
            last, other = losses
            print(f"{words:<16} {overlap:>7} {last:>11.4f} {other:>8.4f}  {other - last:+.4f}")


if __name__ == "__main__":
    main()
