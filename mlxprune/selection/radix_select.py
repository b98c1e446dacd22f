"""Radix select: which documents come before a point of the rank order, without sorting them all.

The order is by value, then a seeded mix of the key, then the key. The point is given in weight,
such as tokens. A few passes over the values narrow it down to a few documents, by the leading bits
of the values, and only those are sorted. Passes go in pieces, so memory-mapped columns of 100
million documents need little more than themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from mlxprune.data.hashing import mix

PIECE = 1 << 22  # documents at a time
BITS = 16  # of the value, told apart in one pass
SORTED_AT_ONCE = 1 << 18  # documents that are few enough to sort
Values = Callable[[slice], np.ndarray]


def lies_before(
    values: Values, weights: np.ndarray | None, keys: np.ndarray, seed: int | str, point: int
) -> np.ndarray:
    """bool [documents]: those ranked before the first whose doubled midpoint reaches ``point``.

    A document's doubled midpoint is twice the weight before it plus its own. ``values`` gives
    float64 without NaN; ``weights`` are positive integers, each one without them; ``keys`` uint64.
    """
    count = len(keys)
    if point <= 0:
        return np.zeros(count, bool)
    prefix, left, base, inside = 0, 64, 0, count
    while inside > SORTED_AT_ONCE and left:
        numbers = np.zeros(1 << BITS, np.int64)
        sums = np.zeros(1 << BITS, np.int64)
        for part, codes, here in _inside(values, count, prefix, left):
            bins = ((codes[here] >> np.uint64(left - BITS)) & np.uint64((1 << BITS) - 1)).astype(
                np.int64
            )
            counts = np.bincount(bins, minlength=1 << BITS)
            numbers += counts
            if weights is None:
                sums += counts
            else:  # float64 is exact for integers to 2^53
                sums += np.bincount(bins, weights[part][here], 1 << BITS).astype(np.int64)
        ends = base + np.cumsum(sums)
        chosen = int(np.searchsorted(2 * ends, point, side="left"))
        if chosen == len(ends):  # only in the first pass: later ones are inside a bin
            return np.ones(count, bool)
        base = int(ends[chosen] - sums[chosen])
        inside = int(numbers[chosen])
        prefix, left = (prefix << BITS) | chosen, left - BITS
    result = np.empty(count, bool)
    tied = []
    for part, codes, here in _inside(values, count, prefix, left):
        result[part] = (codes >> np.uint64(left)) < np.uint64(prefix) if left < 64 else False
        tied.append(np.flatnonzero(here) + part.start)
    members = np.concatenate(tied)
    mine = _picked(values, members)
    order = np.lexsort((keys[members], mix(keys[members], f"ties {seed}"), mine))
    own = np.ones(len(members), np.int64) if weights is None else weights[members[order]]
    doubled_midpoints = 2 * (base + np.cumsum(own, dtype=np.int64)) - own
    stop = int(np.searchsorted(doubled_midpoints, point, side="left"))
    result[members[order[:stop]]] = True
    return result


def _inside(
    values: Values, count: int, prefix: int, left: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(documents, their codes, which have ``prefix`` above the last ``left`` bits), in pieces."""
    for start in range(0, count, PIECE):
        part = slice(start, min(start + PIECE, count))
        codes = _codes(values(part))
        if left == 64:
            yield part, codes, np.ones(len(codes), bool)
        else:
            yield part, codes, (codes >> np.uint64(left)) == np.uint64(prefix)


def _codes(values: np.ndarray) -> np.ndarray:
    """uint64 in the order of the float64 values; minus zero is zero."""
    bits = (values + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    codes: np.ndarray = np.where(bits & sign, ~bits, bits | sign)
    return codes


def _picked(values: Values, members: np.ndarray) -> np.ndarray:
    """The values of the members, ascending numbers, reading a piece at a time."""
    found = []
    for start in range(0, int(members[-1]) + 1 if len(members) else 0, PIECE):
        part = slice(start, start + PIECE)
        here = members[np.searchsorted(members, start) : np.searchsorted(members, start + PIECE)]
        if len(here):
            found.append(values(part)[here - start])
    return np.concatenate(found) if found else np.zeros(0)
