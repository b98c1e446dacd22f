"""Shared fixtures: a tiny corpus, and one finished run over it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlxprune  # noqa: F401  (first, so that MLX gets its BLAS)
from mlxprune.config.loading import validate_config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny

HALF = not os.environ.get("MLXPRUNE_FORCE_GRAPH", "float32").startswith("float32")
SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """The name of the argument where the value is bytes: archives hold the time they were made at,
    and a test must have one name in all processes that collect it."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if HALF else ():
        if item.get_closest_marker("float32"):
            item.add_marker(pytest.mark.skip(reason="scores are not computed in float32"))


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="session")
def tiny_run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run; tests read it and never write into it."""
    run = RunFolder(tmp_path_factory.mktemp("run") / "tiny")
    run_study(validate_config(tiny.tiny_config(tiny_corpus), "test"), run)
    return run


@pytest.fixture(scope="session")
def several(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two references, one with an early copy; three slices that rank by both, and by progress."""
    run = RunFolder(tmp_path_factory.mktemp("several") / "run")
    tree = tiny.tiny_config(tiny_corpus)
    del tree["reference"], tree["selection"]
    tree["references"] = [
        {"name": "long", **tiny.SMALL_REFERENCE, "tokens": 4096, "snapshots": [0.25]},
        {"name": "short", **tiny.SMALL_REFERENCE, "seed": 7},
    ]
    tree["selection"] = {
        "slices": [
            {"criterion": "high"},
            {"metric": {"difference": ["short", "long"]}},
            {"metric": "progress", "by": "domain"},
            {"criterion": "low", "reference": "zlib", "metric": "bpb", "min_tokens": 20},
            {"metric": "adjusted", "floor": 0.1, "name": "balanced"},
        ]
    }
    run_study(validate_config(tree, "test"), run, until="selection")
    return run


@pytest.fixture(scope="session")
def crossed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("crossed") / "run")
    tree = tiny.tiny_config(tiny_corpus, final={"arms": ["pruned", "random", "all"]})
    tree["split"] = {"cross": 3, "validation": 0.15, "test": 0.1}
    tree["reference"]["tokens"] = 2048
    run_study(validate_config(tree, "test"), run)
    return run


@pytest.fixture
def generator() -> np.random.Generator:
    """Fresh random numbers; the seed is printed, so that a failure can be repeated."""
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    return np.random.default_rng(seed)


@pytest.fixture
def tiny_yaml(tiny_corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(write_yaml(tiny.tiny_config(tiny_corpus)))
    return path


def mlxprune_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "mlxprune", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, **options
    )


@pytest.fixture(scope="session")
def command() -> Any:
    return mlxprune_command


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.exists():
        pytest.skip("the development corpora are not beside the project")
    return SHARED
