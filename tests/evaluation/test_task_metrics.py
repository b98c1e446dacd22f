"""Marks: worked out by hand, and of models whose behaviour is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.evaluation import requests
from mlxprune.evaluation.requests import ANSWER_DTYPE, TaskRequests
from mlxprune.evaluation.task_metrics import one_answer_accuracy, suite_result
from mlxprune.evaluation.tasks import FoundTasks, choices_of, find_tasks, read_task
from mlxprune.stats import ratio_with_error, share_with_interval
from mlxprune.testing.task_files import letters, prepared, write_tasks

LN2 = math.log(2)


def answers_of(
    made: TaskRequests, mean_nll: np.ndarray, hit: np.ndarray | None = None
) -> np.ndarray:
    """ANSWER rows from a mean NLL a token for every choice."""
    result = np.zeros(len(made.tokens), ANSWER_DTYPE)
    result["nll"] = mean_nll * made.tokens
    result["hit"] = False if hit is None else hit
    return result


def test_by_hand(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "choices": ["ab", "abcd"], "gold": 0},
        {"query": "q", "choices": ["a", "b"], "gold": 1},
        {"query": "q", "choices": ["x", "y"], "gold": 1},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    made = prepared(tmp_path)
    assert made.bytes.tolist() == [2, 4, 1, 1, 1, 1]
    # Mean NLL a token: the first is right, the second wrong, the third a tie, which the first wins.
    found = suite_result(made, answers_of(made, LN2 * np.array([3.0, 4, 1, 2, 5, 5]))).tasks["t"]
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.normalised_accuracy == pytest.approx((1 / 3 - 0.5) / 0.5)
    assert found.gold_bpb == pytest.approx((3 * 2 + 2 + 5) / 4)
    assert found.margin == pytest.approx(((4 - 3) + (1 - 2) + (5 - 5)) / 3)
    assert found.one_answer == pytest.approx(2 / 3)  # always the second


def test_the_mean_a_token_decides_not_the_sum(tmp_path: Path) -> None:
    row = {"query": "q", "choices": ["a", "aaaaaaaaaa"], "gold": 1}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    made = prepared(tmp_path)
    found = suite_result(made, answers_of(made, np.array([2.0, 1.9]))).tasks["t"]
    assert found.accuracy == 1


def test_a_broken_model_is_wrong_not_lucky(tmp_path: Path) -> None:
    made = prepared(write_tasks(tmp_path, 5))
    for value in (math.nan, math.inf):
        found = suite_result(
            made, answers_of(made, np.full(len(made.tokens), value), np.array(True))
        )
        assert all(t.accuracy == 0 for t in found.tasks.values())


@pytest.mark.parametrize(("right", "count"), [(0, 10), (5, 10), (90, 100), (10, 10), (1, 3)])
def test_intervals_are_wilsons(right: int, count: int) -> None:
    """Where the score test of a share just does not refuse what was seen."""
    mean, low, high = share_with_interval(np.arange(count) < right, np.zeros(count, int))
    assert mean == right / count
    for end, there in ((low, right > 0), (high, right < count)):
        if there:
            distance = abs(mean - end) / math.sqrt(end * (1 - end) / count)
            assert distance == pytest.approx(1.959963984540054)
    assert (right > 0 or low == 0) and (right < count or high == pytest.approx(1))


def test_categories_inside_a_task_count_alike() -> None:
    correct = np.array([1, 1, 1, 1, 0, 0])
    mean, low, high = share_with_interval(correct, np.array([0, 0, 0, 0, 1, 3]))
    assert mean == pytest.approx(1 / 3)
    plain = share_with_interval(correct, np.zeros(6, int))
    assert high - low > plain[2] - plain[1]  # fewer items decide


def test_intervals_hold_what_they_say(generator: np.random.Generator) -> None:
    """In groups of unequal size, 95 % of the time and little more."""
    group = np.repeat([0, 1, 2], [10, 40, 150])
    chance = np.array([0.3, 0.5, 0.6])
    inside = 0
    for _ in range(2000):
        correct = generator.random(200) < chance[group]
        _, low, high = share_with_interval(correct, group)
        inside += low <= chance.mean() <= high
    assert 0.93 < inside / 2000 < 0.99


def test_the_error_of_a_ratio_is_its_spread(generator: np.random.Generator) -> None:
    ratios, errors = [], []
    for _ in range(500):
        sizes = generator.integers(1, 20, 80)
        values = sizes * 2.0 + generator.standard_normal(80) * sizes
        mean, error = ratio_with_error(values, sizes)
        ratios.append(mean)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_a_category_is_the_mean_of_its_tasks_and_the_average_of_the_categories(
    tmp_path: Path,
) -> None:
    made = prepared(write_tasks(tmp_path, 6))
    labels = ["world_knowledge", "reading_comprehension", "world_knowledge"]
    asked = [
        replace(a, found=replace(a.found, task=replace(a.task, category=c)))
        for a, c in zip(made.asked, labels, strict=True)
    ]
    made = replace(made, asked=asked, absent={"mmlu": "a", "squad": "b"})
    rng = np.random.default_rng(0)
    found = suite_result(made, answers_of(made, rng.random(len(made.tokens))))
    each = [t.normalised_accuracy for t in found.tasks.values()]
    world = found.categories["world_knowledge"]
    assert world.normalised_accuracy == pytest.approx((each[0] + each[2]) / 2)
    assert (world.absent, len(world.tasks)) == (["mmlu"], 2)
    assert found.average.normalised_accuracy == pytest.approx(
        ((each[0] + each[2]) / 2 + each[1]) / 2
    )
    assert found.average_over == 2
    assert found.gold_bpb == pytest.approx(np.mean([t.gold_bpb for t in found.tasks.values()]))


# --- models of known behaviour ----------------------------------------------------------------


def behaviours(made: TaskRequests, always: str) -> dict[str, np.ndarray]:
    """What uniform logits, a model that likes the first choice, and one that always says the same
    would answer."""
    first = np.ones(len(made.tokens))
    first[made.offsets[:-1]] = 0
    said = [
        text.strip() == always
        for asked in made.asked
        for row in asked.rows
        for item in asked.found.items
        if item.row == row
        for _, text in choices_of(item)
    ]
    same = np.array(said)
    return {
        # Losses are float32, so that sums of equals divide without a remainder: a tie stays one.
        "uniform": answers_of(made, np.full(len(made.tokens), np.float32(math.log(258)))),
        "first": answers_of(made, first),
        "always": answers_of(made, np.where(same, 0.0, 1.0), same),
    }


def check_behaviours(path: Path, label: str, by_category: bool, folder: str | None) -> None:
    """Against a count over the lines of the file."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    names = sorted({row["category"] for row in rows}) if by_category else [""]
    groups = [[r for r in rows if not by_category or r["category"] == n] for n in names]

    def mean(right: Any) -> float:
        return float(np.mean([np.mean([right(row) for row in group]) for group in groups]))

    choices = "choices" in rows[0] or "context_options" in rows[0]
    if "choices" in rows[0]:
        golds = Counter(row["choices"][row["gold"]].strip() for row in rows)
    else:
        golds = Counter(row["continuation"].strip() for row in rows)
    always = golds.most_common(1)[0][0]
    found = find_tasks([(folder and label) or str(path)], folder)
    plain = [replace(task, shots=0) for task in found.tasks]
    made = requests.prepare_requests(FoundTasks(plain, {}), letters(), 1 << 20, None, 0)
    told = {
        name: suite_result(made, answers).tasks[label]
        for name, answers in behaviours(made, always).items()
    }
    wanted = mean(lambda row: row["gold"] == 0) if choices else 0.0
    assert told["uniform"].accuracy == pytest.approx(wanted)
    if choices:
        assert told["first"].accuracy == pytest.approx(wanted)
    if "choices" in rows[0]:

        def says(row: dict[str, Any]) -> bool:
            same = [text.strip() == always for text in row["choices"]]
            return bool((same.index(True) if any(same) else 0) == row["gold"])

        assert told["always"].accuracy == pytest.approx(mean(says))
    elif not choices:
        wanted = mean(lambda row: row["continuation"].strip() == always)
        assert told["always"].accuracy == pytest.approx(wanted)
    for name in ("uniform", "first"):  # the same place for every item
        if choices or name == "uniform":
            assert told[name].one_answer >= told[name].accuracy - 1e-9
    assert told["uniform"].gold_bpb > 0


