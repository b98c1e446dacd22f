"""Readers: the rows of a source, each a document or the reason why it is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlxprune.data.containers import quiet, values_of
from mlxprune.data.decompression import Told, decompressed_chunks
from mlxprune.data.rows import (
    AUTO_DOMAIN_KEYS,
    AUTO_DOMAIN_ROWS,
    TOO_LONG,
    Row,
    Skip,
    auto_domain,
    domain_of,
    row_of,
)
from mlxprune.data.sources import Source
from mlxprune.data.tables import Part


@dataclass
class DomainChoice:
    """The key that names the domains of a file, and keys that `auto` refused, once it is read."""

    key: str = ""
    refused: list[str] = field(default_factory=list)


def read_rows(
    source: Source,
    part: Part | None = None,
    told: Told = quiet,
    choice: DomainChoice | None = None,
) -> Iterator[Row | Skip]:
    """The rows of one file in order, or of a ``part`` of it, numbered from 0 there. Blank lines are
    no rows. ``choice`` is filled in with what `auto` means for this file."""
    chosen = DomainChoice() if choice is None else choice
    if source.form == "text":
        yield _text_row(source, told)
        return
    keys, top, name = source.keys, source.top, source.name
    values, chosen.key = values_of(source, part, told), keys.domain
    if keys.domain == "auto" and keys.fixed is None:
        chosen.key, chosen.refused = auto_domain(top, head_of(source))
    for number, offset, value in values:
        yield row_of(top, name, keys, chosen.key, number, offset, value)


def head_of(source: Source) -> list[Any]:
    """Of the first rows of a file what `auto` looks at: their texts are not held."""
    roots = {key.partition(".")[0] for key in AUTO_DOMAIN_KEYS}
    return [
        {key: value[key] for key in (*AUTO_DOMAIN_KEYS, *roots) if key in value}
        for _, _, value in itertools.islice(values_of(source), AUTO_DOMAIN_ROWS)
        if isinstance(value, dict)
    ]


def text_domain(source: Source) -> str:
    """The domain of a file of plain text: as its place says, since it has no keys."""
    key = source.keys.domain
    if key != "file" and not key.startswith("path:"):
        key = "path:1" if "/" in source.top else "none"
    return domain_of(source.top, source.name, source.keys, key, {})


def _text_row(source: Source, told: Told) -> Row | Skip:
    domain = text_domain(source)
    chunks, size = list[bytes](), 0
    most = source.keys.most_bytes
    for chunk in decompressed_chunks(source.path, told):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            return Skip(0, TOO_LONG, ascii(chunks[0][:80]), domain)
    data = b"".join(chunks)
    del chunks
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return Skip(0, "invalid_utf8", ascii(data[:80]), domain)
    if not text.strip():
        return Skip(0, "empty_text", "", domain)
    return Row(0, 0, text, source.name, domain, None)
