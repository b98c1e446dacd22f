"""Rows: what a row of a file gives: a text with its id, domain and group, or why it is none."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlxprune.config.data import MOST_DOCUMENT_BYTES, Data, HostKey, SourceEntry
from mlxprune.data.formats import CHAT_KEYS, CODEC_SUFFIXES, DATA_SUFFIXES
from mlxprune.data.hashing import PIECE_CHARACTERS

AUTO_DOMAIN_KEYS = ("domain", "source", "meta.pile_set_name")
AUTO_DOMAIN_ROWS = 1000  # rows of a file that decide which of those keys it has
FEW_ROWS = 20  # fewer do not tell a domain from an id
NEARLY_ALL = 0.5  # different values a row, above which a key names no domains
NO_DOMAIN = "(none)"
# The reasons that do not count towards data.max_bad: such rows are common and harmless.
HARMLESS_REASONS = ("empty_text", "null_text")
LONGEST_DOMAIN = 200  # characters
TOO_LONG = "too_long"  # the reason of a row above data.max_document
BETWEEN = "\n\n"  # what joins the turns of a chat, and the texts of a+b
CONTENT_KEYS = ("content", "value", "text")  # of a turn


@dataclass(frozen=True)
class RowKeys:
    """Where a row has what. ``text``: the first of them that it has; ``domain``: a key, auto, file
    or path:N; ``host``: that key holds an address; ``fixed``: the domain of all rows."""

    text: tuple[str, ...] = ("text",)
    id: str = "id"
    domain: str = "auto"
    group: str | None = None
    host: bool = False
    fixed: str | None = None
    most_bytes: int = MOST_DOCUMENT_BYTES  # of a document, and of the line that it stands in


def row_keys_of(data: Data, entry: SourceEntry | None = None) -> RowKeys:
    """The keys of an entry, which are those of `data` where it names none."""
    domain, text, identity, fixed = data.domain_key, data.text_key, data.id_key, None
    if entry is not None:
        domain, fixed = entry.domain_key or domain, entry.domain
        text, identity = entry.text_key or text, entry.id_key or identity
    host = isinstance(domain, HostKey)
    key = domain.host if isinstance(domain, HostKey) else domain
    return RowKeys(text, identity, key, data.group_key, host, fixed, data.max_document)


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    offset: int  # of the line in the decompressed stream; 0 where there are no lines
    text: str
    id: str | None
    domain: str
    group: str | None
    has_domain: bool = True  # whether the row has the domain key, whatever it holds
    has_group: bool = True
    has_id: bool = True


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that is no document. ``texts``: of one without the text key, the keys that it has and
    how much text each holds."""

    number: int
    reason: str
    start: str
    domain: str = NO_DOMAIN
    texts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class BadLine:
    """A line that is no JSON value, or a record that is no text, and why."""

    reason: str
    start: str


MISSING = object()


def value_at(row: dict[str, Any], key: str) -> Any:
    """The value at a key; a dotted key that is no plain key reaches into objects."""
    if key in row:
        return row[key]
    if "." not in key:
        return MISSING
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def text_at(row: dict[str, Any], key: str) -> Any:
    """The text at a key: itself; the turns of a chat joined; of ``a+b`` what a and b hold, joined.

    A blank line stands between what is joined, and nothing is added: no names of roles.
    """
    value = value_at(row, key)
    if value is MISSING and "+" in key:
        parts = [text_at(row, part) for part in key.split("+")]
        there = [part for part in parts if part is not MISSING and part is not None]
        if not there:
            return None if None in parts else MISSING
        if all(isinstance(part, str) for part in there):
            return BETWEEN.join(part for part in there if part.strip())
        return there
    if type(value) is str and value[:1] == "[" and key.rpartition(".")[2] in CHAT_KEYS:
        value = _decoded(value)
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        return _joined_turns(value)
    return value


def found_text(row: dict[str, Any], keys: RowKeys) -> Any:
    """What stands at the first text key that a row has; a null only where no other has more."""
    text: Any = MISSING
    for key in keys.text:
        found = text_at(row, key)
        if found is not MISSING and (found is not None or text is MISSING):
            text = found
            if found is not None:
                break
    return text


