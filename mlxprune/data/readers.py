"""Readers: a file to its rows, JSON Lines and Parquet and plain texts.

Rows that are no documents come back as ``Skip`` with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlxprune.data.decompression import decompressed_chunks, decompressed_lines
from mlxprune.data.sources import CODEC_SUFFIXES, JSONL_SUFFIXES, Source
from mlxprune.errors import DataError, one_line

AUTO_DOMAIN_KEYS = ("domain", "source", "meta.pile_set_name")
AUTO_DOMAIN_ROWS = 1000  # rows of a file that decide which of those keys it has
NO_DOMAIN = "(none)"
# The reasons that do not count towards data.max_bad: such rows are common and harmless.
HARMLESS_REASONS = ("empty_text", "null_text")


@dataclass(frozen=True)
class RowKeys:
    text: str
    id: str
    domain: str  # a key, auto, file or path:N
    group: str | None


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    offset: int  # of the line in the decompressed stream; 0 in Parquet and text files
    text: str
    id: str | None
    domain: str
    group: str | None
    has_domain: bool = True  # whether the row has the domain key, whatever it holds
    has_group: bool = True
    has_id: bool = True


@dataclass(frozen=True, slots=True)
class Skip:
    number: int
    reason: str
    start: str
    keys: tuple[str, ...] = ()  # the keys that the row has, when the text key is not among them


def read_rows(source: Source, keys: RowKeys) -> Iterator[Row | Skip]:
    """The rows of one file in order. Blank lines are no rows."""
    if source.form == "text":
        yield _text_row(source, keys)
        return
    is_jsonl = source.form == "jsonl"
    values = jsonl_values(source.path, keys.id) if is_jsonl else _parquet_values(source, keys)
    if keys.domain != "auto":
        for number, offset, value in values:
            yield _row(source, keys, keys.domain, number, offset, value)
        return
    head: list[tuple[int, int, Any]] = []
    for item in values:
        head.append(item)
        if len(head) == AUTO_DOMAIN_ROWS:
            break
    domain_key = _auto_domain(source, [value for _, _, value in head])
    for number, offset, value in head:
        yield _row(source, keys, domain_key, number, offset, value)
    for number, offset, value in values:
        yield _row(source, keys, domain_key, number, offset, value)


def _auto_domain(source: Source, values: list[Any]) -> str:
    rows = [v for v in values if isinstance(v, dict)]
    for key in AUTO_DOMAIN_KEYS:
        found = (_get(row, key) for row in rows)
        if any(isinstance(v, str | int | float) and v != "" for v in found):
            return key
    return "path:1" if "/" in source.top else "file"


def _text_row(source: Source, keys: RowKeys) -> Row | Skip:
    data = b"".join(decompressed_chunks(source.path))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return Skip(0, "invalid_utf8", ascii(data[:80]))
    if not text.strip():
        return Skip(0, "empty_text", "")
    domain_key = (
        keys.domain if keys.domain.startswith("path:") or keys.domain == "file" else "path:1"
    )
    if domain_key == "path:1" and "/" not in source.top:
        domain_key = "file" if keys.domain == "file" else "none"
    return Row(0, 0, text, source.name, _domain(source, domain_key, {}), None)


def jsonl_values(path: Path, id_key: str = "id") -> Iterator[tuple[int, int, Any]]:
    """(row, offset, JSON value) of every line that is not blank."""
    number = 0
    for offset, line in decompressed_lines(path):
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if not line.strip():
            continue
        value = _parse(line)
        if isinstance(value, dict) and isinstance(_get(value, id_key), float):
            value = json.loads(line)  # the fast parser rounds integers above 64 bits
        yield number, offset, value
        number += 1


def _parse(line: bytes) -> Any:
    """The JSON value, or a ``Bad`` reason. Bytes are checked before JSON."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return BadLine("invalid_utf8", ascii(line[:80]))
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # It also refuses NaN and lone surrogates, which are not broken JSON to everyone.
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            return BadLine("bad_json", line[:80].decode("utf-8", "replace"))


@dataclass(frozen=True)
class BadLine:
    """A line that is no JSON value, and why."""

    reason: str
    start: str


