"""Explain: why a document was kept or dropped, wherever in the run it ended up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.artifacts import (
    model_folder,
    open_run_tokens,
    slice_scores,
    without_cleaned,
)
from mlxprune.experiment.scorers import scorers_of
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import rank_band, rank_documents

PART_REASONS = {
    split.TEST: "held out: it is in the test part, which only the verdict reads",
    split.VALIDATION: "held out: it is in the validation part, which the curves read",
    split.REFERENCE: "not in the pool: it is in the part that trained the reference",
    split.LEFT_OUT: "left out: by data.limit, or because the budgets need no larger pool",
    split.TRAIN: "not scored yet, or without a token",
}


def explain_document(run: RunFolder, config: Config, document_id: str) -> list[dict[str, Any]]:
    """One row for every document with this id and every slice. Raises UsageError when there is no
    such document."""
    found: list[dict[str, Any]] = []
    for choice in config.slices:
        name = choice.reference or config.scorers[0].name
        done = is_current(run, run.selection(choice.label))
        if done and is_current(run, run.scores(name)):
            found += _in_slice(run, config, choice, name, document_id)
    return found or _outside(run, config, document_id)


def _in_slice(
    run: RunFolder, config: Config, choice: Slice, name: str, document_id: str
) -> list[dict[str, Any]]:
    """Score, rank, band and reason of every scored document with this id."""
    table = pq.read_table(run.scores(name), columns=["id", "source", "row", "domain"])
    rows = np.flatnonzero(pc.equal(table.column("id"), document_id).to_numpy())
    if not len(rows):
        return []
    folder = run.selection(choice.label)
    kept = np.load(folder / "kept.npy", mmap_mode="r")
    scores = slice_scores(run, config, choice)
    ranked = rank_documents(scores, choice, config.seed, np.load(folder / "tokens.npy"))
    position = ranked.position(choice)
    figures = metric_values(scores, choice, rows)
    result = []
    for at, figure in zip(rows.tolist(), figures.tolist(), strict=True):
        row = {column: table.column(column)[at].as_py() for column in table.column_names}
        mean = float(scores.nll_sum[at] / scores.num_tokens[at])
        row |= {
            "slice": choice.label,
            "reference": name,
            "perplexity": float(np.exp(mean)),
            "mean_nll": mean,
            "figure": figure,
            "num_tokens": int(scores.num_tokens[at]),
            "rank": int(ranked.rank[at]),
            "of": int(ranked.size[at]),
            "position": float(position[at]),
            "band": [min(1.0, max(0.0, float(b))) for b in rank_band(choice)],
            "kept": bool(kept[at]),
        }
        if scores.fold is not None:
            row["fold"] = int(scores.fold[at])
        where = one_line(row["domain"])
        if choice.by == ("domain", "length"):
            first = 1 << (int(scores.num_tokens[at]).bit_length() - 1)
            where += f", {first} to {2 * first - 1} tokens"
        row["reason"] = _reason(choice, row["kept"], row["rank"], row["position"], where)
        result.append(row)
    return result


def _reason(choice: Slice, kept: bool, rank: int, position: float, where: str) -> str:
    """Why a document was kept or dropped, as one sentence."""
    did = "kept" if kept else "dropped"
    if rank < 0:
        return f"{did} by {choice.label}: shorter than min_tokens {choice.min_tokens}"
    low, high = (min(1.0, max(0.0, float(b))) for b in rank_band(choice))
    inside = low <= position < high or (position >= high >= 1)
    side = "inside" if inside else ("below" if position < low else "above")
    if kept != inside and choice.criterion != "soft" and not choice.bounded:
        side = "at the edge of"  # a count is rounded, the paper's rule is strict
    of = "the corpus" if choice.by == "corpus" else where
    by = choice.metric if isinstance(choice.metric, str) else "difference"
    told = (
        f"{did} by {choice.label}: at {position:.2%} of the {choice.unit} of {of} by {by}, "
        f"{side} the band [{low:.2%}, {high:.2%}]"
    )
    if choice.criterion == "soft":
        centre, spread = float(choice.centre or 0), float(choice.spread)
        return (
            f"{did} by {choice.label}: at {position:.2%} of the {choice.unit} of {of} by {by}; "
            f"drawn by lot, likeliest at {centre:.0%}, with a standard deviation of {spread:.0%}"
        )
    if choice.bounded and kept != inside:
        other = (
            "a floor, or room that caps leave, keeps it"
            if kept
            else ("a cap, or the floors of other domains, drop it")
        )
        return f"{told}: {other}"
    return told


def _outside(run: RunFolder, config: Config, document_id: str) -> list[dict[str, Any]]:
    if not is_current(run, run.corpus):
        raise UsageError("the run has no corpus index yet", str(run.path), "run it first")
    path = run.corpus / "documents.parquet"
    ids = pq.read_table(path, columns=["id"]).column("id")
    rows = np.flatnonzero(pc.equal(ids, document_id).to_numpy())
    if not len(rows):
        fix = "ids are as in the data; the scores list those of the pool"
        raise UsageError(f"no document has the id {one_line(document_id)!r}", str(run.path), fix)
    table = pq.read_table(path, columns=["source", "row", "domain"]).take(rows)
    part = split.open_split(run.split).part if is_current(run, run.split) else None
    scored = is_current(run, run.scores(config.scorers[0].name))
    clean = without_cleaned(run, config, rows) if scored else rows
    result = []
    for at, row in zip(rows.tolist(), table.to_pylist(), strict=True):
        reason = PART_REASONS[int(part[at])] if part is not None else "the run is not split yet"
        if at not in clean:
            reason = "left out: it holds items of the tasks (evaluation.contamination: remove)"
        result.append({**row, "kept": False, "reason": reason})
    return result


def document_token_losses(run: RunFolder, config: Config, document_id: str) -> dict[str, Any]:
    """The negative log-likelihood in nats of every token of a document under the reference, None
    where it is left unscored; ``#12`` is the document of that number in canonical order.

    Raises UsageError: no such document, one without tokens, or no reference yet.
    """
    from mlxprune.model.weights import load_model
    from mlxprune.scoring.nll import token_losses
    from mlxprune.scoring.windows import WindowPolicy

    path = run.corpus / "documents.parquet"
    if not is_current(run, run.corpus):
        raise UsageError("the run has no corpus index yet", str(run.path), "run it first")
    ids = pq.read_table(path, columns=["id"]).column("id")
    rows = np.flatnonzero(pc.equal(ids, document_id).to_numpy())
    if not len(rows) and document_id.startswith("#") and document_id[1:].isdigit():
        rows = np.array([int(document_id[1:])])
    if not len(rows) or rows[0] >= len(ids):
        fix = "ids are as in the data; the scores list those of the pool"
        raise UsageError(f"no document has the id {one_line(document_id)!r}", str(run.path), fix)
    scorer = scorers_of(config)[-1]
    if not is_current(run, run.reference(scorer.name)):
        raise UsageError("the run has no reference yet", str(run.path), "run it up to reference")
    tokens = open_run_tokens(run, scorer.tokenizer)
    ids_of = tokens.document(int(rows[0]))
    if not len(ids_of):
        raise UsageError("this document has no tokens in this run", str(run.path), "choose another")
    model, _ = load_model(model_folder(run, scorer.name))
    context = config.score.context or scorer.reference.context or 512
    policy = WindowPolicy(
        context, config.score.overlap, config.score.long_documents,
        config.score.max_tokens_per_document, context,
    )  # fmt: skip
    losses = token_losses(model, tokens, int(rows[0]), policy).tolist()
    return {
        "id": document_id,
        "reference": scorer.name,
        "ids": ids_of.astype(int).tolist(),
        "nll": [None if loss != loss else loss for loss in losses],
    }
