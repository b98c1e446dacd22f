"""Contamination: against a search of strings, word by word."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mlxprune.evaluation import contamination
from mlxprune.evaluation.contamination import COMMON, find_traces, words

VOCABULARY = [f"w{n}" for n in range(12)] + ["\u00fcber", "x"]


def by_strings(texts: list[str], documents: list[str]) -> set[tuple[int, int]]:
    """Every run of min(13, m) words of an item, searched as a string in every document."""
    plain = [f" {' '.join(words(d))} " for d in documents]
    found = set()
    sharing: dict[str, set[int]] = {}
    for item, text in enumerate(texts):
        m = words(text)
        n = min(13, len(m))
        for first in range(len(m) - n + 1 if n else 0):
            sharing.setdefault(" ".join(m[first : first + n]), set()).add(item)
    for item, text in enumerate(texts):
        m = words(text)
        n = min(13, len(m))
        for first in range(len(m) - n + 1 if n else 0):
            run = f" {' '.join(m[first : first + n])} "
            holders = [d for d, words in enumerate(plain) if run in words]
            if max(len(holders), len(sharing[run.strip()])) <= COMMON:
                found |= {(item, d) for d in holders}
    return found


@pytest.mark.parametrize("at_once", [1, 37, 1 << 20])
def test_the_same_as_a_search_of_strings(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(contamination, "WORDS_AT_ONCE", at_once)
    draw = random.Random(int(generator.integers(2**31)))
    documents = [
        " ".join(draw.choices([*VOCABULARY, "unknown", "other"], k=draw.randint(0, 60)))
        for _ in range(80)
    ]
    texts = [" ".join(draw.choices(VOCABULARY, k=draw.randint(0, 30))) for _ in range(60)]
    for _ in range(40):  # pieces of documents, in another dress
        words = draw.choice(documents).split()
        if len(words) > 3:
            first = draw.randrange(len(words) - 2)
            piece = words[first : first + draw.randint(1, 25)]
            texts.append(", ".join(w.upper() for w in piece) + "!")
    numbers = [1000 + 3 * n for n in range(len(documents))]
    found = find_traces(texts, zip(numbers, documents, strict=True))
    expected = by_strings(texts, documents)
    assert len(expected) > 10
    got = set(zip(found.item.tolist(), ((found.document - 1000) // 3).tolist(), strict=True))
    assert got == expected


def test_a_phrase_of_many_documents_is_no_trace() -> None:
    item = "the answer to this question is yes"
    for count, expected in ((10, 10), (11, 0)):
        found = find_traces([item], enumerate([f"well, {item}."] * count))
        assert (len(found.item), found.phrases) == (expected, int(expected == 0))
        assert found.common.tolist() == ([] if expected else [0])


def test_an_instruction_of_many_items_is_no_trace() -> None:
    """A document with one item of a task is not a trace of all that begin alike."""
    lead = "given the following list of many words say which of them comes after all others"
    items = [f"{lead} number {n} is the question" for n in range(30)]
    found = find_traces(items, [(7, f"seen: {items[3]}")])
    assert (found.item.tolist(), found.document.tolist()) == ([3], [7])
    assert len(found.common) == 29


def test_no_run_goes_from_one_document_into_the_next() -> None:
    found = find_traces(["alpha beta gamma"], enumerate(["x alpha beta", "gamma y"]))
    assert len(found.item) == 0
    assert len(find_traces(["", "..."], enumerate(["", "..."])).item) == 0


def test_a_long_item_is_found_by_thirteen_of_its_words() -> None:
    words = [f"q{n}" for n in range(20)]
    inside = " ".join(words[3:16])
    short = " ".join(words[3:15])
    found = find_traces([" ".join(words)], enumerate([f"a {inside} b", f"a {short} b"]))
    assert found.document.tolist() == [0]
