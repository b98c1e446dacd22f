"""Contamination: items of the tasks whose words stand in training documents.

An item is its context and its right answer, as words: lower case, letters and digits alone. With m
words it is found in a document that holds any n of them in a row, n = min(13, m): so of up to 13
words the whole item. A run of words that more than COMMON documents hold, or more than COMMON items
(their instruction), is a phrase and no trace. (Brown et al. 2020, appendix C, with a lower bound of
one item's length.) Text without spaces between words is one word to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.evaluation.requests import TaskRequests
from mlxprune.evaluation.tasks import Item, choices_of
from mlxprune.execution.context import Execution
from mlxprune.execution.progress import adding_progress, stage_progress

CONTAMINATION_VERSION = 1
LONGEST = 13
COMMON = 10  # documents, or items
WORDS = re.compile(r"[^\W_]+")
WORDS_AT_ONCE = 1 << 20
FILTER_BITS = 24
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    return WORDS.findall(text.lower())


def text_of(item: Item) -> str:
    """The context and the right answer."""
    context, answer = choices_of(item)[item.gold]
    return f"{context} {answer}"


@dataclass(frozen=True)
class Contamination:
    """Which document holds a trace of which item: ``item`` and ``document`` int64 [pairs], each
    pair once; ``phrases``: runs of words that were too common to count; ``common``: items of which
    documents hold nothing but such."""

    item: np.ndarray
    document: np.ndarray
    phrases: int
    common: np.ndarray


class Grams:
    """The runs of words of all items, looked up in documents by hash, then word by word."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.number: dict[str, int] = {}
        rows = [[self.number.setdefault(w, len(self.number)) for w in words(t)] for t in texts]
        self.words = np.array([n for row in rows for n in row], np.int64)
        starts = np.cumsum([0, *map(len, rows)])[:-1]
        # A word's hash; the last is of all words that no item has.
        self.hashes = _mixed(np.arange(len(self.number) + 1, dtype=np.uint64))
        self.tables: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
        places: dict[int, list[np.ndarray]] = {}
        owners: dict[int, list[np.ndarray]] = {}
        for item, (start, row) in enumerate(zip(starts.tolist(), rows, strict=True)):
            n = min(LONGEST, len(row))
            if n:
                at = start + np.arange(len(row) - n + 1)
                places.setdefault(n, []).append(at)
                owners.setdefault(n, []).append(np.full(len(at), item))
        for n in sorted(places):
            at, owner = np.concatenate(places[n]), np.concatenate(owners[n])
            value = _runs(self.hashes[self.words], n)[at]
            order = np.argsort(value, kind="stable")
            value, at, owner = value[order], at[order], owner[order]
            filtered = np.zeros(1 << FILTER_BITS, bool)
            filtered[value >> np.uint64(64 - FILTER_BITS)] = True
            self.tables[n] = (value, at, owner, filtered)

    def numbers(self, text: str) -> list[int]:
        get, other = self.number.get, len(self.number)
        return [get(word, other) for word in words(text)]

    def search(self, numbers: np.ndarray) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
        """(n, where in ``numbers`` a run begins that an item has, which entry of n's table)."""
        hashes = self.hashes[numbers]
        for n, (value, at, _, filtered) in self.tables.items():
            if n > len(numbers):
                continue
            run = _runs(hashes, n)
            likely = np.flatnonzero(filtered[run >> np.uint64(64 - FILTER_BITS)])
            first = np.searchsorted(value, run[likely], side="left")
            hit = first < len(value)
            hit[hit] = value[first[hit]] == run[likely[hit]]
            likely, first = likely[hit], first[hit]
            window = np.arange(n)
            same = (
                numbers[likely[:, None] + window] == self.words[at[first][:, None] + window]
            ).all(axis=1)
            yield n, likely[same], first[same]


