"""The commands about recipes, started as a user would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import load_config


def test_the_list_says_what_each_answers_and_takes(command: Any) -> None:
    done = command("recipes", "--json")
    found = json.loads(done.stdout)
    assert [one["name"] for one in found] == sorted(one["name"] for one in found)
    for one in found:
        assert one["question"] and one["expect"] and one["found"] and one["studies"]
        assert one["takes"]["flops"] > 0 and one["takes"]["hours"]["an M1"] > 0
    text = command("recipes").stdout
    assert all(one["name"] in text for one in found)
    assert "years" not in text and "days on an M1" in text  # the paper's own size
    one = command("recipes", "paper-small").stdout
    assert "confirm: 1" in one and one.startswith("answers")


def test_init_writes_a_recipe_for_the_data_and_the_next_commands(
    command: Any, tiny_corpus: Path, tmp_path: Path
) -> None:
    target = tmp_path / "mine.yaml"
    words = ("init", "--recipe", "two-corpora", str(tiny_corpus), "-o", str(target))
    done = command(*words, "--smallest", "--web", "prose")
    assert done.returncode == 0, done.stderr
    many, web = (load_config(tmp_path / f"mine-{name}.yaml") for name in ("many", "web"))
    assert many.name == "mine-many" and (web.data.mix or {})["prose"] == 0.8
    assert f"mlxprune run {tmp_path / 'mine-web.yaml'}" in done.stdout
    assert "mlxprune compare runs/mine-many runs/mine-web" in done.stdout
    again = command(*words)
    assert again.returncode == 2 and "--force" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "paper-smal"], "paper-small"),
        (["--smallest"], "--recipe"),
        ([], "no data is named"),
        (["--recipe", "two-corpora", "--web", "x", "{corpus}"], "no domain is called"),
    ],
)
def test_what_does_not_go_together_is_three_lines(
    command: Any, words: list[str], said: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    given = [word.format(corpus=tiny_corpus) for word in words]
    done = command("init", *given, "-o", str(tmp_path / "x.yaml"))
    assert done.returncode == 2 and said in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "x.yaml").exists()
