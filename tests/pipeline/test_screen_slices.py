"""Screening: all slices with one seed on the validation part, the best confirmed on the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import ConfigError
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.records import read_screening, read_test_reads
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny

THREE = {"criterion": ["low", "medium", "high"], "rate": 0.5, "unit": "tokens"}


@pytest.mark.slow
def test_the_best_alone_is_trained_again_and_read_on_the_test_part(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    tree = tiny.tiny_config(
        tiny_corpus, selection=THREE, final={"confirm": 1, "seeds": [0, 1], "tokens": 2048}
    )
    run = RunFolder(tmp_path / "run")
    config = validate_config(tree, "test")
    result = run_study(config, run)
    screening = read_screening(run)
    assert screening is not None and result.screening == screening
    assert set(screening.slices) == {"low-50", "medium-50", "high-50"}
    (best,) = screening.confirmed
    assert best == min(screening.slices, key=lambda name: screening.slices[name].difference)
    # Its figure is macro on the validation part, as its own model has it.
    assert result.verdict is not None and result.verdict.arm == best
    assert result.verdict.seeds == [0, 1]
    read = {path.stem for path in (run.path / "eval").glob("[!.]*-s?.json")}
    assert read == {f"{arm}-s{seed}" for arm in (best, "random-50") for seed in (0, 1)}
    assert [sorted(one.slices) for one in read_test_reads(run).reads] == [[best]]
    assert result.trust is not None and result.trust.slices_tried == sorted(screening.slices)
    assert "ranked first with one seed" in str(result.conclusion)
    weights = {n: (run.final(n) / "model.safetensors").stat().st_mtime_ns for n in read}
    again = run_study(config, run)
    assert {stage.state for stage in again.stages.values()} == {"reused"}
    assert weights == {n: (run.final(n) / "model.safetensors").stat().st_mtime_ns for n in read}


def test_a_new_slice_is_a_new_reading_of_the_test_part(tiny_run: RunFolder) -> None:
    """Kept by label and documents: reading what was read before counts once."""
    reads = read_test_reads(tiny_run)
    assert [sorted(one.slices) for one in reads.reads] == [["high-50"]]


def test_every_slice_and_control_has_a_figure_on_the_validation_part(tiny_run: RunFolder) -> None:
    held = open_run(tiny_run.path)
    documents = held.validation_documents()
    assert len(documents) and not np.intersect1d(documents, held.test_documents()).size


def test_what_cannot_be_confirmed_is_refused(tiny_corpus: Path) -> None:
    for final, why in (
        ({"confirm": 1, "seeds": [0, 1000]}, "other seeds"),
        ({"confirm": 1, "arms": ["pruned", "matched"]}, "needs the arms"),
        ({"confirm": 1, "ladder": [1]}, "do not go together"),
    ):
        with pytest.raises(ConfigError, match=why):
            validate_config(tiny.tiny_config(tiny_corpus, final=final), "test")