def _decoded(text: str) -> Any:
    """Turns that were stored as text in JSON, as in tables; other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, list) and value else text


def _joined_turns(turns: list[dict[str, Any]]) -> Any:
    said: list[str] = []
    is_chat = False
    for turn in turns:
        key = next((k for k in CONTENT_KEYS if k in turn), None)
        is_chat |= key is not None
        content = turn.get(key) if key else None
        if isinstance(content, dict):  # as chats are exported
            content = content.get("parts", content.get("text"))
        if isinstance(content, list):  # parts of one turn, of which some may be images
            parts = [part.get("text") if isinstance(part, dict) else part for part in content]
            content = "\n".join(part for part in parts if isinstance(part, str))
        if isinstance(content, str) and content.strip():
            said.append(content)
    return BETWEEN.join(said) if is_chat else turns


def row_of(
    top: str, name: str, keys: RowKeys, domain_key: str, number: int, offset: int, value: Any
) -> Row | Skip:
    """The document of a row, or why it is none. ``top`` and ``name`` are those of the source."""
    if type(value) is not dict:
        if isinstance(value, BadLine):
            return Skip(number, value.reason, value.start, _place_domain(top, name, domain_key))
        where = _place_domain(top, name, domain_key)
        return Skip(number, "not_an_object", start_of(value), where)
    text = found_text(value, keys)
    reason = start = ""
    if type(text) is not str:
        if isinstance(text, bytes):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError:
                reason, start = "invalid_utf8", ascii(text[:80])
        elif text is MISSING:
            reason, start = "missing_text", start_of(value)
        elif text is None:
            reason = "null_text"
        else:
            reason, start = "text_not_a_string", start_of(text)
    if not reason:
        if len(text) > keys.most_bytes or (
            4 * len(text) > keys.most_bytes and utf8_size(text) > keys.most_bytes
        ):
            reason, start = TOO_LONG, text[:80]
        elif not text or text.isspace():
            reason = "empty_text"
        elif not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                reason, start = "invalid_unicode", ascii(text[:80])
    domain = domain_of(top, name, keys, domain_key, value)
    if reason:
        texts = texts_in(value) if reason == "missing_text" else ()
        return Skip(number, reason, start, domain, texts)
    group = value_at(value, keys.group) if keys.group else None
    identity = value_at(value, keys.id)
    from_row = domain_key not in ("file", "none") and not domain_key.startswith("path:")
    return Row(
        number,
        offset,
        text,
        scalar(identity),
        domain,
        scalar(group),
        keys.fixed is not None or not from_row or value_at(value, domain_key) is not MISSING,
        group is not MISSING,
        identity is not MISSING,
    )


def start_of(value: Any) -> str:
    """The first characters of a value, for people."""
    try:
        return str(value)[:80]
    except RecursionError:
        return "(nested too deeply)"


def utf8_size(text: str) -> int:
    """Bytes of a text in UTF-8, which is never made as a whole."""
    if text.isascii():
        return len(text)
    pieces = range(0, len(text), PIECE_CHARACTERS)
    return sum(len(text[i : i + PIECE_CHARACTERS].encode("utf-8", "replace")) for i in pieces)


def texts_in(row: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The keys of a row, and how much text each holds."""
    sizes = []
    for key, value in row.items():
        joined = text_at(row, str(key)) if isinstance(value, list) else value
        sizes.append((str(key), len(joined) if isinstance(joined, str) else 0))
    return tuple(sizes)


def scalar(value: Any) -> str | None:
    """A value as text that any file can hold; None where there is nothing to say."""
    if value is MISSING or value is None or value == "":
        return None
    if type(value) is str and value.isascii():
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and value != value:  # what tables write for nothing
        return None
    if isinstance(value, list | dict | bool | float):
        try:
            text = json.dumps(value, default=str)
        except RecursionError:
            return None
    else:  # dates and their like as they are written
        text = str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- domains ----------------------------------------------------------------------------------


def auto_domain(top: str, values: list[Any]) -> tuple[str, list[str]]:
    """(the domain key that `auto` means for a file whose first rows are these, keys that it has and
    that are no domains because nearly all of their values differ)."""
    rows = [v for v in values if isinstance(v, dict)]
    refused = []
    for key in AUTO_DOMAIN_KEYS:
        found = [v for v in (value_at(row, key) for row in rows) if _names_domain(v)]
        if not found:
            continue
        if len(found) >= FEW_ROWS and len(set(map(str, found))) > NEARLY_ALL * len(found):
            refused.append(key)
            continue
        return key, refused
    return "path:1" if "/" in top else "file", refused


def _names_domain(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


def domain_of(top: str, name: str, keys: RowKeys, domain_key: str, row: dict[str, Any]) -> str:
    if keys.fixed is not None:
        return keys.fixed
    if domain_key in ("none", "file") or domain_key.startswith("path:"):
        return _place_domain(top, name, domain_key)
    value = value_at(row, domain_key)
    if value is MISSING or isinstance(value, list | dict):
        return NO_DOMAIN
    text = scalar(value)
    return bounded((host_of(text) if keys.host and text else text) or NO_DOMAIN)


def bounded(name: str) -> str:
    """A name of a domain, cut where it is longer than any is; the hash of all of it keeps two
    apart."""
    if len(name) <= LONGEST_DOMAIN:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{name[:LONGEST_DOMAIN]}...{digest}"


def _place_domain(top: str, name: str, domain_key: str) -> str:
    """The domain that a file's place gives; none where the key is one of rows."""
    if domain_key == "file":
        return stem_of(name)
    if domain_key.startswith("path:") and domain_key[5:].isdigit():
        folders = top.split("/")[:-1]
        level = int(domain_key[5:])
        return folders[level - 1] if 1 <= level <= len(folders) else NO_DOMAIN
    return NO_DOMAIN


def host_of(address: str) -> str | None:
    """The host of a web address, without ``www.``; None where it is no address."""
    try:
        host = urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None
    if not host or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)+|localhost", host):
        return None
    return host.removeprefix("www.")


def stem_of(name: str) -> str:
    """The file's name without codec, suffix and shard number: c4-00001-of-00007.jsonl.zst -> c4."""
    stem = name.rsplit("/", 1)[-1]
    for suffix in (*CODEC_SUFFIXES, *DATA_SUFFIXES, ".txt"):
        stem = stem.removesuffix(suffix)
    stem = re.sub(r"([-_.](part|shard)?[-_]?\d+([-_]of[-_]\d+)?)$", "", stem)
    return stem or NO_DOMAIN
