"""Score any data with any model, without a study."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from mlxprune.config.schema import Config
from mlxprune.errors import DataError
from mlxprune.execution.lifecycle import alone
from mlxprune.execution.stage import in_place
from mlxprune.files import files_identity, fingerprint_of
from mlxprune.model.device_choice import settle_device
from mlxprune.model.model_checks import check_scoring_model, usual_context, worse_than_uniform
from mlxprune.model.weights import MODEL_FILES, fetch_model
from mlxprune.run.event_kinds import Reason, StageStart
from mlxprune.run.events import Listener
from mlxprune.run.markers import marker_identity
from mlxprune.scoring.nll import SCORING_VERSION
from mlxprune.scoring.score_corpus import ScoreJob, score_corpus
from mlxprune.scoring.score_file import ScoreSummary, summary_of_scores
from mlxprune.scoring.windows import window_start
from mlxprune.tokenization.prepare import prepare_text


class ScoredData(ScoreSummary, kw_only=True):
    """What ``mlxprune score --json`` prints."""

    scores: str  # the file


def score_data(config: Config, model: str, out: Path, listeners: list[Listener]) -> ScoredData:
    """Score every document of the data with one model into ``out/scores.parquet``."""
    source, settings, target = fetch_model(model), config.score, out / "scores.parquet"
    context = settings.context or usual_context(source)
    found = check_scoring_model(source, context, "--context")
    with alone(config, out, listeners) as execution:
        for warning in found.warnings:
            execution.warn("score", warning)
        settle_device(execution)
        corpus, tokens = prepare_text(execution, source)
        documents = np.arange(len(corpus))
        documents = documents[tokens.lengths(documents) > 0]
        if not len(documents):
            raise DataError("no document has a token", str(out), "check the data")
        if len(documents) < len(corpus):
            without = len(corpus) - len(documents)
            execution.warn("tokens", f"{without:,} documents have no token and are not scored")
        weights = files_identity(source, MODEL_FILES)
        encoded = marker_identity(execution.run.tokens())
        inputs = [SCORING_VERSION, settings.results(), context, weights, encoded]
        inputs += [config.dtype_identity] if config.dtype_identity else []
        assert found.tokenizer is not None
        start = window_start(settings, found.tokenizer)
        inputs += [{"later_windows": start}] if start != "last" else []
        fingerprint = fingerprint_of(inputs)
        there = in_place(execution, "score", target, fingerprint)
        summary = summary_of_scores(target) if there else None
        if summary is None:
            execution.log.emit("score", StageStart(why=Reason.ASKED))
            job = ScoreJob(
                model=source,
                tokens=execution.run.tokens(),
                documents=documents,
                target=target,
                parts=out / "parts",
                fingerprint=fingerprint,
                context=context,
                settings=settings,
                memory_bytes=config.memory,
                metadata={"model": model},
                start=start,
                keeps_rows=False,
            )
            summary = score_corpus(execution, job, corpus)
            if worse := worse_than_uniform(summary.mean_nll, tokens.vocab_size):
                execution.warn("score", worse)
    return ScoredData(scores=str(target), **msgspec.structs.asdict(summary))
