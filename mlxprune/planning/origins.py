"""Origins: every key of a configuration as it is resolved, and where its value comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlxprune.config.loading import load_config, override_setting
from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import line_of, read_yaml
from mlxprune.records import Record

COUNT = r"^\s*[0-9.]+(e[+-]?[0-9]+)?\s*[kKmMbBgGtT]?[iI]?[bB]?\s*$"  # 20M, 1e-4, 8G
# What a model brings where the configuration says nothing.
OF_PRESET = ("context", "optimizer", "learning_rate", "weight_decay", "batch_size")


class ResolvedKey(Record):
    """A key, dotted; its value; ``origin``: file and line, --set, default, or preset."""

    key: str
    value: Any
    origin: str


def resolved_keys(path: Path, overrides: list[str]) -> list[ResolvedKey]:
    """In the order of docs/config.md. Raises ConfigError as loading does."""
    config = load_config(path, overrides)
    given = read_yaml(path)
    for setting in overrides:
        override_setting(given, setting)
    set_keys = {setting.partition("=")[0]: setting for setting in overrides}
    presets = _preset_values(config)
    found = []
    plain = config.model_dump(mode="json")
    if "slices" in plain["selection"]:
        plain["selection"]["slices"] = [
            {"criterion": choice.criterion, **choice.model_dump(mode="json", exclude_defaults=True)}
            for choice in config.slices
        ]
    for key, value in _leaves(plain, ""):
        origin = _set_by(key, set_keys)
        if origin is None and _stands_in(given, key):
            line = line_of(path, key.split("."))
            origin = str(path) if line is None else f"{path}, line {line}"
        if origin is None and value is None and key in presets:
            value, origin = presets[key]
        if origin is None and key == "selection.slices":  # lists of criteria and rates
            line = line_of(path, ["selection"])
            origin = f"{path}, line {line}" if line is not None else None
        found.append(ResolvedKey(key=key, value=value, origin=origin or "default"))
    return found


def _set_by(key: str, settings: dict[str, str]) -> str | None:
    for name, setting in settings.items():
        if key == name or key.startswith(f"{name}."):
            return f"--set {setting}"
    return None


def _stands_in(tree: Any, key: str) -> bool:
    """Whether a file says a key, or a table or list that holds it."""
    for part in key.split("."):
        if isinstance(tree, list):
            return True
        if not isinstance(tree, dict):
            return tree is not None
        if part not in tree:
            return False
        tree = tree[part]
    return True


def _leaves(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict) and tree and path.rpartition(".")[2] not in ("mix", "floor", "cap"):
        found = []
        for key, value in tree.items():
            found += _leaves(value, f"{path}.{key}" if path else str(key))
        return found
    return [(path, tree)]


def _preset_values(config: Config) -> dict[str, tuple[Any, str]]:
    """By key, what the presets of the models bring where the configuration says nothing."""
    from mlxprune.errors import MlxpruneError
    from mlxprune.model.architecture import preset_of, training_defaults

    sections = {"final": config.final}
    if not config.references and not config.reference.pretrained:
        sections["reference"] = config.reference  # type: ignore[assignment]
    found = {}
    for name, section in sections.items():
        try:
            filled = training_defaults(section, preset_of(section.model))
        except MlxpruneError:
            continue  # a model that is not there is the run's error to tell
        for key in OF_PRESET:
            found[f"{name}.{key}"] = (getattr(filled, key, None), f"preset {section.model}")
    return found


def config_schema() -> dict[str, Any]:
    """The JSON schema of a configuration (draft 2020-12), with what each key means. It takes all
    that loading takes: counts as 20M, one text for a list of texts, slices written flat."""
    found: dict[str, Any] = _as_written(Config.model_json_schema(mode="validation"))
    known = found["$defs"]
    entry = {"anyOf": [{"$ref": "#/$defs/SourceEntry"}, {"type": "string"}]}
    paths = {"type": "array", "minItems": 1, "items": entry}
    about = known["Data"]["properties"]["paths"]["description"]
    known["Data"]["properties"]["paths"] = {"anyOf": [paths, entry], "description": about}
    slices = known["Selection"]["properties"]["slices"]
    one = {**known["Slice"]["properties"]}
    for key in ("criterion", "rate"):  # every combination of a list is a slice
        listed = {k: v for k, v in one[key].items() if k in ("type", "enum", "anyOf")}
        meaning = one[key].get("description", "")
        one[key] = {"anyOf": [listed, {"type": "array", "items": listed}], "description": meaning}
    known["Slice"]["properties"] = one
    known["Selection"]["properties"] = {**one, "slices": slices}
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "mlxprune configuration"
    return found


LIMITS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def _as_written(node: Any) -> Any:
    """A part of pydantic's schema as people write it in YAML."""
    if isinstance(node, list):
        return [_as_written(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {LIMITS.get(key, key): _as_written(value) for key, value in node.items()}
    about = {k: found.pop(k) for k in ("default", "description", "title") if k in found}
    kind = found.get("type")
    if kind in ("integer", "number"):
        found = {"anyOf": [found, {"type": "string", "pattern": COUNT}]}
    elif kind == "array" and found.get("items", {}).get("type") == "string":
        found = {"anyOf": [found, {"type": "string"}]}
    return {**found, **about}
