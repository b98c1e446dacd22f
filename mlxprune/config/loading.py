"""Loading: a configuration from a YAML file and ``--set``, checked, with every path absolute."""

from __future__ import annotations

from glob import escape, has_magic, iglob
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)

from mlxprune.config.messages import KeyedError, as_config_error
from mlxprune.config.schema import Config
from mlxprune.config.slices import AMOUNT_KEYS
from mlxprune.config.yaml_file import line_of, parse_value, read_yaml
from mlxprune.errors import ConfigError


def load_config(path: Path | str, overrides: list[str] | None = None) -> Config:
    """Read, override, validate. ``overrides`` are ``a.b=value`` with YAML values.

    Paths come back absolute: relative ones are looked up beside the file, then here.
    """
    path = Path(path)
    tree = read_yaml(path)
    for setting in overrides or []:
        override_setting(tree, setting)
    try:
        config = validate_config(tree, str(path))
    except KeyedError as error:
        error.where = _place_of(error.path, path, overrides or [])
        raise
    return _resolved(config, path.parent)


def _place_of(key: list[str], path: Path, overrides: list[str]) -> str:
    """The setting on the command line, or the line of the file, that a key comes from."""
    dotted = ".".join(key)
    for setting in reversed(overrides):
        name = setting.partition("=")[0]
        if dotted == name or dotted.startswith(f"{name}."):
            return f"--set {setting}"
    line = line_of(path, key)
    return str(path) if line is None else f"{path}, line {line}"


def _resolved(config: Config, beside: Path) -> Config:
    """With every path absolute; the name of a task stays one."""
    from mlxprune.config.task_suite import is_suite_name

    def all_of(entries: list[str]) -> list[str]:
        return [resolve_path(entry, beside) for entry in entries]

    asked = config.evaluation
    places: dict[str, Any] = {
        "tasks": [_task(t, beside) if not is_suite_name(t) else t for t in asked.tasks],
        "target": all_of(asked.target),
    }
    if asked.gauntlet:
        places["gauntlet"] = resolve_path(asked.gauntlet, beside)
    return config.model_copy(
        update={
            "data": config.data.with_paths(all_of([e.path for e in config.data.paths])),
            "evaluation": asked.model_copy(update=places),
        }
    )


def _task(entry: str, beside: Path) -> str:
    """The path of own tasks; what is none stays as it was written, for the error that names it."""
    path = resolve_path(entry, beside)
    return path if Path(path).exists() else entry


def validate_config(tree: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        selection = tree.get("selection")
        listed = isinstance(selection, dict) and "slices" in selection
        raise as_config_error(error, Config, where, listed) from None


def resolve_path(entry: str, beside: Path) -> str:
    if "://" in entry or Path(entry).is_absolute():
        return entry
    try:
        expanded = Path(entry).expanduser()
    except RuntimeError:  # ~name, of nobody here
        expanded = Path(entry)
    for folder in (beside.absolute(), Path.cwd()):
        if (folder / expanded).exists():
            return str(folder / expanded)
        if has_magic(entry):
            pattern = str(Path(escape(str(folder))) / expanded)
            if next(iglob(pattern, recursive=True), None) is not None:  # noqa: PTH207
                return pattern
    return str(beside.absolute() / expanded)


def override_setting(tree: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"{setting!r} is not key=value", "--set", "write --set selection.rate=0.25"
        )
    *parents, last = key.split(".")
    if not all((*parents, last)):
        raise ConfigError(f"{key!r} is no key", "--set", "write --set selection.rate=0.25")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{parent!r} is not a table of keys", f"--set {setting}", "check it")
        tree = child
    alternatives = {
        "final": ("tokens", "passes", "per_parameter"),
        "tokenizer": ("train", "pretrained"),
    }
    for group in alternatives.get(parents[-1], ()) if parents else ():
        if last in alternatives[parents[-1]] and group != last and value != "null":
            tree.pop(group, None)  # the override replaces the alternative that the file chose
    if parents == ["selection"] and value != "null":
        replaced = _replaced_in_slice(last, value)
        for entry in [tree, *(tree.get("slices") or [])] if last != "slices" else []:
            if isinstance(entry, dict):
                for key in (*replaced, *((last,) if entry is not tree else ())):
                    entry.pop(key, None)  # it holds for every slice
    tree[last] = parse_value(value)


def _replaced_in_slice(key: str, value: str) -> tuple[str, ...]:
    """Keys of a slice that a setting takes the place of: there is one way to say how much."""
    ranges = ("min", "max")
    if key in AMOUNT_KEYS:
        others = AMOUNT_KEYS - {key} - {*(ranges if key in ranges else ())}
        return (*others, *(("criterion",) if key in ("band", *ranges) else ()))
    if key == "criterion" and value != "range":
        return (*ranges, *(("band",) if value != "band" else ()))
    return ()
