"""Score these documents with this model into this file: shapes, units, parts, and their join."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.config.schema import Score
from mlxprune.data.index import Corpus
from mlxprune.execution.control import Control
from mlxprune.model.architecture import read_model_config
from mlxprune.run.events import EventLog
from mlxprune.run.markers import claim, mark_done, set_aside
from mlxprune.scoring.score_file import ScoreSummary, write_scores
from mlxprune.scoring.windows import policy_metadata, resolve_policy, stored_policy
from mlxprune.scoring.workers import (
    ScoringTask,
    joined_parts,
    score_units,
    usual_workers,
    work_units,
)
from mlxprune.tokenization.token_file import open_tokens


@dataclass(frozen=True)
class ScoreJob:
    """``parts`` is a folder where units lie until all are done; ``metadata`` goes into the file;
    ``what`` names the model in the events, where there are several."""

    model: Path
    tokens: Path
    documents: np.ndarray  # numbers in the corpus, ascending
    target: Path
    parts: Path
    fingerprint: str
    context: int
    settings: Score
    memory_bytes: int | None
    metadata: dict[str, str]
    what: str | None = None


def score_corpus(job: ScoreJob, corpus: Corpus, log: EventLog, control: Control) -> ScoreSummary:
    """Score what has no part yet, write ``job.target`` and mark it done.

    Raises WorkerDied and RunError; what is scored by then stays in the parts.
    """
    set_aside(job.parts, job.fingerprint)
    claim(job.parts, job.fingerprint)
    np.save(job.parts / "documents.npy", job.documents)
    tokens = open_tokens(job.tokens)
    policy = stored_policy(
        job.parts / "shapes.json",
        lambda: resolve_policy(
            tokens.lengths(job.documents),
            read_model_config(job.model),
            job.context,
            job.memory_bytes,
            job.settings,
        ),
    )
    units = work_units(corpus.index["bytes"][job.documents])
    task = ScoringTask(
        str(job.model),
        str(job.tokens),
        str(job.parts),
        str(job.parts / "documents.npy"),
        policy,
        units,
    )
    processes = job.settings.workers or usual_workers()
    score_units(task, corpus, processes, log, control, job.what)
    metadata = {**job.metadata, "prefix": str(tokens.prefix), **policy_metadata(policy)}
    joined = joined_parts(job.parts, len(units))
    summary = write_scores(job.target, corpus, job.documents, *joined, metadata)
    mark_done(job.target, "score", job.fingerprint, summary=summary)
    shutil.rmtree(job.parts)
    return summary