def find_traces(
    texts: list[str],
    documents: Iterable[tuple[int, str]],
    progress: Callable[[int], None] = lambda characters: None,
) -> Contamination:
    """Search the items' ``texts`` in (number, text) of documents."""
    grams = Grams(texts)
    hits: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {n: [] for n in grams.tables}
    waiting: list[int] = []
    owner: list[int] = []
    sizes: list[int] = []
    barrier = len(grams.number)

    def flush() -> None:
        numbers = np.array(waiting, np.int64)
        of = np.repeat(np.array(owner, np.int64), sizes)
        for n, where, entry in grams.search(numbers):
            hits[n].append((entry, of[where]))
        waiting.clear()
        owner.clear()
        sizes.clear()

    for number, text in documents:
        found = grams.numbers(text)
        waiting += found
        waiting.append(barrier)  # no run goes from one document into the next
        owner.append(number)
        sizes.append(len(found) + 1)
        progress(len(text))
        if len(waiting) > WORDS_AT_ONCE:
            flush()
    flush()
    none = np.zeros(0, np.int64)
    items, holders, common, phrases = [none], [none], [none], 0
    for n, parts in hits.items():
        value, _, of_item, _ = grams.tables[n]
        entry = np.concatenate([e for e, _ in parts] or [none])
        document = np.concatenate([d for _, d in parts] or [none])
        pairs = np.unique(np.stack([entry, document], axis=1), axis=0)
        for first, held_by in _by_run(pairs):
            # Every item that has this run: equal runs stand side by side in the table.
            last = int(np.searchsorted(value, value[first], side="right"))
            mine = np.unique(of_item[first:last])
            if len(held_by) > COMMON or len(mine) > COMMON:
                phrases += 1
                common.append(mine)
                continue
            items.append(np.repeat(mine, len(held_by)))
            holders.append(np.tile(held_by, len(mine)))
    both = np.unique(np.stack([np.concatenate(items), np.concatenate(holders)], axis=1), axis=0)
    only_common = np.setdiff1d(np.concatenate(common), both[:, 0])
    return Contamination(both[:, 0], both[:, 1], phrases, only_common)


def _by_run(pairs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(entry of the table, the documents that hold it) of sorted pairs."""
    cuts = np.flatnonzero(np.diff(pairs[:, 0])) + 1
    for group in np.split(pairs, cuts) if len(pairs) else []:
        yield int(group[0, 0]), group[:, 1]


def _mixed(values: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = (values + np.uint64(1)) * MULTIPLIER
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: np.ndarray = z ^ (z >> np.uint64(31))
        return result


def _runs(hashes: np.ndarray, n: int) -> np.ndarray:
    """A hash of every n neighbours, uint64 [count - n + 1] (of fewer none)."""
    count = max(0, len(hashes) - n + 1)
    with np.errstate(over="ignore"):
        total = np.zeros(count, np.uint64)
        for offset in range(n):
            total = total * MULTIPLIER + hashes[offset : offset + count]
        return _mixed(total)


def find_contaminated(
    execution: Execution, requests: TaskRequests, corpus: Corpus, wanted: np.ndarray
) -> Contamination:
    """The asked items in the ``wanted`` documents (bool, a document each) of a corpus. All items of
    the tasks are searched, so that the result does not depend on how many are asked."""
    texts: list[str] = []
    number: list[int] = []  # of each text among the requests, or -1
    for asked in requests.asked:
        place = {row: asked.first + n for n, row in enumerate(asked.rows)}
        texts += [text_of(item) for item in asked.found.items]
        number += [place.get(item.row, -1) for item in asked.found.items]
    report = stage_progress(execution, "evaluation", "bytes", "search for items in the documents")
    more = adding_progress(report, int(corpus.index["bytes"][wanted].sum()))
    found = find_traces(texts, corpus.texts(wanted), more)
    of = np.array(number, np.int64)
    kept = of[found.item] >= 0
    common = of[found.common]
    return Contamination(
        of[found.item][kept], found.document[kept], found.phrases, common[common >= 0]
    )


def rows_by_task(requests: TaskRequests, items: np.ndarray) -> dict[str, list[int]]:
    """Rows of the tasks' files, of items of the requests."""
    found = np.unique(items)
    return {
        asked.task.label: [
            asked.rows[n - asked.first] for n in found.tolist() if asked.first <= n < asked.stop
        ]
        for asked in requests.asked
    }
