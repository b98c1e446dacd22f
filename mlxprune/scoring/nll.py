"""Scoring: the negative log-likelihood of documents under a model.

For x = t_1..t_n every t_i is a target exactly once; the first input is the prefix token. Documents
longer than the context are cut into windows (lm-eval's rolling windows). Rows are sorted into
length buckets, so nearly every slot of a batch is a real token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune.errors import RunError
from mlxprune.scoring.windows import WindowPolicy, Windows, batches_of, windows_of
from mlxprune.tokenization.token_file import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

SCORING_VERSION = 3
IN_FLIGHT = 2
READY_SECONDS = 1e-3
PART_DTYPE = np.dtype([("nll_sum", "<f8"), ("num_tokens", "<i8"), ("truncated", "?")])


Between = Callable[[int, int, float], None]  # scored tokens, slots, seconds of waiting
Finish = Callable[[np.ndarray, np.ndarray], None]  # PART rows, positions


@dataclass(eq=False)
class _Unit:
    """Documents under way together. ``positions`` float64 [2, context]: the sum of losses and the
    count at each position of a window; ``left``: batches that have not come back."""

    rows: np.ndarray
    positions: np.ndarray
    slots: np.ndarray  # of every window, its document
    finish: Finish
    left: int


@dataclass(frozen=True)
class _Waiting:
    """A batch on the device."""

    unit: _Unit
    windows: np.ndarray
    mask: np.ndarray
    losses: Any
    waited: float


class Scorer:
    """Scores documents, some at a time, with one model. The device has the next ones to do before
    the last have come back."""

    def __init__(
        self,
        model: nn.Module,
        policy: WindowPolicy,
        between: Between = lambda tokens, slots, waited: None,
    ) -> None:
        from mlxprune.engine import backend

        self.losses_of = backend.loss_function(model)
        self.policy, self.between = policy, between
        self.waiting: deque[_Waiting] = deque()
        self.units: list[_Unit] = []  # that have batches left
        dtype = str(backend.detect().score_dtype).removeprefix("mlx.core.")
        self.narrow = dtype if dtype == "float16" else None  # it overflows where float32 does not
        self.starving = True  # whether the device has nothing to do while a batch is made

    def submit(self, tokens: Tokens, documents: np.ndarray, finish: Finish) -> None:
        """Start on these documents; ``finish`` is called when the last batch has come back, in this
        call, a later one or ``drain``."""
        found, truncated = windows_of(tokens.lengths(documents), self.policy)
        rows = np.zeros(len(documents), PART_DTYPE)
        rows["truncated"] = truncated
        batches = list(batches_of(found, self.policy))
        positions = np.zeros((2, self.policy.context))
        unit = _Unit(rows, positions, found.slot, finish, len(batches))
        if batches:
            self.units.append(unit)
        else:
            finish(rows, positions)
        for edge, size, chosen in batches:
            began = time.perf_counter()
            inputs, targets, mask = _fill(
                tokens, documents, found, chosen, size, edge, self.policy.start
            )
            waited = time.perf_counter() - began if self.starving else 0.0
            losses = self.losses_of(inputs, targets)
            self.waiting.append(_Waiting(unit, chosen, mask, losses, waited))
            if len(self.waiting) > IN_FLIGHT:
                self._collect()

    def in_hand(self) -> np.ndarray:
        """PART rows of the documents that have been begun in units that are not done: what they
        come to so far. Long rows come first, so these are no fair sample."""
        rows = [unit.rows[unit.rows["num_tokens"] > 0] for unit in self.units]
        return np.concatenate([np.zeros(0, PART_DTYPE), *rows])

    def drain(self) -> None:
        """Wait for all that is under way."""
        while self.waiting:
            self._collect()

    def _collect(self) -> None:
        batch = self.waiting.popleft()
        unit, count = batch.unit, len(batch.windows)
        began = time.perf_counter()
        losses = np.array(batch.losses)
        self.starving = not self.waiting or time.perf_counter() - began < READY_SECONDS
        used = batch.mask[:count]
        values = np.where(used, losses[:count], 0).astype(np.float64)
        slots = unit.slots[batch.windows]
        np.add.at(unit.rows["nll_sum"], slots, values.sum(axis=1))
        np.add.at(unit.rows["num_tokens"], slots, used.sum(axis=1))
        finite = np.isfinite(values).all(axis=1)
        told = slice(None) if finite.all() else finite  # one that is no number tells of no other
        unit.positions[0, : values.shape[1]] += values[told].sum(axis=0)
        unit.positions[1, : values.shape[1]] += used[told].sum(axis=0)
        unit.left -= 1
        if not unit.left:
            self.units.remove(unit)
            if self.narrow and not np.isfinite(unit.rows["nll_sum"]).all():
                raise RunError(
                    f"losses are not finite in {self.narrow}",
                    "score",
                    "set dtype: float32, which has the range, and run again",
                )
            unit.finish(unit.rows, unit.positions)
        self.between(int(used.sum()), batch.mask.size, batch.waited)


def score_documents(
    model: nn.Module,
    tokens: Tokens,
    documents: np.ndarray,
    policy: WindowPolicy,
    between: Between = lambda tokens, slots, waited: None,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """PART rows for the documents, in their order.

    nll_sum is the float64 sum of float32 losses in nats over num_tokens targets. ``between`` is
    called after every batch with its scored tokens, its slots, and the seconds that the device
    waited for it; ``positions`` float64 [2, context] collects the sum of losses and the count at
    each position of a window.
    """
    result: list[np.ndarray] = []

    def finish(rows: np.ndarray, sums: np.ndarray) -> None:
        result.append(rows)
        if positions is not None:
            positions[:] += sums

    scorer = Scorer(model, policy, between)
    scorer.submit(tokens, documents, finish)
    scorer.drain()
    return result[0]


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
        inputs, targets, _ = _fill(tokens, documents, found, one, 1, stop - first, policy.start)
        result[first + skip : stop] = np.array(losses_of(inputs, targets))[0, skip:]
    return result


def _fill(
    tokens: Tokens,
    documents: np.ndarray,
    found: Windows,
    rows: np.ndarray,
    size: int,
    edge: int,
    start: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets int32 [size, edge], and which targets are scored."""
    inputs = np.full((size, edge), tokens.end, np.int32)
    targets = np.full((size, edge), tokens.end, np.int32)
    mask = np.zeros((size, edge), bool)
    for i, row in enumerate(rows.tolist()):
        ids = tokens.document(int(documents[found.slot[row]]))
        first, stop, skip = int(found.first[row]), int(found.stop[row]), int(found.skip[row])
        length = stop - first
        inputs[i, 0] = ids[first - 1] if first and start == "last" else tokens.prefix
        inputs[i, 1:length] = ids[first : stop - 1]
        targets[i, :length] = ids[first:stop]
        mask[i, skip:length] = True
    return inputs, targets, mask
