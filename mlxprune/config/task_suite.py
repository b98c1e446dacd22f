"""The task suite: the facts of the paper's 33 tasks, as ``gauntlet.yaml`` states them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlxprune.config.yaml_file import read_yaml

SUITE_NAME = "gauntlet"


@cache
def suite_facts() -> dict[str, Any]:
    """``gauntlet.yaml``."""
    return read_yaml(Path(str(files("mlxprune.config") / "gauntlet.yaml")))


def is_suite_name(name: str) -> bool:
    """Whether a name is the gauntlet, one of its categories or one of its tasks."""
    return name == SUITE_NAME or name in suite_categories() or name in suite_facts()["tasks"]


def suite_categories() -> list[str]:
    """The five of the paper, in its order."""
    return list(suite_facts()["categories"])
