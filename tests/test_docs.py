"""The docs keep up with the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from mlxprune import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["config.md", "events.md"])
def test_generated_pages_are_current(name: str, generator: ModuleType) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generator.PAGES[name]()


def test_every_command_is_documented_and_has_help() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8") + (
        ROOT / "docs" / "commands.md"
    ).read_text(encoding="utf-8")
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        assert f"mlxprune {name}" in text, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    """One ends with the demo, one with the tests; each is one line that sets up what it needs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```sh\n(.*?)```", text, re.S) if "venv" in b]
    commands = [line for b in blocks for line in b.strip().splitlines()]
    assert len(commands) == 2
    assert commands[0].endswith("mlxprune demo")
    assert commands[1].endswith("pytest")


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
