"""The bench command: figures that hang together, and batch values that a configuration takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.yaml_file import parse_value
from mlxprune.diagnostics import benchmark
from mlxprune.diagnostics.benchmark import benchmark_lines, measure_machine
from mlxprune.errors import RunError, UsageError


@pytest.mark.slow
def test_sections_give_figures_that_hang_together() -> None:
    said: list[str] = []
    only = ["peak", "scoring", "training", "selection"]
    found = measure_machine("pico", 512, 64, only, False, said.append, seconds=0.2)
    assert list(found) == ["what", *only]
    assert len(said) == len(only)
    for name in ("scoring", "training"):
        assert found[name]["tokens_per_second"] > 0
        assert 0 < found[name]["utilisation"] < 2
        assert found[name]["peak_memory_bytes"] > 1 << 20
    assert 0 <= found["scoring"]["padding_share"] < 0.5
    assert found["selection"]["documents_per_second"] > 0
    assert len(benchmark_lines(found)) == 1 + len(only)
    json.dumps(found)


def test_tuned_values_are_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest of what was tried; a size that died is not chosen."""

    def section(name: str, what: dict[str, Any], peak: dict[str, Any]) -> dict[str, Any]:
        if what.get("batch_tokens") == 65_536:
            raise RunError("died", "here", "never mind")
        return {"tokens_per_second": what.get("batch_tokens", 1) % 16_000}

    monkeypatch.setattr(benchmark, "_child", lambda name, what: {"backend": "metal"})
    monkeypatch.setattr(benchmark, "_section", section)
    found = measure_machine("pico", 512, 64, ["peak"], True)
    assert found["tune"]["score.batch_tokens"] == 4096
    printed = "\n".join(benchmark_lines({"what": found["what"], "tune": found["tune"]})[1:])
    tree = {"data": {"paths": ["x"]}, **parse_value(printed)}
    chosen = validate_config(tree, "test")
    assert chosen.score.batch_tokens == 4096


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(UsageError, match="no section"):
        measure_machine("pico", 512, 64, ["skoring"], False)