def _parquet_values(source: Source, keys: RowKeys) -> Iterator[tuple[int, int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(source.path, pre_buffer=False)
        names = file.schema_arrow.names
        wanted = [keys.text, keys.id, *([keys.group] if keys.group else [])]
        wanted += AUTO_DOMAIN_KEYS if keys.domain == "auto" else [keys.domain]
        columns = [k for k in dict.fromkeys(wanted) if k in names or k.split(".")[0] in names]
        if not any(keys.text == c for c in columns):
            raise DataError(
                f"no column {keys.text!r}", str(source.path), f"its columns: {', '.join(names)}"
            )
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for value in _rows_of(batch):
                yield number, 0, value
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), "check the file, or leave it out") from None


def _rows_of(batch: Any) -> Iterator[Any]:
    """The rows of a batch; one that holds bytes which are no text costs only itself."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield BadLine("invalid_utf8", "")


_MISSING = object()


def _get(row: dict[str, Any], key: str) -> Any:
    """The value at a key; a dotted key that is no plain key reaches into objects."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _row(
    source: Source, keys: RowKeys, domain_key: str, number: int, offset: int, value: Any
) -> Row | Skip:
    if isinstance(value, BadLine):
        return Skip(number, value.reason, value.start)
    if not isinstance(value, dict):
        return Skip(number, "not_an_object", str(value)[:80])
    text = _get(value, keys.text)
    if text is _MISSING:
        return Skip(number, "missing_text", str(value)[:80], tuple(map(str, value)))
    if text is None:
        return Skip(number, "null_text", "")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            return Skip(number, "invalid_utf8", ascii(text[:80]))
    if not isinstance(text, str):
        return Skip(number, "text_not_a_string", str(text)[:80])
    if not text.strip():
        return Skip(number, "empty_text", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return Skip(number, "invalid_unicode", ascii(text[:80]))
    group = _get(value, keys.group) if keys.group else None
    from_row = domain_key not in ("file", "none") and not domain_key.startswith("path:")
    return Row(
        number,
        offset,
        text,
        _scalar(_get(value, keys.id)),
        _domain(source, domain_key, value),
        _scalar(group),
        not from_row or _get(value, domain_key) is not _MISSING,
        group is not _MISSING,
        _get(value, keys.id) is not _MISSING,
    )


def _scalar(value: Any) -> str | None:
    """A value as text that any file can hold; None where there is nothing to say."""
    if value is _MISSING or value is None or value == "":
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _domain(source: Source, key: str, row: dict[str, Any]) -> str:
    if key == "none":
        return NO_DOMAIN
    if key == "file":
        return _stem(source.name)
    if key.startswith("path:") and key[5:].isdigit():
        folders = source.top.split("/")[:-1]
        level = int(key[5:])
        return folders[level - 1] if 1 <= level <= len(folders) else NO_DOMAIN
    value = _get(row, key)
    if value is _MISSING or isinstance(value, list | dict):
        return NO_DOMAIN
    return _scalar(value) or NO_DOMAIN


def _stem(name: str) -> str:
    """The file's name without codec, suffix and shard number: c4-00001-of-00007.jsonl.zst -> c4."""
    stem = name.rsplit("/", 1)[-1]
    for suffix in (*CODEC_SUFFIXES, *JSONL_SUFFIXES, ".parquet", ".txt"):
        stem = stem.removesuffix(suffix)
    stem = re.sub(r"([-_.](part|shard)?[-_]?\d+([-_]of[-_]\d+)?)$", "", stem)
    return stem or NO_DOMAIN


def keys_there_are(sources: list[Source]) -> list[str]:
    """The keys of the first rows of the first files: for errors that name a key."""
    found: dict[str, None] = {}
    for source in sources[:5]:
        if source.form == "parquet":
            import pyarrow.parquet

            found |= dict.fromkeys(pyarrow.parquet.read_schema(source.path).names)
        elif source.form == "jsonl":
            for (_, _, value), _ in zip(
                jsonl_values(source.path), range(AUTO_DOMAIN_ROWS), strict=False
            ):
                found |= dict.fromkeys(map(str, value)) if isinstance(value, dict) else {}
    return list(found)
