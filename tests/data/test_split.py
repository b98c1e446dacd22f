"""The split: disjoint, stable, equal texts on one side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.held_out import Thresholds
from mlxprune.data.index import Corpus
from mlxprune.testing.corpora import indexed, write_rows


def settings(**sections: object) -> Config:
    return validate_config({"data": {"paths": ["x"]}, **sections}, "test")


def thresholds(chosen: Config, found: Corpus) -> Thresholds:
    return split.choose_thresholds(chosen, found, split.take_documents(chosen, found).within)


def evenly(found: Corpus, test: float, validation: float, reference: float) -> Thresholds:
    """The same thresholds for every domain."""
    return Thresholds(
        test=dict.fromkeys(found.domains, test),
        validation=dict.fromkeys(found.domains, test + validation),
        reference=reference,
    )


def test_equal_texts_never_stand_on_two_sides(tmp_path: Path) -> None:
    """Equal up to Unicode composition and whitespace."""
    forms = ["caf\u00e9 one", "cafe\u0301  one", " caf\u00e9\tone\n"]
    rows = [{"text": f"{f} {i}"} for i in range(100) for f in forms]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    part = split.assign(found, 0, evenly(found, 0.2, 0.2, 0.3))
    assert (part.reshape(100, 3) == part.reshape(100, 3)[:, :1]).all()
    assert set(part.tolist()) == {0, 1, 2, 3}


def test_documents_of_a_group_stay_together(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "meta": {"site": f"s{i % 10}"}} for i in range(200)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)], group_key="meta.site")
    part = split.assign(found, 3, evenly(found, 0.2, 0.2, 0.3))
    assert (part.reshape(20, 10) == part.reshape(20, 10)[:1]).all()


def test_documents_added_later_move_none(tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": f"text {i}"} for i in range(300)]
    few = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows[:200])])
    many = indexed(tmp_path, [write_rows(tmp_path / "b.jsonl", rows)])
    shares = thresholds(settings(split={"reference": 0.3, "test": 0.1, "validation": 0.1}), few)
    shares.test["b"], shares.validation["b"] = shares.test["a"], shares.validation["a"]
    before, after = (split.assign(c, 0, shares) for c in (few, many))
    assert np.array_equal(before, after[:200])


def test_every_domain_has_test_documents_where_it_can(tmp_path: Path) -> None:
    """5 % of a domain, but five of one that has fifty, and none of one that has a handful."""
    sizes = {"large": 2000, "middle": 160, "small": 50, "handful": 15}
    rows = [{"text": f"{d} {i}", "domain": d} for d, n in sizes.items() for i in range(n)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)], domain_key="domain")
    for seed in range(5):
        chosen = settings(seed=seed, reference={"tokens": 100})
        part = split.assign(found, seed, thresholds(chosen, found))
        for code in (split.TEST, split.VALIDATION):
            counts = np.bincount(found.index["domain"][part == code], minlength=4)
            told = dict(zip(found.domains, counts.tolist(), strict=True))
            assert told == {"large": 100, "middle": 8, "small": 5, "handful": 1}


def test_a_text_in_two_domains_follows_the_first(tmp_path: Path) -> None:
    """Copies in a second domain neither change its side nor count for the second."""
    rows = [{"text": f"text {i}", "domain": "one"} for i in range(100)]
    rows += [{"text": f"text {i}", "domain": "two"} for i in range(100)]
    rows += [{"text": f"other {i}", "domain": "two"} for i in range(100)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)], domain_key="domain")
    part = split.assign(found, 0, thresholds(settings(reference={"tokens": 100}), found))
    assert np.array_equal(part[:100], part[100:200])
    assert (part[:100] == split.TEST).sum() in (5, 10)  # copies count where their first stands
    assert (part[200:] == split.TEST).sum() == 5


def test_automatic_shares_follow_the_reference_and_the_held_out_limit(tmp_path: Path) -> None:
    rows = [{"text": f"some words {i} " * 40} for i in range(2000)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    chosen = settings(reference={"tokens": 50_000})
    shares = thresholds(chosen, found)
    part = split.assign(found, 0, shares)
    assert (part == split.TEST).sum() == (part == split.VALIDATION).sum() == 100
    estimate = found.summary.bytes / split.bytes_per_token(chosen)
    assert abs(shares.reference - 1.1 * 50_000 / estimate) < 1e-9


def test_shares_can_be_fractions_or_tokens(tmp_path: Path) -> None:
    rows = [{"text": f"some words {i} " * 40} for i in range(500)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    chosen = settings(split={"reference": 0.25, "test": "10k"})
    shares = thresholds(chosen, found)
    estimate = found.summary.bytes / split.bytes_per_token(chosen)
    assert shares.reference == 0.25
    part = split.assign(found, 0, shares)
    assert (part == split.TEST).sum() == round(500 * 10_000 / estimate)


def test_a_limit_leaves_documents_out_by_hash(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}"} for i in range(300)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    chosen = settings(data={"paths": ["x"], "limit": "100 docs"})
    within = split.take_documents(chosen, found).within
    assert within.sum() == 100
    assert not within[:100].all()  # not the first hundred
    tokens = split.take_documents(settings(data={"paths": ["x"], "limit": "500"}), found).within
    size = found.index["bytes"][tokens].sum() / split.bytes_per_token(chosen)
    assert 490 < size <= 500


def test_the_automatic_split_counts_only_what_the_limit_leaves(tmp_path: Path) -> None:
    rows = [{"text": f"some words {i} " * 40} for i in range(3000)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    data = {"paths": ["x"], "limit": "1000 docs"}
    chosen = settings(data=data, reference={"tokens": 20_000})
    shares = thresholds(chosen, found)
    whole = thresholds(settings(reference={"tokens": 20_000}), found)
    assert abs(shares.reference / whole.reference - 3) < 0.1


def test_the_thresholds_of_a_run_are_stored(tiny_run: object) -> None:
    path = tiny_run.split / "split.json"  # type: ignore[attr-defined]
    assert json.loads(path.read_text())["thresholds"]["reference"] == 0.3
