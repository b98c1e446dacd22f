"""The stage ``score``: the pool under every reference, and the scores that need no model."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlxprune.config.schema import Reference
from mlxprune.data import split
from mlxprune.experiment.artifacts import (
    folds_of,
    model_folder,
    open_run_corpus,
    open_run_tokens,
    pool_documents,
    validation_part,
)
from mlxprune.experiment.scorers import Scorer, free_score_names, scorers_of
from mlxprune.files import fingerprint_of, read_json
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.pipeline.decontaminate import clean
from mlxprune.run.markers import claim, mark_done, read_marker, set_aside
from mlxprune.run.stage import Artifact, RunContext, run_stage, stage_progress
from mlxprune.scoring.model_free import MODEL_FREE_VERSION, unigram_scores, zlib_scores
from mlxprune.scoring.nll import PART_DTYPE, SCORING_VERSION
from mlxprune.scoring.score_file import (
    SCORE_METRIC_VERSION,
    places_of,
    positions_of,
    read_scores,
    write_scores,
)
from mlxprune.scoring.windows import policy_metadata, resolve_policy, stored_policy
from mlxprune.scoring.workers import (
    ScoringTask,
    joined_parts,
    score_units,
    usual_workers,
    work_units,
)
from mlxprune.selection.metric import metric_values
from mlxprune.stats import spearman
from mlxprune.tokenization.token_file import open_tokens

MERGE_VERSION = 1
ONLY_UNIGRAM = 0.97  # a rank correlation with token frequency above which a reference adds little


def score_pool(work: RunContext) -> None:
    """The stage ``score``: a scores file for every model, and those that need no model."""
    work.inputs["score"] = {}
    pieces = []
    without = clean(work)
    pool = pool_documents(work.run, work.config)
    for scorer in scorers_of(work.config):
        documents = pool
        if scorer.fold is not None:  # its own fold, and the held-out part that all of them score
            mine = folds_of(work.run, work.config, pool) == scorer.fold
            held_out = validation_part(work.run, work.config)
            documents = np.union1d(pool[mine], held_out)
        pieces.append(_scored(work, scorer, documents, without))
    if work.config.split.cross:
        pieces.append(_merged(work))
    pieces += [_free(work, name, without) for name in free_score_names(work.config)]
    run_stage(work, "score", pieces)
    _warn_about_unigram(work)


def _context(work: RunContext, reference: Reference) -> int:
    if work.config.score.context is not None:
        return work.config.score.context
    if reference.pretrained:
        return reference.context or 512
    shape = preset_of(reference.model)
    return int(training_defaults(reference, shape)["context"])


def _scored(
    work: RunContext, scorer: Scorer, documents: np.ndarray, without: dict[str, Any]
) -> Artifact:
    settings = work.config.score
    context = _context(work, scorer.reference)
    described: dict[str, Any] = {
        "version": [SCORING_VERSION, SCORE_METRIC_VERSION],
        "score": {**settings.results(), "context": context},
        "reference": fingerprint_of(work.inputs["reference"][scorer.name]),
        "tokens": work.fingerprint("tokens"),
    }
    described |= ({} if scorer.fold is None else {"fold": scorer.fold}) | without
    work.inputs["score"][scorer.name] = described
    fingerprint = fingerprint_of(described)
    target = work.run.scores(scorer.name)
    several = len(scorers_of(work.config)) > 1

    def build() -> dict[str, Any]:
        parts = target.with_name(target.stem + ".parts")
        set_aside(parts, fingerprint)
        claim(parts, fingerprint)
        names = open_run_corpus(work.run, work.config)
        source = work.run.tokens(scorer.tokenizer)
        np.save(parts / "documents.npy", documents)
        model = model_folder(work.run, scorer.name)
        tokens = open_tokens(source)
        stated = read_json(model / "config.json")
        memory = work.config.memory
        policy = stored_policy(
            parts / "shapes.json",
            lambda: resolve_policy(tokens.lengths(documents), stated, context, memory, settings),
        )
        unit_list = work_units(names.index["bytes"][documents])
        task = ScoringTask(
            str(model), str(source), str(parts), str(parts / "documents.npy"), policy, unit_list
        )
        what = scorer.name if several else None
        processes = settings.workers or usual_workers()
        score_units(task, names, processes, work.log, work.control, what)
        metadata = {
            "reference": described["reference"],
            "tokenizer": work.fingerprint("tokenizer"),
            "prefix": str(tokens.prefix),
            **policy_metadata(policy),
        }
        summary = write_scores(
            target, names, documents, *joined_parts(parts, len(unit_list)), metadata
        )
        mark_done(target, "score", fingerprint, summary=summary)
        shutil.rmtree(parts)
        return summary

    return Artifact(target, fingerprint, build)


def _merged(work: RunContext) -> Artifact:
    """The pool's scores under cross-scoring: each document's by the reference that has not seen
    it."""
    name = work.config.scorers[0].name
    described = {"version": MERGE_VERSION, "folds": dict(work.inputs["score"])}
    work.inputs["score"][name] = described
    fingerprint, target = fingerprint_of(described), work.run.scores(name)

    def build() -> dict[str, Any]:
        pool = pool_documents(work.run, work.config)
        keys = open_run_corpus(work.run, work.config).index["key"]
        fold = folds_of(work.run, work.config, pool)
        rows = np.zeros(len(pool), PART_DTYPE)
        positions: Any = 0
        metadata: dict[str, str] = {}
        for scorer in scorers_of(work.config):
            path = work.run.scores(scorer.name)
            table = pq.read_table(path, columns=["key", "nll_sum", "num_tokens", "truncated"])
            mine = np.flatnonzero(fold == scorer.fold)
            at = places_of(table.column("key").to_numpy(), keys[pool[mine]])
            for column in PART_DTYPE.names or ():
                rows[column][mine] = table.column(column).to_numpy()[at]
            positions = positions + positions_of(path)
            told = pq.read_schema(path).metadata
            metadata = {k.decode(): v.decode() for k, v in told.items() if k.startswith(b"policy.")}
        metadata |= {"prefix": str(open_run_tokens(work.run).prefix)}
        names = open_run_corpus(work.run, work.config)
        summary = write_scores(target, names, pool, rows, positions, metadata, fold)
        mark_done(target, "score", fingerprint, summary=summary)
        return summary

    return Artifact(target, fingerprint, build)


def _free(work: RunContext, name: str, without: dict[str, Any]) -> Artifact:
    described = {"version": MODEL_FREE_VERSION, "tokens": work.fingerprint("tokens")}
    described |= {"pool": sorted({s.tokenizer for s in scorers_of(work.config)})} | without
    first = work.config.scorers[0].name
    if name == "unigram":  # it is held against the reference's ranks
        described |= {"against": fingerprint_of(work.inputs["score"][first])}
    work.inputs["score"][name] = described
    fingerprint, target = fingerprint_of(described), work.run.scores(name)

    def build() -> dict[str, Any]:
        names, tokens = open_run_corpus(work.run, work.config), open_run_tokens(work.run)
        pool = pool_documents(work.run, work.config)
        if name == "zlib":
            rows = zlib_scores(names, tokens, pool, stage_progress(work, "score", "bytes"))
        else:
            members = split.open_split(work.run.split).members(split.REFERENCE)
            rows = unigram_scores(tokens, pool, members if len(members) else pool)
        none = np.zeros((2, 1))
        summary = write_scores(target, names, pool, rows, none, {"free": name})
        if name == "unigram":
            own = read_scores(work.run.scores(first))
            summary["rank_correlation"] = spearman(
                metric_values(own, "perplexity"), rows["nll_sum"] / rows["num_tokens"]
            )
        mark_done(target, "score", fingerprint, summary=summary)
        return summary

    return Artifact(target, fingerprint, build)


def _warn_about_unigram(work: RunContext) -> None:
    summary = (read_marker(work.run.scores("unigram")) or {})["summary"]
    correlation = summary["rank_correlation"]
    if correlation is not None and correlation > ONLY_UNIGRAM:
        work.warn(
            "score",
            f"the ranks are nearly those of token frequency (rank correlation {correlation:.3f}): "
            "this reference adds little; train it longer or take a larger one",
        )
