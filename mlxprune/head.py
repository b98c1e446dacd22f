"""The output head and its cross-entropy in NumPy, in pieces: never positions x vocabulary at once.

Hidden states are float32 [N, width], the head's weight [vocabulary, width], targets int [N].
"""

from __future__ import annotations

import numpy as np

from mlxprune.attention import row_sums
from mlxprune.lanes import Buffers

VOCABULARY_COLUMNS = 2048  # at a time, where no gradient is asked for
LOGITS = 1 << 21  # at a time, where the gradient is asked for


def losses(
    buffers: Buffers, hidden: np.ndarray, weight: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """ln sum exp over the vocabulary - logit of the target, a running sum over its columns."""
    most = np.full(len(hidden), -np.inf, np.float32)
    total = np.zeros(len(hidden), np.float32)
    picked = np.empty(len(hidden), np.float32)
    for first in range(0, len(weight), VOCABULARY_COLUMNS):
        part = weight[first : first + VOCABULARY_COLUMNS]
        logits = buffers.take("logits", len(hidden), len(part))
        np.matmul(hidden, part.T, out=logits)
        here = np.flatnonzero((targets >= first) & (targets < first + len(part)))
        picked[here] = logits[here, targets[here] - first]
        higher = np.maximum(most, logits.max(axis=-1))
        total *= np.exp(most - higher)
        most = higher
        logits -= most[:, None]
        np.exp(logits, out=logits)
        total += row_sums(logits)[:, 0]
    result: np.ndarray = np.log(total) + most - picked
    return result


def loss_and_gradients(
    buffers: Buffers,
    hidden: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    share: np.float32,
    by_hidden: np.ndarray,
) -> tuple[float, np.ndarray]:
    """The summed loss, and the gradient of share * sum: by ``hidden`` into ``by_hidden``, by
    ``weight`` returned. A few rows at a time.

    d loss / d logits = softmax - one at the target, so it is known as soon as the logits are.
    """
    rows_at_once = max(1, LOGITS // len(weight))
    loss = 0.0
    by_weight = np.zeros(0, np.float32)  # until the first piece
    for first in range(0, len(hidden), rows_at_once):
        rows = slice(first, min(first + rows_at_once, len(hidden)))
        at = np.arange(rows.stop - first)
        logits = buffers.take("logits", len(at), len(weight))
        np.matmul(hidden[rows], weight.T, out=logits)
        picked = logits[at, targets[rows]]
        most = logits.max(axis=-1)
        logits -= most[:, None]
        np.exp(logits, out=logits)
        total = row_sums(logits)[:, 0]
        loss += float((np.log(total) + most - picked).sum(dtype=np.float64))
        logits *= (share / total)[:, None]
        logits[at, targets[rows]] -= share
        np.matmul(logits, weight, out=by_hidden[rows])
        product = logits.T @ hidden[rows]
        if first:
            by_weight += product
        else:
            by_weight = product
    return loss, by_weight
