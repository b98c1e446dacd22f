"""Memorising: when repeated text no longer teaches, and the loss on held-out text rises again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RISE = 0.001  # above its best, as a share of it: less is the wavering of a training
LOOKS = 2  # validations after the best one that lie above it


@dataclass(frozen=True)
class MemorisedSince:
    """Where the best validation was, and from which one on it memorises; places in the series."""

    best: int
    since: int


def memorised_since(
    targets: Sequence[float], bits: Sequence[float], unique: float
) -> MemorisedSince | None:
    """Whether a training memorises at its last validation.

    ``targets`` it has trained on at each validation, ``bits`` per byte there, and ``unique``
    targets of a pass. It does where text is repeated and the last LOOKS validations lie above the
    best one, by RISE; None where it does not.
    """
    if not bits or targets[-1] <= unique:
        return None
    best = min(range(len(bits)), key=lambda at: bits[at])
    limit = bits[best] * (1 + RISE)
    above = len(bits)
    while above > best + 1 and bits[above - 1] > limit and targets[above - 1] > unique:
        above -= 1
    if len(bits) - above < LOOKS:
        return None
    return MemorisedSince(best, above)
