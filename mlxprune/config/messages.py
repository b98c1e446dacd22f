"""Messages: what is wrong with a configuration, as the three lines that a user reads."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ValidationError

from mlxprune.config.slices import Selection, Slice
from mlxprune.errors import ConfigError, closest, one_line


def as_config_error(
    error: ValidationError, root: type[BaseModel], where: str, slices_listed: bool
) -> ConfigError:
    """The first mistake: its key, what is wrong, and the nearest known key or what it means."""
    first: Any = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not _is_union_tag(part)]
    if path[:2] == ["selection", "slices"] and not slices_listed:
        path = ["selection", *path[3:]]  # one slice, written without a list
    key = ".".join(path)
    if not path and first["type"] in ("extra_forbidden", "missing"):
        return ConfigError("a key without a name", where, "see docs/config.md")
    if first["type"] == "extra_forbidden":
        known = _fields_at(root, path[:-1])
        return KeyedError(f"unknown key {key!r}", where, closest(path[-1], known), path)
    if first["type"] == "missing":
        return KeyedError(f"missing key {key!r}", where, f"add {key}: to the file", path[:-1])
    problem = f"{key or 'configuration'}: {one_line(_in_words(first))}"
    return KeyedError(problem, where, _fix(root, path, first), path)


class KeyedError(ConfigError):
    """With the ``path`` of the key that it is about, so that whoever read the file can name the
    line."""

    def __init__(self, problem: str, where: str, fix: str, path: list[str]) -> None:
        super().__init__(problem, where, fix)
        self.path = path


# What pydantic calls a mistake, and how it is said; {got} is what was written.
WORDS = {
    "list_type": "{got} is no list",
    "tuple_type": "{got} is no list",
    "string_type": "{got} is no text",
    "bool_type": "{got} is neither true nor false",
    "int_type": "{got} is no whole number",
    "int_from_float": "{got} is no whole number",
    "int_parsing": "{got} is no whole number",
    "float_type": "{got} is no number",
    "float_parsing": "{got} is no number",
    "dict_type": "{got} is no table of keys",
    "model_type": "{got} is no table of keys",
    "model_attributes_type": "{got} is no table of keys",
    "literal_error": "{got} is none of {expected}",
    "greater_than": "{got} is not above {gt}",
    "greater_than_equal": "{got} is less than {ge}",
    "less_than": "{got} is not below {lt}",
    "less_than_equal": "{got} is more than {le}",
    "too_short": "there must be {min_length} at least",
    "too_long": "there may be {max_length} at most",
}


def _in_words(mistake: Any) -> str:
    """What is wrong, in words for whoever wrote the file."""
    told = WORDS.get(mistake["type"])
    if told is None:
        return str(mistake["msg"]).removeprefix("Value error, ")
    return told.format(got=written_as(mistake.get("input")), **mistake.get("ctx", {}))


def written_as(value: object) -> str:
    """A value as YAML has it on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written_as, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {written_as(v)}' for k, v in value.items())}}}"
    return str(value)


def _fix(root: type[BaseModel], path: list[str], mistake: Any) -> str:
    """What to write instead, where that follows from what was written."""
    given = mistake.get("input")
    if mistake["type"] in ("list_type", "tuple_type") and path and not isinstance(given, dict):
        return f"write {path[-1]}: [{written_as(given)}]"
    if mistake["type"] in ("dict_type", "model_type", "model_attributes_type"):
        section = _section_at(root, path)
        some = ", ".join([*(section.model_fields if section else {})][:3])
        return f"write keys below it, such as {some}" if some else "see docs/config.md"
    return _describe(root, path)


def _is_union_tag(part: str | int) -> bool:
    return (isinstance(part, str) and not re.fullmatch(r"[a-z_0-9]+", part)) or part in (
        "float",
        "int",
        "str",
    )


def _fields_at(root: type[BaseModel], path: list[str]) -> list[str]:
    section = _section_at(root, path)
    names = list(section.model_fields) if section else []
    return [*names, "slices"] if path == ["selection"] else names


def _section_at(root: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = root
    for part in path:
        if part.isdigit():  # which of a list
            continue
        field = current.model_fields.get(part) if current else None
        if field is None:
            return None
        options = getattr(field.annotation, "__args__", (field.annotation,))
        current = next(
            (o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None
        )
    return Slice if current is Selection else current


def _describe(root: type[BaseModel], path: list[str]) -> str:
    while path and path[-1].isdigit():  # of a member of a list: the list
        path = path[:-1]
    section = _section_at(root, path[:-1]) if path else None
    field = section.model_fields.get(path[-1]) if section and path else None
    if field is None:
        return "see docs/config.md"
    about = field.description or "see docs/config.md"
    simple = isinstance(field.default, int | float | str | Decimal)
    shown = f" (default: {field.default})" if simple else ""
    return f"{path[-1]}: {about}{shown}"
