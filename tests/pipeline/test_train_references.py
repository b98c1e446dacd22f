"""Several references, early copies, cross-scoring and free scores, in whole runs."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.errors import ConfigError, UsageError
from mlxprune.experiment import budgets
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.document_explanation import explain_document
from mlxprune.experiment.rank_stability import compare_references
from mlxprune.files import read_json
from mlxprune.pipeline.runner import run_study
from mlxprune.run.events import fold_log
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.model_free import LEVEL
from mlxprune.scoring.score_file import positions_of, read_scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import ranked_values
from mlxprune.testing import tiny


def test_every_model_that_scores_has_its_file(several: RunFolder) -> None:
    names = ["long", "long.at-25", "short", "unigram", "zlib"]
    assert sorted(p.stem for p in several.scores().parent.glob("*.parquet")) == names
    keys = [read_scores(several.scores(n)).key for n in names]
    assert all((k == keys[0]).all() for k in keys)


def test_an_early_copy_costs_nothing_and_its_reference_goes_on(several: RunFolder) -> None:
    told = [read_json(several.reference(n) / "training.json") for n in ("long.at-25", "long")]
    assert told[0]["targets"] == told[1]["targets"] / 4
    state = fold_log(several.events)
    assert state.targets_trained == 4096 + 2048


def test_each_slice_ranks_by_what_it_says(several: RunFolder) -> None:
    held = open_run(several.path)
    long, early, short = (read_scores(several.scores(n)) for n in ("long", "long.at-25", "short"))
    ln2 = np.log(2.0)
    expected = {
        "high-50": long.nll_sum / long.num_tokens,
        "high-50-difference": (short.nll_sum - long.nll_sum) / (ln2 * long.num_bytes),
        "high-50-by-domain-progress": (early.nll_sum - long.nll_sum) / long.num_tokens,
    }
    for choice in held.config.slices[:3]:
        found = metric_values(held.scores(choice), choice)
        np.testing.assert_allclose(found, expected[choice.label], rtol=1e-12)
        manifest = read_json(several.selection(choice.label) / "manifest.json")
        kept = np.load(several.selection(choice.label) / "kept.npy")
        assert manifest["lowest"] == pytest.approx(found[kept].min())


def test_floors_and_least_lengths_hold_in_a_run(several: RunFolder) -> None:
    kept = np.load(several.selection("low-50-bpb-zlib") / "kept.npy")
    own = read_scores(several.scores("zlib"))
    assert own.num_tokens[kept].min() >= 20
    table = read_json(several.selection("balanced") / "manifest.json")["domains"]
    assert all(row["keep_rate"] > 0.05 for row in table)


def test_zlib_scores_are_compressed_sizes(several: RunFolder) -> None:
    names = open_run(several.path).corpus
    pool = open_run(several.path).pool
    wanted = np.zeros(len(names), bool)
    wanted[pool[:20]] = True
    own = read_scores(several.scores("zlib"))
    for (_, text), bpb, size in zip(
        names.texts(wanted), metric_values(own, "bpb"), own.num_bytes, strict=False
    ):
        assert bpb == pytest.approx(8 * len(zlib.compress(text.encode(), LEVEL)) / size)


def test_unigram_scores_are_token_frequencies(several: RunFolder) -> None:
    tokens = open_run(several.path).tokens()
    counts = np.ones(tokens.vocab_size)
    for d in split.open_split(several.split).members(split.REFERENCE):
        for token in tokens.document(int(d)):
            counts[token] += 1
    own = read_scores(several.scores("unigram"))
    pool = open_run(several.path).pool
    for d, nll in zip(pool[:20].tolist(), own.nll_sum, strict=False):
        expected = -np.log(counts[tokens.document(d)] / counts.sum()).sum()
        assert nll == pytest.approx(expected)


def test_cross_scoring_loses_no_document_and_no_model_scores_what_it_saw(
    crossed: RunFolder,
) -> None:
    held = open_run(crossed.path)
    pool = held.pool
    parts = split.open_split(crossed.split)
    assert not len(parts.members(split.REFERENCE))
    merged = read_scores(crossed.scores())
    assert len(merged) == len(pool)
    assert merged.fold is not None
    assert set(merged.fold.tolist()) == {0, 1, 2}
    index = held.corpus.index
    assert (split.folds(index[pool], 0, 3) == merged.fold).all()
    held_out = set(index["key"][held.validation].tolist())
    for fold in range(3):
        own = read_scores(crossed.scores(f"fold-{fold}"))
        mine = set(merged.key[merged.fold == fold].tolist())
        assert set(own.key.tolist()) == mine | held_out
        place = {int(k): i for i, k in enumerate(own.key)}
        for key, nll in zip(merged.key.tolist(), merged.nll_sum.tolist(), strict=True):
            if key in mine:
                assert own.nll_sum[place[key]] == nll
        trained = read_json(crossed.reference(f"fold-{fold}") / "training.json")
        members = parts.members(split.TRAIN)
        unseen = split.folds(index[members], 0, 3) != fold
        assert trained["documents"] == int(unseen.sum())


def test_cross_scoring_tells_how_far_the_references_agree(crossed: RunFolder) -> None:
    told = read_json(crossed.selection("high-50") / "manifest.json")["agreement"]
    assert told["references"] == 3
    assert told["documents"] == len(open_run(crossed.path).validation)
    assert 0 <= told["flips"] <= 1
    assert told["lowest_spearman"] <= told["spearman"] <= 1
    assert b"references of cross-scoring" in crossed.report.read_bytes()


def test_a_fold_is_kept_at_the_rate(crossed: RunFolder) -> None:
    """Percentiles inside the fold: no model's higher losses fill the slice with its fold."""
    merged = read_scores(crossed.scores())
    kept = np.load(crossed.selection("high-50") / "kept.npy")
    assert merged.fold is not None
    for fold in range(3):
        mine = merged.fold == fold
        assert 0.25 < kept[mine].mean() < 0.75
    values = ranked_values(merged, Slice(), 0)(slice(None))
    assert values.min() > 0
    assert values.max() < 1


