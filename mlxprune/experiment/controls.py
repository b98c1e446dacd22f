"""Controls: which documents an arm takes, blind to scores or by an order of preference.

``lengths`` are tokens with the closing end-of-text, int64; results are ascending numbers of rows.
The last document is taken where that comes closer to the budget, so budgets hold within one.
"""

from __future__ import annotations

import numpy as np

from mlxprune.data.hashing import mix
from mlxprune.selection.ranking import domain_length_cells


def take_until(order: np.ndarray, lengths: np.ndarray, budget: float) -> np.ndarray:
    """Documents in this order until ``budget`` tokens."""
    return np.sort(order[: _stop(np.cumsum(lengths[order], dtype=np.int64), budget)])


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
    if abs(owed) > int(lengths.max(initial=0)):  # a slice of nearly everything leaves no exchange
        spare = np.flatnonzero(drawn == (owed < 0))
        spare = spare[np.lexsort((keys[spare], mix(keys[spare], seed)))]
        moved = spare[: _stop(np.cumsum(lengths[spare]), abs(owed))]
        drawn[moved] = owed > 0
    return np.flatnonzero(drawn)
