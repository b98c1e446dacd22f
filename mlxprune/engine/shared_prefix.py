"""Shared prefixes: the choices of an item as one sequence, what they have in common once.

All choices of an item begin alike: most often with the whole context. That prefix comes once, and
after it the rest of every choice, a suffix each. A suffix sees the prefix and itself, and its
positions go on where the prefix ends, so its losses are those of the choice alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SharedPrefix:
    """``ids`` int32 [T]: the prefix, then the inputs of every suffix. Scored are ``targets`` [S]
    (ids), predicted at the places ``at`` [S] of ``ids``, for the choice ``choice`` [S]."""

    item: int
    ids: np.ndarray
    prefix_length: int
    suffix_lengths: tuple[int, ...]  # lengths, in the order of the choices
    at: np.ndarray
    targets: np.ndarray
    choice: np.ndarray

    def positions(self) -> np.ndarray:
        """int64 [T]: the place of every input in its own sequence."""
        parts = [
            np.arange(self.prefix_length),
            *(self.prefix_length + np.arange(n) for n in self.suffix_lengths),
        ]
        return np.concatenate(parts)

    def hidden(self) -> np.ndarray:
        """bool [B, B] over the inputs of the suffixes: those of another suffix."""
        suffix_of = np.repeat(np.arange(len(self.suffix_lengths)), self.suffix_lengths)
        result: np.ndarray = suffix_of[:, None] != suffix_of[None]
        return result


def shared_prefixes_of(
    item: int, contexts: Sequence[np.ndarray], continuations: Sequence[np.ndarray]
) -> list[SharedPrefix]:
    """One for the choices of an item, or one for each where they have too little in common.

    ``contexts`` and ``continuations`` int arrays, a choice each; no continuation or context is
    empty. The last token of a continuation is a target and no input.
    """
    rows = [
        np.concatenate([context, continuation])
        for context, continuation in zip(contexts, continuations, strict=True)
    ]
    prefix = _common([row[:-1] for row in rows])
    rests = [len(row) - 1 - prefix for row in rows]
    if len(rows) > 1 and prefix < max(rests):
        return [
            _shared(item, [row], [n], [len(continuations[n])], len(row) - 1)
            for n, row in enumerate(rows)
        ]
    scored = [len(continuation) for continuation in continuations]
    return [_shared(item, rows, list(range(len(rows))), scored, prefix)]


def _common(rows: list[np.ndarray]) -> int:
    """How many ids all rows begin with."""
    shortest = min(len(row) for row in rows)
    same = np.ones(shortest, bool)
    for row in rows[1:]:
        same &= row[:shortest] == rows[0][:shortest]
    return shortest if same.all() else int(same.argmin())


def _shared(
    item: int, rows: list[np.ndarray], choices: list[int], scored: list[int], prefix: int
) -> SharedPrefix:
    ids, at, targets, choice = [rows[0][:prefix]], [], [], []
    start = prefix
    for row, number, count in zip(rows, choices, scored, strict=True):
        suffix = row[prefix:-1]
        ids.append(suffix)
        place = np.arange(len(row) - 1 - count, len(row) - 1)
        at.append(np.where(place < prefix, place, place - prefix + start))
        targets.append(row[-count:])
        choice.append(np.full(count, number))
        start += len(suffix)
    lengths = tuple(len(row) - 1 - prefix for row in rows)
    return SharedPrefix(
        item,
        np.concatenate(ids).astype(np.int32),
        prefix,
        () if not sum(lengths) else lengths,
        np.concatenate(at).astype(np.int64),
        np.concatenate(targets).astype(np.int32),
        np.concatenate(choice),
    )


def batch_shared_prefixes(prefixes: Sequence[SharedPrefix], tokens: int) -> Iterator[list[int]]:
    """Which go together: longest first, about ``tokens`` inputs a batch, padding counted."""
    order = sorted(range(len(prefixes)), key=lambda n: (-len(prefixes[n].ids), n))
    batch: list[int] = []
    longest = 0
    for number in order:
        longest = longest or len(prefixes[number].ids)
        if batch and longest * (len(batch) + 1) > tokens:
            yield batch
            batch, longest = [], len(prefixes[number].ids)
        batch.append(number)
    if batch:
        yield batch
