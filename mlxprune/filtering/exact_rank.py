"""Exact rank: the share of the new text that a slice keeps, found without holding its scores.

Documents are ordered by their figure, equal figures by the seeded hash of their key, as a slice of
a study orders them. Where a span of that order begins and ends is found digit by digit of the
128 bits that order them, each digit in one pass over the scores on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.data.hashing import mix
from mlxprune.errors import DataError
from mlxprune.filtering.cuts import groups_of
from mlxprune.selection.ranking import document_span, token_span

DIGIT = 8  # bits of a pass
HELD_DOCUMENTS = 4_000_000  # up to so many stay in memory between passes


@dataclass(frozen=True)
class RankedRows:
    """Columns of some scored documents: figures float64, keys uint64, tokens int64."""

    figures: np.ndarray
    keys: np.ndarray
    tokens: np.ndarray
    domains: list[str]

    def __len__(self) -> int:
        return len(self.keys)


Read = Callable[[], Iterator[RankedRows]]


@dataclass(frozen=True)
class _Digits:
    """Of documents that are ranked: their group, the words that order them, and their weight."""

    group: np.ndarray
    words: tuple[np.ndarray, np.ndarray]
    weight: np.ndarray


@dataclass(frozen=True)
class _Edge:
    """The first document of each group that lies behind a point: its words, and whether documents
    with exactly these lie before the point."""

    high: np.ndarray
    low: np.ndarray
    takes_equal: np.ndarray

    def before(self, digits: _Digits) -> np.ndarray:
        high, low = self.high[digits.group], self.low[digits.group]
        equal = digits.words[0] == high
        less = (digits.words[0] < high) | (equal & (digits.words[1] < low))
        result: np.ndarray = less | (
            equal & (digits.words[1] == low) & self.takes_equal[digits.group]
        )
        return result


class ExactRank:
    """A slice of shares over scores that ``read`` gives some at a time, as often as asked.

    Raises DataError for a slice that is not an interval of ranks.
    """

    def __init__(self, read: Read, choice: Slice, seed: int) -> None:
        refuse_inexact(choice)
        self.choice, self.seed = choice, seed
        self.by = choice.by if isinstance(choice.by, str) else "domain,length"
        self.codes: dict[str, int] = {}
        self._read = read
        documents = 0
        counts, weights = (np.zeros(0, np.int64) for _ in "12")  # by group
        for rows in read():
            digits = self._digits(rows, np.flatnonzero(rows.tokens >= choice.min_tokens))
            documents += len(rows)
            size = max(len(self.codes), 1)
            counts, weights = (_longer(one, size) for one in (counts, weights))
            counts += np.bincount(digits.group, minlength=size)
            weights += np.bincount(digits.group, digits.weight, size).astype(np.int64)
        self._held = [*read()] if documents <= HELD_DOCUMENTS else None
        firsts, stops = (np.zeros(len(counts), np.int64) for _ in "12")
        for code, (count, weight) in enumerate(zip(counts.tolist(), weights.tolist(), strict=True)):
            span = document_span(choice, count)
            if choice.unit == "documents":
                firsts[code], stops[code] = 2 * span[0], 2 * span[1]
            else:
                firsts[code], stops[code] = token_span(choice, weight)
        self._first, self._stop = self._edge(firsts), self._edge(stops)

    def kept(self, rows: RankedRows) -> np.ndarray:
        """bool: which of these documents the slice keeps."""
        able = np.flatnonzero(rows.tokens >= self.choice.min_tokens)
        digits = self._digits(rows, able)
        result = np.zeros(len(rows), bool)
        result[able] = self._stop.before(digits) & ~self._first.before(digits)
        return result

    def _digits(self, rows: RankedRows, able: np.ndarray) -> _Digits:
        group = np.zeros(len(able), np.int64)
        if self.by != "corpus":
            names = [rows.domains[i] for i in able.tolist()]
            for name, members in groups_of(names, rows.tokens[able], self.by).items():
                group[members] = self.codes.setdefault(name, len(self.codes))
        bits = (rows.figures[able] + 0.0).view(np.uint64)  # -0.0 is 0.0
        negative = bits >> np.uint64(63) == 1
        ordered = np.where(negative, ~bits, bits | np.uint64(1 << 63))
        ties = mix(rows.keys[able], f"ties {self.seed}")
        tokens = rows.tokens[able]
        weight = tokens if self.choice.unit == "tokens" else np.ones(len(able), np.int64)
        return _Digits(group, (ordered, ties), weight)

    def _all(self) -> Iterator[_Digits]:
        for rows in self._held if self._held is not None else self._read():
            yield self._digits(rows, np.flatnonzero(rows.tokens >= self.choice.min_tokens))

    def _edge(self, points: np.ndarray) -> _Edge:
        """Where the doubled midpoints of each group reach its point: one digit a pass."""
        groups, size = len(points), 1 << DIGIT
        before = np.zeros(groups, np.int64)  # weight of the documents below the prefix
        words = [np.zeros(groups, np.uint64), np.zeros(groups, np.uint64)]
        for word in (0, 1):
            for shift in range(64 - DIGIT, -1, -DIGIT):
                sums = np.zeros(groups * size)
                for digits in self._all():
                    inside = self._has_prefix(digits, words, word, shift + DIGIT)
                    digit = (digits.words[word][inside] >> np.uint64(shift)) & np.uint64(size - 1)
                    place = digits.group[inside] * size + digit.astype(np.int64)
                    weight = digits.weight[inside]
                    sums += np.bincount(place, weights=weight, minlength=groups * size)
                table = sums.astype(np.int64).reshape(groups, size)
                ends = before[:, None] + np.cumsum(table, axis=1)
                # All of a digit lies before the point where twice its end does not pass it.
                chosen = np.minimum((2 * ends <= points[:, None]).sum(axis=1), size - 1)
                rows = np.arange(groups)
                before = ends[rows, chosen] - table[rows, chosen]
                words[word] |= chosen.astype(np.uint64) << np.uint64(shift)
        # What is left of a group has equal words; they go together, by the midpoint of the first.
        first = np.zeros(groups, np.int64)
        for digits in self._all():
            inside = self._has_prefix(digits, words, 2, 0)
            first[digits.group[inside]] = digits.weight[inside]
        return _Edge(words[0], words[1], 2 * before + first < points)

    def _has_prefix(
        self, digits: _Digits, words: list[np.ndarray], word: int, shift: int
    ) -> np.ndarray:
        """Which documents agree with what is known of their group's edge: all words before
        ``word``, and of that the bits from ``shift`` up."""
        result = np.ones(len(digits.group), bool)
        for known in range(min(word, 2)):
            result &= digits.words[known] == words[known][digits.group]
        if word < 2 and shift < 64:
            mine, edge = digits.words[word], words[word][digits.group]
            result &= (mine >> np.uint64(shift)) == (edge >> np.uint64(shift))
        return result


def _longer(sums: np.ndarray, size: int) -> np.ndarray:
    """The same with room for groups that are new."""
    return np.concatenate([sums, np.zeros(size - len(sums), np.int64)])


def refuse_inexact(choice: Slice) -> None:
    """Raises DataError where a slice is no interval of the ranks of the new text."""
    why = ""
    if choice.criterion == "soft":
        why = "a soft slice is drawn by lot"
    elif choice.bounded:
        why = "floors and caps are shares of the study's domains"
    elif choice.rule == "paper":
        why = "the paper's rule keeps equal figures together, and is no exact rate"
    elif choice.absolute:
        why = "a range or a count of tokens is no rate"
    if why:
        fix = "leave --exact away, or give --rate with --criterion low, medium or high"
        raise DataError(f"{why}: it has no exact rate of new text", choice.label, fix)
