"""File look: what a file of unknown layout holds: which keys are text, id and domain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlxprune.data.accounts import MANY_DOMAINS, reason_fix, reasons_of
from mlxprune.data.formats import CHAT_KEYS, TEXT_KEYS
from mlxprune.data.readers import text_domain
from mlxprune.data.rows import (
    AUTO_DOMAIN_KEYS,
    FEW_ROWS,
    MISSING,
    NEARLY_ALL,
    BadLine,
    Row,
    RowKeys,
    auto_domain,
    host_of,
    row_of,
    scalar,
    text_at,
    value_at,
)
from mlxprune.data.sampling import expansion, sample_file
from mlxprune.data.sources import Source
from mlxprune.errors import DataError, one_line

LOOKED_AT = 400  # rows of a file
SHOWN = 3
PAIRS = (
    "prompt+completion", "prompt+response", "prompt+chosen", "instruction+input+output",
    "instruction+output", "instruction+response", "question+answer", "query+response",
    "title+abstract",
)  # fmt: skip
ID_KEYS = (
    "id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "url", "uri", "key", "hash",
    "sha", "sha1", "sha256", "md5", "number", "no", "title",
)  # fmt: skip
DOMAIN_KEYS = (
    *AUTO_DOMAIN_KEYS, "meta.source", "metadata.source", "meta.domain", "metadata.domain", "subset",
    "dataset", "corpus", "category", "group", "topic", "section", "genre", "type", "kind", "lang",
    "language",
)  # fmt: skip
ADDRESS_KEYS = ("url", "uri", "link", "source", "domain")
MOST_KEYS = 3  # of one text
NEARLY_EVERY = 0.995  # share of rows that have a text
SHORTEST = 20  # characters of a text under a name that we do not know, on the mean
LONGEST_NAME = 80  # characters of a column
MANY_INSIDE = 50  # keys of an object in a row
MUCH_LONGER = 8  # times: then the key with the longer texts is the text, whatever its name


@dataclass(frozen=True)
class FileLook:
    """What was found in a file. ``keys``: its own; ``documents`` and ``bytes`` of text, about;
    ``shown``: (id, domain, beginning of the text) of some rows; ``problem``: why it cannot be
    read."""

    source: Source
    rows: float = 0
    exact: bool = True
    keys: RowKeys = RowKeys()  # noqa: RUF009 (frozen)
    has_id: bool = False
    domains: Counter[str] = field(default_factory=Counter)
    documents: float = 0
    bytes: float = 0
    shown: list[tuple[str | None, str, str]] = field(default_factory=list)
    problem: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return self.source.name


def look_at_file(source: Source) -> FileLook:
    """Some rows from several places of a file, and the keys that they speak for."""
    if source.form == "text":
        return _text_file(source)
    try:
        sample = sample_file(source, LOOKED_AT)
    except DataError as error:
        return FileLook(source, problem=(error.problem, error.fix))
    rows = [value for value in sample.values if isinstance(value, dict)]
    texts = text_keys_of(rows)
    problem = _problem(source, sample.values, rows, texts)
    if not texts or problem is not None:
        return FileLook(source, sample.rows, sample.exact, problem=problem)
    identity, (domain, host) = id_key_of(rows), domain_key_of(rows)
    keys = RowKeys(texts, identity or "id", domain, None, host)
    return _judged(replace(source, keys=keys), sample.values, sample.rows, sample.exact, identity)


def _problem(
    source: Source, values: list[Any], rows: list[dict[str, Any]], texts: tuple[str, ...]
) -> tuple[str, str] | None:
    """Why a file cannot be used, and what to do; None where it can, or has no row."""
    if not values:
        return None
    if not rows:
        reasons = Counter(v.reason if isinstance(v, BadLine) else "not_an_object" for v in values)
        return f"none of its rows is an object: {reasons_of(reasons)}", reason_fix(reasons)
    named = [one_line(str(key)) for key in rows[0]]
    if source.form in ("csv", "tsv") and texts and len(texts[0]) > LONGEST_NAME:
        fix = "write the names of the columns into its first line"
        return "its first line is a text and names no columns", fix
    have = ", ".join(named[:12]) or "no keys"
    if not texts:
        lists = [key for key, v in rows[0].items() if isinstance(v, list) and v]
        if lists and all(isinstance(one, str) for one in rows[0][lists[0]]):
            fix = f"join each list of {one_line(lists[0])!r} into one text first"
            return f"no key of its rows holds text, but lists of texts: {have}", fix
        return f"no key of its rows holds text: {have}", "leave it out"
    if len(values) == 1 and texts[0].count(".") and len(rows[0]) < MANY_INSIDE < _inside(rows[0]):
        fix = "write one object a line: of pandas, orient='records' and lines=True"
        return "it is one object that holds its rows column by column", fix
    return None


def _inside(row: dict[str, Any]) -> int:
    """How many keys the objects of a row have."""
    return max((len(value) for value in row.values() if isinstance(value, dict)), default=0)


def _judged(
    source: Source, values: list[Any], rows: float, exact: bool, identity: str | None
) -> FileLook:
    """What the rows come to under the keys that were found."""
    keys, domain_key = source.keys, source.keys.domain
    if domain_key == "auto":
        domain_key, _ = auto_domain(source.top, values)
    domains: Counter[str] = Counter()
    documents: list[Row] = []
    size = 0
    for number, value in enumerate(values):
        row = row_of(source.top, source.name, keys, domain_key, number, 0, value)
        if isinstance(row, Row):
            documents.append(row)
            domains[row.domain] += 1
            size += len(row.text.encode("utf-8"))
    factor = rows / max(len(values), 1)
    some = [documents[i * len(documents) // SHOWN] for i in range(min(SHOWN, len(documents)))]
    return FileLook(
        source,
        rows,
        exact,
        keys,
        identity is not None,
        Counter({d: round(n * factor) for d, n in domains.items()}),
        len(documents) * factor,
        size * factor,
        [(row.id, row.domain, one_line(row.text[:160])) for row in some],
    )


def _text_file(source: Source) -> FileLook:
    domain = text_domain(source)
    try:
        size = source.path.stat().st_size * expansion(source)
        beginning = _beginning(source.path) if size else ""
    except (OSError, DataError) as error:
        return FileLook(source, problem=(f"cannot read it: {one_line(error)}", "leave it out"))
    shown: list[tuple[str | None, str, str]] = [(source.name, domain, beginning)]
    return FileLook(source, 1, True, source.keys, True, Counter({domain: 1}), 1, size, shown)


def _beginning(path: Path) -> str:
    from mlxprune.data.decompression import decompressed_chunks

    for chunk in decompressed_chunks(path):
        return one_line(chunk[:400].decode("utf-8", "replace")[:160])
    return ""


def text_keys_of(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """The keys of the text, so that nearly every row has one of them: one, where one will do."""
    keys: list[str] = []
    rest = rows
    while len(keys) < MOST_KEYS and len(rest) > (1 - NEARLY_EVERY) * len(rows):
        key = text_key_of(rest)
        if key is None:
            break
        keys.append(key)
        rest = [row for row in rest if not _is_text(text_at(row, key))]
    return tuple(keys)


def _is_text(value: Any) -> bool:
    """Whether a value is a text, or a null where a text would be."""
    return value is None or isinstance(value, str | bytes)


def text_key_of(rows: list[dict[str, Any]]) -> str | None:
    """The key that holds the text of most rows; None where none holds any.

    A known name before others, unless another key holds far more; pairs such as prompt+completion
    and chats where no known name is there. Other keys only where their values are long enough for
    a text.
    """
    sizes: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for row in rows:
        for key, value in _flat(row):
            if isinstance(value, str | bytes) and value:
                sizes[key] += len(value)
                holders[key] += 1
    long = {key for key, size in sizes.items() if size >= SHORTEST * holders[key]}
    common = {key for key in long if 2 * holders[key] > len(rows)}
    longest = max(common, key=lambda key: sizes[key], default=None)
    for name in (*TEXT_KEYS[:-1], *CHAT_KEYS, *PAIRS, *TEXT_KEYS[-1:]):
        texts = [text_at(row, name) for row in rows]
        held = [len(text) for text in texts if isinstance(text, str | bytes) and text]
        parts = name.split("+")
        whole = all(any(part in row for row in rows) for part in parts)
        if not whole or 2 * len(held) <= len(rows):
            continue
        if longest is None or MUCH_LONGER * sum(held) >= sizes[longest]:
            return name
    return longest if longest is not None else max(long, key=lambda k: sizes[k], default=None)


def _flat(row: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """The values of a row and of objects in it, one level down, by dotted key."""
    found: list[tuple[str, Any]] = []
    for key, value in row.items():
        if isinstance(value, dict) and not above:
            found += _flat(value, f"{key}.")
        else:
            found.append((above + str(key), value))
    return found


def id_key_of(rows: list[dict[str, Any]]) -> str | None:
    """A key whose values tell nearly all rows apart, by its name; None where there is none."""
    for name in ID_KEYS:
        values = [scalar(value_at(row, name)) for row in rows]
        there = [value for value in values if value is not None]
        if 2 * len(there) > len(rows) and len(set(there)) > 0.95 * len(there):
            return name
    return None


def domain_key_of(rows: list[dict[str, Any]]) -> tuple[str, bool]:
    """(key, whether its hosts are the domains); `auto` where no key names domains."""
    for name in DOMAIN_KEYS:
        if _names_domains([value_at(row, name) for row in rows], name in AUTO_DOMAIN_KEYS):
            return ("auto", False) if name in AUTO_DOMAIN_KEYS else (name, False)
    for name in ADDRESS_KEYS:
        addresses = [value_at(row, name) for row in rows]
        hosts = [host_of(a) for a in addresses if isinstance(a, str) and "://" in a]
        if 2 * len(hosts) > len(rows) and _names_domains(hosts, False):
            return name, True
    return "auto", False


def _names_domains(values: list[Any], alone: bool) -> bool:
    """Whether values are names that repeat; ``alone``: one name for all will do."""
    there = [v for v in values if v is not MISSING and isinstance(v, str | int) and v != ""]
    different = len(set(map(str, there)))
    if 2 * len(there) <= len(values) or different > MANY_DOMAINS:
        return False
    if different == 1 and not alone:
        return False
    return len(there) < FEW_ROWS or different <= NEARLY_ALL * len(there)
