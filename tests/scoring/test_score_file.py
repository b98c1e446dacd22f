"""What documents are ranked by: every metric against one document at a time, and bad files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.config.slices import Slice
from mlxprune.errors import DataError, UsageError
from mlxprune.scoring.score_file import Scores, read_scores
from mlxprune.scoring.windows import WindowPolicy, windows_of
from mlxprune.selection.metric import (
    expected_nll,
    metric_values,
    refuse_impossible,
    scores_of_slice,
)
from mlxprune.selection.ranking import ranked_values
from mlxprune.stats import spearman


def table(count: int, generator: np.random.Generator) -> Scores:
    tokens = generator.integers(1, 400, count)
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    return Scores(keys, generator.uniform(1, 9, count) * tokens, tokens, tokens * 3 + 1)


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=30),
    context=st.integers(2, 40),
    overlap=st.integers(0, 39),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_the_expected_loss_follows_the_windows(
    lengths: list[int], context: int, overlap: int, seed: int
) -> None:
    """One target at a time, from the windows that the scorer cuts."""
    overlap = min(overlap, context - 1)
    curve = np.random.default_rng(seed).uniform(1, 9, context)
    policy = WindowPolicy(context, overlap, "windows", None, 4096)
    found, _ = windows_of(np.array(lengths), policy)
    sums = [0.0] * len(lengths)
    for row in range(len(found)):
        size = int(found.stop[row] - found.first[row])
        for position in range(int(found.skip[row]), size):
            sums[int(found.slot[row])] += curve[position]
    expected = [s / n for s, n in zip(sums, lengths, strict=True)]
    got = expected_nll(np.array(lengths), curve, overlap)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_metrics_are_what_they_say(generator: np.random.Generator) -> None:
    own = table(50, generator)
    other = own.nll_sum * generator.uniform(0.5, 2, 50)
    curve = generator.uniform(1, 9, 500)
    whole = replace(own, other=other, curve=curve)
    for i in range(50):
        n, b, size = int(own.num_tokens[i]), float(own.nll_sum[i]), int(own.num_bytes[i])
        here = slice(i, i + 1)
        assert metric_values(whole, "perplexity", here)[0] == b / n
        assert metric_values(whole, "bpb", here)[0] == pytest.approx(b / math.log(2) / size)
        assert metric_values(whole, "adjusted", here)[0] == pytest.approx(b / n - curve[:n].mean())
        assert metric_values(whole, "progress", here)[0] == pytest.approx((other[i] - b) / n)
        choice = Slice.model_validate({"metric": {"difference": ["a", "b"]}})
        wanted = (b - other[i]) / math.log(2) / size
        assert metric_values(whole, choice, here)[0] == pytest.approx(wanted)


def test_folds_are_merged_by_percentile_inside_the_fold(generator: np.random.Generator) -> None:
    """A model that is worse by a constant, or by a factor, moves nobody."""
    own = table(200, generator)
    fold = generator.integers(0, 3, 200).astype(np.uint8)
    scaled = replace(own, nll_sum=own.nll_sum * (1.0 + fold), fold=fold)
    plain = replace(own, fold=fold)
    values = [ranked_values(s, Slice(), 0)(slice(None)) for s in (scaled, plain)]
    np.testing.assert_array_equal(*values)
    for number in range(3):
        mine = values[0][fold == number]
        assert sorted(mine) == pytest.approx((np.arange(len(mine)) + 0.5) / len(mine))
        figures = metric_values(own, "perplexity")[fold == number]
        assert (np.argsort(mine) == np.argsort(figures)).all()


@given(
    a=st.lists(st.integers(0, 6), min_size=2, max_size=40),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_spearman_is_pearson_of_the_mean_ranks(a: list[int], seed: int) -> None:
    b = np.random.default_rng(seed).integers(0, 5, len(a)).tolist()

    def ranks(values: list[int]) -> list[float]:
        return [(sum(v < x for v in values) + sum(v <= x for v in values) + 1) / 2 for x in values]

    x, y = ranks(a), ranks(b)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cross = sum((i - mx) * (j - my) for i, j in zip(x, y, strict=True))
    scale = math.sqrt(sum((i - mx) ** 2 for i in x) * sum((j - my) ** 2 for j in y))
    got = spearman(np.array(a, float), np.array(b, float))
    if scale == 0:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(cross / scale)


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_scores_made_elsewhere_need_an_id_and_a_score(tmp_path: Path) -> None:
    path = write(tmp_path / "s.parquet", id=["a", "b", "c"], score=[3, 1, 2])
    found = read_scores(path)
    assert found.given is not None
    assert found.given.tolist() == [3.0, 1.0, 2.0]
    assert metric_values(found, Slice()).tolist() == [3.0, 1.0, 2.0]
    numbers = write(tmp_path / "n.parquet", id=[7, 8], quality=[0.5, 0.25])
    assert len(read_scores(numbers, "quality")) == 2
    domains = write(
        tmp_path / "d.parquet", id=["a", "b", "c"], score=[3, 1, 2], domain=["x", None, "w"]
    )
    found = read_scores(domains)
    assert found.domain is not None
    assert [found.domains[c] for c in found.domain] == ["x", "(none)", "w"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": ["a", "b"], "score": [1.0, float("nan")]}, "not finite"),
        ({"id": ["a", "b"], "score": [1.0, float("inf")]}, "not finite"),
        ({"id": ["a", "b"], "score": [1.0, None]}, "not finite"),
        ({"id": ["a", "a"], "score": [1.0, 2.0]}, "twice: a"),
        ({"id": ["a", None], "score": [1.0, 2.0]}, "no id"),
        ({"id": ["a", "b"]}, "no column score"),
        ({"score": [1.0]}, "no column id"),
        ({"id": ["a"], "score": ["high"]}, "score"),
        ({"id": ["a"], "score": [1.0], "num_tokens": [0]}, "num_tokens"),
        ({"id": [], "score": []}, "no scored document"),
        ({"id": [["a"]], "score": [1.0]}, "cannot read"),
        ({"id": ["a"], "score": [1.0], "domain": [["x"]]}, "cannot read"),
        ({"id": ["a"], "score": [1.0], "num_tokens": ["many"]}, "cannot read"),
        ({"id": ["a"], "score": [1.0], "num_tokens": [0.5]}, "cannot read"),
        ({"id": ["a"], "score": [1.0], "num_tokens": [float("nan")]}, "cannot read"),
    ],
)
def test_scores_made_elsewhere_that_will_not_do(
    columns: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_scores(write(tmp_path / "s.parquet", **columns))
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    "columns",
    [
        {"nll_sum": ["x", "y"]},
        {"num_tokens": [1, None]},
        {"num_bytes": [0, 1]},
        {"num_tokens": [0, 1]},
    ],
)
def test_own_columns_that_will_not_do(columns: dict[str, Any], tmp_path: Path) -> None:
    good = {"key": [1, 2], "nll_sum": [1.0, 2.0], "num_tokens": [1, 1], "num_bytes": [1, 1]}
    with pytest.raises(DataError):
        read_scores(write(tmp_path / "s.parquet", **{**good, **columns}))


def test_any_column_may_be_the_score(tmp_path: Path) -> None:
    path = write(tmp_path / "s.parquet", id=["a", "b"], score=[1, 2], num_tokens=[5, 7])
    found = read_scores(path, "num_tokens")
    assert found.given is not None
    assert found.given.tolist() == [5.0, 7.0]
    bare = read_scores(write(tmp_path / "b.parquet", id=["a", "b"], score=[1, 2]))
    for length in ({"min_tokens": 5}, {"by": ("domain", "length")}):
        with pytest.raises(DataError) as caught:
            refuse_impossible(bare, Slice.model_validate(length))
        assert "num_tokens" in caught.value.problem


def test_many_domains_and_a_missing_one_fit_small_codes(tmp_path: Path) -> None:
    names = pa.array([f"d{n:03}" for n in range(128)])
    codes = pa.array([*range(128), None], pa.int8())
    path = write(
        tmp_path / "s.parquet",
        id=[str(n) for n in range(129)],
        score=[1.0] * 129,
        domain=pa.DictionaryArray.from_arrays(codes, names),
    )
    found = read_scores(path)
    assert found.domain is not None
    assert found.domains[int(found.domain[128])] == "(none)"


def test_a_difference_is_in_part_where_either_side_is(tmp_path: Path) -> None:
    good = {"key": [1, 2], "nll_sum": [1.0, 2.0], "num_tokens": [1, 1], "num_bytes": [1, 1]}
    write(tmp_path / "a.parquet", **good)
    write(tmp_path / "b.parquet", **good, truncated=[False, True], fold=np.array([0, 1], np.uint8))
    choice = Slice.model_validate({"metric": {"difference": ["a", "b"]}})
    found = scores_of_slice(lambda name: tmp_path / f"{name}.parquet", choice, "a", "")
    assert found.fold is not None
    with pytest.raises(DataError) as caught:
        refuse_impossible(found, choice)
    assert "in part" in caught.value.problem


def test_domains_have_the_same_codes_in_any_file_order(tmp_path: Path) -> None:
    names = ["b", "a", "b", "c"]
    a = read_scores(write(tmp_path / "a.parquet", id=list("wxyz"), score=[1.0] * 4, domain=names))
    b = read_scores(
        write(
            tmp_path / "b.parquet",
            id=list("wxyz"),
            score=[1.0] * 4,
            domain=pa.array(names).dictionary_encode(),
        )
    )
    assert a.domains == b.domains == ("a", "b", "c")
    assert a.domain is not None
    assert b.domain is not None
    assert a.domain.tolist() == b.domain.tolist() == [1, 0, 1, 2]


def test_what_scores_cannot_give_is_refused(generator: np.random.Generator) -> None:
    plain = table(5, generator)
    part = replace(plain, truncated=np.array([True] * 5))
    for found, choice, problem in (
        (part, {"metric": "bpb"}, "in part"),
        (plain, {"metric": "adjusted"}, "by position"),
        (plain, {"metric": "progress"}, "early"),
        (plain, {"metric": {"difference": ["a", "b"]}}, "two references"),
        (plain, {"by": "domain"}, "no domain"),
        (plain, {"floor": 0.1}, "no domain"),
        (replace(plain, given=plain.nll_sum), {"metric": "bpb"}, "no bpb"),
    ):
        with pytest.raises(DataError) as caught:
            refuse_impossible(found, Slice.model_validate(choice))
        assert problem in caught.value.problem, caught.value.problem
    known = replace(plain, domain=np.zeros(5, np.int64), domains=("web",))
    with pytest.raises(UsageError) as unknown:
        refuse_impossible(known, Slice(protect=["wbe"]))
    assert "web" in unknown.value.fix


def test_positions_are_kept_unrounded_with_the_scores(tiny_run: Any) -> None:
    found = read_scores(tiny_run.scores())
    told = pq.read_schema(tiny_run.scores()).metadata
    counts = np.array(json.loads(told[b"targets_by_position"]))
    assert found.curve is not None
    assert len(found.curve) == 64
    assert counts.sum() == found.num_tokens.sum()
    assert (found.curve * counts).sum() == pytest.approx(found.nll_sum.sum(), rel=1e-12)
    adjusted = metric_values(found, "adjusted") * found.num_tokens
    assert adjusted.sum() == pytest.approx(0, abs=1e-6 * found.nll_sum.sum())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float, tmp_path: Path) -> None:
    table = pa.table(
        {"key": [1, 2], "nll_sum": [1.0, bad], "num_tokens": [1, 1], "num_bytes": [1, 1]}
    )
    pq.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(DataError):
        read_scores(tmp_path / "s.parquet")
    pq.write_table(table.drop_columns("nll_sum"), tmp_path / "s.parquet")
    with pytest.raises(DataError) as caught:
        read_scores(tmp_path / "s.parquet")
    assert "nll_sum" in caught.value.problem or "nll_sum" in caught.value.fix
    (tmp_path / "s.parquet").write_text("no parquet")
    with pytest.raises(DataError):
        read_scores(tmp_path / "s.parquet")
