"""Selection against an independent brute-force reading of the definition, on random tables."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.experiment.controls import draw_random
from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import kept_ranks, paper_keep, rank_band, rank_documents, rank_order
from mlxprune.selection.selector import select_slice

RATES = st.sampled_from(["0.01", "0.1", "0.125", "0.3", "0.3333", "0.5", "0.7", "0.95", "1"])


@st.composite
def tables(draw: Any) -> Scores:
    """Scores with many ties, from one document up."""
    count = draw(st.integers(1, 120))
    seed = draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, draw(st.sampled_from([2, 50, 5000])), count)
    mean = np.round(generator.normal(4, 1, count), draw(st.integers(0, 6)))
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    return Scores(keys, np.abs(mean) * tokens, tokens, tokens * 4 + 1)


def choice(**settings: Any) -> Slice:
    values = {"criterion": "high", "rate": Decimal("0.5"), "unit": "documents", **settings}
    return Slice.model_validate(values)


def brute_force(scores: Scores, chosen: Slice, order: list[int]) -> set[int]:
    """One document at a time, in fractions, from the sentences of the design."""
    n = len(scores)
    kept: set[int] = set()
    if chosen.unit == "documents":
        if chosen.band is not None:
            a, b = (math.floor(Fraction(x) * n + Fraction(1, 2)) for x in chosen.band)
        else:
            assert chosen.rate is not None
            k = math.floor(Fraction(chosen.rate) * n + Fraction(1, 2))
            start = {"low": 0, "high": n - k, "medium": (n - k) // 2}[chosen.criterion]
            a, b = start, start + k
        return {order[rank] for rank in range(a, b)}
    total = int(scores.num_tokens.sum())
    if chosen.band is not None:
        low, high = (Fraction(x) for x in chosen.band)
    else:
        rate = Fraction(chosen.rate or 0)
        low, high = {
            "low": (Fraction(0), rate),
            "high": (1 - rate, Fraction(1)),
            "medium": ((1 - rate) / 2, (1 + rate) / 2),
        }[chosen.criterion]
    before = 0
    for document in order:
        size = int(scores.num_tokens[document])
        middle = 2 * before + size  # of 2 * total
        before += size
        inside = (
            low.numerator * 2 * total <= middle * low.denominator
            and middle * high.denominator < high.numerator * 2 * total
        )
        if inside:
            kept.add(document)
    return kept


@given(
    scores=tables(),
    rate=RATES,
    criterion=st.sampled_from(["low", "medium", "high"]),
    unit=st.sampled_from(["documents", "tokens"]),
    figure=st.sampled_from(["perplexity", "bpb"]),
)
@settings(deadline=None, max_examples=200)
def test_a_slice_is_what_the_definition_says(
    scores: Scores, rate: str, criterion: str, unit: str, figure: str
) -> None:
    chosen = choice(criterion=criterion, rate=Decimal(rate), unit=unit, metric=figure)
    values = metric_values(scores, figure)
    order = rank_order(values, scores.key, 0).tolist()
    assert (np.diff(values[order]) >= 0).all()
    expected = brute_force(scores, chosen, order)
    if not expected:
        with pytest.raises(DataError):
            select_slice(scores, chosen, 0)
        return
    kept = select_slice(scores, chosen, 0)
    assert set(np.flatnonzero(kept.mask).tolist()) == expected


@pytest.mark.parametrize("count", [*range(1, 14), 99_999, 100_000])
@pytest.mark.parametrize("unit", ["documents", "tokens"])
def test_documents_of_every_number(count: int, unit: str, generator: np.random.Generator) -> None:
    """Few values, so that most are tied: the cut falls among ties."""
    tokens = generator.integers(1, 50, count)
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    scores = Scores(keys, generator.integers(1, 4, count) * tokens, tokens, tokens)
    order = rank_order(metric_values(scores, "perplexity"), keys, 0).tolist()
    for criterion, rate in itertools.product(("low", "medium", "high"), ("0.5", "0.3333")):
        chosen = choice(criterion=criterion, unit=unit, rate=Decimal(rate))
        expected = brute_force(scores, chosen, order)
        if expected:
            kept = select_slice(scores, chosen, 0)
            assert set(np.flatnonzero(kept.mask).tolist()) == expected
        else:
            with pytest.raises(DataError):
                select_slice(scores, chosen, 0)


@st.composite
def tables_with_domains(draw: Any) -> Scores:
    """Tables of up to five domains; one of the names may have no document."""
    scores = draw(tables())
    count = draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**32))
    domain = np.random.default_rng(seed).integers(0, count, len(scores))
    names = tuple(f"d{n}" for n in range(count + draw(st.integers(0, 1))))
    return replace(scores, domain=domain, domains=names)


def octave(tokens: int) -> int:
    return tokens.bit_length() - 1


@given(
    scores=tables_with_domains(),
    rate=RATES,
    criterion=st.sampled_from(["low", "medium", "high"]),
    unit=st.sampled_from(["documents", "tokens"]),
    by=st.sampled_from(["corpus", "domain", ("domain", "length")]),
    least=st.sampled_from([1, 2, 30]),
)
@settings(deadline=None, max_examples=200)
def test_groups_are_slices_of_their_own(
    scores: Scores, rate: str, criterion: str, unit: str, by: Any, least: int
) -> None:
    chosen = choice(criterion=criterion, rate=Decimal(rate), unit=unit, by=by, min_tokens=least)
    assert scores.domain is not None
    members: dict[Any, list[int]] = {}
    for document in range(len(scores)):
        tokens = int(scores.num_tokens[document])
        if tokens >= least:
            key = {"corpus": 0, "domain": scores.domain[document]}.get(str(by))
            key = (scores.domain[document], octave(tokens)) if key is None else key
            members.setdefault(key, []).append(document)
    expected: set[int] = set()
    for group in members.values():
        part = scores.take(np.array(group))
        order = rank_order(metric_values(part, "perplexity"), part.key, 0).tolist()
        expected |= {group[i] for i in brute_force(part, chosen, order)}
    if not expected:
        with pytest.raises(DataError):
            select_slice(scores, chosen, 0)
        return
    kept = select_slice(scores, chosen, 0)
    assert set(np.flatnonzero(kept.mask).tolist()) == expected
    rank = kept_ranks(scores, chosen, kept, 0)
    ranked = rank_documents(scores, chosen, 0)
    everyone, size = ranked.rank, ranked.size
    assert (rank == everyone[kept.mask]).all()
    again = select_slice(scores, chosen, 0, ranked=ranked)
    assert (again.mask == kept.mask).all()
    for group in members.values():
        assert sorted(everyone[group].tolist()) == list(range(len(group)))
        assert set(size[group].tolist()) == {len(group)}


def bounded_brute_force(
    scores: Scores, chosen: Slice, order: list[int], weights: list[int]
) -> set[int] | None:
    """One document at a time; None: the bounds cannot hold."""
    assert scores.domain is not None
    rate = Fraction(chosen.rate or 0)
    total = sum(weights)
    sizes = {d: sum(w for w, e in zip(weights, scores.domain, strict=True) if e == d)
             for d in range(len(scores.domains))}  # fmt: skip
    low, high = (
        {d: Fraction(chosen.bounds_of(name)[i]) * sizes[d] for d, name in enumerate(scores.domains)}
        for i in (0, 1)
    )
    if sum(low.values()) > rate * total or sum(high.values()) < rate * total:
        return None
    middle = Fraction(total) / 2
    before, middles = 0, {}
    for document in order:
        middles[document] = before + Fraction(weights[document], 2)
        before += weights[document]
    place = {document: i for i, document in enumerate(order)}
    if chosen.criterion == "low":
        preferred = order
    elif chosen.criterion == "high":
        preferred = order[::-1]
    else:
        preferred = sorted(order, key=lambda d: (abs(middles[d] - middle), place[d]))
    kept: set[int] = set()
    seen = dict.fromkeys(sizes, 0)
    fills, able, cuts = [], [], []
    for document in preferred:
        domain = int(scores.domain[document])
        start = seen[domain]
        end = seen[domain] = start + weights[document]
        if end <= low[domain]:
            kept.add(document)
        elif start >= high[domain]:
            continue
        elif end > high[domain]:
            cuts.append(document)
        elif start < low[domain]:
            fills.append(document)
        else:
            able.append(document)
    left = rate * total - sum(weights[d] for d in kept)
    taken = 0
    for document in [*fills, *able, *cuts]:
        if taken + Fraction(weights[document], 2) <= left:
            kept.add(document)
        taken += weights[document]
    return kept


@given(
    scores=tables_with_domains(),
    rate=RATES,
    criterion=st.sampled_from(["low", "medium", "high"]),
    unit=st.sampled_from(["documents", "tokens"]),
    floor=st.sampled_from([None, "0.1", "0.4"]),
    cap=st.sampled_from([None, "0.6", "0.9"]),
    protect=st.sampled_from([[], ["d0"]]),
)
@settings(deadline=None, max_examples=300)
def test_floors_and_caps_hold_and_the_rest_goes_by_preference(
    scores: Scores, rate: str, criterion: str, unit: str, floor: Any, cap: Any, protect: list[str]
) -> None:
    bounds = {"floor": floor, "cap": cap if not protect else None, "protect": protect}
    if Decimal(floor or 0) > Decimal(rate) or Decimal(bounds["cap"] or 1) < Decimal(rate):
        with pytest.raises(ValidationError):  # plain arithmetic, whatever the scores
            choice(criterion=criterion, rate=Decimal(rate), unit=unit, **bounds)
        return
    chosen = choice(criterion=criterion, rate=Decimal(rate), unit=unit, **bounds)
    order = rank_order(metric_values(scores, "perplexity"), scores.key, 0).tolist()
    weights = [1] * len(scores) if unit == "documents" else scores.num_tokens.tolist()
    if chosen.bounded:
        expected = bounded_brute_force(scores, chosen, order, weights)
    else:
        expected = brute_force(scores, chosen, order)
    if not expected:
        with pytest.raises(DataError) as caught:
            select_slice(scores, chosen, 0)
        assert expected is not None or "floor" in caught.value.where
        return
    kept = select_slice(scores, chosen, 0)
    assert set(np.flatnonzero(kept.mask).tolist()) == expected


def test_bounds_of_nothing_change_nothing(generator: np.random.Generator) -> None:
    """A floor of 0 goes the long way round and arrives at the plain slice."""
    count = 3001
    tokens = generator.integers(1, 900, count)
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    scores = Scores(keys, generator.uniform(1, 9, count) * tokens, tokens, tokens)
    scores = replace(scores, domain=generator.integers(0, 3, count), domains=("a", "b", "c"))
    for criterion, unit in itertools.product(("low", "medium", "high"), ("documents", "tokens")):
        plain = select_slice(scores, choice(criterion=criterion, unit=unit), 0)
        bounded = select_slice(scores, choice(criterion=criterion, unit=unit, floor=0), 0)
        apart = int((plain.mask != bounded.mask).sum())
        assert apart <= (2 if unit == "tokens" else 0)


def test_soft_sampling_is_near_its_centre_seeded_and_of_the_rate() -> None:
    count = 20_000
    generator = np.random.default_rng(5)
    ones = np.ones(count, np.int64)
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    scores = Scores(keys, generator.permutation(count).astype(float), ones, ones)
    drawn = {"criterion": "soft", "centre": 0.7, "spread": 0.1, "rate": Decimal("0.02")}
    kept = [select_slice(scores, choice(**drawn), seed).mask for seed in (0, 0, 1)]
    assert (kept[0] == kept[1]).all()
    assert kept[0].sum() == kept[2].sum() == 400
    assert (kept[0] & kept[2]).sum() < 60
    position = (scores.nll_sum[kept[0]] + 0.5) / count
    assert abs(position.mean() - 0.7) < 0.02
    assert abs(position.std() - 0.1) < 0.015
    wide = select_slice(scores, choice(**{**drawn, "spread": 100}), 0).mask
    assert abs((scores.nll_sum[wide] / count).mean() - 0.5) < 0.06


@given(
    scores=tables(),
    cuts=st.lists(st.decimals(0, 1, places=3), min_size=1, max_size=4, unique=True),
    unit=st.sampled_from(["documents", "tokens"]),
)
@settings(deadline=None, max_examples=150)
def test_adjoining_bands_partition(scores: Scores, cuts: list[Decimal], unit: str) -> None:
    """[0, a], [a, b], ..., [z, 1] hold every document exactly once."""
    edges = sorted({Decimal(0), *cuts, Decimal(1)})
    held = np.zeros(len(scores), int)
    for low, high in itertools.pairwise(edges):
        chosen = Slice.model_validate({"band": (low, high), "unit": unit})
        try:
            held += select_slice(scores, chosen, 0).mask
        except DataError:
            continue
    assert (held == 1).all()


@pytest.mark.parametrize("count", range(1, 41))
@pytest.mark.parametrize("criterion", ["low", "medium", "high"])
def test_counts_are_exact(count: int, criterion: str) -> None:
    generator = np.random.default_rng(count)
    scores = Scores(
        np.arange(count, dtype=np.uint64), generator.random(count) + 1,
        np.ones(count, np.int64), np.ones(count, np.int64),
    )  # fmt: skip
    for rate in ("0.25", "0.5", "0.75"):
        wanted = math.floor(Fraction(rate) * count + Fraction(1, 2))
        if wanted:
            chosen = choice(criterion=criterion, rate=Decimal(rate))
            assert select_slice(scores, chosen, 0).mask.sum() == wanted


@given(scores=tables(), rate=RATES, seed=st.integers(0, 5), data=st.data())
@settings(deadline=None)
def test_the_order_of_the_rows_changes_nothing(
    scores: Scores, rate: str, seed: int, data: st.DataObject
) -> None:
    """Ties are broken by the key, not by the place."""
    shuffled = np.array(data.draw(st.permutations(range(len(scores)))))
    moved = Scores(
        *(getattr(scores, n)[shuffled] for n in ("key", "nll_sum", "num_tokens", "num_bytes"))
    )
    for unit in ("documents", "tokens"):
        chosen = choice(rate=Decimal(rate), unit=unit)
        try:
            first = select_slice(scores, chosen, seed)
        except DataError:
            continue
        again = select_slice(moved, chosen, seed)
        assert set(scores.key[first.mask].tolist()) == set(moved.key[again.mask].tolist())


def test_ties_are_broken_by_the_seed() -> None:
    count = 200
    ones = np.ones(count, np.int64)
    scores = Scores(np.arange(count, dtype=np.uint64), ones * 1.0, ones, ones)
    kept = [set(np.flatnonzero(select_slice(scores, choice(), s).mask)) for s in (0, 1)]
    assert kept[0] != kept[1]


@given(scores=tables(), rate=RATES, criterion=st.sampled_from(["low", "medium", "high"]))
@settings(deadline=None)
def test_the_papers_rule(scores: Scores, rate: str, criterion: str) -> None:
    """min < ECDF < max, both strict, by counting."""
    chosen = choice(criterion=criterion, rate=Decimal(rate), rule="paper")
    values = metric_values(scores, "perplexity")
    low, high = rank_band(chosen)
    expected = [low < Fraction(int((values <= v).sum()), len(values)) < high for v in values]
    assert paper_keep(chosen, values).tolist() == expected


def test_high_by_the_papers_rule_drops_the_single_worst() -> None:
    scores = Scores(
        np.arange(10, dtype=np.uint64), np.arange(10) + 1.0,
        np.ones(10, np.int64), np.ones(10, np.int64),
    )  # fmt: skip
    kept = select_slice(scores, choice(rule="paper"), 0)
    assert np.flatnonzero(kept.mask).tolist() == [5, 6, 7, 8]


@given(scores=tables(), share=st.floats(0.05, 1.0), seed=st.integers(0, 3))
@settings(deadline=None)
def test_the_random_arm_meets_the_budget_within_one_document(
    scores: Scores, share: float, seed: int
) -> None:
    budget = max(1, int(scores.num_tokens.sum() * share))
    chosen = draw_random(scores.key, scores.num_tokens, budget, str(seed))
    total = int(scores.num_tokens[chosen].sum())
    assert abs(total - budget) <= int(scores.num_tokens.max())
    assert (np.diff(chosen) > 0).all()


def test_random_arms_differ_by_seed() -> None:
    keys = np.arange(500, dtype=np.uint64)
    arms = [draw_random(keys, np.ones(500, int), 250, str(s)) for s in (0, 1, 2)]
    overlap = len(set(arms[0]) & set(arms[1])) / 250
    assert 0.35 < overlap < 0.65


def test_the_slice_of_a_run_adds_up(tiny_run: RunFolder) -> None:
    folder = tiny_run.selection("high-50")
    manifest = read_json(folder / "manifest.json")
    kept = pq.read_table(folder / "kept.parquet")
    assert kept.column_names == ["key", "id", "source", "row", "rank"]
    assert kept.num_rows == manifest["kept_documents"]
    assert sum(r["kept_tokens"] for r in manifest["domains"]) == manifest["kept_tokens"]
    assert sum(r["tokens"] for r in manifest["domains"]) == manifest["pool_tokens"]
    assert manifest["kept_tokens"] / manifest["pool_tokens"] == pytest.approx(0.5, abs=0.03)


def test_bounds_of_many_small_domains_leave_room_for_the_budget() -> None:
    ones = np.ones(300, np.int64)
    keys = np.arange(300, dtype=np.uint64)
    for size in (1, 3):
        domain = np.arange(300) // size
        names = tuple(f"d{n}" for n in range(300 // size))
        scores = Scores(keys, keys * 1.0, ones, ones, domain=domain, domains=names)
        for bounds in ({"floor": 0.5}, {"cap": 0.5}, {"floor": 0.3, "cap": 0.6}):
            kept = select_slice(scores, choice(rate=Decimal("0.5"), **bounds), 0)
            assert kept.mask.sum() == 150
    with pytest.raises(DataError) as caught:
        select_slice(scores, choice(min_tokens=5), 0)
    assert "min_tokens" in caught.value.fix


def test_a_floor_keeps_something_of_a_domain_of_long_documents() -> None:
    tokens = np.array([1000] * 5 + [10] * 1000)
    keys = np.arange(1005, dtype=np.uint64)
    domain = np.array([0] * 5 + [1] * 1000)
    mean = np.where(domain == 0, 1.0, 5.0) + keys / 1e6
    scores = Scores(keys, mean * tokens, tokens, tokens, domain=domain, domains=("long", "short"))
    kept = select_slice(scores, choice(unit="tokens", floor=Decimal("0.1")), 0).mask
    assert kept[:5].sum() == 1
    assert abs(int(tokens[kept].sum()) - 7500) <= 1000
    low = choice(criterion="low", unit="tokens", rate=Decimal("0.4"), cap={"long": 0.5})
    assert select_slice(scores, low, 0).mask[:5].sum() == 2
