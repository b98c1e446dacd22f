"""The output head and its cross-entropy in NumPy, in pieces: never positions x vocabulary at once.

Hidden states are float32 [N, width], the head's weight [vocabulary, width], targets int [N].
"""

from __future__ import annotations

import numpy as np

from mlxprune.engine.cpu.attention import SAFE_EXPONENT, largest_norm, row_sums
from mlxprune.engine.cpu.threads import Buffers

VOCABULARY_COLUMNS = 2048  # at a time, where no gradient is asked for
LOGITS = 1 << 21  # at a time, where the gradient is asked for
PIECE_ROWS = 128  # go through several operations while they are in the cache


def pieces(count: int) -> list[slice]:
    return [slice(at, min(at + PIECE_ROWS, count)) for at in range(0, count, PIECE_ROWS)]


def losses(
    buffers: Buffers,
    hidden: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    best: _Best | None = None,
) -> np.ndarray:
    """ln sum exp over the vocabulary - logit of the target, a running sum over its columns, which
    ``best`` sees, too."""
    total = np.zeros(len(hidden), np.float32)
    picked = np.empty(len(hidden), np.float32)
    shift = not largest_norm(hidden) * largest_norm(weight) <= SAFE_EXPONENT
    most = np.full(len(hidden), -np.inf if shift else 0.0, np.float32)
    for first in range(0, len(weight), VOCABULARY_COLUMNS):
        part = weight[first : first + VOCABULARY_COLUMNS]
        logits = buffers.take("logits", len(hidden), len(part))
        np.matmul(hidden, part.T, out=logits)
        here = np.flatnonzero((targets >= first) & (targets < first + len(part)))
        picked[here] = logits[here, targets[here] - first]
        if best is not None:
            best.see(logits, first)
        for rows in pieces(len(hidden)):
            some = logits[rows]
            if shift:
                higher = np.maximum(most[rows], some.max(axis=-1))
                total[rows] *= np.exp(most[rows] - higher)
                most[rows] = higher
                some -= higher[:, None]
            np.exp(some, out=some)
            total[rows] += row_sums(some)[:, 0]
    result: np.ndarray = np.log(total) + most - picked
    return result


def answers(
    buffers: Buffers, hidden: np.ndarray, weight: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``losses``, and the id of the largest logit (of equals the lowest), int64 [N]."""
    best = _Best(len(hidden))
    return losses(buffers, hidden, weight, targets, best), best.id


class _Best:
    """The largest logit of every position so far, and its id."""

    def __init__(self, count: int) -> None:
        self.id = np.zeros(count, np.int64)
        self.most = np.full(count, -np.inf, np.float32)
        self.rows = np.arange(count)

    def see(self, logits: np.ndarray, first: int) -> None:
        """Columns ``first`` and on of the vocabulary."""
        here = logits.argmax(axis=-1)
        higher = logits[self.rows, here]
        better = higher > self.most
        self.id[better] = first + here[better]
        self.most[better] = higher[better]


def loss_and_gradients(
    buffers: Buffers,
    hidden: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    share: np.float32,
    by_hidden: np.ndarray,
    by_weight: np.ndarray,
) -> float:
    """The summed loss; the gradients of share * sum into ``by_hidden`` and ``by_weight``, of the
    shapes of ``hidden`` and ``weight``. A few rows at a time.

    d loss / d logits = softmax - one at the target, so it is known as soon as the logits are.
    """
    rows_at_once = max(1, LOGITS // len(weight))
    shift = not largest_norm(hidden) * largest_norm(weight) <= SAFE_EXPONENT
    loss = 0.0
    for first in range(0, len(hidden), rows_at_once):
        rows = slice(first, min(first + rows_at_once, len(hidden)))
        at = np.arange(rows.stop - first)
        logits = buffers.take("logits", len(at), len(weight))
        np.matmul(hidden[rows], weight.T, out=logits)
        picked = logits[at, targets[rows]]
        normaliser = np.empty(len(at), np.float32)
        for some in pieces(len(at)):
            part = logits[some]
            most = part.max(axis=-1) if shift else np.zeros(len(part), np.float32)
            if shift:
                part -= most[:, None]
            np.exp(part, out=part)
            total = row_sums(part)[:, 0]
            normaliser[some] = np.log(total) + most
            part *= (share / total)[:, None]
        loss += float((normaliser - picked).sum(dtype=np.float64))
        logits[at, targets[rows]] -= share
        np.matmul(logits, weight, out=by_hidden[rows])
        if first:
            product = buffers.take("product", *weight.shape)
            by_weight += np.matmul(logits.T, hidden[rows], out=product)
        else:
            np.matmul(logits.T, hidden[rows], out=by_weight)
    return loss
