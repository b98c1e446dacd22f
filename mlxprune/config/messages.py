"""Messages: what is wrong with a configuration, as the three lines that a user reads."""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic import BaseModel, ValidationError

from mlxprune.config.slices import Selection, Slice
from mlxprune.errors import ConfigError, closest, one_line


def as_config_error(
    error: ValidationError, root: type[BaseModel], where: str, slices_listed: bool
) -> ConfigError:
    """The first mistake: its key, what is wrong, and the nearest known key or what it means."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not _is_union_tag(part)]
    if path[:2] == ["selection", "slices"] and not slices_listed:
        path = ["selection", *path[3:]]  # one slice, written without a list
    key = ".".join(path)
    if not path and first["type"] in ("extra_forbidden", "missing"):
        return ConfigError("a key without a name", where, "see docs/config.md")
    if first["type"] == "extra_forbidden":
        known = _fields_at(root, path[:-1])
        return ConfigError(f"unknown key {key!r}", where, closest(path[-1], known))
    if first["type"] == "missing":
        return ConfigError(f"missing key {key!r}", where, f"add {key}: to the file")
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(
        f"{key or 'configuration'}: {one_line(message)}", where, _describe(root, path)
    )


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
    section = _section_at(root, path[:-1]) if path else None
    field = section.model_fields.get(path[-1]) if section and path else None
    if field is None:
        return "see docs/config.md"
    about = field.description or "see docs/config.md"
    simple = isinstance(field.default, int | float | str | Decimal)
    shown = f" (default: {field.default})" if simple else ""
    return f"{path[-1]}: {about}{shown}"
