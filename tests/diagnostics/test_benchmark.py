"""The bench command: figures that hang together, and batch values that a configuration takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.yaml_file import parse_value
from mlxprune.diagnostics import benchmark
from mlxprune.diagnostics.benchmark import (
    MachineFigures,
    PeakFigures,
    ScoringFigures,
    TrainingFigures,
    Workload,
    benchmark_lines,
    measure_machine,
)
from mlxprune.errors import RunError, UsageError
from mlxprune.records import plain


@pytest.mark.slow
def test_sections_give_figures_that_hang_together() -> None:
    said: list[str] = []
    only = ["peak", "scoring", "training", "selection"]
    found = measure_machine("pico", 512, 64, only, False, said.append, seconds=0.2)
    assert list(plain(found)) == ["what", *only]
    assert len(said) == len(only)
    for section in (found.scoring, found.training):
        assert section.tokens_per_second > 0
        assert 0 < section.utilisation < 2
        assert section.peak_memory_bytes > 1 << 20
    assert 0 <= found.scoring.padding_share < 0.5
    assert found.selection.documents_per_second > 0
    assert len(benchmark_lines(found)) == 1 + len(only)
    json.dumps(plain(found))


def test_tuned_values_are_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest of what was tried; a size that died is not chosen."""

    peak = PeakFigures(
        device="d", backend="metal", dtype="float16", score_workers=1, memory_for_batches=1,
        flops_per_second=1.0,
    )  # fmt: skip

    class Child:
        def __init__(self, what: Workload) -> None:
            self.what = what

        def kill(self) -> None:
            pass

    def start(name: str, what: Workload) -> Child:
        return Child(what)

    def finish(name: str, child: Child, kind: type) -> Any:
        what = child.what
        if name == "peak":
            return peak
        if what.batch_tokens == 65_536:
            raise RunError("died", "here", "never mind")
        rate = float((what.batch_tokens or 1) % 16_000)
        sizes = {"flops_per_second": 1.0, "peak_memory_bytes": 1}
        if kind is TrainingFigures:
            return TrainingFigures(tokens_per_second=rate, batch=(1, 1), accumulate=1, **sizes)
        return ScoringFigures(
            tokens_per_second=rate, padding_share=0.0, input_wait_share=0.0, batch_tokens=1,
            shapes=1, **sizes,
        )  # fmt: skip

    monkeypatch.setattr(benchmark, "start_section", start)
    monkeypatch.setattr(benchmark, "finish_section", finish)
    found = measure_machine("pico", 512, 64, ["peak"], True)
    assert found.tune["score.batch_tokens"] == 4096
    printed = "\n".join(benchmark_lines(MachineFigures(what=found.what, tune=found.tune))[1:])
    tree = {"data": {"paths": ["x"]}, **parse_value(printed)}
    chosen = validate_config(tree, "test")
    assert chosen.score.batch_tokens == 4096


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(UsageError, match="no section"):
        measure_machine("pico", 512, 64, ["skoring"], False)


@pytest.mark.slow
def test_evidence_can_be_shared_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the engine of a GPU: a trial, products, a preset, an answer, and no name or path."""
    import getpass
    import socket

    from mlxprune.diagnostics import evidence
    from mlxprune.diagnostics.doctor import MachineFacts, examine_machine
    from mlxprune.files import json_bytes
    from mlxprune.records import plain, record_of
    from mlxprune.testing.forced import forced_graph

    def untested(say: object) -> MachineFacts:
        return msgspec.structs.replace(examine_machine(), ok=True, checks={})

    monkeypatch.setattr(evidence, "run_selftest", untested)
    with forced_graph("bfloat16", compiled=False):
        found = evidence.gather_evidence(lambda line: None, small=True)
    assert found.failed == {}
    assert found.ok
    assert [one.dtype for one in found.trial] == ["float32", "bfloat16", "float16"]
    (pico,) = found.models
    assert pico.training_bytes <= pico.training_bound
    assert pico.scoring_bytes <= pico.scoring_bound
    assert 0 < pico.training_utilisation < 3
    assert found.answered_seconds is not None
    assert found.answered_seconds < 2.0
    text = json_bytes(plain(found)).decode()
    for name in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert len(name) < 4 or name not in text, name
    assert getpass.getuser() == "root" or getpass.getuser() not in text
    assert record_of(plain(found), evidence.Evidence) == found
    lines = evidence.evidence_lines(found)
    assert any(line.startswith("pico") and "training" in line for line in lines)
    assert not any("FAIL" in line for line in lines)
