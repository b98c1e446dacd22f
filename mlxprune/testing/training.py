"""For tests: a recipe and a stream of random documents, small enough to train in a second."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Final
from mlxprune.model.architecture import preset_of
from mlxprune.testing.quiet import QuietControl, QuietLog
from mlxprune.tokenization.token_file import Tokens
from mlxprune.training.job import TrainingJob
from mlxprune.training.loop import train_model
from mlxprune.training.recipe import Recipe, recipe_of
from mlxprune.training.stream import TrainingStream
from mlxprune.training.summary import TrainingSummary

END = 1  # closes a document


def tokens_of(lengths: list[int], vocabulary: int = 300) -> Tokens:
    generator = np.random.default_rng(0)
    ids = generator.integers(2, vocabulary, sum(lengths)).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(ids, offsets, vocabulary, END, END)


def stream_of(lengths: list[int], seed: int = 0) -> TrainingStream:
    documents = np.arange(len(lengths))
    keys = documents.astype(np.uint64) * np.uint64(7919)
    return TrainingStream(tokens_of(lengths), documents, keys, seed)


def recipe(**changes: Any) -> Recipe:
    chosen = Final(
        model="pico",
        tokens=2000,
        context=16,
        batch_size=8,
        learning_rate=3e-3,
        checkpoint_every=512,
    )
    made = recipe_of(chosen, preset_of("pico"), (300, END, END), 2000, 0)
    return dataclasses.replace(made, **changes)


def train_small(
    folder: Path, chosen: Recipe, stop_at: int = -1, fresh: bool = True, **more: Any
) -> TrainingSummary:
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    stream = stream_of([30, 5, 70, 1, 200, 44])
    job = TrainingJob(chosen, stream, folder, "fingerprint", folder.parent, "final", **more)
    return train_model(job, QuietLog(), QuietControl(stop_at))  # type: ignore[arg-type]


def assert_same_bytes(whole: Path, broken: Path) -> None:
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(broken) for p in broken.rglob("*") if p.is_file())
    for file in files:
        assert (whole / file).read_bytes() == (broken / file).read_bytes(), file
