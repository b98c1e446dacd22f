"""Recipes: what is shipped can be run, and is written out for any data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxprune.config.loading import load_config, override_setting, validate_config
from mlxprune.config.yaml_file import parse_value
from mlxprune.data.demo_corpus import DOMAINS
from mlxprune.errors import UsageError
from mlxprune.pipeline.runner import run_study
from mlxprune.planning.draft_config import DataLook, look_at_data
from mlxprune.planning.recipes import (
    MACHINES,
    UTILISATION,
    RecipeChoices,
    mix_of,
    read_recipe,
    recipe_costs,
    recipe_names,
    write_recipe,
)
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny

NAMES = recipe_names()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_corpus(tmp_path_factory.mktemp("recipes") / "corpus", 240)


@pytest.fixture(scope="module")
def seen(corpus: Path) -> DataLook:
    return look_at_data([str(corpus)])


def test_the_recipes_of_the_paper_are_there() -> None:
    assert {*NAMES} == {
        "paper-small", "paper-125m-1b", "two-corpora", "over-trained", "data-constrained",
        "reference-size",
    }  # fmt: skip
    with pytest.raises(UsageError, match="no recipe is called") as caught:
        read_recipe("paper-smal")
    assert "paper-small" in caught.value.fix


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_answers_takes_expects_and_found(name: str) -> None:
    recipe = read_recipe(name)
    costs = recipe_costs(recipe)
    assert all((recipe.facts.question.endswith("?") or name == "paper-125m-1b", recipe.facts.found))
    assert costs.models >= 7 and costs.flops > 1e15 and costs.disk_bytes > 1e8
    for machine, hours in costs.hours.items():
        assert hours == pytest.approx(costs.flops / (UTILISATION * MACHINES[machine]) / 3600)
    for key in recipe.facts.scaled:
        for config in recipe.configs:
            assert config.model_dump()[key.split(".")[0]]["tokens"] > 1e6


def test_the_cost_of_a_recipe_is_that_of_its_trainings() -> None:
    """By hand: two corpora, seven arms of three seeds each, a branch of a half of which 15 % are
    its own, and what is scored and read beside is less than a third of it."""
    recipe = read_recipe("two-corpora")
    costs = recipe_costs(recipe)
    assert costs.models == 2 * (7 * 3 + 1) and costs.targets == 16_000_000
    nano = 4 * (4 * 128 * 128 + 3 * 128 * 352) + 4096 * 128  # matrix products, head in
    forward = 2 * nano + 2 * 4 * 128 * 512
    trained = 2 * 21 * 3 * forward * 16e6 * (1 + 0.15 * 0.5)
    assert trained < costs.flops < 1.33 * trained


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_written_for_data_of_other_domains(
    name: str, smallest: bool, seen: DataLook, corpus: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(name)
    choices = RecipeChoices(smallest=smallest)
    written = write_recipe(recipe, seen, corpus.parent, "mine", choices)
    names = [study.name for study in written]
    assert names == (["mine"] if len(written) == 1 else [f"mine-{c.name}" for c in recipe.configs])
    for study, given in zip(written, recipe.studies, strict=True):
        path = corpus.parent / f"{study.name}.yaml"
        path.write_text(study.text)
        config = load_config(path)  # paths are found beside it
        assert config.name == study.name and config.evaluation.tasks == []
        assert config.data.mix is None or {*config.data.mix} <= {"prose", "code", "numbers"}
        comments = [line for line in given.splitlines() if line.startswith("#")]
        assert all(line in study.text for line in comments)
        assert any("smallest" in note for note in study.notes) == smallest
        if smallest:
            assert config.final.model == "pico"
        elif recipe.facts.scaled:
            assert any("times the recipe's" in note for note in study.notes)
            assert (config.final.tokens or 0) < 1e6


def test_tasks_come_with_a_gauntlet(seen: DataLook, tmp_path: Path) -> None:
    for gauntlet in (None, "../foundry"):
        choices = RecipeChoices(smallest=True, gauntlet=gauntlet)
        (study,) = write_recipe(read_recipe("paper-125m-1b"), seen, tmp_path, "mine", choices)
        asked = validate_config(parse_value(study.text), "test").evaluation
        assert (asked.tasks, asked.gauntlet) == (["gauntlet"] if gauntlet else [], gauntlet)
        assert asked.primary == ("tasks" if gauntlet else "macro")


def test_a_mix_is_composed_of_the_domains_that_there_are() -> None:
    sizes = {"a": 100.0, "b": 90.0, "c": 80.0, "d": 5.0, "e": 1.0}
    assert mix_of(sizes, "many", None) == {"a": 0.3333, "b": 0.3333, "c": 0.3333}
    assert mix_of(sizes, "one", None) == {"a": 0.8, "b": 0.05, "c": 0.05, "d": 0.05, "e": 0.05}
    assert mix_of(sizes, "one", "c")["c"] == 0.8
    with pytest.raises(UsageError, match="no domain is called"):
        mix_of(sizes, "one", "x")
    with pytest.raises(UsageError, match="a mix needs 3 domains"):
        mix_of({"a": 1.0, "b": 1.0}, "many", None)


def test_the_mixes_as_they_stand_are_of_the_demo_text() -> None:
    mixes = [config.data.mix or {} for config in read_recipe("two-corpora").configs]
    assert all({*mix} <= {*DOMAINS} and sum(mix.values()) == pytest.approx(1) for mix in mixes)
    assert max(mixes[0].values()) <= 0.25 and max(mixes[1].values()) >= 0.8


SHORT = [
    "reference.tokens=4k", "reference.context=64", "final.tokens=4k", "final.context=64",
    "tokenizer.train.vocab_size=384", "final.seeds=[0, 1]", "reference.batch_size=8",
    "final.batch_size=8", "split.test=0.15",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_runs_to_its_report(
    name: str, seen: DataLook, corpus: Path, tmp_path: Path
) -> None:
    """At sizes that are smaller still than the smallest."""
    choices = RecipeChoices(smallest=True)
    for study in write_recipe(read_recipe(name), seen, corpus.parent, "mine", choices):
        tree = parse_value(study.text)
        listed = "references" in tree
        for setting in SHORT:
            if not (listed and setting.startswith("reference.")):
                override_setting(tree, setting)
        for reference in tree.get("references", []):
            reference |= {"tokens": 4096, "context": 64, "batch_size": 8}
        path = corpus.parent / f"{study.name}.yaml"
        path.write_text(json.dumps(tree))
        run = RunFolder(tmp_path / study.name)
        result = run_study(load_config(path), run)
        assert result.comparisons and run.report.exists()
        assert result.conclusion is not None and result.conclusion.lead
