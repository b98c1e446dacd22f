"""The stage ``score``: the pool under every reference, and the scores that need no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlxprune.data import split
from mlxprune.execution.progress import stage_progress
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.artifacts import RunArtifacts, StudyExecution
from mlxprune.experiment.scorers import Scorer, free_score_names, scorers_of, scoring_context
from mlxprune.files import fingerprint_of
from mlxprune.model.model_checks import worse_than_uniform
from mlxprune.pipeline.decontaminate import decontaminate
from mlxprune.records import Json
from mlxprune.run.markers import mark_done
from mlxprune.scoring.model_free import MODEL_FREE_VERSION, unigram_scores, zlib_scores
from mlxprune.scoring.nll import PART_DTYPE, SCORING_VERSION
from mlxprune.scoring.score_corpus import ScoreJob, score_corpus
from mlxprune.scoring.score_file import (
    SCORE_METRIC_VERSION,
    ScoreSummary,
    places_of,
    positions_of,
    read_scores,
    summary_of_scores,
    write_scores,
)
from mlxprune.scoring.windows import window_start
from mlxprune.selection.metric import metric_values
from mlxprune.tokenization.tokenizer import load_tokenizer

MERGE_VERSION = 1
ONLY_UNIGRAM = 0.97  # a rank correlation with token frequency above which a reference adds little


def score_pool(study: StudyExecution) -> None:
    """The stage ``score``: a scores file for every model, and those that need no model."""
    without = decontaminate(study)
    artifacts = {
        scorer.name: _scored(study, scorer, without) for scorer in scorers_of(study.config)
    }
    if study.config.split.cross:
        folds = {name: artifact.inputs[0] for name, artifact in artifacts.items()}
        artifacts[study.config.primary_reference.name] = _merged(study, folds)
    first = artifacts[study.config.primary_reference.name]
    for name in free_score_names(study.config):
        artifacts[name] = _free(study, name, without, first)
    inputs = {name: artifact.inputs[0] for name, artifact in artifacts.items()}
    run_stage(study, "score", list(artifacts.values()), inputs)
    _warn_about_bad_models(study)
    _warn_about_unigram(study)


def _scored(study: StudyExecution, scorer: Scorer, without: dict[str, str]) -> Artifact:
    config, run = study.config, study.run
    context = scoring_context(config, scorer.reference)
    reference = fingerprint_of(study.inputs["reference"][scorer.name])
    inputs: Json = {
        "version": [SCORING_VERSION, SCORE_METRIC_VERSION],
        "score": {**config.score.results(), "context": context},
        "reference": reference,
        "tokens": study.fingerprint("tokens"),
        **config.dtype_identity,
        **({} if scorer.fold is None else {"fold": scorer.fold}),
        **without,
    }
    start = "last"
    if scorer.reference.pretrained:  # our own models know no prefix but the end of a text
        tokenizer = load_tokenizer(study.held.model_folder(scorer.name))
        start = window_start(config.score, tokenizer)
    elif config.score.later_windows == "prefix":
        start = "prefix"
    inputs |= {"later_windows": start} if start != "last" else {}
    target = run.scores(scorer.name)

    def build() -> ScoreSummary:
        job = ScoreJob(
            model=study.held.model_folder(scorer.name),
            tokens=run.tokens(scorer.tokenizer),
            documents=_documents(study, scorer),
            target=target,
            parts=target.with_name(f".{target.stem}.parts"),
            fingerprint=artifact.fingerprint,
            context=context,
            settings=config.score,
            memory_bytes=config.memory,
            metadata={"reference": reference, "tokenizer": study.fingerprint("tokenizer")},
            what=scorer.name if len(scorers_of(config)) > 1 else None,
            start=start,
        )
        return score_corpus(study, job, study.held.corpus)

    artifact = Artifact(target, (inputs,), build)
    return artifact


def _documents(study: StudyExecution, scorer: Scorer) -> np.ndarray:
    """The pool; of a fold its own, and the held-out part that all of them score."""
    held = study.held
    if scorer.fold is None:
        return held.candidates
    mine = held.folds(held.candidates) == scorer.fold
    return np.union1d(held.candidates[mine], held.validation)


def _merged(study: StudyExecution, folds: Json) -> Artifact:
    """The pool's scores under cross-scoring: each document's by the reference that has not seen
    it."""
    target = study.run.scores(study.config.primary_reference.name)

    def build() -> ScoreSummary:
        held = study.held
        pool, keys = held.candidates, held.corpus.index["key"]
        fold = held.folds(pool)
        rows = np.zeros(len(pool), PART_DTYPE)
        scored = np.ones(len(pool), bool)
        positions: Any = 0
        metadata: dict[str, str] = {}
        for scorer in scorers_of(study.config):
            path = study.run.scores(scorer.name)
            table = pq.read_table(path, columns=["key", "nll_sum", "num_tokens", "truncated"])
            mine = np.flatnonzero(fold == scorer.fold)
            at = places_of(table.column("key").to_numpy(), keys[pool[mine]])
            scored[mine[at < 0]] = False  # its reference gave it no finite score
            mine, at = mine[at >= 0], at[at >= 0]
            for column in PART_DTYPE.names or ():
                rows[column][mine] = table.column(column).to_numpy()[at]
            positions = positions + positions_of(path)
            noted = pq.read_schema(path).metadata.items()
            metadata = {k.decode(): v.decode() for k, v in noted if k.startswith(b"policy.")}
        metadata |= {"prefix": str(held.tokens().prefix)}
        summary = write_scores(
            target, held.corpus, pool[scored], rows[scored], positions, metadata, fold[scored]
        )
        mark_done(target, "score", artifact.fingerprint, summary=summary)
        return summary

    artifact = Artifact(target, ({"version": MERGE_VERSION, "folds": folds},), build)
    return artifact


def _free(study: StudyExecution, name: str, without: dict[str, str], first: Artifact) -> Artifact:
    """A score that needs no model; that of token frequency is held against the ``first``
    reference's ranks."""
    config, target = study.config, study.run.scores(name)
    inputs: Json = {"version": MODEL_FREE_VERSION, "tokens": study.fingerprint("tokens")}
    inputs |= {"pool": sorted({s.tokenizer for s in scorers_of(config)})} | without
    if name == "unigram":
        inputs |= {"against": first.fingerprint}

    def build() -> ScoreSummary:
        held, against = study.held, None
        if name == "zlib":
            report = stage_progress(study, "score", "bytes")
            rows = zlib_scores(held.corpus, held.tokens(), held.candidates, report)
        else:
            members = held.split.members(split.REFERENCE)
            learned = members if len(members) else held.candidates
            rows = unigram_scores(held.tokens(), held.candidates, learned)
            against = _mean_losses(held, first)
        none = np.zeros((2, 1))
        summary = write_scores(
            target, held.corpus, held.candidates, rows, none, {"free": name}, against=against
        )
        mark_done(target, "score", artifact.fingerprint, summary=summary)
        return summary

    artifact = Artifact(target, (inputs,), build)
    return artifact


