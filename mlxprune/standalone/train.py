"""Train a model on any data, without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import machine
from mlxprune.config.schema import Config
from mlxprune.data.index import row_keys_of
from mlxprune.data.indexing import input_facts
from mlxprune.data.readers import Row, read_rows
from mlxprune.data.sources import find_sources
from mlxprune.evaluation.bits_per_byte import documents_for_curves, validator
from mlxprune.experiment.budgets import final_targets
from mlxprune.files import fingerprint_of, folder_in_the_making, no_space_is_an_error, read_json
from mlxprune.model.architecture import preset_of
from mlxprune.run import lock
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder, folder_apart
from mlxprune.run.markers import is_done, mark_done, read_marker, set_aside
from mlxprune.tokenization.prepare import prepare_text
from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
from mlxprune.tokenization.tokenizer import fetch_tokenizer
from mlxprune.training.loop import train_model
from mlxprune.training.recipe import recipe_identity, recipe_of, training_summary
from mlxprune.training.stream import TrainingStream


def train_alone(config: Config, out: Path, listeners: list[Any]) -> dict[str, Any]:
    """Train ``config.final`` on all of the data into ``out/final/model-s<seed>``."""
    run = folder_apart(out)
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, no_space_is_an_error(out):
            folder = _tokenizer(config, run, log, control)
            found, tokens = prepare_text(config, out, folder, log, control)
            documents = np.arange(len(found))
            lengths = tokens.lengths(documents) + 1
            shape = preset_of(config.final.model)
            targets = final_targets(config, shape, tokens.vocab_size, int(lengths.sum()))
            seed = config.final.seeds[0]
            vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
            recipe = recipe_of(config.final, shape, vocabulary, targets, seed)
            held_out = documents_for_curves(found, tokens, documents[::20], seed, 100_000)
            rest = np.setdiff1d(documents, held_out)
            stream = TrainingStream(tokens, rest, found.index["key"][rest], seed)
            place = run.final(f"model-s{seed}")
            fingerprint = fingerprint_of(recipe_identity(recipe), read_marker(run.tokens()))
            if not set_aside(place, fingerprint):
                log.emit("final", "stage.start", why="asked for")
                train_model(
                    recipe,
                    stream,
                    place,
                    fingerprint,
                    folder,
                    validator(
                        found, tokens, held_out, recipe.config, recipe.context, config.memory
                    ),
                    "final",
                    log,
                    control,
                    config.final.gradient_checkpointing,
                    config.memory,
                )
        log.close()
    return {"model": str(place), **training_summary(read_json(place / "training.json"))}


def _tokenizer(config: Config, run: RunFolder, log: EventLog, control: Control) -> Path:
    settings = config.tokenizer
    if settings.pretrained:
        return fetch_tokenizer(settings.pretrained)
    assert settings.train
    sources, _ = find_sources(config.data.paths)
    files = [[f["name"], f["size"], f["edges"]] for f in input_facts(sources)]
    fingerprint = fingerprint_of(settings.results(), config.data.text_key, files)
    if not is_done(run.tokenizer, fingerprint):
        set_aside(run.tokenizer, fingerprint)
        keys = row_keys_of(config.data)
        rows = (row for source in sources for row in read_rows(source, keys))
        texts = (row.text for row in rows if isinstance(row, Row))
        with folder_in_the_making(run.tokenizer) as partial:
            train_tokenizer(settings.train, texts, machine.cores(), partial)
        mark_done(run.tokenizer, "tokenizer", fingerprint)
    return run.tokenizer
