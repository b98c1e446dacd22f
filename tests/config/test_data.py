"""The section data: entries with keys of their own, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.data import Data, HostKey
from mlxprune.config.loading import load_config, validate_config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import ConfigError

ENTRY = {"path": "b", "text_key": ["x", "y"], "id_key": "n", "domain_key": {"host": "url"}}


def data(**settings: Any) -> Data:
    return validate_config({"data": {"paths": ["a"], **settings}}, "test").data


def test_an_entry_is_a_path_or_a_table() -> None:
    read = data(paths=["a", ENTRY, {"path": "c", "domain": "web"}])
    assert [e.path for e in read.paths] == ["a", "b", "c"]
    assert read.paths[1].text_key == ("x", "y")
    assert read.paths[1].domain_key == HostKey(host="url")
    assert read.model_dump(mode="json")["paths"] == ["a", ENTRY, {"path": "c", "domain": "web"}]
    assert data(paths="alone").paths[0].path == "alone"


def test_the_written_configuration_reads_back(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    tree = {
        "data": {"paths": ["a", ENTRY], "text_key": ["t", "u"], "mix": {"web": 0.75, "code": 1}}
    }
    (tmp_path / "c.yaml").write_text(write_yaml(tree))
    read = load_config(tmp_path / "c.yaml")
    assert [e.path for e in read.data.paths] == [str(tmp_path / "a"), str(tmp_path / "b")]
    (tmp_path / "d.yaml").write_text(write_yaml(read.model_dump(mode="json")))
    assert load_config(tmp_path / "d.yaml") == read


def test_what_older_configurations_say_is_known_again() -> None:
    """Their fingerprint holds no key that did not exist; where files lie is not in it."""
    assert data().identity() == {
        "text_key": "text", "id_key": "id", "domain_key": "auto", "group_key": None, "limit": None,
        "duplicates": "keep",
    }  # fmt: skip
    assert data(paths=["elsewhere"], max_bad=0.5).identity() == data().identity()
    for change in ({"mix": {"a": 1}}, {"paths": [{"path": "a", "text_key": "x"}]}, {"id_key": "n"}):
        assert data(**change).identity() != data().identity()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"paths": ["a", {"path": "b", "txt_key": "x"}]}, "'text_key'"),
        ({"paths": [{"text_key": "x"}]}, "missing key 'data.paths.0.path'"),
        ({"paths": [3]}, "write a path, or a table"),
        ({"text_key": 3}, "a key, or a list of keys"),
        ({"text_key": []}, "text_key"),
        ({"domain_key": {"hst": "url"}}, "{host: key}"),
        ({"domain_key": "path:0"}, "path:N"),
        ({"paths": [{"path": "a", "domain": "x", "domain_key": "y"}]}, "not both"),
        ({"paths": [{"path": "a", "weight": 1}, "b"]}, "every entry of paths a weight"),
        ({"paths": [{"path": "a", "weight": 1}], "mix": {"x": 1}}, "not both"),
        ({"mix": {"web": 0}}, "data.mix.web"),
        ({"mix": {}}, "at least one domain"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data(**settings)
    assert words in caught.value.lines()


def test_a_pretrained_reference_brings_its_tokenizer() -> None:
    def tokenizer(**sections: Any) -> str | None:
        tree = {"data": {"paths": ["a"]}, **sections}
        return validate_config(tree, "test").tokenizer.pretrained

    given = {"pretrained": "org/model"}
    assert tokenizer(reference=given) == "org/model"
    assert tokenizer(references=[{"name": "a", **given}, {"name": "b", "pretrained": "x"}]) == (
        "org/model"
    )
    assert tokenizer(reference=given, tokenizer={"train": {"vocab_size": 400}}) is None
    assert tokenizer(references=[{"name": "a", **given}, {"name": "b"}]) is None
    assert tokenizer() is None


def test_numbers_are_names_too() -> None:
    """Years, for example."""
    read = data(mix={2020: 1, 2021: 3})
    assert read.mix == {"2020": 1, "2021": 3}
    assert data(paths=[{"path": "a", "domain": 2024}]).paths[0].domain == "2024"
