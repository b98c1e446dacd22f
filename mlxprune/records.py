"""Records: typed in the code, plain values in JSON and in the event log.

A record is a ``msgspec.Struct``. These functions are the edge: below it are trees of plain
values, above it are attributes that a type checker sees.
"""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlxprune.errors import DamagedFile, one_line
from mlxprune.files import DAMAGED_FIX, read_json, write_json

Json = dict[str, Any]  # an object of plain values, as JSON has it
T = TypeVar("T")


class Record(msgspec.Struct, kw_only=True):
    """A record whose every field is written, None as null."""


class SparseRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A record whose fields are left out where they have their default."""


def plain(value: Any) -> Any:
    """A record, or a tree that holds some, as plain values; NumPy's scalars as Python's."""
    return msgspec.to_builtins(value, enc_hook=lambda one: one.item(), str_keys=True)


def record_of(value: object, kind: type[T]) -> T:
    """The record that plain values are. Raises ValueError where they are none.

    JSON has no word for a figure that is no number: null is NaN where a float must stand.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert(_with_nan(value, kind), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _with_nan(value: Any, kind: Any) -> Any:
    """The same with NaN for null, wherever ``kind`` wants a float and no null."""
    if value is None:
        return math.nan if kind is float else None
    of = typing.get_args(kind)
    if isinstance(value, dict) and typing.get_origin(kind) is dict:
        return {key: _with_nan(one, of[1]) for key, one in value.items()}
    if isinstance(value, list) and typing.get_origin(kind) is list:
        return [_with_nan(one, of[0]) for one in value]
    if isinstance(value, list) and typing.get_origin(kind) is tuple and len(of) == len(value):
        return [_with_nan(one, part) for one, part in zip(value, of, strict=True)]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _fields_with_nan(value, kind)
    for part in of:  # of a union the one that can hold it
        changed = _with_nan(value, part)
        if changed != value:
            return changed
    return value


def _fields_with_nan(value: Any, kind: type[msgspec.Struct]) -> Any:
    hints = typing.get_type_hints(kind)
    if isinstance(value, dict):
        types = {f.encode_name: hints[f.name] for f in msgspec.structs.fields(kind)}
        return {key: _with_nan(one, types.get(key)) for key, one in value.items()}
    if isinstance(value, list) and kind.__struct_config__.array_like:
        names = kind.__struct_fields__
        return [
            _with_nan(one, hints[names[n]] if n < len(names) else None)
            for n, one in enumerate(value)
        ]
    return value


def read_record(path: Path, kind: type[T]) -> T:
    """The record in a JSON file. Raises OSError, and DamagedFile where it is none."""
    try:
        return record_of(read_json(path), kind)
    except DamagedFile:
        raise
    except ValueError as error:
        problem = f"it is not what was written there: {one_line(error)}"
        raise DamagedFile(problem, str(path), DAMAGED_FIX) from None


def write_record(path: Path, record: Any) -> None:
    """Whole or not at all, keys sorted."""
    write_json(path, plain(record))
