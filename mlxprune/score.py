"""Scoring: the negative log-likelihood of documents under a model.

For x = t_1..t_n every t_i is a target exactly once; the first input is the prefix token. Documents
longer than the context are cut into windows (lm-eval's rolling windows). Rows are sorted into
length buckets, so nearly every slot of a batch is a real token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import runs
from mlxprune.corpus import Corpus
from mlxprune.errors import RunError
from mlxprune.tokens import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

VERSION = 1
METRIC_VERSION = 1
IN_FLIGHT = 2
LOGITS_SHARE = 4  # the logits of a batch take at most memory / LOGITS_SHARE
PART = np.dtype([("nll_sum", "<f8"), ("num_tokens", "<i8"), ("truncated", "?")])


@dataclass(frozen=True)
class Policy:
    """How documents become rows, and rows batches. Stored before the first batch."""

    context: int
    overlap: int
    long_documents: str
    max_tokens_per_document: int | None
    batch_tokens: int

    def edges(self) -> list[int]:
        """Row lengths that batches are padded to: ten, closer together where texts are short."""
        sixteenths = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
        return sorted({max(1, math.ceil(self.context * s / 16)) for s in sixteenths})


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


def batches(found: Windows, policy: Policy) -> Iterator[tuple[int, np.ndarray]]:
    """(padded length, rows) with rows of one bucket, shortest bucket first."""
    lengths = found.stop - found.first
    edges = np.array(policy.edges())
    bucket = np.searchsorted(edges, lengths, side="left")
    for number, edge in enumerate(edges.tolist()):
        members = np.flatnonzero(bucket == number)
        size = max(1, policy.batch_tokens // edge)
        for start in range(0, len(members), size):
            yield edge, members[start : start + size]


def score_documents(
    model: nn.Module,
    tokens: Tokens,
    documents: np.ndarray,
    policy: Policy,
    between: Callable[[int, int], None] = lambda tokens, slots: None,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """PART rows for the documents, in their order.

    nll_sum is the float64 sum of float32 losses in nats over num_tokens targets. ``between`` is
    called after every batch with its scored tokens and its slots; ``positions`` float64
    [2, context] collects the sum of losses and the count at each position of a window.
    """
    import mlx.core as mx

    from mlxprune import backend

    found, truncated = windows(tokens.lengths(documents), policy)
    result = np.zeros(len(documents), PART)
    result["truncated"] = truncated
    waiting: list[tuple[np.ndarray, np.ndarray, mx.array]] = []

    def collect() -> None:
        rows, mask, losses = waiting.pop(0)
        values = np.where(mask, np.array(losses), 0).astype(np.float64)
        slots = found.slot[rows]
        np.add.at(result["nll_sum"], slots, values.sum(axis=1))
        np.add.at(result["num_tokens"], slots, mask.sum(axis=1))
        if positions is not None:
            positions[0, : values.shape[1]] += values.sum(axis=0)
            positions[1, : values.shape[1]] += mask.sum(axis=0)
        between(int(mask.sum()), mask.size)

    for edge, rows in batches(found, policy):
        inputs, targets, mask = _fill(tokens, documents, found, rows, edge)
        losses = backend.cross_entropy(model(mx.array(inputs)), mx.array(targets))
        mx.async_eval(losses)  # type: ignore[no-untyped-call]
        waiting.append((rows, mask, losses))
        if len(waiting) > IN_FLIGHT:
            collect()
    while waiting:
        collect()
    return result


def _fill(
    tokens: Tokens, documents: np.ndarray, found: Windows, rows: np.ndarray, edge: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets int32 [rows, edge], and which targets are scored."""
    inputs = np.full((len(rows), edge), tokens.end, np.int32)
    targets = np.full((len(rows), edge), tokens.end, np.int32)
    mask = np.zeros((len(rows), edge), bool)
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
    context: int,
    overlap: int,
    long_documents: str,
    max_tokens: int | None,
    batch_tokens: int | None,
    vocab_size: int,
) -> Policy:
    """Batch shapes from device, vocabulary and memory: a fixed function, resolved once."""
    from mlxprune import backend

    device = backend.detect()
    most = device.memory_bytes // (LOGITS_SHARE * 4 * vocab_size)
    slots = batch_tokens or min(device.score_tokens_per_batch, most)
    return Policy(context, overlap, long_documents, max_tokens, max(slots, context))


def write_scores(
    path: Path,
    corpus: Corpus,
    documents: np.ndarray,
    scores: np.ndarray,
    positions: np.ndarray,
    metadata: dict[str, str],
) -> dict[str, Any]:
    """Write one Parquet of exactly the scored documents, in canonical order.

    ``scores`` PART [documents], ``positions`` float64 [2, context]: loss sums and counts.
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
        ],
        metadata={**metadata, "metric_version": str(METRIC_VERSION)},
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
                    ],
                    schema=schema,
                )
            )
            at = stop
            first += batch.num_rows
    runs.finish_file(partial, path)
    counts = positions[1]
    mean_by_position = np.divide(positions[0], counts, out=np.zeros_like(counts), where=counts > 0)
    total = int(scores["num_tokens"].sum())
    return {
        "documents": len(scores),
        "tokens": total,
        "mean_nll": float(scores["nll_sum"].sum() / max(total, 1)),
        "truncated": int(scores["truncated"].sum()),
        "mean_nll_by_position": [round(float(v), 6) for v in mean_by_position],
    }


def policy_metadata(policy: Policy) -> dict[str, str]:
    return {f"policy.{k}": str(v) for k, v in asdict(policy).items()}
