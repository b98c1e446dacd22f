"""Exams: asked in units, gone on with after an interruption, with the same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune import exam, marks, runs, tasks, tokenizer
from mlxprune.errors import DataError
from mlxprune.exam import Exam
from mlxprune.trees import Tree

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def write_tasks(folder: Path, seed: int, count: int = 60) -> Path:
    """A task of every kind: `cloze`, `choose` (categories, 2 shots), `pairs`."""
    draw = random.Random(seed)

    def text(low: int = 1, high: int = 8) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    rows: dict[str, list[dict[str, Any]]] = {"cloze": [], "choose": [], "pairs": []}
    for _ in range(count):
        rows["cloze"].append({"context": text(), "continuation": text(1, 2)})
        choices = [text(1, 3) for _ in range(3)]
        told = {"query": text(), "choices": choices, "gold": draw.randrange(3)}
        rows["choose"].append({**told, "category": draw.choice("ab")})
        lead = text()
        told = {"context_options": [f"{lead} {text(1, 2)}", f"{lead} {text(1, 2)}"]}
        rows["pairs"].append({**told, "continuation": text(1, 3), "gold": draw.randrange(2)})
    folder.mkdir(parents=True, exist_ok=True)
    for name, listed in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    (folder / "tasks.yaml").write_text("choose: {shots: 2, by_category: true}\n")
    return folder


def letters() -> tokenizer.Tokenizer:
    """A tokenizer of bytes; " a" is not one token, so no space is added."""

    def encode(texts: list[str]) -> list[list[int]]:
        return [[b + 2 for b in text.encode()] for text in texts]

    return tokenizer.Tokenizer(Path(), "bytes", 258, 1, 1, encode, lambda ids: "")


def prepared(folder: Path, limit: int | None = None, context: int = 400) -> Exam:
    return exam.prepare(tasks.find([str(folder)], None), letters(), context, limit, 0)


def hashed(asked: list[Tree]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses that depend on the whole sequence up to the target, and on nothing else."""
    found = []
    for tree in asked:
        parts = np.split(tree.ids[tree.trunk :], np.cumsum(tree.branches)[:-1])
        losses = []
        for place, target in zip(tree.at.tolist(), tree.targets.tolist(), strict=True):
            if place < tree.trunk:
                before = tree.ids[: place + 1].tolist()
            else:
                starts = tree.trunk + np.cumsum([0, *tree.branches])
                branch = int(np.searchsorted(starts, place, side="right")) - 1
                inside = parts[branch][: place - starts[branch] + 1]
                before = [*tree.ids[: tree.trunk].tolist(), *inside.tolist()]
            losses.append(random.Random(str((before, target))).random())
        values = np.array(losses, np.float32)
        found.append((values, values < 0.8))
    return found


def test_every_answer_is_that_of_its_own_sequence(tmp_path: Path) -> None:
    made = prepared(write_tasks(tmp_path, 1))
    answers = exam.answer(made, lambda: hashed, 500)
    assert made.inputs < made.whole
    by_item: dict[int, list[Tree]] = {}
    for tree in made.trees:
        by_item.setdefault(tree.item, []).append(tree)
    for item in range(len(made.gold)):
        first, stop = made.offsets[item], made.offsets[item + 1]
        for choice in range(stop - first):
            losses, hits = [], []
            for tree, (loss, hit) in zip(by_item[item], hashed(by_item[item]), strict=True):
                losses += loss[tree.choice == choice].tolist()
                hits += hit[tree.choice == choice].tolist()
            assert len(losses) == made.tokens[first + choice]
            assert answers["nll"][first + choice] == pytest.approx(sum(losses), rel=1e-12)
            assert answers["hit"][first + choice] == all(hits)


def test_an_interrupted_exam_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exam, "UNIT_TOKENS", 700)
    made = prepared(write_tasks(tmp_path / "tasks", 2))
    assert len(made.units) > 5
    for first, stop in made.units:  # an item is never in two
        assert first == 0 or made.trees[first - 1].item != made.trees[first].item
        assert stop > first
    assert [b for _, b in made.units[:-1]] == [a for a, _ in made.units[1:]]
    whole = exam.answer(made, lambda: hashed, 300)
    parts = tmp_path / "parts"
    parts.mkdir()
    asked = 0

    def dies(some: list[Tree]) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal asked
        asked += sum(len(t.ids) for t in some)
        if asked > made.inputs / 2:
            raise KeyboardInterrupt
        return hashed(some)

    with pytest.raises(KeyboardInterrupt):
        exam.answer(made, lambda: dies, 300, parts)
    kept = len(list(parts.glob("*.npy")))
    assert 0 < kept < len(made.units)
    seen = 0

    def counts(some: list[Tree]) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal seen
        seen += len(some)
        return hashed(some)

    told = []
    again = exam.answer(made, lambda: counts, 300, parts, told.append)
    assert again.tobytes() == whole.tobytes()
    assert seen == sum(b - a for a, b in made.units[kept:])
    assert sum(told) == made.inputs
    third = exam.answer(made, lambda: pytest.fail("nothing is left to ask"), 300, parts)
    assert third.tobytes() == whole.tobytes()


def test_a_limit_asks_some_items_with_the_examples_of_all(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, 3)
    few, every = prepared(folder, 10), prepared(folder)
    whole = exam.answer(every, lambda: hashed, 500)
    some = exam.answer(few, lambda: hashed, 500)
    for mine, all_of in zip(few.asked, every.asked, strict=True):
        assert len(mine.rows) == 10
        for n, row in enumerate(mine.rows):
            other = all_of.first + all_of.rows.index(row)
            a = some[few.offsets[mine.first + n] : few.offsets[mine.first + n + 1]]
            b = whole[every.offsets[other] : every.offsets[other + 1]]
            assert a.tobytes() == b.tobytes()


def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(
        "".join(json.dumps({"context": "a", "continuation": "x" * n}) + "\n" for n in (3, 50, 4))
    )
    made = prepared(tmp_path, context=20)
    assert (made.asked[0].rows, made.asked[0].left_out, made.asked[0].cut) == ([0, 2], [1], 0)
    assert marks.marks(made, exam.answer(made, lambda: hashed, 50))["tasks"]["long"]["items"] == 2


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(json.dumps({"context": "a", "continuation": "x" * 90}))
    with pytest.raises(DataError, match="no item fits"):
        prepared(tmp_path, context=20)


def test_the_identity_follows_files_settings_and_limit(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, 4)
    found = tasks.find([str(folder)], None)
    one = runs.fingerprint(exam.identity(found, None, 0))
    assert one == runs.fingerprint(exam.identity(found, None, 7))  # nothing is drawn
    drawn = {runs.fingerprint(exam.identity(found, 5, seed)) for seed in (0, 1)}
    assert len({one, *drawn}) == 3
    (folder / "tasks.yaml").write_text("choose: {shots: 3, by_category: true}\n")
    shots = runs.fingerprint(exam.identity(tasks.find([str(folder)], None), None, 0))
    with (folder / "pairs.jsonl").open("a") as out:
        out.write(
            "\n" + json.dumps({"context_options": ["a", "b"], "continuation": "c", "gold": 0})
        )
    more = runs.fingerprint(exam.identity(tasks.find([str(folder)], None), None, 0))
    assert len({one, shots, more}) == 3
