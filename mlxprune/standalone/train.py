"""Train a model on any data, without a study."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data.indexing import input_facts
from mlxprune.data.sources import find_sources
from mlxprune.evaluation.bits_per_byte import documents_for_curves
from mlxprune.execution.context import Execution
from mlxprune.execution.lifecycle import alone
from mlxprune.execution.stage import in_place
from mlxprune.experiment.budgets import final_targets
from mlxprune.experiment.training_order import TrainingOrder, train_in_child
from mlxprune.files import PARTIAL, fingerprint_of, finish_file, folder_in_the_making
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.model.device_choice import settle_device
from mlxprune.model.model_checks import refuse_untrainable
from mlxprune.records import read_record
from mlxprune.run.event_kinds import Reason, StageStart
from mlxprune.run.events import Listener
from mlxprune.run.markers import (
    CHANGING,
    link_file,
    mark_done,
    marker_identity,
)
from mlxprune.tokenization.prepare import prepare_text
from mlxprune.tokenization.tokenizer import fetch_tokenizer
from mlxprune.tokenization.tokenizer_training import train_on_sources
from mlxprune.training.recipe import recipe_identity, recipe_of
from mlxprune.training.summary import TrainingSummary, TrainingTotals


class TrainedModel(TrainingTotals):
    """What ``mlxprune train --json`` prints."""

    model: str  # its folder


def train_alone(config: Config, out: Path, listeners: list[Listener]) -> TrainedModel:
    """Train ``config.final`` on all of the data: ``out`` is then a model."""
    seed, preset = config.final.seeds[0], preset_of(config.final.model)
    context = training_defaults(config.final, preset).context
    refuse_untrainable({**preset.config, "vocab_size": 64}, context, "final")
    with alone(config, out, listeners) as execution:
        settle_device(execution)
        tokenizer_folder = _tokenizer(execution)
        corpus, tokens = prepare_text(execution, tokenizer_folder)
        documents = np.arange(len(corpus))
        unique = int((tokens.lengths(documents) + 1).sum())
        targets = final_targets(config, preset, tokens.vocab_size, unique)
        vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
        recipe = recipe_of(config.final, preset, vocabulary, targets, seed)
        held_out = documents_for_curves(corpus, tokens, documents[::20], seed, 100_000)
        rest = np.setdiff1d(documents, held_out)
        encoded = marker_identity(execution.run.tokens())
        order = TrainingOrder(
            recipe=recipe,
            tokens=execution.run.tokens(),
            documents=rest,
            keys=corpus.index["key"][rest],
            folder=execution.run.final(f"model-s{seed}"),
            fingerprint=fingerprint_of(recipe_identity(recipe) | config.dtype_identity, encoded),
            tokenizer_folder=tokenizer_folder,
            stage="final",
            held_out=held_out,
            held_out_bytes=int(corpus.index["bytes"][held_out].sum()),
            gradient_checkpointing=config.final.gradient_checkpointing,
            memory_bytes=config.memory,
        )
        if not in_place(execution, "final", order.folder, order.fingerprint):
            execution.log.emit("final", StageStart(why=Reason.ASKED))
            train_in_child(execution, order)
        _put_beside(order.folder, out)
    totals = read_record(order.folder / "training.json", TrainingSummary).totals
    return TrainedModel(model=str(out), **msgspec.structs.asdict(totals))


def _put_beside(model: Path, out: Path) -> None:
    """The files of the model in ``out`` itself, so that it is a model to whoever is given it."""
    for file in sorted(p for p in model.iterdir() if p.is_file() and not _is_bookkeeping(p)):
        partial = out / f"{file.name}{PARTIAL}"
        partial.unlink(missing_ok=True)
        link_file(file, partial)
        finish_file(partial, out / file.name)


def _is_bookkeeping(path: Path) -> bool:
    return path.name in CHANGING and path.name != "README.md"


def _tokenizer(execution: Execution) -> Path:
    """The folder of the one that the configuration names, or of one that is trained on the data."""
    settings, data, run = execution.config.tokenizer, execution.config.data, execution.run
    if settings.pretrained:
        return fetch_tokenizer(settings.pretrained)
    assert settings.train
    sources = find_sources(data).sources
    files = [[f.name, f.size, f.edges] for f in input_facts(sources)]
    fingerprint = fingerprint_of(settings.results(), data.identity()["text_key"], files)
    if not in_place(execution, "tokenizer", run.tokenizer, fingerprint):
        with folder_in_the_making(run.tokenizer) as partial:
            train_on_sources(execution, settings.train, sources, partial)
        mark_done(run.tokenizer, "tokenizer", fingerprint)
    return run.tokenizer
