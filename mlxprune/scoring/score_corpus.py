"""Score these documents with this model into this file: shapes, units, parts, and their join."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.config.schema import Score
from mlxprune.data.index import Corpus
from mlxprune.execution.context import Execution
from mlxprune.files import fingerprint_of, json_bytes, write_array
from mlxprune.model.architecture import read_model_config
from mlxprune.records import plain
from mlxprune.run.markers import claim, mark_done, set_aside
from mlxprune.scoring.score_file import ScoreSummary, write_scores
from mlxprune.scoring.units import (
    UNITS_VERSION,
    joined_parts,
    scoring_order,
    smaller_batches,
    unit_bytes,
    work_units,
)
from mlxprune.scoring.windows import policy_metadata, resolve_policy, stored_policy
from mlxprune.scoring.workers import ScoringOrder, score_units, usual_workers
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


def score_corpus(execution: Execution, job: ScoreJob, corpus: Corpus) -> ScoreSummary:
    """Score what has no part yet, write ``job.target`` and mark it done.

    Raises DeviceError and RunError; what is scored by then stays in the parts.
    """
    cut = fingerprint_of(job.fingerprint, UNITS_VERSION)
    set_aside(job.parts, cut)
    claim(job.parts, cut)
    order = scoring_order(corpus.index["key"][job.documents], execution.config.seed)
    documents = job.documents[order]
    write_array(job.parts / "documents.npy", documents)
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
    units = work_units(corpus.index["bytes"][documents], unit_bytes(policy))
    scoring = ScoringOrder(
        job.model, job.tokens, job.parts, job.parts / "documents.npy", policy, units
    )
    processes = job.settings.workers or usual_workers()
    score_units(execution, scoring, corpus, processes, job.what)
    metadata = {**job.metadata, "prefix": str(tokens.prefix), **policy_metadata(policy)}
    if changes := smaller_batches(job.parts):
        metadata["policy.smaller_batches"] = json_bytes(plain(changes)).decode()
    joined, positions = joined_parts(job.parts, len(units), policy.context)
    rows = np.empty_like(joined)
    rows[order] = joined
    summary = write_scores(job.target, corpus, job.documents, rows, positions, metadata)
    mark_done(job.target, "score", job.fingerprint, summary=summary)
    shutil.rmtree(job.parts)
    return summary
