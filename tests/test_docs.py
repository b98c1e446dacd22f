"""The docs keep up with the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

from mlxprune import cli
from mlxprune.run.folder import RunFolder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["config.md", "events.md", "formats.md", "recipes.md"])
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
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_of_formats_names_every_file_of_a_run(
    generator: ModuleType, tiny_run: RunFolder
) -> None:
    """And nothing that no run has: what only some studies make is listed here."""
    paths = [path for path, _ in generator.formats_page.RUN_FOLDER]
    patterns = {path: re.compile(_pattern(path)) for path in paths}
    files = [p.relative_to(tiny_run.path) for p in tiny_run.path.rglob("*") if p.is_file()]
    names = [name.as_posix() for name in files if name.name != "stage.json"]
    for name in names:
        hidden = name.rpartition("/")[2].startswith(".")
        assert hidden or any(p.fullmatch(name) for p in patterns.values()), name
    rare = {"commands/*.json", "lock", "*/stage.json", "target/", "eval/contamination.json"}
    rare |= {path for path in paths if path.endswith((".target.npy", ".items.parquet"))}
    rare |= {path for path in paths if ".unscored-" in path} | {"final/screening.json"}
    rare |= {"events/*.msgpack.zst", "references/<name>/rollbacks.json"}
    for path, pattern in patterns.items():
        assert path in rare or any(pattern.fullmatch(name) for name in names), path


def _pattern(path: str) -> str:
    inside = re.sub(r"<\w+>", "[^/]+", path.replace(".", r"\.").replace("*", "[^/]+"))
    return inside + (".*" if inside.endswith("/") else "")


def test_files_that_the_docs_name_are_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        if page.name == "log.md":  # findings keep the names of their day
            continue
        for name in re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text(encoding="utf-8")):
            known = [ROOT / top / name for top in (".", "mlxprune", "tui", "docs")]
            assert any(path.exists() for path in known), f"{page.name}: {name}"


def test_the_glossary_has_every_term_once_in_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", text, re.M)
    assert len(terms) > 40
    assert terms == sorted(set(terms), key=str.lower)


def test_the_layers_are_drawn_as_they_are_checked() -> None:
    """CONTRIBUTING.md shows the packages in the order of the contract in pyproject.toml."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(
        c["layers"] for c in tree["tool"]["importlinter"]["contracts"] if "mlxprune" in
        c.get("containers", [])
    )  # fmt: skip
    declared = [name for layer in layers for name in re.split(r"\s*\|\s*", layer)]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^    (\w+)  +\S", text, re.M)
    assert drawn[: len(declared)] == declared
