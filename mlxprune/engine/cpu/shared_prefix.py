"""Shared prefixes on a CPU: answers to many items in NumPy, without a padded position.

They lie one behind another in a chunk. All but attention works on single positions and does not
see where one ends; attention takes a shared prefix at a time.
"""

from __future__ import annotations

import itertools

import numpy as np

from mlxprune.engine.cpu import attention, head, layers, llama
from mlxprune.engine.cpu.threads import Buffers, CpuThreads
from mlxprune.engine.shared_prefix import SharedPrefix

LEAST = 512  # inputs of a chunk
PIECES = 8  # that a batch is cut into at least


def numpy_answers(
    threads: CpuThreads, weights: llama.Weights, prefixes: list[SharedPrefix]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every shared prefix -ln p of its targets in nats, float32 [S], and whether each is the
    most likely id, bool [S] (of equals the lowest)."""
    chunks = list(enumerate(_chunks(prefixes)))
    # In turns, because neighbours are of like length and the longest come first.
    dealt = [chunks[n :: len(threads)] for n in range(len(threads))]
    numbered = threads.map(
        lambda buffers, chunk: (chunk[0], _answer(buffers, weights, chunk[1])), dealt
    )
    return [
        answer for _, answers in sorted(numbered, key=lambda f: int(f[0])) for answer in answers
    ]


def _chunks(prefixes: list[SharedPrefix]) -> list[list[SharedPrefix]]:
    """Neighbours, near ``cpu.CHUNK_POSITIONS`` inputs together; of a small batch fewer, so that
    there is something for every thread. Chunks are the same for any number of threads."""
    most = min(
        layers.CHUNK_POSITIONS,
        max(LEAST, sum(len(shared.ids) for shared in prefixes) // PIECES),
    )
    result: list[list[SharedPrefix]] = []
    size = 0
    for shared in prefixes:
        if not result or size + len(shared.ids) > most:
            result.append([])
            size = 0
        result[-1].append(shared)
        size += len(shared.ids)
    return result


def _answer(
    buffers: Buffers, weights: llama.Weights, prefixes: list[SharedPrefix]
) -> list[tuple[np.ndarray, np.ndarray]]:
    packed = _PackedPrefixes(weights, buffers, prefixes)
    hidden = packed.forward()
    targets = np.concatenate([shared.targets for shared in prefixes])
    losses, best = head.answers(buffers, hidden[packed.read], weights.head, targets)
    cuts = np.cumsum([len(shared.at) for shared in prefixes])[:-1]
    return list(zip(np.split(losses, cuts), np.split(best == targets, cuts), strict=True))


class _PackedPrefixes(layers.Chunk):
    """Trees one behind another on their way through the layers.

    The last layer computes only the positions that something is predicted at: ``forward`` returns
    those, and target n is predicted at the row ``read[n]`` of them.
    """

    def __init__(
        self, weights: llama.Weights, buffers: Buffers, prefixes: list[SharedPrefix]
    ) -> None:
        super().__init__(
            weights, buffers, np.concatenate([shared.ids for shared in prefixes])[None]
        )
        self.prefixes = prefixes
        starts = np.cumsum([0, *(len(shared.ids) for shared in prefixes)])
        self.spans = list(itertools.pairwise(starts.tolist()))
        self.unseen = [
            shared.hidden() if len(shared.suffix_lengths) > 1 else None for shared in prefixes
        ]
        places = np.concatenate([shared.positions() for shared in prefixes])
        longest = 1 << int(places.max()).bit_length()  # few lengths, so that they are kept
        turns = llama.turns(longest, self.shape.head_width, self.shape.rope_base)
        self.turns = turns[places]
        read = [shared.at + start for shared, start in zip(prefixes, starts, strict=False)]
        self.wanted, self.read = np.unique(np.concatenate(read), return_inverse=True)

    def forward(self) -> np.ndarray:
        """The final normed hidden states of the wanted positions, float32 [wanted, width]."""
        x, y = self.embedded(), self.take("y", self.shape.width)
        last = self.shape.layers - 1
        for number in range(last):
            self.mix(x, y, number)
            self.feed(x, y, number)
        qkv = self.project(x, last)
        self.positions = len(self.wanted)  # from here on
        few, y = self.take("few", self.shape.width), self.take("y", self.shape.width)
        np.take(x, self.wanted, axis=0, out=few, mode="clip")
        mixed = self.take("mixed", self.shape.heads * self.shape.head_width)
        self._attend_wanted(qkv, mixed)
        np.matmul(mixed, self.weights.layers[last]["output"].T, out=y)
        few += y
        self.feed(few, y, last)
        return self.norm(few, self.weights.final_norm, "final", 0)

    def attend(self, qkv: np.ndarray, mixed: np.ndarray, layer: int) -> None:
        parts = (*self.heads(qkv), self.grouped(mixed))
        for (first, stop), unseen in zip(self.spans, self.unseen, strict=True):
            q, k, v, out = (part[..., first:stop, :] for part in parts)
            attention.attend(self.buffers, q, k, v, out, None, unseen)

    def _attend_wanted(self, qkv: np.ndarray, mixed: np.ndarray) -> None:
        """``attend`` for the wanted positions, the rows of ``mixed``."""
        q, k, v = self.heads(qkv)
        cuts = np.searchsorted(self.wanted, [first for first, _ in self.spans] + [qkv.shape[0]])
        self.length = len(self.wanted)
        out = self.grouped(mixed)
        for shared, (first, stop), (low, high), unseen in zip(
            self.prefixes, self.spans, itertools.pairwise(cuts.tolist()), self.unseen, strict=True
        ):
            at = self.wanted[low:high] - first
            hidden = np.arange(len(shared.ids))[None] > at[:, None]
            if unseen is not None:
                inside = at >= shared.prefix_length
                hidden[inside, shared.prefix_length :] |= unseen[at[inside] - shared.prefix_length]
            attention.attend_few(
                self.buffers,
                q[..., self.wanted[low:high], :],
                k[..., first:stop, :],
                v[..., first:stop, :],
                out[..., low:high, :],
                hidden,
            )
