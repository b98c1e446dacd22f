"""Stream: the endless sequence of targets that a training reads, a pure function of its step."""

from __future__ import annotations

import numpy as np

from mlxprune.data.hashing import mix
from mlxprune.errors import RunError
from mlxprune.tokenization.token_file import Tokens


class TrainingStream:
    """The endless target stream over some documents; ``unique`` targets make one pass."""

    def __init__(self, tokens: Tokens, documents: np.ndarray, keys: np.ndarray, seed: int) -> None:
        self.tokens, self.documents, self.keys, self.seed = tokens, documents, keys, seed
        self.unique = int(tokens.lengths(documents).sum()) + len(documents)
        if self.unique == 0:
            raise RunError("no token to train on", "the training documents", "check the selection")
        self._passes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._windows: tuple[int, int, np.ndarray] = (-1, 0, np.zeros(0, np.int64))

    def _shuffled(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents of a pass in their order, and where in the pass each ends."""
        if number not in self._passes:
            order = np.argsort(mix(self.keys, f"pass {self.seed} {number}"), kind="stable")
            documents = self.documents[order]
            ends = np.cumsum(self.tokens.lengths(documents) + 1)
            while len(self._passes) > 1:  # a sequence can reach from one pass into the next
                del self._passes[min(self._passes)]
            self._passes[number] = (documents, ends)
        return self._passes[number]

    def window(self, number: int, context: int) -> int:
        """Which window of the stream is read as the n-th: a shuffle inside every pass."""
        at_pass = number * context // self.unique
        if self._windows[0] != at_pass:
            first = -(-at_pass * self.unique // context)
            stop = -(-(at_pass + 1) * self.unique // context)
            places = np.arange(stop - first, dtype=np.uint64)
            order = np.argsort(mix(places, f"windows {self.seed} {at_pass}"), kind="stable")
            self._windows = (at_pass, first, order)
        _, first, order = self._windows
        return first + int(order[number - first])

    def targets(self, start: int, count: int) -> np.ndarray:
        """Targets [start, start + count) of the stream, int32."""
        out = np.empty(count, np.int32)
        filled = 0
        while filled < count:
            number, at = divmod(start + filled, self.unique)
            documents, ends = self._shuffled(number)
            place = int(np.searchsorted(ends, at, side="right"))
            while filled < count and place < len(documents):
                ids = self.tokens.document(int(documents[place]))
                first = at - (int(ends[place]) - len(ids) - 1)
                piece = ids[first : first + count - filled]
                out[filled : filled + len(piece)] = piece
                filled += len(piece)
                if filled < count:  # the document is through: close it
                    out[filled] = self.tokens.end
                    filled += 1
                at = int(ends[place])
                place += 1
        return out

    def batch(self, step: int, batch_size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of an optimizer step, each int32 [batch, context]."""
        inputs, targets = (np.empty((batch_size, context), np.int32) for _ in range(2))
        for row in range(batch_size):
            start = self.window(step * batch_size + row, context) * context
            lead = 1 if start else 0
            piece = self.targets(start - lead, context + lead)
            targets[row] = piece[lead:]
            inputs[row, 0] = piece[0] if lead else self.tokens.end
            inputs[row, 1:] = targets[row, :-1]
        return inputs, targets
