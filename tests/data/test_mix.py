"""A corpus composed to shares: the shares hold, nothing repeats, more documents move none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.config.data import Data
from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.index import Corpus
from mlxprune.data.mix import mix_sentence, within_mix
from mlxprune.errors import DataError
from mlxprune.testing.corpora import indexed, write_rows


def rows(domain: str, count: int, size: int = 20, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f"{domain} {i} " + "word " * size, "domain": domain, "id": f"{domain}{i}"}
        for i in range(first, first + count)
    ]


def corpus(folder: Path, **counts: int) -> Corpus:
    listed = [row for domain, count in counts.items() for row in rows(domain, count)]
    name = "-".join(f"{d}{n}" for d, n in counts.items())
    return indexed(folder, [write_rows(folder / f"{name}.jsonl", listed)])


def data(**settings: Any) -> Data:
    return Data.model_validate({"paths": ["x"], **settings})


def kept(found: Corpus, settings: Data, seed: int = 0) -> dict[str, set[int]]:
    mask, _ = within_mix(settings, found, seed)
    entries = found.index[mask]
    return {
        name: {int(k) for k in entries["key"][entries["domain"] == code]}
        for code, name in enumerate(found.domains)
    }


def test_shares_of_bytes_hold_and_the_scarcest_stays_whole(tmp_path: Path) -> None:
    found = corpus(tmp_path, web=800, code=100, law=300)
    mask, shares = within_mix(data(mix={"web": 3, "code": 1}), found, 0)
    used = {s.name: s.used_bytes for s in shares}
    assert used["law"] == 0
    assert used["web"] / used["code"] == pytest.approx(3, rel=0.02)
    assert {s.name: s.used_documents for s in shares}["code"] == 100
    assert int(mask.sum()) == sum(s.used_documents for s in shares)
    assert "300 are of domains that it does not name" in mix_sentence(shares)
    total = sum(s.used_bytes for s in shares)
    half, _ = within_mix(data(mix={"web": 3, "code": 1}), found, 0, total / 2)
    assert (half <= mask).all()
    assert int(found.index["bytes"][half].sum()) == pytest.approx(total / 2, rel=0.03)


def test_more_documents_move_none(tmp_path: Path) -> None:
    """More of the scarcest only adds; more of another displaces by its own order alone."""
    settings = data(mix={"web": 0.75, "code": 0.25})
    before = kept(corpus(tmp_path, web=900, code=100), settings)
    scarce = kept(corpus(tmp_path, web=900, code=150), settings)
    assert before["web"] < scarce["web"]
    assert before["code"] < scarce["code"]
    more = kept(corpus(tmp_path, web=1800, code=100), settings)
    assert more["code"] == before["code"]
    old = {int(k) for k in corpus(tmp_path, web=900).index["key"]}
    # Of the old documents the first in the order stay: those that go are its end.
    assert more["web"] & old <= before["web"]


def test_the_seed_draws_and_equal_seeds_draw_alike(tmp_path: Path) -> None:
    found = corpus(tmp_path, web=500, code=50)
    settings = data(mix={"web": 1, "code": 1})
    assert kept(found, settings, 1) == kept(found, settings, 1)
    assert kept(found, settings, 1)["web"] != kept(found, settings, 2)["web"]


def test_weights_of_sources(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", rows("a", 300))
    second = write_rows(tmp_path / "b.jsonl", rows("b", 300, size=60))
    entries = [{"path": str(first), "weight": 1}, {"path": str(second), "weight": 2}]
    settings = Data.model_validate({"paths": entries})
    found = indexed(tmp_path, [first, second])
    from dataclasses import replace

    found = replace(found, sources=[replace(s, entry=i) for i, s in enumerate(found.sources)])
    mask, shares = within_mix(settings, found, 0)
    sizes = [int(found.index["bytes"][mask & (found.index["file"] == i)].sum()) for i in (0, 1)]
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.02)
    assert [s.share for s in shares] == pytest.approx([1 / 3, 2 / 3])


def config(**sections: Any) -> Config:
    return validate_config({"data": {"paths": ["x"]}, **sections}, "test")


def test_the_split_counts_what_mix_and_limit_leave(tmp_path: Path) -> None:
    found = corpus(tmp_path, web=900, code=300)
    chosen = config(data={"paths": ["x"], "mix": {"web": 1, "code": 1}, "limit": "400 docs"})
    taken = split.take_documents(chosen, found)
    assert int(taken.within.sum()) == 400
    assert taken.beyond_mix + taken.beyond_limit + 400 == 1200
    assert taken.beyond_mix == pytest.approx(600, abs=5)
    tokens = config(data={"paths": ["x"], "mix": {"web": 1, "code": 1}, "limit": "10k"})
    few = split.take_documents(tokens, found).within
    wanted = 10_000 * split.bytes_per_token(tokens)
    assert int(found.index["bytes"][few].sum()) == pytest.approx(wanted, rel=0.03)
    codes = found.index["domain"][few]
    sizes = np.bincount(codes, weights=found.index["bytes"][few])
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # the limit keeps the mix


def test_what_a_mix_cannot_be(tmp_path: Path) -> None:
    found = corpus(tmp_path, web=30)
    with pytest.raises(DataError, match="no domain is called 'cod'"):
        within_mix(data(mix={"cod": 1}), found, 0)
    first = write_rows(tmp_path / "a.jsonl", rows("a", 3))
    entries = [{"path": str(first), "weight": 1}, {"path": "nothing", "weight": 2}]
    with pytest.raises(DataError, match="nothing has no document"):
        within_mix(Data.model_validate({"paths": entries}), indexed(tmp_path, [first]), 0)
