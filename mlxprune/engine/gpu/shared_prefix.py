"""Shared prefixes on Metal and CUDA: the prefixes of a batch once, then all their suffixes.

Keys and values of the prefixes are kept as a generating model keeps them, so it works for every
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


def graph_answers(model: nn.Module, prefixes: list[SharedPrefix]) -> Answers:
    """Of every shared prefix -ln p of its targets in nats, float32 [S], and whether each is the
    most likely id, bool [S]. The shared prefixes of one call are one batch."""
    return (
        shared_answers(model, prefixes)
        if remembers_plainly(model)
        else whole_answers(model, prefixes)
    )


def remembers_plainly(model: Any) -> bool:
    """Whether keys and values are all that a layer keeps, and positions are turns: a table of
    learned ones has no place for what pads a suffix."""
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    turned = all(hasattr(getattr(layer, "self_attn", None), "rope") for layer in model.layers)
    return turned and all(type(cache) is KVCache for cache in make_prompt_cache(model))


class _Trunk:
    """What attention remembers of the prefixes, in place of mlx-lm's cache of one layer."""

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

    def extend(self, owner: mx.array, lengths: mx.array, mask: mx.array) -> None:
        """From here on the rows are suffixes: row r goes on from prefix ``owner[r]``."""
        self.owner, self.offset, self.mask = owner, lengths, mask


def shared_answers(model: Any, prefixes: list[SharedPrefix]) -> Answers:
    import mlx.core as mx

    found, head = loss_graph.parts(model)
    inner: Any = found  # it takes a cache, too
    lengths = np.array([shared.prefix_length for shared in prefixes])
    caches = [_Trunk() for _ in range(len(model.layers))]
    if lengths.min() == 0:
        return whole_answers(model, prefixes)
    prefix_ids = _padded([shared.ids[: shared.prefix_length] for shared in prefixes])
    hidden = inner(mx.array(prefix_ids), cache=caches)
    mx.eval(hidden, [cache.kept for cache in caches])
    states = [hidden.reshape(-1, hidden.shape[-1])]
    starts = np.arange(len(prefixes)) * prefix_ids.shape[1]  # of each prefix among the states
    owner = np.repeat(np.arange(len(prefixes)), [len(shared.suffix_lengths) for shared in prefixes])
    rows = [part for shared in prefixes for part in _parts(shared)]
    places: list[np.ndarray] = []
    width = max((len(row) for row in rows), default=0)
    causal = np.tri(width, dtype=bool)
    # A few rows at a time: every row has its prefix's keys and values once more.
    together = max(1, prefix_ids.size // (prefix_ids.shape[1] + width))
    for first in range(0, len(rows) if width else 0, together):
        mine = owner[first : first + together]
        seen = np.arange(prefix_ids.shape[1])[None] < lengths[mine][:, None]
        mask = np.concatenate(
            [
                np.broadcast_to(seen[:, None, :], (len(mine), width, prefix_ids.shape[1])),
                np.broadcast_to(causal, (len(mine), width, width)),
            ],
            axis=2,
        )
        for cache in caches:
            cache.extend(mx.array(mine), mx.array(lengths[mine]), mx.array(mask[:, None]))
        after = inner(mx.array(_padded(rows[first : first + together], width)), cache=caches)
        mx.eval(after)
        states.append(after.reshape(-1, after.shape[-1]))
    first_row = 0
    for number, shared in enumerate(prefixes):
        # Where every input of the shared prefix lies among the states.
        where = [starts[number] + np.arange(shared.prefix_length)]
        for offset, length in enumerate(shared.suffix_lengths):
            at = prefix_ids.size + (first_row + offset) * width
            where.append(at + np.arange(length))
        first_row += len(shared.suffix_lengths)
        places.append(np.concatenate(where)[shared.at])
    return _read(mx.concatenate(states), head, prefixes, places)


def whole_answers(model: Any, prefixes: list[SharedPrefix]) -> Answers:
    """Every choice a row of its own."""
    import mlx.core as mx

    inner, head = loss_graph.parts(model)
    rows: list[np.ndarray] = []
    where: list[np.ndarray] = []  # of every input of a shared prefix: row and column
    for shared in prefixes:
        prefix, first = shared.ids[: shared.prefix_length], len(rows)
        parts = _parts(shared) or [shared.ids[:0]]
        rows += [np.concatenate([prefix, part]) for part in parts]
        place = [np.stack([np.full(shared.prefix_length, first), np.arange(shared.prefix_length)])]
        for n, part in enumerate(parts):
            inside = shared.prefix_length + np.arange(len(part))
            place.append(np.stack([np.full(len(part), first + n), inside]))
        where.append(np.concatenate(place, axis=1)[:, shared.at])
    inputs = _padded(rows)
    hidden = inner(mx.array(inputs))
    places = [row * inputs.shape[1] + column for row, column in where]
    return _read(hidden.reshape(-1, hidden.shape[-1]), head, prefixes, places)


def _parts(shared: SharedPrefix) -> list[np.ndarray]:
    """The inputs of every suffix."""
    return (
        np.split(shared.ids[shared.prefix_length :], np.cumsum(shared.suffix_lengths)[:-1])
        if shared.suffix_lengths
        else []
    )


def _padded(rows: list[np.ndarray], width: int = 0) -> np.ndarray:
    """int32 [rows, longest], filled up on the right: nothing that counts sees what comes later."""
    result = np.zeros((len(rows), max(width, *(len(row) for row in rows))), np.int32)
    for filled, row in zip(result, rows, strict=True):
        filled[: len(row)] = row
    return result


def _read(
    states: mx.array,
    head: loss_graph.Head,
    prefixes: list[SharedPrefix],
    places: list[np.ndarray],
) -> Any:
    """Losses and hits at the places, a few at a time."""
    import mlx.core as mx

    at = np.concatenate(places)
    targets = np.concatenate([shared.targets for shared in prefixes])
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
    cuts = np.cumsum([len(shared.at) for shared in prefixes])[:-1]
    return list(
        zip(
            np.split(np.concatenate(losses), cuts),
            np.split(np.concatenate(hits), cuts),
            strict=True,
        )
    )