def test_models_of_known_behaviour_on_every_kind(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, 7, 90)
    for label in ("cloze", "choose", "pairs"):
        check_behaviours(folder / f"{label}.jsonl", label, label == "choose", None)


@pytest.mark.shared
@pytest.mark.slow
def test_models_of_known_behaviour_find_the_traps(shared_data: Path) -> None:
    """On every task of the gauntlet that is there; and the traps of research/paper.md 3.5."""
    root = shared_data / "gauntlet"
    found = find_tasks(["gauntlet"], str(root)).tasks
    for task in found:
        check_behaviours(task.path, task.label, task.by_category, str(root))
    constant = {task.label: one_answer_accuracy(read_task(task)) for task in found}
    expected = {
        "pubmed_qa_labeled": 0.552, "boolq": 0.622, "bigbench_cs_algorithms": 0.430,
        "bigbench_dyck_languages": 0.104, "bigbench_novel_concepts": 1.0,
        "bigbench_strange_stories": 1.0, "bigbench_strategy_qa": 0.533, "copa": 0.55,
    }  # fmt: skip
    assert {k: round(constant[k], 3) for k in expected} == pytest.approx(expected, abs=6e-4)


def test_traps_are_told(tmp_path: Path) -> None:
    always = [{"query": "q", "choices": ["a", "b"], "gold": 0}] * 200
    yes = [{"context": str(n), "continuation": "yes" if n % 2 else str(n)} for n in range(200)]
    fair = [{"query": "q", "choices": [f"a{n}", f"b{n}"], "gold": n % 2} for n in range(200)]
    for name, rows in (("always", always), ("yes", yes), ("fair", fair), ("few", fair[:10])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    made = prepared(tmp_path)
    found = suite_result(made, answers_of(made, np.ones(len(made.tokens)))).tasks
    assert ["always number 1" in trap for trap in found["always"].traps] == [True]
    assert found["yes"].traps == ["one answer to all scores 50.0"]
    assert found["fair"].traps == []
    assert found["few"].traps == ["10 items: one is 20.0 points"]
