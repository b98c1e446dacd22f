"""``config show``, ``config schema`` and ``--spec``, as a user or an editor meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from mlxprune import cli
from mlxprune.config.yaml_file import parse_value

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec(command: Any) -> Any:
    return json.loads(command("--spec").stdout)


def test_the_spec_has_every_command_and_option(spec: Any) -> None:
    """Held against what the parser itself knows."""
    app = typer.main.get_command(cli.app)
    assert {*spec["commands"]} == {*app.commands}  # type: ignore[attr-defined]
    for name, told in spec["commands"].items():
        known = app.commands[name]  # type: ignore[attr-defined]
        assert told["help"] and told["example"].startswith(f"mlxprune {name}") and told["group"]
        if "commands" in told:
            assert {*told["commands"]} == {*known.commands}
            continue
        listed = [*told["arguments"], *told["options"]]
        assert {one["name"] for one in listed} == {p.name for p in known.params} - {"help"}
        for one in told["options"]:
            assert one["flags"] and one["help"], one
            assert one["type"] in ("text", "path", "integer", "number", "switch")


def test_the_docs_name_no_option_that_there_is_not(spec: Any) -> None:
    """Every command line in README and docs is held against the spec."""
    flags = {
        name: {flag for option in told.get("options", []) for flag in option["flags"]}
        for name, told in spec["commands"].items()
    }
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    seen = 0
    for page in pages:
        if page.name == "log.md":  # of its time
            continue
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"(?:^    |`)mlxprune ([a-z][^`\n#]*)", text, re.M):
            name, *words = line.replace("|", " ").split()
            assert name in flags, f"{page.name}: mlxprune {line}"
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(words)):
                if name != "config":
                    assert flag in flags[name] | {"--help", "--debug"}, f"{page.name}: {line}"
                    seen += 1
    assert seen > 60


def test_show_says_where_every_value_comes_from(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "name: a\ndata:\n  paths: [x]\nselection:\n  criterion: [low, high]\nfinal:\n  tokens: 2M\n"
    )
    done = command("config", "show", str(path), "--set", "final.seeds=[0, 1]", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["key"]: (one["value"], one["origin"]) for one in json.loads(done.stdout)}
    assert found["name"] == ("a", f"{path}, line 1")
    assert found["final.tokens"] == (2_000_000, f"{path}, line 7")
    assert found["final.seeds"] == ([0, 1], "--set final.seeds=[0, 1]")
    assert found["final.warmup"] == (0.05, "default")
    assert found["final.learning_rate"] == (0.001, "preset micro")
    slices, origin = found["selection.slices"]
    assert [one["criterion"] for one in slices] == ["low", "high"] and origin.endswith("line 4")
    text = command("config", "show", str(path)).stdout
    again = parse_value(text)  # what is shown is YAML
    assert again["final"]["tokens"] == 2_000_000 and again["data"]["paths"] == [str(tmp_path / "x")]


@pytest.mark.parametrize(
    ("text", "problem", "line", "fix"),
    [
        ("data: {paths: [x]}\nfinal:\n  seeds: 3\n", "3 is no list", 3, "write seeds: [3]"),
        ("data: {paths: [x]}\nfinal:\n  schedule: cos\n", "'wsd' or 'cosine'", 3, "schedule"),
        ("data: {paths: [x]}\nscore: 4\n", "no table of keys", 2, "write keys below it"),
        ("data: {paths: [x]}\nfinal:\n  seeds: [0, x]\n", "x is no whole number", 3, "seeds"),
        ("data: {paths: [x]}\nfinal:\n  sedes: [0]\n", "unknown key", 3, "'seeds'"),
        ("data:\n  paths: [x\nfinal: {}\n", "in a list that begins in line 2", 3, "final: {}"),
        ("data:\n\tpaths: [x]\n", "not YAML", 2, "mend it"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_write(
    text: str, problem: str, line: int, fix: str, command: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    done = command("config", "show", str(path))
    told = done.stderr.splitlines()
    assert done.returncode == 2 and len(told) == 3, done.stderr
    assert problem in told[0] and f"line {line}" in told[1] and fix in told[2]
    assert "unicode string" not in done.stderr and "Input should" not in done.stderr


def test_a_mistake_of_set_is_told_there(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("data: {paths: [x]}\nfinal: {seeds: [0]}\n")
    done = command("config", "show", str(path), "--set", "final.seeds=3")
    assert "at: --set final.seeds=3" in done.stderr


def test_a_command_that_is_nearly_one_is_named(command: Any) -> None:
    done = command("runn", "x.yaml")
    assert done.returncode == 2 and "fix: mlxprune run --help" in done.stderr
    assert "fix: mlxprune --help" in command("xyzzy").stderr
