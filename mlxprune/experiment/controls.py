"""Controls: which documents an arm takes, blind to scores or by an order of preference.

``lengths`` are tokens with the closing end-of-text, int64; results are ascending numbers of rows.
Where the next document does not fit a budget, later ones that do are taken, in the same order: so
few, long documents do not miss it by far. The last one is taken where that comes closer.
"""

from __future__ import annotations

import numpy as np

from mlxprune.data.hashing import mix
from mlxprune.selection.ranking import domain_length_cells

EQUAL_TOKENS = 0.002  # a share of U within which arms hold as many unique tokens
EXCHANGES = 8  # of single documents in a cell, at most
LOOKED_AT = 300  # documents of a cell on each side, in hash order


def take_until(order: np.ndarray, lengths: np.ndarray, budget: float) -> np.ndarray:
    """Documents in this order up to ``budget`` tokens: those that still fit, and one more where
    the budget is then missed by less."""
    sizes = lengths[order]
    taken = np.zeros(len(order), bool)
    left, start = float(budget), 0
    while start < len(order):
        fits = start + np.flatnonzero(sizes[start:] <= left)
        if not len(fits):
            break
        # Of those that fit one by one, as many in a row as fit together.
        count = int(np.searchsorted(np.cumsum(sizes[fits], dtype=np.int64), left, side="right"))
        run = fits[:count]
        taken[run] = True
        left -= float(sizes[run].sum())
        start = int(run[-1]) + 1
        if left < 1:
            break
    rest = np.flatnonzero(~taken)
    if left > 0 and len(rest):
        nearest = rest[np.argmin(sizes[rest])] if len(rest) else 0
        if abs(float(sizes[nearest]) - left) < left:
            taken[nearest] = True
    return np.sort(order[taken])


def _stop(sums: np.ndarray, budget: float) -> int:
    """How many make the sum that is closest to the budget."""
    count = int(np.searchsorted(sums, budget, side="left"))
    if count < len(sums):
        before = int(sums[count - 1]) if count else 0
        if int(sums[count]) - budget <= budget - before:
            count += 1
    return count


def draw_random(keys: np.ndarray, lengths: np.ndarray, budget: float, seed: str) -> np.ndarray:
    """Documents in seeded hash order until ``budget`` tokens, one at least."""
    order = np.lexsort((keys, mix(keys, seed)))
    taken = take_until(order, lengths, budget)
    return taken if len(taken) else order[:1]


def fit_to_budget(
    kept: np.ndarray, preference: np.ndarray, lengths: np.ndarray, budget: int
) -> np.ndarray:
    """What a slice keeps, cut or filled up by preference to ``budget`` tokens, one at least."""
    mine = kept[preference]
    order = np.concatenate([preference[mine], preference[~mine]])
    found = take_until(order, lengths, budget)
    return found if len(found) else order[:1]


def draw_by_domain(
    preference: np.ndarray, domain: np.ndarray, lengths: np.ndarray, budget: int
) -> np.ndarray:
    """The preferred documents of every domain, the mix of these documents unchanged.

    What a domain's last document is over or under is made up for in the next larger one.
    """
    codes = domain[preference]
    amounts = np.bincount(codes, weights=lengths[preference])
    by_code = preference[np.argsort(codes, kind="stable")]
    parts = np.split(by_code, np.flatnonzero(np.diff(domain[by_code])) + 1)
    parts.sort(key=lambda part: float(amounts[domain[part[0]]]))
    chosen, taken, due = [], 0, 0.0
    for part in parts:
        due += budget * float(amounts[domain[part[0]]] / amounts.sum())
        found = take_until(part, lengths, due - taken)
        taken += int(lengths[found].sum())
        chosen.append(found)
    result = np.sort(np.concatenate(chosen))
    return result if len(result) else preference[:1]


def _exchanged(
    drawn: np.ndarray, parts: list[np.ndarray], lengths: np.ndarray, owed: int, budget: int
) -> int:
    """Exchange single documents of one cell, ``drawn`` against not, until no more than a thousandth
    of the budget is ``owed``; return what still is. Cells keep their counts."""
    for part in reversed(parts):  # the largest first
        for _ in range(EXCHANGES):
            if abs(owed) <= budget * EQUAL_TOKENS / 2:
                return owed
            inside = part[drawn[part]][:LOOKED_AT]
            outside = part[~drawn[part]][:LOOKED_AT]
            if not len(inside) or not len(outside):
                break
            gains = lengths[outside][None, :] - lengths[inside][:, None]
            left = np.abs(owed - gains)
            one, other = np.unravel_index(int(left.argmin()), left.shape)
            if left[one, other] >= abs(owed):
                break
            owed -= int(gains[one, other])
            drawn[inside[one]], drawn[outside[other]] = False, True
    return owed


def draw_matched(
    keys: np.ndarray,
    domain: np.ndarray,
    lengths: np.ndarray,
    kept: np.ndarray,
    budget: int,
    seed: str,
) -> np.ndarray:
    """As many documents as the slice has in every cell of domain x octave of length, drawn in
    seeded hash order, blind to scores.

    ``budget`` is the tokens to reach, within a document those of the slice. Inside a cell,
    drawn and undrawn documents are exchanged, in hash order, until its tokens are the slice's, too.
    What a cell's last document is over or under is made up for in the next.
    """
    cell = domain_length_cells(domain, lengths)
    order = np.lexsort((keys, mix(keys, seed), cell))
    ends = np.flatnonzero(np.diff(cell[order])) + 1
    parts = np.split(order, ends) if len(order) else []
    parts.sort(key=len)  # the largest last: it has documents enough to make up for the rest
    chosen, owed = [], budget - int(lengths[kept].sum())
    for part in parts:
        count = int(kept[part].sum())
        owed += int(lengths[part[kept[part]]].sum())
        inside, outside = part[:count].copy(), part[count:].copy()
        missing = owed - int(lengths[inside].sum())
        pairs = min(count, len(outside))
        if missing and pairs:
            gains = lengths[outside[:pairs]] - lengths[inside[:pairs]]
            useful = np.flatnonzero(np.sign(gains) == np.sign(missing))
            swaps = useful[: _stop(np.cumsum(np.abs(gains[useful])), abs(missing))]
            inside[swaps], outside[swaps] = outside[swaps], inside[swaps]
            missing = owed - int(lengths[inside].sum())
        if pairs and abs(missing) > int(lengths[part].max()):  # scores that follow the length
            sign = 1 if missing > 0 else -1
            inside = inside[np.argsort(sign * lengths[inside], kind="stable")]
            outside = outside[np.argsort(-sign * lengths[outside], kind="stable")]
            gains = sign * (lengths[outside[:pairs]] - lengths[inside[:pairs]])
            swaps = np.arange(_stop(np.cumsum(np.maximum(gains, 0)), abs(missing)))
            swaps = swaps[gains[swaps] > 0]
            inside[swaps] = outside[swaps]
        owed -= int(lengths[inside].sum())
        chosen.append(inside)
    drawn = np.zeros(len(keys), bool)
    drawn[np.concatenate(chosen)] = True
    owed = _exchanged(drawn, parts, lengths, owed, budget)
    if abs(owed) > int(lengths.max(initial=0)):  # a slice of nearly everything leaves no exchange
        spare = np.flatnonzero(drawn == (owed < 0))
        spare = spare[np.lexsort((keys[spare], mix(keys[spare], seed)))]
        moved = spare[: _stop(np.cumsum(lengths[spare]), abs(owed))]
        drawn[moved] = owed > 0
    return np.flatnonzero(drawn)
