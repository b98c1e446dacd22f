"""Scoring: the negative log-likelihood of documents under a model.

For x = t_1..t_n every t_i is a target exactly once; the first input is the prefix token. Documents
longer than the context are cut into windows (lm-eval's rolling windows). Rows are sorted into
length buckets, so nearly every slot of a batch is a real token.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import memory, runs
from mlxprune.config import Score
from mlxprune.corpus import Corpus
from mlxprune.errors import RunError
from mlxprune.tokens import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

VERSION = 3
METRIC_VERSION = 1
IN_FLIGHT = 2
MOST_EDGES = 10
FIT_DOCUMENTS = 100_000  # edges are fitted to so many, evenly spaced
READY_SECONDS = 1e-3
PART = np.dtype([("nll_sum", "<f8"), ("num_tokens", "<i8"), ("truncated", "?")])


@dataclass(frozen=True)
class Policy:
    """How documents become rows, and rows batches. Stored before the first batch."""

    context: int
    overlap: int
    long_documents: str
    max_tokens_per_document: int | None
    batch_tokens: int
    edges: tuple[int, ...] = ()  # row lengths that batches are padded to; () fits them each time


@dataclass(frozen=True)
class Windows:
    """Rows to score: ids[first : stop] of a document are targets, the leading ``skip`` unscored."""

    slot: np.ndarray  # which of the given documents
    first: np.ndarray
    stop: np.ndarray
    skip: np.ndarray

    def __len__(self) -> int:
        return len(self.slot)


def windows(lengths: np.ndarray, policy: Policy) -> tuple[Windows, np.ndarray]:
    """The windows of documents of these lengths, and which documents are scored in part."""
    context, lead = policy.context, policy.overlap
    if lead >= context:
        raise RunError("score.overlap leaves no room for targets", f"context {context}", "lower it")
    slots: list[int] = []
    firsts: list[int] = []
    stops: list[int] = []
    skips: list[int] = []
    truncated = np.zeros(len(lengths), bool)
    limit = policy.max_tokens_per_document
    for slot, length in enumerate(lengths.tolist()):
        cuts = [(0, min(length, context), 0)] if length else []
        if policy.long_documents == "windows":
            for start in range(context, length, context - lead):
                cuts.append((start - lead, min(start + context - lead, length), lead))
        if limit is not None and length > limit:
            allowed = max(1, limit // context)
            if len(cuts) > allowed:
                spaced = np.round(np.linspace(0, len(cuts) - 1, allowed)).astype(int)
                cuts = [cuts[i] for i in spaced]
            if limit < context:
                cuts = [(first, first + limit, skip) for first, _, skip in cuts]
        truncated[slot] = sum(stop - first - skip for first, stop, skip in cuts) < length
        for first, stop, skip in cuts:
            slots.append(slot)
            firsts.append(first)
            stops.append(stop)
            skips.append(skip)
    arrays = (np.array(values, np.int64) for values in (slots, firsts, stops, skips))
    return Windows(*arrays), truncated


def fit_edges(lengths: np.ndarray, context: int) -> tuple[int, ...]:
    """At most MOST_EDGES row lengths to pad rows of these ``lengths`` to, with the fewest slots.

    Exact by dynamic programming over multiples of a step that suits a GPU's tiles.
    """
    step = 1 if context < 64 else max(8, 8 * math.ceil(context / 4096))
    candidates = np.append(np.arange(step, context, step), context)
    place = np.searchsorted(candidates, lengths, side="left")
    before = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(candidates)))])
    used = int(place.max(initial=0)) + 1
    # least[j]: slots of all rows that fit candidate j - 1, with the edges so far; j = 0 is no row
    least = np.full(used + 1, np.inf)
    least[0] = 0.0
    choices = []
    for _ in range(min(MOST_EDGES, used)):
        # cost[i, j]: rows between candidates i and j padded to candidate j
        cost = (before[None, 1 : used + 1] - before[:used, None]) * candidates[None, :used]
        cost = np.where(np.arange(used)[:, None] <= np.arange(used)[None], cost, np.inf)
        total = least[:used, None] + cost
        best = total.argmin(axis=0)
        choices.append(best)
        least = np.concatenate([[0.0], total[best, np.arange(used)]])
    edges, at = [], used
    for best in reversed(choices):
        if at:
            edges.append(int(candidates[at - 1]))
            at = int(best[at - 1])
    return tuple(reversed(edges))


def batches(found: Windows, policy: Policy) -> Iterator[tuple[int, int, np.ndarray]]:
    """(padded length, rows of the shape, which rows fill it), longest first.

    A batch that one bucket does not fill takes the longest rows of the next, so that there are as
    many shapes as edges, and only the last batch can have rows to spare.
    """
    lengths = found.stop - found.first
    edges = np.array(policy.edges or fit_edges(lengths, policy.context))
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        edge = int(edges[np.searchsorted(edges, lengths[order[start]], side="left")])
        size = max(1, policy.batch_tokens // edge)
        yield edge, size, order[start : start + size]
        start += size


def score_documents(
    model: nn.Module,
    tokens: Tokens,
    documents: np.ndarray,
    policy: Policy,
    between: Callable[[int, int, float], None] = lambda tokens, slots, waited: None,
    positions: np.ndarray | None = None,
    finished: Callable[[np.ndarray, np.ndarray], None] = lambda slots, rows: None,
) -> np.ndarray:
    """PART rows for the documents, in their order.

    nll_sum is the float64 sum of float32 losses in nats over num_tokens targets. ``between`` is
    called after every batch with its scored tokens, its slots, and the seconds that the device
    waited for it; ``finished`` before it with the documents that are complete now (which of those
    given, and their rows); ``positions`` float64 [2, context] collects the sum of losses and the
    count at each position of a window.
    """
    from mlxprune import backend

    losses_of = backend.loss_function(model)
    fixed_shapes = backend.detect().compiled
    found, truncated = windows(tokens.lengths(documents), policy)
    result = np.zeros(len(documents), PART)
    result["truncated"] = truncated
    rows_left = np.bincount(found.slot, minlength=len(documents))
    waiting: list[tuple[np.ndarray, np.ndarray, Any, float]] = []
    starving = True  # whether the device has nothing to do while the next batch is made

    def collect() -> None:
        nonlocal starving
        rows, mask, losses, waited = waiting.pop(0)
        began = time.perf_counter()
        used = mask[: len(rows)]
        values = np.where(used, np.array(losses)[: len(rows)], 0).astype(np.float64)
        starving = not waiting or time.perf_counter() - began < READY_SECONDS
        slots = found.slot[rows]
        np.add.at(result["nll_sum"], slots, values.sum(axis=1))
        np.add.at(result["num_tokens"], slots, used.sum(axis=1))
        np.subtract.at(rows_left, slots, 1)
        complete = np.unique(slots[rows_left[slots] == 0])
        finished(complete, result[complete])
        if positions is not None:
            positions[0, : values.shape[1]] += values.sum(axis=0)
            positions[1, : values.shape[1]] += mask.sum(axis=0)
        between(int(used.sum()), mask.size if fixed_shapes else used.size, waited)

    for edge, size, rows in batches(found, policy):
        began = time.perf_counter()
        inputs, targets, mask = _fill(tokens, documents, found, rows, size, edge)
        waited = time.perf_counter() - began if starving else 0.0
        some = slice(None) if fixed_shapes else slice(len(rows))
        waiting.append((rows, mask, losses_of(inputs[some], targets[some]), waited))
        if len(waiting) > IN_FLIGHT:
            collect()
    while waiting:
        collect()
    return result


def token_losses(model: nn.Module, tokens: Tokens, document: int, policy: Policy) -> np.ndarray:
    """Negative log-likelihood of every token of one document, float32 in nats; NaN where the
    policy leaves it unscored."""
    from mlxprune import backend

    losses_of = backend.loss_function(model)
    documents = np.array([document])
    found, _ = windows(tokens.lengths(documents), policy)
    result = np.full(len(tokens.document(document)), np.nan, np.float32)
    for row in range(len(found)):
        first, stop, skip = (int(a[row]) for a in (found.first, found.stop, found.skip))
        one = np.array([row])
        inputs, targets, _ = _fill(tokens, documents, found, one, 1, stop - first)
        result[first + skip : stop] = np.array(losses_of(inputs, targets))[0, skip:]
    return result


def _fill(
    tokens: Tokens, documents: np.ndarray, found: Windows, rows: np.ndarray, size: int, edge: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets int32 [size, edge], and which targets are scored."""
    inputs = np.full((size, edge), tokens.end, np.int32)
    targets = np.full((size, edge), tokens.end, np.int32)
    mask = np.zeros((size, edge), bool)
    for i, row in enumerate(rows.tolist()):
        ids = tokens.document(int(documents[found.slot[row]]))
        first, stop, skip = int(found.first[row]), int(found.stop[row]), int(found.skip[row])
        length = stop - first
        inputs[i, 0] = ids[first - 1] if first else tokens.prefix
        inputs[i, 1:length] = ids[first : stop - 1]
        targets[i, :length] = ids[first:stop]
        mask[i, skip:length] = True
    return inputs, targets, mask


