"""The band by what is scored, how sure it is, the domains, and how it stood a minute ago."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlxprune.config.slices import Slice
from mlxprune.run.event_kinds import DomainHistogram, Histogram
from mlxprune.run.folder import RunFolder
from mlxprune_tui.readers import live_histogram
from mlxprune_tui.readers.live_histogram import Band, Ghost, SliceShown
from mlxprune_tui.testing import view_of

EDGES = np.linspace(0.0, 10.0, 11)


def test_domain_rows_stand_where_they_were_scored() -> None:
    domain = DomainHistogram(first=6, counts=[10], nll=65.0, tokens=10.0, bytes=1.0)
    found = Histogram(edges=EDGES.tolist(), documents=[0] * 10, domains={"d": domain})
    (row,) = live_histogram.domain_rows(found, Band(6.0, 7.0, False))
    assert 6.0 <= row.median <= 7.0
    assert row.kept == pytest.approx(1.0)
    assert row.mean == 6.5


def test_a_domain_that_is_nearly_lost_is_marked_by_one_rule() -> None:
    row = live_histogram.ScoredDomain("d", 100, 3.0, 3.0, 0.04)
    assert row.is_lost(0.5)
    assert not row.is_lost(0.05)  # where the slice keeps little of all, that is no loss
    assert not row.is_lost(None)


@pytest.mark.parametrize("unit", ["tokens", "documents"])
def test_the_band_counts_what_the_slice_counts(unit: str) -> None:
    documents, tokens = [10] + 8 * [0] + [10], [10] + 8 * [0] + [90]
    choice = Slice.model_validate({"criterion": "low", "rate": 0.5, "unit": unit})
    found = Histogram(edges=EDGES.tolist(), documents=documents, tokens=tokens)
    band = live_histogram.band_of(choice, found)
    assert band is not None
    assert (band.high > 9.0) == (unit == "tokens")


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_settled_to_is_a_95_percent_interval(share: float, generator: np.random.Generator) -> None:
    """Of samples drawn from a pool the true edge lies within it about 95 times in 100."""
    edges = np.linspace(0, 10, 401)
    pool = generator.normal(5, 1, 20_000)
    true = np.quantile(pool, 1 - share)
    choice = Slice.model_validate({"criterion": "high", "rate": share, "unit": "documents"})
    inside = 0
    for _ in range(400):
        sample = generator.choice(pool, 2_000, replace=False)
        counts = np.histogram(sample, edges)[0].tolist()
        found = Histogram(edges=edges.tolist(), documents=counts)
        band = live_histogram.band_of(choice, found, len(pool))
        assert band is not None
        assert band.settled is not None
        inside += abs(band.low - true) <= band.settled
    assert 0.90 <= inside / 400 <= 0.99


def test_it_is_settled_when_all_is_scored() -> None:
    choice = Slice.model_validate({"criterion": "high", "rate": 0.5, "unit": "documents"})
    found = Histogram(edges=EDGES.tolist(), documents=[5] * 10)
    early = live_histogram.band_of(choice, found, 5000)
    late = live_histogram.band_of(choice, found, 50)
    assert early is not None
    assert late is not None
    assert early.settled > late.settled == pytest.approx(0.0)


def test_quantiles_are_those_of_the_counts(generator: np.random.Generator) -> None:
    values = generator.normal(5, 1, 50_000)
    edges = np.linspace(0, 10, 401)
    found = live_histogram.quantiles(np.histogram(values, edges)[0], edges)
    for name, value in found.items():
        assert value == pytest.approx(np.percentile(values, int(name[1:])), abs=0.03)


def test_the_ghost_is_of_a_minute_ago_and_as_many() -> None:
    ghost = Ghost()

    def at(t: float) -> Histogram:
        counts = [int(t) + 1] + [0] * 8 + [10]
        return Histogram(t=t, edges=EDGES.tolist(), documents=counts)

    assert ghost.scaled(at(0.0)) is None
    for t in range(200):
        ghost.note(at(float(t)))
    ago, counts = ghost.scaled(at(199.0))
    assert 60.0 <= ago <= 64.0
    assert counts.sum() == pytest.approx(210)
    then = 199 - ago
    assert counts[0] / counts[-1] == pytest.approx((then + 1) / 10)


def test_a_made_selection_is_exact(tiny_run: RunFolder) -> None:
    shown = SliceShown(view_of(tiny_run.path))
    made = json.loads((tiny_run.selection("high-50") / "manifest.json").read_text())
    band = shown.band()
    assert band is not None
    assert (band.low, band.high, band.sure) == (made["lowest"], made["highest"], True)
    rows, sure = shown.rows()
    assert sure
    kept = {d["domain"]: d["kept_documents"] / d["documents"] for d in made["domains"]}
    assert {row.domain: row.kept for row in rows} == kept
    whole = made["kept_documents"] / made["pool_documents"]
    assert shown.whole(rows) == pytest.approx(whole)
