"""Scoring: the negative log-likelihood of documents under a model.

For x = t_1..t_n every t_i is a target exactly once; the first input is the prefix token. Documents
longer than the context are cut into windows (lm-eval's rolling windows). Rows are sorted into
length buckets, so nearly every slot of a batch is a real token.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune.scoring.windows import WindowPolicy, Windows, batches_of, windows_of
from mlxprune.tokenization.token_file import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

SCORING_VERSION = 3
IN_FLIGHT = 2
READY_SECONDS = 1e-3
PART_DTYPE = np.dtype([("nll_sum", "<f8"), ("num_tokens", "<i8"), ("truncated", "?")])


def score_documents(
    model: nn.Module,
    tokens: Tokens,
    documents: np.ndarray,
    policy: WindowPolicy,
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
    from mlxprune.engine import backend

    losses_of = backend.loss_function(model)
    fixed_shapes = backend.detect().compiled
    found, truncated = windows_of(tokens.lengths(documents), policy)
    result = np.zeros(len(documents), PART_DTYPE)
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

    for edge, size, rows in batches_of(found, policy):
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


def token_losses(
    model: nn.Module, tokens: Tokens, document: int, policy: WindowPolicy
) -> np.ndarray:
    """Negative log-likelihood of every token of one document, float32 in nats; NaN where the
    policy leaves it unscored."""
    from mlxprune.engine import backend

    losses_of = backend.loss_function(model)
    documents = np.array([document])
    found, _ = windows_of(tokens.lengths(documents), policy)
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
