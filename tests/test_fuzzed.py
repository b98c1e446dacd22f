"""What bench/fuzz.py has found is tried for ever after."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
KEPT = sorted(p for p in (ROOT / "tests" / "fuzzed").glob("*/*") if p.is_file())


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    described = importlib.util.spec_from_file_location(
        "fuzz_targets", ROOT / "bench" / "fuzz_targets.py"
    )
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules["fuzz_targets"] = module
    described.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", KEPT, ids=[f"{p.parent.name}/{p.name[:16]}" for p in KEPT])
def test_what_was_found_stays_mended(path: Path, targets: ModuleType) -> None:
    targets.attempt(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("target", ["readers", "configuration", "events", "tasks", "models"])
def test_random_bytes_are_answered(target: str, targets: ModuleType) -> None:
    import random

    draw = random.Random()
    for _ in range(30):
        targets.attempt(target, draw.randbytes(draw.randint(0, 300)))
