"""Whether the best criterion flips from one corpus to another."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import pytest

from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import Verdict
from mlxprune.report.best_by_corpus import CorpusStudy, best_by_corpus


def compared(arm: str, control: str, difference: float, error: float, **more: Any) -> Comparison:
    usual: dict[str, Any] = {
        "about": "selection", "main": control == "random-50", "seeds": [0, 1, 2],
        "interval": (difference - 2 * error, difference + 2 * error), "by_seed": [difference] * 3,
        "probability": 0.01, "verdict": Verdict.UNDECIDED, "seed_sd": 0.0, "pooled": 1,
        "document_sd": error, "document_degrees": 900.0, "degrees": 900.0, "standard_errors": 2.0,
        "control_figure": 2.0, "on_validation": difference,
    }  # fmt: skip
    return Comparison(arm=arm, control=control, difference=difference, **{**usual, **more})


def study(name: str, low: float, high: float, error: float, **more: Any) -> CorpusStudy:
    rows = [
        compared("low-50", "random-50", low, error),
        compared("high-50", "random-50", high, error),
        compared("low-50", "high-50", low - high, error, **more),
    ]
    result: Any = type("Result", (), {"comparisons": rows})()
    return CorpusStudy(name, cast("StudyResult", result))


@pytest.mark.parametrize(
    ("first", "second", "error", "decided", "turns", "said"),
    [
        (-0.10, 0.10, 0.02, True, True, "The best criterion flips"),
        (-0.10, 0.03, 0.03, False, True, "turns, though not on each corpus"),
        (-0.02, 0.02, 0.03, False, False, "Not decided whether"),
        (-0.25, -0.05, 0.02, False, False, "low-50 is the better one of the two on both"),
    ],
)
def test_a_flip_is_decided_where_both_differences_are(
    first: float, second: float, error: float, decided: bool, turns: bool, said: str
) -> None:
    """``first`` and ``second``: low minus high on the two corpora."""
    dolma = study("dolma", 0.0, -second, error)
    ranked = {"low-50": 0.1, "high-50": 0.0}  # on the validation part high is first there
    rows = dolma.result.comparisons
    rows[:2] = [msgspec.structs.replace(r, on_validation=ranked[r.arm]) for r in rows[:2]]
    told = best_by_corpus([study("pile", first, 0.0, error), dolma])
    assert told.best == {"pile": "low-50", "dolma": "high-50"}
    (flip,) = told.flips
    assert (flip.decided, flip.turns) == (decided, turns)
    assert said in told.sentences[0]
    # The second run compared them the other way round.
    assert [e.difference for e in flip.each] == pytest.approx([first, -second])
    assert flip.together == pytest.approx(first - second)
    half = 1.96 * error * np.sqrt(2)
    assert flip.interval == pytest.approx((flip.together - half, flip.together + half), rel=0.01)


def test_one_best_slice_is_no_flip_and_one_seed_no_verdict() -> None:
    same = best_by_corpus([study("a", -0.1, 0.0, 0.02), study("b", -0.2, 0.0, 0.02)])
    assert same.flips == [] and "both rank low-50 first" in same.sentences[0]
    for verdict in (Verdict.ONE_SEED, Verdict.TOO_FEW):
        lone = best_by_corpus(
            [study("a", -0.1, 0.0, 0.01), study("b", 0.1, 0.0, 0.01, verdict=verdict)]
        )
        assert not lone.flips[0].decided and not lone.flips[0].turns
        assert "Not decided" in lone.sentences[0] and "too few" in lone.sentences[0]


def test_by_chance_no_more_than_one_in_twenty_flips_are_decided() -> None:
    """Where the two slices are equal on both corpora, and each study picks the one that looks
    better by the very figures that decide: the worst there is."""
    generator = np.random.default_rng(5)
    count = 0
    for _ in range(400):
        gaps = generator.normal(0, 0.02, 2)
        told = best_by_corpus([study("a", gaps[0], 0.0, 0.02), study("b", gaps[1], 0.0, 0.02)])
        count += sum(flip.decided for flip in told.flips)
    assert count <= 8  # 0.5 * 0.045^2 of them are expected


def test_runs_without_the_pair_say_what_is_missing() -> None:
    first, second = study("a", -0.1, 0.0, 0.02), study("b", 0.1, 0.0, 0.02)
    first.result.comparisons.pop()
    told = best_by_corpus([first, second])
    assert told.flips == [] and "mlxprune report RUN" in told.sentences[0]