def test_all_is_the_whole_pool_where_no_part_is_set_apart(crossed: RunFolder) -> None:
    plan = read_json(crossed.arms)["arms"]["all-s0"]
    assert plan["documents"] == len(open_run(crossed.path).pool)


def test_a_domain_that_is_not_there_is_refused_before_the_work(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    chosen = tiny.tiny_config(tiny_corpus, selection={"protect": ["prosa"]})
    with pytest.raises(UsageError) as caught:
        run_study(validate_config(chosen, "test"), run)
    assert "prose" in caught.value.fix
    assert not run.tokenizer.exists()


def test_a_score_file_keeps_its_positions(several: RunFolder) -> None:
    positions = positions_of(several.scores("long"))
    own = read_scores(several.scores("long"))
    assert positions[1].sum() == own.num_tokens.sum()
    assert positions[0].sum() == pytest.approx(own.nll_sum.sum())


@pytest.mark.parametrize("verb", ["difference", "progress"])
def test_a_slice_of_an_unknown_reference_is_refused(verb: str, tiny_corpus: Path) -> None:
    wanted: Any = {"difference": ["main", "small"]} if verb == "difference" else "progress"
    more = {"reference": {"pretrained": "x"}} if verb == "progress" else {}
    tree = tiny.tiny_config(tiny_corpus, selection={"metric": wanted}, **more)
    with pytest.raises(ConfigError):
        validate_config(tree, "test")


@pytest.mark.slow
def test_a_pretrained_reference_beside_a_trained_one(
    tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path
) -> None:
    """It reads its own tokens; bits per byte make the two comparable."""
    tree = tiny.tiny_config(tiny_corpus)
    del tree["reference"]
    pretrained = str(tiny_run.final("random-50-s0"))
    tree["tokenizer"] = {"train": {"vocab_size": 400}}
    tree["references"] = [
        {"name": "own", **tiny.SMALL_REFERENCE},
        {"name": "given", "pretrained": pretrained, "context": 64},
    ]
    tree["selection"] = {"metric": {"difference": ["given", "own"]}, "unit": "documents"}
    run = RunFolder(tmp_path / "run")
    result = run_study(validate_config(tree, "test"), run)
    assert result.state == "done"
    own, given = (read_scores(run.scores(n)) for n in ("own", "given"))
    assert (own.key == given.key).all()
    assert (own.num_tokens != given.num_tokens).any()
    assert (own.num_bytes == given.num_bytes).all()
    assert open_run(run.path).tokens("reference-given").vocab_size == 384
    assert {r.name for r in compare_references([run.path], {}).scores} == {
        "own", "given", "unigram",
    }  # fmt: skip


def test_a_pool_beyond_need_is_left_out_and_said(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "POOL_LEAST", 1)
    tree = tiny.tiny_config(tiny_corpus, final={"tokens": 1024})
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    run_study(
        validate_config({**tree, "split": {**tree["split"], "pool": "all"}}, "t"),
        whole,
        until="split",
    )
    run_study(validate_config(tree, "t"), cut, until="split")
    parts = [split.open_split(r.split) for r in (whole, cut)]
    assert parts[0].summary.beyond_need == 0
    assert parts[1].summary.beyond_need > 0
    pools = [set(p.members(split.TRAIN).tolist()) for p in parts]
    assert pools[1] < pools[0]
    for part in (split.TEST, split.VALIDATION, split.REFERENCE):
        assert (parts[0].members(part) == parts[1].members(part)).all()
    told = fold_log(cut.events).warnings
    assert any("need no larger pool" in w.message for w in told)
    left = next(iter(pools[0] - pools[1]))
    identity = pq.read_table(cut.corpus / "documents.parquet").column("id")[left].as_py()
    found = explain_document(open_run(cut.path), identity)
    assert "need no larger pool" in found[0].reason
