"""The engine of Metal and CUDA for trees: the trunks of a batch once, then all their branches.

Keys and values of the trunks are kept as a generating model keeps them, so it works for every
architecture whose cache is the plain one; others compute every choice whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import graph
from mlxprune.trees import Tree

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

Answers = list[tuple[np.ndarray, np.ndarray]]


def answers(model: nn.Module, trees: list[Tree]) -> Answers:
    """For every tree -ln p of its targets in nats, float32 [S], and whether each is the most
    likely id, bool [S]. The trees of one call are one batch."""
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    plain = all(type(cache) is KVCache for cache in make_prompt_cache(model))
    return _shared(model, trees) if plain else _whole(model, trees)


class _Trunk:
    """What attention remembers of the trunks, in place of mlx-lm's cache of one layer."""

    def __init__(self) -> None:
        self.offset: Any = 0
        self.kept: tuple[mx.array, mx.array] | None = None
        self.mask: mx.array | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        import mlx.core as mx

        if self.kept is None:
            self.kept = (keys, values)
            return keys, values
        before_keys, before_values = self.kept
        return (
            mx.concatenate([before_keys, keys], axis=2),
            mx.concatenate([before_values, values], axis=2),
        )

    def make_mask(self, count: int, **_: Any) -> Any:
        if self.mask is not None:
            return self.mask
        return None if count == 1 else "causal"

    def branch(self, owner: mx.array, lengths: mx.array, mask: mx.array) -> None:
        """From here on the rows are branches: row r goes on from trunk ``owner[r]``."""
        assert self.kept is not None
        self.kept = (self.kept[0][owner], self.kept[1][owner])
        self.offset, self.mask = lengths, mask


def _shared(model: Any, trees: list[Tree]) -> Answers:
    import mlx.core as mx

    found, head = graph.parts(model)
    inner: Any = found  # it takes a cache, too
    lengths = np.array([tree.trunk for tree in trees])
    caches = [_Trunk() for _ in range(len(model.layers))]
    if lengths.min() == 0:
        return _whole(model, trees)
    trunks = _padded([tree.ids[: tree.trunk] for tree in trees])
    hidden = inner(mx.array(trunks), cache=caches)
    states = [hidden.reshape(-1, hidden.shape[-1])]
    starts = np.arange(len(trees)) * trunks.shape[1]  # of each trunk among the states
    owner = np.repeat(np.arange(len(trees)), [len(tree.branches) for tree in trees])
    rows = [part for tree in trees for part in _parts(tree)]
    places: list[np.ndarray] = []
    width = max((len(row) for row in rows), default=0)
    if width:
        branch = mx.array(owner)
        seen = np.arange(trunks.shape[1])[None] < lengths[owner][:, None]
        causal = np.tri(width, dtype=bool)
        mask = np.concatenate(
            [
                np.broadcast_to(seen[:, None, :], (len(rows), width, trunks.shape[1])),
                np.broadcast_to(causal, (len(rows), width, width)),
            ],
            axis=2,
        )
        for cache in caches:
            cache.branch(branch, mx.array(lengths[owner]), mx.array(mask[:, None]))
        after = inner(mx.array(_padded(rows)), cache=caches)
        states.append(after.reshape(-1, after.shape[-1]))
    first_row = 0
    for number, tree in enumerate(trees):
        # Where every input of the tree lies among the states.
        where = [starts[number] + np.arange(tree.trunk)]
        for offset, length in enumerate(tree.branches):
            at = trunks.size + (first_row + offset) * width
            where.append(at + np.arange(length))
        first_row += len(tree.branches)
        places.append(np.concatenate(where)[tree.at])
    return _read(mx.concatenate(states), head, trees, places)


def _whole(model: Any, trees: list[Tree]) -> Answers:
    """Every choice a row of its own."""
    import mlx.core as mx

    inner, head = graph.parts(model)
    rows: list[np.ndarray] = []
    where: list[np.ndarray] = []  # of every input of a tree: row and column
    for tree in trees:
        trunk, first = tree.ids[: tree.trunk], len(rows)
        parts = _parts(tree) or [tree.ids[:0]]
        rows += [np.concatenate([trunk, part]) for part in parts]
        place = [np.stack([np.full(tree.trunk, first), np.arange(tree.trunk)])]
        for n, part in enumerate(parts):
            inside = tree.trunk + np.arange(len(part))
            place.append(np.stack([np.full(len(part), first + n), inside]))
        where.append(np.concatenate(place, axis=1)[:, tree.at])
    inputs = _padded(rows)
    hidden = inner(mx.array(inputs))
    places = [row * inputs.shape[1] + column for row, column in where]
    return _read(hidden.reshape(-1, hidden.shape[-1]), head, trees, places)


def _parts(tree: Tree) -> list[np.ndarray]:
    """The inputs of every branch."""
    return np.split(tree.ids[tree.trunk :], np.cumsum(tree.branches)[:-1]) if tree.branches else []


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """int32 [rows, longest], filled up on the right: nothing that counts sees what comes later."""
    result = np.zeros((len(rows), max(len(row) for row in rows)), np.int32)
    for filled, row in zip(result, rows, strict=True):
        filled[: len(row)] = row
    return result


def _read(states: mx.array, head: graph.Head, trees: list[Tree], places: list[np.ndarray]) -> Any:
    """Losses and hits at the places, a few at a time."""
    import mlx.core as mx

    at = np.concatenate(places)
    targets = np.concatenate([tree.targets for tree in trees])
    rows = graph.rows_at_once(int(head(states[:1]).shape[-1]))
    losses, hits = [], []
    for first in range(0, len(at), rows):
        some = slice(first, first + rows)
        logits = head(states[mx.array(at[some])]).astype(mx.float32)
        expected = mx.array(targets[some])
        loss, hit = graph.cross_entropy(logits, expected), mx.argmax(logits, axis=-1) == expected
        mx.eval(loss, hit)
        losses.append(np.array(loss))
        hits.append(np.array(hit))
    cuts = np.cumsum([len(tree.at) for tree in trees])[:-1]
    return list(
        zip(
            np.split(np.concatenate(losses), cuts),
            np.split(np.concatenate(hits), cuts),
            strict=True,
        )
    )
