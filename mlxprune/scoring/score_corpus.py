"""Score these documents with this model into this file: shapes, units, parts, and their join."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.checksums import write_sealed_array
from mlxprune.config.schema import Score
from mlxprune.data.index import Corpus
from mlxprune.errors import RunError, one_line
from mlxprune.execution.context import Execution
from mlxprune.files import fingerprint_of, json_bytes
from mlxprune.model.architecture import read_model_config
from mlxprune.records import plain
from mlxprune.run.markers import claim, mark_done, set_aside
from mlxprune.scoring.score_file import ScoreSummary, write_scores
from mlxprune.scoring.units import (
    UNITS_VERSION,
    joined_parts,
    keep_rows,
    kept_rows,
    scoring_order,
    smaller_batches,
    unit_bytes,
    work_units,
)
from mlxprune.scoring.unscored_file import unscored_metadata, unscored_path, write_unscored
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
    start: str = "last"  # of later windows
    keeps_rows: bool = True  # from which a damaged file is written again, beside the file


def score_corpus(execution: Execution, job: ScoreJob, corpus: Corpus) -> ScoreSummary:
    """Score what has no part yet, write ``job.target`` and mark it done.

    Raises DeviceError, and RunError where more documents than ``score.max_unscored`` get no finite
    score; what is scored by then stays in the parts.
    """
    if job.parts.name.startswith("."):  # as they were called by earlier versions
        shutil.rmtree(job.parts.with_name(job.parts.name[1:]), ignore_errors=True)
    cut = fingerprint_of(job.fingerprint, UNITS_VERSION)
    set_aside(job.parts, cut)
    claim(job.parts, cut)
    order = scoring_order(corpus.index["key"][job.documents], execution.config.seed)
    documents = job.documents[order]
    tokens = open_tokens(job.tokens)
    policy = stored_policy(
        job.parts / "shapes.json",
        lambda: resolve_policy(
            tokens.lengths(job.documents),
            read_model_config(job.model),
            job.context,
            job.memory_bytes,
            job.settings,
            job.start,
        ),
    )
    units = work_units(corpus.index["bytes"][documents], unit_bytes(policy))
    scoring = ScoringOrder(
        job.model, job.tokens, job.parts, job.parts / "documents.npy", policy, units
    )
    found = kept_rows(job.parts, len(documents))
    if found is None:
        write_sealed_array(job.parts / "documents.npy", documents)
        processes = job.settings.workers or usual_workers()
        score_units(execution, scoring, corpus, processes, job.what)
        found = joined_parts(job.parts, len(units), policy.context)
    metadata = {**job.metadata, "prefix": str(tokens.prefix), **policy_metadata(policy)}
    if changes := smaller_batches(job.parts):
        metadata["policy.smaller_batches"] = json_bytes(plain(changes)).decode()
    joined, positions = found
    rows = np.empty_like(joined)
    rows[order] = joined
    finite = np.isfinite(rows["nll_sum"])
    unscored = job.documents[~finite]
    list_of = unscored_path(job.target, job.fingerprint)
    if len(unscored):
        some = write_unscored(list_of, corpus, unscored)
        _tell_of_unscored(execution, job, len(unscored), some, list_of)
        metadata |= unscored_metadata(corpus.index["key"][unscored])
    summary = write_scores(
        job.target, corpus, job.documents[finite], rows[finite], positions, metadata
    )
    summary.unscored = len(unscored)
    besides = (list_of,) if len(unscored) else ()
    if job.keeps_rows:
        keep_rows(job.parts, joined, positions)
    mark_done(job.target, "score", job.fingerprint, summary=summary, besides=besides)
    if not job.keeps_rows:
        shutil.rmtree(job.parts)
    return summary


def _tell_of_unscored(
    execution: Execution, job: ScoreJob, count: int, some: list[str], where: Path
) -> None:
    """A warning with ids; an error where they are too many to be the documents' fault."""
    total, limit = len(job.documents), job.settings.max_unscored
    who = f" under {job.what}" if job.what else ""
    names = ", ".join(map(one_line, some)) + (", ..." if count > len(some) else "")
    what = f"{count:,} of {total:,} documents have no finite score{who} ({names})"
    if count > limit * total:
        fix = "check the model, or raise score.max_unscored: what is scored is kept"
        raise RunError(f"{what}, above score.max_unscored = {limit:g}", str(where), fix)
    execution.warn("score", f"{what}: they leave the pool, and are listed in {where.name}")