def _mean_losses(held: RunArtifacts, first: Artifact) -> np.ndarray:
    """float64 [candidates]: under the first reference, NaN where it gave none."""
    scores = read_scores(first.path)
    at = places_of(scores.key, held.corpus.index["key"][held.candidates])
    return np.where(at >= 0, metric_values(scores, "perplexity")[at], np.nan)


def _warn_about_bad_models(study: StudyExecution) -> None:
    """A model that is worse than guessing, or than token frequency, ranks by nothing."""
    free = summary_of_scores(study.run.scores("unigram"))
    for scorer in scorers_of(study.config):
        summary = summary_of_scores(study.run.scores(scorer.name))
        if summary is None or scorer.snapshot is not None:
            continue
        size = study.held.tokens(scorer.tokenizer).vocab_size
        if worse := worse_than_uniform(summary.mean_nll, size):
            study.warn("score", f"{scorer.name}: {worse}")
            continue
        own, others = summary.bits_per_byte, free.bits_per_byte if free is not None else None
        if own is not None and others is not None and own >= others:
            study.warn(
                "score",
                f"{scorer.name}: {own:.3f} bits per byte, and token frequency has {others:.3f} on "
                "the same text: this reference is worse than counting tokens, and its ranks mean "
                "little",
            )


def _warn_about_unigram(study: StudyExecution) -> None:
    summary = summary_of_scores(study.run.scores("unigram"))
    correlation = summary.rank_correlation if summary else None
    if correlation is not None and correlation > ONLY_UNIGRAM:
        study.warn(
            "score",
            f"the ranks are nearly those of token frequency (rank correlation {correlation:.3f}): "
            "this reference adds little; train it longer or take a larger one",
        )
