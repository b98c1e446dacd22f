"""Single stages without a study: score any data with any model, train a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Config, Score
from mlxprune.errors import DataError
from mlxprune.files import files_identity, fingerprint_of, no_space_is_an_error, read_json
from mlxprune.model.weights import MODEL_FILES, fetch_model
from mlxprune.run import lock
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import folder_apart
from mlxprune.run.markers import claim, is_done, mark_done, read_marker, set_aside
from mlxprune.scoring.nll import SCORING_VERSION
from mlxprune.scoring.score_file import write_scores
from mlxprune.scoring.windows import policy_metadata, resolve_policy, stored_policy
from mlxprune.scoring.workers import (
    ScoringTask,
    joined_parts,
    score_units,
    usual_workers,
    work_units,
)
from mlxprune.tokenization.prepare import prepare_text


def score_data(
    config: Config, model: str, out: Path, settings: Score, listeners: list[Any]
) -> dict[str, Any]:
    """Score every document of the data with one model into ``out/scores.parquet``."""
    source = fetch_model(model)
    run = folder_apart(out)
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, no_space_is_an_error(out):
            found, tokens = prepare_text(config, out, source, log, control)
            documents = np.arange(len(found))
            documents = documents[tokens.lengths(documents) > 0]
            if not len(documents):
                raise DataError("no document has a token", str(out), "check the data")
            stated = read_json(source / "config.json")
            context = settings.context or min(int(stated.get("max_position_embeddings", 512)), 2048)
            weights = files_identity(source, MODEL_FILES)
            corpus_marker = read_marker(run.tokens())
            described = [SCORING_VERSION, settings.results(), context, weights, corpus_marker]
            fingerprint = fingerprint_of(described)
            parts, target = out / "parts", out / "scores.parquet"
            if is_done(target, fingerprint):
                found_before = read_marker(target) or {}
                return {"scores": str(target), **found_before["summary"]}
            set_aside(target, fingerprint)
            set_aside(parts, fingerprint)
            claim(parts, fingerprint)
            np.save(parts / "documents.npy", documents)
            lengths = tokens.lengths(documents)
            policy = stored_policy(
                parts / "shapes.json",
                lambda: resolve_policy(lengths, stated, context, config.memory, settings),
            )
            task = ScoringTask(
                str(source),
                str(run.tokens()),
                str(parts),
                str(parts / "documents.npy"),
                policy,
                work_units(found.index["bytes"][documents]),
            )
            log.emit("score", "stage.start", why="asked for")
            processes = settings.workers or usual_workers()
            score_units(task, found, processes, log, control)
            metadata = {
                "model": model,
                "prefix": str(tokens.prefix),
                **policy_metadata(policy),
            }
            summary = write_scores(
                target, found, documents, *joined_parts(parts, len(task.units)), metadata
            )
            mark_done(target, "score", fingerprint, summary=summary)
            shutil.rmtree(parts)
        log.close()
    return {"scores": str(target), **summary}
