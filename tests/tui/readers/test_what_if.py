"""What if: keys and the mouse change the slice as they say, and what it costs follows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.run.folder import RunFolder
from mlxprune.selection.selector import apply_slice
from mlxprune_tui.readers import what_if
from mlxprune_tui.readers.what_if import LEAP, STEP, WhatIf
from mlxprune_tui.testing import view_of


@pytest.fixture
def what(tiny_run: RunFolder) -> WhatIf:
    config = load_config(tiny_run.config)
    found = what_if.load(tiny_run, config, config.slices[0])
    return WhatIf(view_of(tiny_run.path), config, found)


def test_keys_change_the_slice(what: WhatIf) -> None:
    rate = what.rate
    what.move(STEP)
    assert what.rate == rate + STEP
    what.reset()
    assert what.choice == what.own
    what.move(-LEAP)
    assert what.rate == rate - LEAP
    what.change(criterion="band", rate=None, band=(0.2, 0.6))
    what.move_edge(STEP)
    assert [float(b) for b in what.choice.band] == [0.2, 0.61]
    what.upper = False
    what.move_edge(-STEP)
    assert [float(b) for b in what.choice.band] == [0.19, 0.61]
    for _ in what_if.CRITERIA:
        assert what.next_criterion() is None
    assert what.change(rate=Decimal(7)) is not None  # it says why not


def test_costs_follow_from_what_is_kept(what: WhatIf) -> None:
    found = what.costs()
    unique = found.tokens + found.documents
    assert found.passes == pytest.approx(found.targets / unique)
    what.move(-LEAP)
    assert what.costs().passes > found.passes
    assert what.costs(what.own) == found


def test_flops_grow_with_the_targets(what: WhatIf) -> None:
    final = what.config.final.model_copy(update={"passes": 2.0, "tokens": None})
    what.config = what.config.model_copy(update={"final": final})
    what.view.state.forecast = {"final": 100.0}
    few, many = what.targets(1000), what.targets(2000)
    assert many[0] == 2 * few[0] == 4000
    assert many[1] == pytest.approx(2 * few[1])


@pytest.mark.parametrize("criterion", ["low", "high", "medium", "band"])
def test_an_edge_goes_where_it_is_dragged(what: WhatIf, criterion: str) -> None:
    """To a whole percent of what the slice counts."""
    if criterion == "band":
        what.change(criterion="band", rate=None, band=(0.3, 0.7))
    else:
        what.change(criterion=criterion, rate=Decimal("0.3"), band=None)
    values = what.table.sorted(what.choice).values
    for share in (0.15, 0.8):
        value = float(np.quantile(values, share))
        assert what.drag_to(value) is None
        below = Decimal(round(100 * what.share_below(value))) / 100
        if criterion == "low":
            assert what.rate == below
        elif criterion == "high":
            assert what.rate == 1 - below
        elif criterion == "medium":
            assert what.rate == 2 * abs(below - Decimal("0.5"))
        else:
            assert below in what.choice.band


def test_inside_groups_there_is_no_edge(what: WhatIf) -> None:
    what.change(by=["domain"])
    assert "no one edge" in str(what.drag_to(3.0))


def test_the_overlap_is_that_of_the_masks(what: WhatIf) -> None:
    assert what.overlap() is None
    what.hold()
    assert what.overlap() == 1.0
    first = apply_slice(what.table.scores, what.choice, what.table.seed, what.table.tokens).mask
    what.change(criterion="low")
    second = apply_slice(what.table.scores, what.choice, what.table.seed, what.table.tokens).mask
    assert what.overlap() == pytest.approx((first & second).sum() / second.sum())
    what.hold()
    what.hold()
    assert what.held is None


def test_a_sweep_is_every_rate_asked_by_itself(what: WhatIf) -> None:
    points = what.sweep()
    assert len(points) == len(what_if.SWEEP)
    whole = np.maximum(what.table.all_tokens, 1)
    for point in points[::6]:
        choice = what.choice.model_copy(update={"rate": Decimal(str(point.rate))})
        mask = apply_slice(what.table.scores, choice, what.table.seed, what.table.tokens).mask
        kept = np.bincount(what.table.domain[mask], what.table.tokens[mask], len(whole))
        assert point.domains == pytest.approx(kept / whole)
    what.change(criterion="band", rate=None, band=(0.2, 0.6))
    assert what.sweep() == []


def test_the_written_configuration_is_the_slice_in_hand(what: WhatIf, tmp_path: Path) -> None:
    what.move(-LEAP)
    assert "wrote" in what.write(tmp_path / "x.yaml", "another")
    made = load_config(tmp_path / "x.yaml")
    assert made.name == "another"
    assert made.slices == [what.choice]
    assert "exists" in what.write(tmp_path / "x.yaml", "another")
