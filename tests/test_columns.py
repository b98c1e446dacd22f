"""Columns: named series that are thinned as they grow, and keep their spikes and both ends."""

from __future__ import annotations

import math

import numpy as np

from mlxprune.columns import Columns


def series() -> Columns:
    return Columns(("step", "loss"), "loss")


def test_points_come_back_by_name_and_by_row() -> None:
    held = series()
    held.add((1, 3.0), 100)
    held.add((2, None), 100)
    assert (held["step"], held["loss"]) == ([1, 2], [3.0, None])
    assert held.rows() == [[1, 3.0], [2, None]]
    assert (held.last("step"), held.last("loss"), len(held)) == (2, None, 2)
    assert series().last("loss") is None


def test_a_point_that_comes_again_takes_the_place_of_what_follows() -> None:
    held = series()
    for step in (10, 20, 30, 20, 25):
        held.add((step, float(step)), 100)
    assert held["step"] == [10, 20, 25]
    held.add((None, 1.0), 100)
    held.add((math.nan, 1.0), 100)
    assert held["step"] == [10, 20, 25], "a point without a place is not taken"


def test_thinning_keeps_the_ends_and_the_highest_of_every_stretch(
    generator: np.random.Generator,
) -> None:
    held, losses = series(), generator.normal(3, 0.1, 5000)
    spike = int(generator.integers(100, 4900))
    losses[spike] = 50.0
    for step, loss in enumerate(losses.tolist()):
        held.add((step, loss), 400)
        assert len(held) <= 400
    assert held["step"] == sorted(set(held["step"]))
    assert (held["step"][0], held["step"][-1]) == (0, 4999)
    assert 50.0 in held["loss"]
    for step, loss in held.rows():
        assert losses[step] == loss


def test_rows_and_columns_of_other_versions_are_taken() -> None:
    held = series()
    held.take([[1, 3.0], [2], [], "x"])
    assert held.rows() == [[1, 3.0], [2, None]]
    held.take({"step": [1, 2], "of": "tomorrow"})
    assert held.rows() == [[1, None], [2, None]]
    assert held == held
    assert held != series()
