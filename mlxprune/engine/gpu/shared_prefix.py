"""The engine of Metal and CUDA for trees: the trunks of a batch once, then all their branches.

Keys and values of the trunks are kept as a generating model keeps them, so it works for every
architecture whose cache is the plain one; others compute every choice whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune.engine.gpu import loss_graph
from mlxprune.engine.shared_prefix import SharedPrefix

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

Answers = list[tuple[np.ndarray, np.ndarray]]


def graph_answers(model: nn.Module, trees: list[SharedPrefix]) -> Answers:
    """For every tree -ln p of its targets in nats, float32 [S], and whether each is the most
    likely id, bool [S]. The trees of one call are one batch."""
    return _shared(model, trees) if _remembers_plainly(model) else _whole(model, trees)


def _remembers_plainly(model: Any) -> bool:
    """Whether keys and values are all that a layer keeps, and positions are turns: a table of
    learned ones has no place for what pads a branch."""
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    turned = all(hasattr(getattr(layer, "self_attn", None), "rope") for layer in model.layers)
    return turned and all(type(cache) is KVCache for cache in make_prompt_cache(model))


class _Trunk:
    """What attention remembers of the trunks, in place of mlx-lm's cache of one layer."""

    def __init__(self) -> None:
        self.offset: Any = 0
        self.kept: tuple[mx.array, mx.array] | None = None
        self.owner: mx.array | None = None
        self.mask: mx.array | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        import mlx.core as mx

        if self.kept is None:
            self.kept = (keys, values)
            return keys, values
        before_keys, before_values = (kept[self.owner] for kept in self.kept)
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
        self.owner, self.offset, self.mask = owner, lengths, mask


def _shared(model: Any, trees: list[SharedPrefix]) -> Answers:
    import mlx.core as mx

    found, head = loss_graph.parts(model)
    inner: Any = found  # it takes a cache, too
    lengths = np.array([tree.trunk for tree in trees])
    caches = [_Trunk() for _ in range(len(model.layers))]
    if lengths.min() == 0:
        return _whole(model, trees)
    trunks = _padded([tree.ids[: tree.trunk] for tree in trees])
    hidden = inner(mx.array(trunks), cache=caches)
    mx.eval(hidden, [cache.kept for cache in caches])
    states = [hidden.reshape(-1, hidden.shape[-1])]
    starts = np.arange(len(trees)) * trunks.shape[1]  # of each trunk among the states
    owner = np.repeat(np.arange(len(trees)), [len(tree.branches) for tree in trees])
    rows = [part for tree in trees for part in _parts(tree)]
    places: list[np.ndarray] = []
    width = max((len(row) for row in rows), default=0)
    causal = np.tri(width, dtype=bool)
    # A few rows at a time: every row has its trunk's keys and values once more.
    together = max(1, trunks.size // (trunks.shape[1] + width))
    for first in range(0, len(rows) if width else 0, together):
        mine = owner[first : first + together]
        seen = np.arange(trunks.shape[1])[None] < lengths[mine][:, None]
        mask = np.concatenate(
            [
                np.broadcast_to(seen[:, None, :], (len(mine), width, trunks.shape[1])),
                np.broadcast_to(causal, (len(mine), width, width)),
            ],
            axis=2,
        )
        for cache in caches:
            cache.branch(mx.array(mine), mx.array(lengths[mine]), mx.array(mask[:, None]))
        after = inner(mx.array(_padded(rows[first : first + together], width)), cache=caches)
        mx.eval(after)
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


def _whole(model: Any, trees: list[SharedPrefix]) -> Answers:
    """Every choice a row of its own."""
    import mlx.core as mx

    inner, head = loss_graph.parts(model)
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


def _parts(tree: SharedPrefix) -> list[np.ndarray]:
    """The inputs of every branch."""
    return np.split(tree.ids[tree.trunk :], np.cumsum(tree.branches)[:-1]) if tree.branches else []


def _padded(rows: list[np.ndarray], width: int = 0) -> np.ndarray:
    """int32 [rows, longest], filled up on the right: nothing that counts sees what comes later."""
    result = np.zeros((len(rows), max(width, *(len(row) for row in rows))), np.int32)
    for filled, row in zip(result, rows, strict=True):
        filled[: len(row)] = row
    return result


def _read(
    states: mx.array, head: loss_graph.Head, trees: list[SharedPrefix], places: list[np.ndarray]
) -> Any:
    """Losses and hits at the places, a few at a time."""
    import mlx.core as mx

    at = np.concatenate(places)
    targets = np.concatenate([tree.targets for tree in trees])
    rows = loss_graph.rows_at_once(int(head(states[:1]).shape[-1]))
    losses, hits = [], []
    for first in range(0, len(at), rows):
        some = slice(first, first + rows)
        logits = head(states[mx.array(at[some])]).astype(mx.float32)
        expected = mx.array(targets[some])
        loss, hit = (
            loss_graph.cross_entropy(logits, expected),
            mx.argmax(logits, axis=-1) == expected,
        )
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
