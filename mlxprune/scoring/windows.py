"""Windows: how documents become rows of a batch, and which lengths rows are padded to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mlxprune.checksums import read_sealed, write_sealed
from mlxprune.config.schema import Score
from mlxprune.errors import RunError
from mlxprune.model.architecture import flops_per_token
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.records import Json, record_of
from mlxprune.tokenization.tokenizer import Tokenizer

MOST_EDGES = 32  # a trace each, where shapes are compiled
LAST_SHARES = (8, 4, 2)  # of a whole batch, that the last one of a unit may have
FIT_DOCUMENTS = 100_000  # edges are fitted to so many, evenly spaced


@dataclass(frozen=True)
class WindowPolicy:
    """How documents become rows, and rows batches. Stored before the first batch."""

    context: int
    overlap: int
    long_documents: str
    max_tokens_per_document: int | None
    batch_tokens: int
    edges: tuple[int, ...] = ()  # row lengths that batches are padded to; (): each to its longest
    start: str = "last"  # the first input of later windows: the last token before, or the prefix


@dataclass(frozen=True)
class Windows:
    """Rows to score: ids[first : stop] of a document are targets, the leading ``skip`` unscored."""

    slot: np.ndarray  # which of the given documents
    first: np.ndarray
    stop: np.ndarray
    skip: np.ndarray

    def __len__(self) -> int:
        return len(self.slot)


def windows_of(lengths: np.ndarray, policy: WindowPolicy) -> tuple[Windows, np.ndarray]:
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


def batches_of(windows: Windows, policy: WindowPolicy) -> Iterator[tuple[int, int, np.ndarray]]:
    """(padded length, rows of the shape, which rows fill it), longest first.

    Without edges a batch is as long as its longest row and has no row to spare. With edges one that
    a bucket does not fill takes the longest rows of the next, so that there are few shapes; the
    last batch is whole or one of a few shares of that.
    """
    lengths = windows.stop - windows.first
    edges = np.array(policy.edges)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        edge = int(edges[np.searchsorted(edges, longest, side="left")]) if len(edges) else longest
        size = max(1, policy.batch_tokens // edge)
        rows = order[start : start + size]
        start += size
        shares = [-(-size // share) for share in LAST_SHARES] if len(edges) else [len(rows)]
        yield edge, next((n for n in shares if len(rows) <= n), size), rows


def resolve_policy(
    lengths: np.ndarray,
    config: Json,
    context: int,
    memory_bytes: int | None = None,
    settings: Score = Score(),  # noqa: B008 (frozen)
    start: str = "last",
) -> WindowPolicy:
    """Batch shapes for documents of these ``lengths`` under a model of this ``config``.

    A fixed function of corpus, model, context, memory and what is settled about the device: no
    batch takes a GPU longer than a quarter of a second or so, unless one row does.
    """
    from mlxprune.engine import backend

    device = backend.detect()
    most = within_flops(device.score_tokens_per_batch, config, context, device.part_flops)
    plan = memory_plan(config, context, memory_bytes)
    workers = settings.workers or device.score_workers
    slots = settings.batch_tokens or plan.scoring_batch(most, workers)
    policy = WindowPolicy(
        context,
        settings.overlap,
        settings.long_documents,
        settings.max_tokens_per_document,
        max(slots, context),
        start=start,
    )
    if not device.compiled:
        return policy
    sample = lengths[:: max(1, len(lengths) // FIT_DOCUMENTS)]
    rows, _ = windows_of(sample, policy)
    # A row of the whole context among them: rows that the sample does not show must fit, too.
    edges = fit_edges(np.append(rows.stop - rows.first, context), context)
    return replace(policy, edges=edges)


def within_flops(tokens: int, config: Json, context: int, part_flops: float | None) -> int:
    """So many ``tokens``, or fewer where a forward pass of them took more than ``part_flops``; a
    power of two times ``context``, so that a measured peak hardly moves it."""
    if part_flops is None:
        return tokens
    while tokens > context and tokens * flops_per_token(config, context) > part_flops:
        tokens = max(context, tokens // 2)
    return tokens


def window_start(settings: Score, tokenizer: Tokenizer) -> str:
    """What ``score.later_windows`` comes to with the tokenizer of the model that scores.

    A model whose texts always began with the prefix has learned to rely on it, and is lost in a
    window without (bench/later_windows.py); one whose tokenizer puts none there has not.
    """
    if settings.later_windows != "auto":
        return settings.later_windows
    return "prefix" if tokenizer.prefix in tokenizer.opening else "last"


def stored_policy(path: Path, resolve: Callable[[], WindowPolicy]) -> WindowPolicy:
    """The policy stored in ``path``; resolved and stored, once, before the first batch."""
    try:
        return record_of(read_sealed(path), WindowPolicy)
    except (OSError, ValueError):  # not there, or damaged
        write_sealed(path, resolve())
    return record_of(read_sealed(path), WindowPolicy)


def policy_metadata(policy: WindowPolicy) -> dict[str, str]:
    return {f"policy.{k}": str(v) for k, v in asdict(policy).items()}
