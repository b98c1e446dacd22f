"""A run folder that older code made: it opens, nothing of it is done again, and what is said and
drawn of it is what was said and drawn before (tests/golden/make.py)."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = GOLDEN / "expected"
OF_THE_MACHINE = ("memory_given",)  # kilobytes more or less at every start of it


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXPRUNE_CONFIG_HOME", str(tmp_path / "settings"))
    copied: Path = make.copied(tmp_path)
    return copied


@pytest.mark.slow
def test_every_stage_of_it_is_reused(make: ModuleType, run: Path) -> None:
    """But the report, which says more than it did then, and the control arms, which hold their
    number of unique tokens more exactly."""
    done = make.command(run.parent, "run", "study/study.yaml", "--dir", "run", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    wanted = {**dict.fromkeys(stages, "reused"), "final": "done", "evaluation": "done"}
    wanted["report"] = "done"
    assert {name: stage["state"] for name, stage in stages.items()} == wanted


@pytest.mark.slow
def test_commands_say_of_it_what_they_said(make: ModuleType, run: Path) -> None:
    for name, said in make.answers(run.parent).items():
        known = (EXPECTED / name).read_text(encoding="utf-8")
        if name.endswith(".json"):
            (told, code), (before, code_before) = (t.rsplit("--- ", 1) for t in (said, known))
            assert code == code_before, name
            assert_alike(json.loads(told), json.loads(before), name)
        else:
            assert said == known, name


def assert_alike(found: Any, known: Any, where: str) -> None:
    """Equal; floats that this processor adds up may differ in their last bits."""
    if isinstance(known, dict):
        assert isinstance(found, dict), where
        assert list(found) == list(known), where
        for key, value in known.items():
            if key not in OF_THE_MACHINE:
                assert_alike(found[key], value, f"{where}.{key}")
    elif isinstance(known, list):
        assert len(found) == len(known), where
        for number, value in enumerate(known):
            assert_alike(found[number], value, f"{where}[{number}]")
    elif isinstance(known, float):
        assert math.isclose(found, known, rel_tol=1e-9, abs_tol=1e-12), where
    else:
        assert found == known, where
