"""The schema for editors takes what loading takes, and refuses what it refuses."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.yaml_file import parse_value
from mlxprune.data.demo_corpus import CONFIG
from mlxprune.errors import ConfigError
from mlxprune.planning.origins import config_schema
from mlxprune.planning.recipes import read_recipe, recipe_names

STUDIES = [text for name in recipe_names() for text in read_recipe(name).studies]
BASE = "data: {paths: [x]}\n"


@pytest.fixture(scope="module")
def schema() -> Any:
    found = config_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize(
    "text",
    [
        *STUDIES,
        CONFIG.format(file="x"),
        BASE + "split: {test: 0.1, validation: 200k}\nfinal: {learning_rate: 1e-4}",
        BASE + "selection: {slices: [{criterion: low}, {band: [0.2, 0.4]}], rate: 0.25}",
        BASE + "selection: {criterion: [low, high], rate: [0.25, 0.5], by: [domain, length]}",
        BASE + "memory: 8G\nreference: {snapshots: [0.25]}\nscore: {workers: 2}",
        "data: {paths: [a, {path: b, text_key: [x, y]}], text_key: body, mix: {a: 0.5, b: 0.5}}",
        "data: {paths: x}",
        BASE + "selection: {metric: {difference: [a, b]}}\n"
        "references: [{name: a}, {name: b, model: pico}]",
    ],
)
def test_what_loads_is_taken(text: str, schema: Any) -> None:
    tree = parse_value(text)
    validate_config(tree, "test")
    errors = [f"{list(e.path)}: {e.message[:200]}" for e in schema.iter_errors(tree)]
    assert errors == []


@pytest.mark.parametrize(
    "text",
    [
        "name: x",
        BASE + "finale: {}",
        BASE + "final: {sedes: [0]}",
        BASE + "final: {schedule: cos}",
        BASE + "final: {seeds: 3}",
        BASE + "final: {tokens: -3}",
        BASE + "selection: {criterion: highest}",
        "data: {paths: [x], max_bad: many}",
        "data: {paths: []}",
    ],
)
def test_what_is_refused_is_marked(text: str, schema: Any) -> None:
    tree = parse_value(text)
    with pytest.raises(ConfigError):
        validate_config(tree, "test")
    assert list(schema.iter_errors(tree))


def test_every_key_has_its_meaning_for_the_editor(schema: Any) -> None:
    final = schema.schema["$defs"]["Final"]["properties"]
    assert final["ladder"]["description"].startswith("passes over an unpruned base")
