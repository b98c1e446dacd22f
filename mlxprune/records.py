"""Records: typed in the code, plain values in JSON and in the event log.

A record is a ``msgspec.Struct``. These three functions are the edge: below it are trees of plain
values, above it are attributes that a type checker sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlxprune.files import read_json, write_json

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
    """The record that plain values are. Raises ValueError where they are none."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_record(path: Path, kind: type[T]) -> T:
    """The record in a JSON file. Raises OSError, and ValueError where it is none."""
    return record_of(read_json(path), kind)


def write_record(path: Path, record: Any) -> None:
    """Whole or not at all, keys sorted."""
    write_json(path, plain(record))
