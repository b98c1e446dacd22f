"""The Linux CPU's engine for trees: answers to many items in NumPy, without a padded position.

Trees lie one behind another in a chunk. All but attention works on single positions and does not
see where one ends; attention takes a tree at a time.
"""

from __future__ import annotations

import itertools

import numpy as np

from mlxprune import attention, cpu, head
from mlxprune.lanes import Buffers, Lanes
from mlxprune.trees import Tree


def answers(
    lanes: Lanes, weights: cpu.Weights, trees: list[Tree]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every tree -ln p of its targets in nats, float32 [S], and whether each is the most
    likely id, bool [S] (of equals the lowest)."""
    chunks = list(_chunks(trees))
    found = lanes.map(lambda buffers, chunk: _answer(buffers, weights, chunk), lanes.deal(chunks))
    return list(itertools.chain.from_iterable(found))


def _chunks(trees: list[Tree]) -> list[list[Tree]]:
    """Neighbours, near ``cpu.CHUNK_POSITIONS`` inputs together."""
    result: list[list[Tree]] = []
    size = 0
    for tree in trees:
        if not result or size + len(tree.ids) > cpu.CHUNK_POSITIONS:
            result.append([])
            size = 0
        result[-1].append(tree)
        size += len(tree.ids)
    return result


def _answer(
    buffers: Buffers, weights: cpu.Weights, trees: list[Tree]
) -> list[tuple[np.ndarray, np.ndarray]]:
    starts = np.cumsum([0, *(len(tree.ids) for tree in trees)])
    hidden = _Forest(weights, buffers, trees, starts).forward()
    at = np.concatenate([tree.at + start for tree, start in zip(trees, starts, strict=False)])
    targets = np.concatenate([tree.targets for tree in trees])
    losses, best = head.answers(buffers, hidden[at], weights.head, targets)
    cuts = np.cumsum([len(tree.at) for tree in trees])[:-1]
    return list(zip(np.split(losses, cuts), np.split(best == targets, cuts), strict=True))


class _Forest(cpu.Chunk):
    """Trees one behind another on their way through the layers."""

    def __init__(
        self, weights: cpu.Weights, buffers: Buffers, trees: list[Tree], starts: np.ndarray
    ) -> None:
        super().__init__(weights, buffers, np.concatenate([tree.ids for tree in trees])[None])
        self.spans = list(itertools.pairwise(starts.tolist()))
        self.unseen = [tree.hidden() if len(tree.branches) > 1 else None for tree in trees]
        places = np.concatenate([tree.positions() for tree in trees])
        longest = 1 << int(places.max()).bit_length()  # few lengths, so that they are kept
        turns = cpu.turns(longest, self.shape.head_width, self.shape.rope_base)
        self.turns = turns[places]

    def attend(self, qkv: np.ndarray, mixed: np.ndarray, layer: int) -> None:
        parts = (*self.heads(qkv), self.grouped(mixed))
        for (first, stop), unseen in zip(self.spans, self.unseen, strict=True):
            q, k, v, out = (part[..., first:stop, :] for part in parts)
            attention.attend(self.buffers, q, k, v, out, None, unseen)