def resolve_policy(
    lengths: np.ndarray,
    config: dict[str, Any],
    context: int,
    memory_bytes: int | None = None,
    settings: Score = Score(),  # noqa: B008 (frozen)
) -> Policy:
    """Batch shapes for documents of these ``lengths`` under a model of this ``config``.

    A fixed function of corpus, model, context, backend and memory.
    """
    from mlxprune import backend

    device = backend.detect()
    slots = settings.batch_tokens or memory.score_batch_tokens(
        config,
        context,
        device.score_tokens_per_batch,
        memory_bytes or device.memory_bytes,
        device.name,
        settings.workers or device.score_workers,
    )
    policy = Policy(
        context,
        settings.overlap,
        settings.long_documents,
        settings.max_tokens_per_document,
        max(slots, context),
    )
    sample = lengths[:: max(1, len(lengths) // FIT_DOCUMENTS)]
    rows, _ = windows(sample, policy)
    # A row of the whole context among them: rows that the sample does not show must fit, too.
    edges = fit_edges(np.append(rows.stop - rows.first, context), context)
    return replace(policy, edges=edges)


def policy_in(path: Path, resolve: Callable[[], Policy]) -> Policy:
    """The policy stored in ``path``; resolved and stored, once, before the first batch."""
    if not path.exists():
        runs.write_json(path, asdict(resolve()))
    stored = runs.read_json(path)
    return Policy(**{**stored, "edges": tuple(stored["edges"])})


def write_scores(
    path: Path,
    corpus: Corpus,
    documents: np.ndarray,
    scores: np.ndarray,
    positions: np.ndarray,
    metadata: dict[str, str],
    fold: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write one Parquet of exactly the scored documents, in canonical order.

    ``scores`` PART [documents], ``positions`` float64 [2, context]: loss sums and counts;
    ``fold`` uint8 [documents] says which model scored each, where there are several.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("key", pa.uint64()),
            ("id", pa.string()),
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("row", pa.int64()),
            ("domain", pa.dictionary(pa.int32(), pa.string())),
            ("nll_sum", pa.float64()),
            ("num_tokens", pa.int64()),
            ("num_bytes", pa.int64()),
            ("perplexity", pa.float64()),
            ("truncated", pa.bool_()),
            *([("fold", pa.uint8())] if fold is not None else []),
        ],
        metadata={
            **metadata,
            **position_metadata(positions),
            "metric_version": str(METRIC_VERSION),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + runs.PARTIAL)
    at = 0
    with pq.ParquetWriter(partial, schema) as out:
        first = 0
        for batch in corpus.documents():
            stop = int(np.searchsorted(documents, first + batch.num_rows))
            rows = scores[at:stop]
            chosen = batch.take(pa.array(documents[at:stop] - first))
            with np.errstate(over="ignore"):
                perplexity = np.exp(rows["nll_sum"] / rows["num_tokens"])
            out.write_batch(
                pa.record_batch(
                    [
                        *(chosen.column(n) for n in ("key", "id", "source", "row", "domain")),
                        pa.array(rows["nll_sum"]),
                        pa.array(rows["num_tokens"]),
                        chosen.column("num_bytes"),
                        pa.array(perplexity),
                        pa.array(rows["truncated"]),
                        *([pa.array(fold[at:stop])] if fold is not None else []),
                    ],
                    schema=schema,
                )
            )
            at = stop
            first += batch.num_rows
    runs.finish_file(partial, path)
    total = int(scores["num_tokens"].sum())
    return {
        "documents": len(scores),
        "tokens": total,
        "mean_nll": float(scores["nll_sum"].sum() / max(total, 1)),
        "truncated": int(scores["truncated"].sum()),
    }


def position_metadata(positions: np.ndarray) -> dict[str, str]:
    """The mean loss at each position of a window, and over how many targets; nothing is rounded."""
    sums, counts = positions
    mean = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return {
        "mean_nll_by_position": json.dumps(mean.tolist()),
        "targets_by_position": json.dumps(counts.astype(np.int64).tolist()),
    }


def positions_of(path: Path) -> np.ndarray:
    """float64 [2, context] of a scores file: loss sums and counts."""
    import pyarrow.parquet as pq

    told = pq.read_schema(path).metadata
    mean, counts = (
        np.array(json.loads(told[name]), np.float64)
        for name in (b"mean_nll_by_position", b"targets_by_position")
    )
    return np.stack([mean * counts, counts])


def policy_metadata(policy: Policy) -> dict[str, str]:
    return {f"policy.{k}": str(v) for k, v in asdict(policy).items()}
