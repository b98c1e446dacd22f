"""How many tokens there are, told before there is a tokenizer, against those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.data.demo_corpus import write_demo_corpus
from mlxprune.data.sources import find_sources
from mlxprune.pipeline.runner import run_study
from mlxprune.planning.plan import plan_run
from mlxprune.planning.token_sample import sample_texts, tokens_per_counted
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import read_scores
from mlxprune.testing import tiny


def study(paths: list[str], **more: Any) -> Any:
    tree = tiny.tiny_config(Path("x"), **more)
    tree["data"] = {"paths": paths, "domain_key": "domain"}
    return validate_config(tree, "test")


@pytest.mark.slow
def test_the_pool_of_a_plan_is_that_of_the_run_within_three_percent(tmp_path: Path) -> None:
    """On the demo's text and two vocabularies; before, code and tables were off by more."""
    write_demo_corpus(tmp_path / "corpus", 400_000)
    for vocabulary in (1024, 4096):
        config = study(
            [str(tmp_path / "corpus")],
            tokenizer={"train": {"vocab_size": vocabulary}},
            split={"reference": 0.4, "validation": 0.05, "test": 0.05},
        )
        planned = plan_run(config)
        run = RunFolder(tmp_path / f"run-{vocabulary}")
        run_study(config, run, until="selection")
        tokens = read_scores(run.scores("main")).num_tokens.sum()
        assert planned.parts["train"] == pytest.approx(float(tokens), rel=0.03)
        kept = np.load(run.selection("high-50") / "kept.npy")
        unique = (read_scores(run.scores("main")).num_tokens[kept] + 1).sum()
        assert planned.arms["high-50"].unique_tokens == pytest.approx(float(unique), rel=0.03)


def test_a_sample_has_every_domain_and_no_more_than_it_needs(tiny_corpus: Path) -> None:
    config = study([str(tiny_corpus)])
    texts = sample_texts(find_sources(config.data))
    assert {*texts} == {"prose", "code", "numbers"}
    assert all(len(own) == 80 for own in texts.values())


def test_where_a_sample_tells_nothing_the_count_stands(tiny_corpus: Path) -> None:
    """Too little text for the vocabulary, and domains of which too little is held out."""
    config = study([str(tiny_corpus)], tokenizer={"train": {"vocab_size": 60_000}})
    assert tokens_per_counted(config, find_sources(config.data), {"prose": 1e6}) == 1.0
    config = study([str(tiny_corpus)])
    assert tokens_per_counted(config, find_sources(config.data), {"prose": 1e6}) == 1.0
