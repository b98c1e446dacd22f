"""Shared fixtures: a tiny corpus, and one finished run over it."""

from __future__ import annotations

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

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="session")
def tiny_run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run; tests read it and never write into it."""
    run = RunFolder(tmp_path_factory.mktemp("run") / "tiny")
    run_study(validate_config(tiny.tiny_config(tiny_corpus), "test"), run)
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
