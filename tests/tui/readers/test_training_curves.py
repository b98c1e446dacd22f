from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.run.state import Curve
from mlxprune_tui.readers import run_comparison, training_curves
from mlxprune_tui.testing import curve_of, passes_curve

OLD = curve_of([[100, 3.0, 1e-3, 1]], [[100, 2.0, None]])  # points of an older log say less


def held(targets: list[int], passes: list[int], losses: list[float]) -> Curve:
    train = [
        [t, loss, 1e-3, p, t // 100, 1000.0 + t, 0.5, 100.0, 0.4]
        for t, p, loss in zip(targets, passes, losses, strict=True)
    ]
    validation = [[t, 2.0 - t / 1e4, None, 1000.0 + t] for t in targets[1::2]]
    return curve_of(train, validation, targets[-1])


def test_axes_and_boundaries() -> None:
    targets = list(range(100, 1300, 100))
    one = training_curves.curve("final/high-50-s0", held(targets, [1] * 6 + [2] * 6, [3.0] * 12))
    assert one.arm == "high-50"
    assert one.axis("steps").tolist() == [t / 100 for t in targets]
    assert one.axis("steps", True).tolist() == [t / 100 for t in targets[1::2]]
    assert one.axis("time").tolist() == [t - 100 for t in targets]
    assert one.boundaries("tokens").tolist() == [700]


def test_the_figures_of_every_pass() -> None:
    targets = list(range(100, 1300, 100))
    losses = [4.0] * 6 + [2.0] * 6
    one = training_curves.curve("final/high-50-s0", held(targets, [1] * 6 + [2] * 6, losses))
    first, second = training_curves.passes_of(one, 2.0, 600)
    assert (first.number, second.number) == (1, 2)
    assert first.train == pytest.approx(4.0 / (math.log(2) * 2.0))
    assert second.validation == pytest.approx(2.0 - 1200 / 1e4)
    assert second.gap == pytest.approx(second.validation - second.train)
    assert first.worth == pytest.approx(1.0)
    # Muennighoff et al. 2023: D = U + U R (1 - exp(-1 / R)) after one repeat.
    assert second.worth == pytest.approx(15.387756 * (1 - math.exp(-1 / 15.387756)))
    assert training_curves.passes_of(one, None, None)[0].train is None


def test_a_pass_without_a_validation_is_there() -> None:
    one = training_curves.curve("final/a-s0", passes_curve([(1200, 5.0)]))
    first, second = training_curves.passes_of(one, 1.0, 600)
    assert (first.validation, first.gap) == (None, None)
    assert second.validation == 5.0


def test_points_of_an_older_log_are_shorter() -> None:
    one = training_curves.curve("references/main", OLD)
    assert one.train["loss"].tolist() == [3.0]
    assert np.isnan(one.axis("steps")).all()
    assert np.isnan(one.axis("time", True)).all()
    assert not one.final


def arm_curves(arm: str, ends: tuple[int, ...]) -> list[training_curves.Curve]:
    found = []
    for seed, end in enumerate(ends):
        targets = list(range(100, end + 100, 100))
        told = held(targets, [1] * len(targets), [3.0] * len(targets))
        found.append(training_curves.curve(f"final/{arm}-s{seed}", told))
    return found


def test_a_seed_that_has_only_begun_does_not_stand_beside_ends() -> None:
    curves = arm_curves("random-50", (1200, 1200)) + arm_curves("high-50", (1200, 400))
    found = {a.arm: a for a in training_curves.by_arm(curves, "tokens")}
    assert (found["random-50"].seeds, found["random-50"].begun) == (2, 2)
    assert (found["high-50"].seeds, found["high-50"].begun) == (1, 2)
    assert float(found["high-50"].x[-1]) == 1200.0


def test_an_axis_that_is_not_known_leaves_an_arm_out() -> None:
    old = training_curves.curve("final/low-50-s0", OLD)
    assert [a.arm for a in training_curves.by_arm([old], "tokens")] == ["low-50"]
    assert training_curves.by_arm([old], "time") == []


def test_differences_name_every_key() -> None:
    one = {"a": 1, "b": {"c": [1, 2], "d": None}}
    other = {"a": 1, "b": {"c": [1, 3]}, "e": 0.5}
    assert run_comparison.differences(one, other) == [
        ("b.c", "[1, 2]", "[1, 3]"),
        ("e", "-", "0.5"),
    ]


def test_passes_begin_and_end_with_their_targets() -> None:
    one = training_curves.curve("final/a-s0", passes_curve([(600, 1.0), (700, 3.0), (1200, 5.0)]))
    first, second = training_curves.passes_of(one, 1.0, 600)
    assert (first.validation, second.validation) == (1.0, 5.0)
    assert first.train == pytest.approx((4.0 - 600 / 1000) / math.log(2))


def test_seeds_of_an_arm_are_those_of_the_configuration() -> None:
    curves = {f"final/a-s{n}": passes_curve([(600, 1.0)]) for n in range(3)}
    curves["final/b-s0"] = passes_curve([(600, 1.0)])
    found = training_curves.seeds_of(curves, "a", {"final/a-s0", "final/a-s2", "final/b-s0"})
    assert [one.name for one in found] == ["final/a-s0", "final/a-s2"]


def test_an_arm_is_the_mean_of_its_seeds_between_least_and_largest() -> None:
    several = [
        training_curves.curve(
            f"final/random-50-s{n}", passes_curve([(600, 1.0 + n), (1200, 2.0 + n)])
        )
        for n in range(2)
    ]
    (arm,) = training_curves.by_arm(several, "tokens")
    assert (arm.low.tolist(), arm.mean.tolist(), arm.high.tolist()) == (
        [1.0, 2.0],
        [1.5, 2.5],
        [2.0, 3.0],
    )
