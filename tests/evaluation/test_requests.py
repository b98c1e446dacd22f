"""Exams: asked in units, gone on with after an interruption, with the same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from mlxprune.engine.shared_prefix import SharedPrefix
from mlxprune.errors import DataError
from mlxprune.evaluation import requests
from mlxprune.evaluation.task_metrics import suite_result
from mlxprune.evaluation.tasks import find_tasks
from mlxprune.files import fingerprint_of
from mlxprune.testing.task_files import prepared, write_tasks


def hashed(asked: list[SharedPrefix]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses that depend on the whole sequence up to the target, and on nothing else."""
    found = []
    for shared in asked:
        parts = np.split(shared.ids[shared.prefix_length :], np.cumsum(shared.suffix_lengths)[:-1])
        losses = []
        for place, target in zip(shared.at.tolist(), shared.targets.tolist(), strict=True):
            if place < shared.prefix_length:
                before = shared.ids[: place + 1].tolist()
            else:
                starts = shared.prefix_length + np.cumsum([0, *shared.suffix_lengths])
                suffix = int(np.searchsorted(starts, place, side="right")) - 1
                inside = parts[suffix][: place - starts[suffix] + 1]
                before = [*shared.ids[: shared.prefix_length].tolist(), *inside.tolist()]
            losses.append(random.Random(str((before, target))).random())
        values = np.array(losses, np.float32)
        found.append((values, values < 0.8))
    return found


def test_every_answer_is_that_of_its_own_sequence(tmp_path: Path) -> None:
    made = prepared(write_tasks(tmp_path, 1))
    answers = requests.answer_requests(made, lambda: hashed, 500)
    assert made.inputs < made.whole
    by_item: dict[int, list[SharedPrefix]] = {}
    for shared in made.prefixes:
        by_item.setdefault(shared.item, []).append(shared)
    for item in range(len(made.gold)):
        first, stop = made.offsets[item], made.offsets[item + 1]
        for choice in range(stop - first):
            losses, hits = [], []
            for shared, (loss, hit) in zip(by_item[item], hashed(by_item[item]), strict=True):
                losses += loss[shared.choice == choice].tolist()
                hits += hit[shared.choice == choice].tolist()
            assert len(losses) == made.tokens[first + choice]
            assert answers["nll"][first + choice] == pytest.approx(sum(losses), rel=1e-12)
            assert answers["hit"][first + choice] == all(hits)


def test_an_interrupted_exam_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "UNIT_TOKENS", 700)
    made = prepared(write_tasks(tmp_path / "tasks", 2))
    assert len(made.units) > 5
    for first, stop in made.units:  # an item is never in two
        assert first == 0 or made.prefixes[first - 1].item != made.prefixes[first].item
        assert stop > first
    assert [b for _, b in made.units[:-1]] == [a for a, _ in made.units[1:]]
    whole = requests.answer_requests(made, lambda: hashed, 300)
    parts = tmp_path / "parts"
    parts.mkdir()
    asked = 0

    def dies(some: list[SharedPrefix]) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal asked
        asked += sum(len(t.ids) for t in some)
        if asked > made.inputs / 2:
            raise KeyboardInterrupt
        return hashed(some)

    with pytest.raises(KeyboardInterrupt):
        requests.answer_requests(made, lambda: dies, 300, parts)
    kept = len(list(parts.glob("*.npy")))
    assert 0 < kept < len(made.units)
    seen = 0

    def counts(some: list[SharedPrefix]) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal seen
        seen += len(some)
        return hashed(some)

    told = []
    again = requests.answer_requests(made, lambda: counts, 300, parts, told.append)
    assert again.tobytes() == whole.tobytes()
    assert seen == sum(b - a for a, b in made.units[kept:])
    assert sum(told) == made.inputs
    third = requests.answer_requests(
        made, lambda: pytest.fail("nothing is left to ask"), 300, parts
    )
    assert third.tobytes() == whole.tobytes()


def test_a_limit_asks_some_items_with_the_examples_of_all(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, 3)
    few, every = prepared(folder, 10), prepared(folder)
    whole = requests.answer_requests(every, lambda: hashed, 500)
    some = requests.answer_requests(few, lambda: hashed, 500)
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
    result = suite_result(made, requests.answer_requests(made, lambda: hashed, 50))
    assert result.tasks["long"].items == 2


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(json.dumps({"context": "a", "continuation": "x" * 90}))
    with pytest.raises(DataError, match="no item fits"):
        prepared(tmp_path, context=20)


def test_the_identity_follows_files_settings_and_limit(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, 4)
    found = find_tasks([str(folder)], None)
    one = fingerprint_of(requests.requests_identity(found, None, 0))
    assert one == fingerprint_of(requests.requests_identity(found, None, 7))  # nothing is drawn
    drawn = {fingerprint_of(requests.requests_identity(found, 5, seed)) for seed in (0, 1)}
    assert len({one, *drawn}) == 3
    (folder / "tasks.yaml").write_text("choose: {shots: 3, by_category: true}\n")
    shots = fingerprint_of(requests.requests_identity(find_tasks([str(folder)], None), None, 0))
    with (folder / "pairs.jsonl").open("a") as out:
        out.write(
            "\n" + json.dumps({"context_options": ["a", "b"], "continuation": "c", "gold": 0})
        )
    more = fingerprint_of(requests.requests_identity(find_tasks([str(folder)], None), None, 0))
    assert len({one, shots, more}) == 3
