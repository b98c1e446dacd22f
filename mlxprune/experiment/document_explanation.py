"""Document explanation: why a document was kept or dropped, wherever in the run it ended up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.scorers import Scorer, scorers_of, scoring_context
from mlxprune.records import Record, SparseRecord
from mlxprune.run.markers import is_current
from mlxprune.scoring.score_file import places_of, window_start_of
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import rank_band, rank_documents
from mlxprune.tokenization.tokenizer import load_tokenizer, token_texts

PART_REASONS = {
    split.TEST: "held out: it is in the test part, which only the verdict reads",
    split.VALIDATION: "held out: it is in the validation part, which the curves read",
    split.REFERENCE: "not in the pool: it is in the part that trained the reference",
    split.LEFT_OUT: "left out: by data.mix or data.limit, or as the budgets need no larger pool",
    split.TRAIN: "not scored yet, or without a token",
}


class ExplainedDocument(SparseRecord):
    """A document of the corpus, whether it is kept, and why."""

    source: str
    row: int
    domain: str
    kept: bool
    reason: str


class RankedDocument(ExplainedDocument, kw_only=True):
    """One that is scored: its figures, and its place among those that a slice ranks it with.

    ``figure`` is what the slice ranks by, ``mean_nll`` in nats a token. ``rank`` is -1 for a
    document that is too short to be ranked; ``position`` and ``band`` are shares.
    """

    id: str
    slice: str
    reference: str
    perplexity: float
    mean_nll: float
    figure: float
    num_tokens: int
    rank: int
    of: int
    position: float
    band: tuple[float, float]
    fold: int | None = None  # of cross-scoring


class TokenLosses(Record):
    """The negative log-likelihood in nats of every token of a document under ``reference``, None
    where it is left unscored; ``texts``: what each token says, as ``token_texts`` has it."""

    id: str
    reference: str
    ids: list[int]
    texts: list[str]
    nll: list[float | None]


def explain_document(held: RunArtifacts, document_id: str) -> Sequence[ExplainedDocument]:
    """One row for every document with this id and every slice. Raises UsageError when there is no
    such document."""
    explained: list[RankedDocument] = []
    for choice in held.config.slices:
        name = choice.reference or held.config.primary_reference.name
        done = is_current(held.run, held.run.selection(choice.label))
        if done and is_current(held.run, held.run.scores(name)):
            explained += _in_slice(held, choice, name, document_id)
    return explained or _outside(held, document_id)


def _in_slice(
    held: RunArtifacts, choice: Slice, name: str, document_id: str
) -> list[RankedDocument]:
    """Score, rank, band and reason of every scored document with this id."""
    run = held.run
    table = pq.read_table(run.scores(name), columns=["key", "id", "source", "row", "domain"])
    table = table.filter(pc.equal(table.column("id"), document_id))
    if not table.num_rows:
        return []
    folder = run.selection(choice.label)
    kept = np.load(folder / "kept.npy", mmap_mode="r")
    scores = held.scores(choice)
    # The file may hold documents that another model could not score, and the pool lacks.
    rows = places_of(scores.key, table.column("key").to_numpy())
    table, rows = table.drop_columns(["key"]).filter(pa.array(rows >= 0)), rows[rows >= 0]
    ranked = rank_documents(scores, choice, held.config.seed, np.load(folder / "tokens.npy"))
    position = ranked.position(choice)
    figures = metric_values(scores, choice, rows)
    low, high = (min(1.0, max(0.0, float(b))) for b in rank_band(choice))
    result = []
    told = zip(rows.tolist(), figures.tolist(), table.to_pylist(), strict=True)
    for at, figure, row in told:
        mean, tokens = float(scores.nll_sum[at] / scores.num_tokens[at]), int(scores.num_tokens[at])
        group = one_line(row["domain"])
        if choice.by == ("domain", "length"):
            first = 1 << (tokens.bit_length() - 1)
            group += f", {first} to {2 * first - 1} tokens"
        rank, place, is_kept = int(ranked.rank[at]), float(position[at]), bool(kept[at])
        explained = RankedDocument(
            **row,
            kept=is_kept,
            reason=_reason(choice, is_kept, rank, place, group),
            slice=choice.label,
            reference=name,
            perplexity=float(np.exp(mean)),
            mean_nll=mean,
            figure=figure,
            num_tokens=tokens,
            rank=rank,
            of=int(ranked.size[at]),
            position=place,
            band=(low, high),
            fold=None if scores.fold is None else int(scores.fold[at]),
        )
        result.append(explained)
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
    by = choice.metric_name
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


def _outside(held: RunArtifacts, document_id: str) -> list[ExplainedDocument]:
    run = held.run
    if not is_current(run, run.corpus):
        raise UsageError("the run has no corpus index yet", str(run.path), "run it first")
    path = run.corpus / "documents.parquet"
    ids = pq.read_table(path, columns=["id"]).column("id")
    rows = np.flatnonzero(pc.equal(ids, document_id).to_numpy())
    if not len(rows):
        fix = "ids are as in the data; the scores list those of the pool"
        raise UsageError(f"no document has the id {one_line(document_id)!r}", str(run.path), fix)
    table = pq.read_table(path, columns=["source", "row", "domain"]).take(rows)
    part = held.split.part if is_current(run, run.split) else None
    scored = is_current(run, run.scores(held.config.primary_reference.name))
    clean = held.without_cleaned(rows) if scored else rows
    lost = held.unscored if scored else np.zeros(0, np.uint64)
    result = []
    for at, row in zip(rows.tolist(), table.to_pylist(), strict=True):
        reason = PART_REASONS[int(part[at])] if part is not None else "the run is not split yet"
        if held.corpus.index["key"][at] in lost:
            reason = "left out: a model gave it no finite score"
        if at not in clean:
            reason = "left out: it holds items of the tasks (evaluation.contamination: remove)"
        result.append(ExplainedDocument(**row, kept=False, reason=reason))
    return result


def document_token_losses(held: RunArtifacts, document_id: str) -> TokenLosses:
    """Of the document with this id; ``#12`` is the document of that number in canonical order.

    Raises UsageError: no such document, one without tokens, or no reference yet.
    """
    from mlxprune.model.weights import load_model
    from mlxprune.scoring.nll import token_losses
    from mlxprune.scoring.windows import WindowPolicy

    run, config = held.run, held.config
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
    scorer = _scorer_of(held, int(rows[0]))
    if not is_current(run, run.reference(scorer.name)):
        raise UsageError("the run has no reference yet", str(run.path), "run it up to reference")
    tokens = held.tokens(scorer.tokenizer)
    ids_of = tokens.document(int(rows[0]))
    if not len(ids_of):
        raise UsageError("this document has no tokens in this run", str(run.path), "choose another")
    own = scorer.tokenizer != "main"  # a pretrained model brings it
    tokenizer = held.model_folder(scorer.name) if own else run.tokenizer
    model, _ = load_model(held.model_folder(scorer.name))
    context = scoring_context(config, scorer.reference)
    start = window_start_of(run.scores(scorer.name))
    policy = WindowPolicy(
        context, config.score.overlap, config.score.long_documents,
        config.score.max_tokens_per_document, context, start=start,
    )  # fmt: skip
    losses = token_losses(model, tokens, int(rows[0]), policy).tolist()
    return TokenLosses(
        id=document_id,
        reference=scorer.name,
        ids=ids_of.astype(int).tolist(),
        texts=token_texts(load_tokenizer(tokenizer), ids_of),
        nll=[None if loss != loss else loss for loss in losses],
    )


def _scorer_of(held: RunArtifacts, document: int) -> Scorer:
    """The model whose score of a document the slices rank by: the first reference, or of
    cross-scoring that of the document's fold."""
    config = held.config
    if config.split.cross:
        fold = int(held.folds(np.array([document]))[0])
        return next(s for s in scorers_of(config) if s.fold == fold)
    return next(s for s in scorers_of(config) if s.name == config.primary_reference.name)
