"""Formats: what a file holds, by its first bytes; its name decides only where bytes cannot.

What is read: JSON Lines, JSON (arrays, objects over several lines, rows inside an object), Parquet,
Arrow IPC, CSV and TSV, WARC and WET, plain text; each of them in gzip, zstd, xz or bz2, but for
Parquet and Arrow. Everything else is named for what it is.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlxprune.data.decompression import HEAD_BYTES, codec_of, decompressed_chunks
from mlxprune.errors import DataError, one_line

CODEC_SUFFIXES = (".gz", ".zst", ".zstd", ".xz", ".bz2")
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
CSV_SUFFIXES = (".csv",)
TSV_SUFFIXES = (".tsv", ".tab")
WARC_SUFFIXES = (".warc", ".wet")
DATA_SUFFIXES = (
    *JSONL_SUFFIXES, ".json", *PARQUET_SUFFIXES, *ARROW_SUFFIXES, *CSV_SUFFIXES, *TSV_SUFFIXES,
    *WARC_SUFFIXES,
)  # fmt: skip
PROSE_SUFFIXES = (
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc", ".srt", ".vtt", ".eml",
)  # fmt: skip
CODE_SUFFIXES = (
    ".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp",
    ".java", ".go", ".rs", ".rb", ".php", ".swift", ".kt", ".kts", ".scala", ".sh", ".bash",
    ".zsh", ".pl", ".pm", ".lua", ".r", ".jl", ".sql", ".m", ".mm", ".cs", ".fs", ".hs", ".ml",
    ".mli", ".clj", ".ex", ".exs", ".erl", ".dart", ".vue", ".css", ".scss", ".zig", ".nim",
    ".cu", ".metal", ".f90", ".f", ".asm", ".s", ".v", ".sv", ".vhd", ".lean", ".el", ".lisp",
    ".scm", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".cmake", ".gradle", ".proto", ".bib",
)  # fmt: skip
TEXT_SUFFIXES = (*PROSE_SUFFIXES, *CODE_SUFFIXES)
TEXT_NAMES = (
    "readme", "license", "licence", "copying", "notice", "authors", "changelog", "changes", "news",
    "makefile", "dockerfile", "contributing", "todo",
)  # fmt: skip
SNIFFED_BYTES = 1 << 16
CONTROLS = bytes((*range(9), *range(14, 27)))  # that no text has many of
DELIMITERS = (",", ";", "\t", "|")
CSV_ROWS = 5  # that must have as many fields as the header, where no name says CSV
ROWS_INSIDE = (
    "data", "rows", "examples", "items", "documents", "records", "instances", "articles", "train",
    "test", "validation", "dev", "valid",
)  # fmt: skip
# Keys that hold the text of a row, the likeliest first.
TEXT_KEYS = (
    "text", "content", "body", "raw_content", "document", "article", "message", "completion",
)  # fmt: skip
# Keys that hold the turns of a chat.
CHAT_KEYS = ("messages", "conversations", "conversation", "turns", "dialog", "dialogue")
UNPACK = "unpack it"
EXTRACT = "extract its text first, with trafilatura or datatrove"
PICKLED = "it could run code when opened: have it written as JSON Lines or Parquet"
# What is not read: (first bytes, what it is, what to do).
MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file", "run git lfs pull"),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"PK\x05\x06", "an empty zip archive", "leave it out"),
    (b"%PDF", "a PDF", "extract its text first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file", "save it as CSV or text"),
    (b"{\\rtf", "an RTF document", "save it as text"),
    (b"FEA1", "a Feather file of version 1", "write it anew as Parquet"),
    (b"ORC\n\x03", "an ORC file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"\x93NUMPY", "a NumPy array", "give the text it was made from"),
    (b"SQLite format 3\0", "an SQLite database", "export its table as CSV"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write it as Parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (b"\x04\x22\x4d\x18", "lz4 data", UNPACK),
    (b"\xff\x06\x00\x00sNaPpY", "snappy data", UNPACK),
    (b"\x89PNG", "an image", "leave it out"),
    (b"\xff\xd8\xff", "an image", "leave it out"),
    (b"GIF89a", "an image", "leave it out"),
    (b"\x7fELF", "a program", "leave it out"),
)
OFFICE = ((b"xl/", "an Excel workbook"), (b"word/", "a Word document"), (b"ppt/", "slides"))


@dataclass(frozen=True)
class Format:
    """``form``: jsonl, json, parquet, arrow, csv, tsv, warc or text; empty where the file is not
    read: ``what`` it is instead, and what to do. ``inside``: of JSON, whether the rows are in an
    ``array``, in the ``lists`` of one object, or stand one after another. ``broken``: it cannot be
    opened, and ``what`` is the whole sentence."""

    form: str
    inside: str = ""
    what: str = ""
    fix: str = ""
    broken: bool = False

    @property
    def problem(self) -> str:
        """As a sentence."""
        return self.what if self.broken else f"it is {self.what}"


def suffix_of(name: str) -> str:
    """The suffix in small letters, without that of a codec."""
    lower = name.lower()
    for suffix in CODEC_SUFFIXES:
        lower = lower.removesuffix(suffix)
    return Path(lower).suffix if not re.fullmatch(r"\.\d*", Path(lower).suffix) else ""


def named_as_text(name: str) -> bool:
    """Whether the name is one of prose or of source code."""
    return suffix_of(name) in TEXT_SUFFIXES or Path(name).stem.lower() in TEXT_NAMES


def format_of(path: Path) -> Format:
    """What a file holds. Raises DataError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            raw = file.read(SNIFFED_BYTES)
            file.seek(0, 2)
            size = file.tell()
    except OSError as error:
        fix = "check its permissions"
        raise DataError(f"cannot read it: {one_line(error)}", str(path), fix) from None
    if codec_of(raw[:HEAD_BYTES]) == "plain":
        return _of_bytes(raw, path.name, size > len(raw))
    head = b""
    for chunk in decompressed_chunks(path):
        head += chunk
        if len(head) >= SNIFFED_BYTES:
            break
    found = _of_bytes(head, path.name, len(head) >= SNIFFED_BYTES)
    if found.form in ("parquet", "arrow"):
        return Format("", what=f"a compressed {found.form.capitalize()} file", fix=UNPACK)
    return found


def _of_bytes(head: bytes, name: str, more: bool) -> Format:
    """``more``: whether the file goes on after these bytes."""
    suffix = suffix_of(name)
    if head.startswith(b"PAR1"):
        return Format("parquet")
    if head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")):
        return Format("arrow")
    if re.match(rb"WARC/\d", head):
        return Format("warc")
    refused = _refused(head, suffix)
    if refused is not None:
        return refused
    text = head.removeprefix(b"\xef\xbb\xbf")
    if suffix in CSV_SUFFIXES:
        return Format("csv")
    if suffix in TSV_SUFFIXES:
        return Format("tsv")
    if suffix in PARQUET_SUFFIXES and head:
        return Format("", what="no Parquet file", fix="fetch it again, or leave it out")
    if suffix in ARROW_SUFFIXES and head:
        return Format("", what="no Arrow file", fix="fetch it again, or leave it out")
    starts_json = text.lstrip()[:1] in (b"{", b"[")
    may_be = suffix not in TEXT_SUFFIXES or (suffix in (".txt", ".text") and _has_rows(text))
    if starts_json and may_be:
        found = _json_format(text, more)
        if found is not None:
            return found
    if suffix == ".json" and head and not starts_json:
        return Format("", what="no JSON of rows", fix="check the file, or leave it out")
    if suffix in (*JSONL_SUFFIXES, ".json") or (not head and suffix in DATA_SUFFIXES):
        return Format("jsonl")
    if not suffix and (delimiter := _delimiter(text)):
        return Format("tsv" if delimiter == "\t" else "csv")
    return Format("text")


def _refused(head: bytes, suffix: str) -> Format | None:
    if re.match(rb"\xff\xfe|\xfe\xff|\x00\x00\xfe\xff", head) or _alternates(head):
        return Format("", what="UTF-16 text", fix="convert it: iconv -f UTF-16 -t UTF-8")
    for magic, what, fix in MAGICS:
        if head.startswith(magic):
            if what == "a zip archive":
                if b"data.pkl" in head or b"/data/0" in head:
                    return Format("", what="pickled data (PyTorch)", fix=PICKLED)
                for mark, kind in OFFICE:
                    if mark in head:
                        return Format("", what=kind, fix="save it as CSV or text")
            return Format("", what=what, fix=fix)
    if re.match(rb"\x80[\x02-\x05]", head) or suffix in (".pkl", ".pickle", ".pt", ".joblib"):
        return Format("", what="pickled data", fix=PICKLED)
    if head[257:262] == b"ustar":
        return Format("", what="a tar archive", fix=UNPACK)
    if re.match(rb"\s*(<!doctype html|<html)", head[:200], re.I) and suffix not in TEXT_SUFFIXES:
        return Format("", what="an HTML page", fix=EXTRACT)
    if re.match(rb"\s*<\?xml", head[:200]) and suffix not in TEXT_SUFFIXES:
        return Format("", what="XML", fix="extract its text first")
    part = head[:8192]
    if len(part.translate(None, CONTROLS)) < 0.9 * len(part):
        return Format("", what="binary data", fix="leave it out")
    return None


def _alternates(head: bytes) -> bool:
    """Whether every other byte is zero, as in UTF-16 without its mark."""
    part = head[:4096]
    if len(part) < 16:
        return False
    even, odd = part[::2].count(0), part[1::2].count(0)
    return max(even, odd) > 0.35 * len(part) and min(even, odd) < 0.02 * len(part)


def _has_rows(text: bytes) -> bool:
    """Whether text that is named as such is JSON Lines: its first line is an object, and so is the
    second, where there is one."""
    lines = [line for line in text.splitlines()[:3] if line.strip()][:2]
    return bool(lines) and all(map(_object_in, lines))


def _parsed(line: bytes) -> Any:
    """The value of a line; None where it is no JSON."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _object_in(line: bytes) -> bool:
    return isinstance(_parsed(line), dict)


def _json_format(text: bytes, more: bool) -> Format | None:
    """JSON Lines, or one JSON text over several lines; None where it only begins like JSON."""
    body = text.lstrip()
    line, newline, rest = body.partition(b"\n")
    if body.startswith(b"["):
        if rest.lstrip().startswith(b"[") and _parsed(line) is not None:
            return Format("jsonl")  # of rows that are no objects
        return Format("json", "array") if re.match(rb"\[\s*([{\[\]\"\d-]|$)", body) else None
    keys, end = _outline(body)
    alone = end is not None and not body[end:].strip() and not more
    lists = [key for key, kind in keys.items() if kind == "objects" and key in ROWS_INSIDE]
    wraps = bool(lists) and not any(
        key in TEXT_KEYS for key, kind in keys.items() if kind == "text"
    )
    if wraps and (alone or end is None):
        return Format("json", "lists")
    if _object_in(line) or _object_in(rest.partition(b"\n")[0]) or (not newline and keys):
        return Format("jsonl")
    return Format("json") if keys and (end is not None or more or alone) else None


# A text that these bytes do not end is one token, so that no text is looked through twice.
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\]:,]', re.S)


def _outline(body: bytes) -> tuple[dict[str, str], int | None]:
    """(the keys of the first object with what they hold: text, objects in a list, or other; where
    the object ends, None where it does not end in these bytes)."""
    keys: dict[str, str] = {}
    depth, last, key, before = 0, b"", "", b""
    for found in TOKENS.finditer(body):
        token = found.group()
        if depth == 1 and token == b":" and last.startswith(b'"'):
            key = last[1:-1].decode("utf-8", "replace")
            keys[key] = "other"
        elif key and depth == 1 and token.startswith(b'"') and last == b":":
            keys[key] = "text"
        elif key and depth == 2 and token == b"{" and last == b"[" and before == b":":
            keys[key] = "objects"
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return keys, found.end()
        before, last = last, token
    return keys, None


def _delimiter(text: bytes) -> str:
    """The delimiter of a table whose name does not say CSV; empty where it is none. Its header has
    a key of text, and its first rows have as many fields."""
    try:
        lines = text.decode("utf-8", "ignore")
        header = lines.partition("\n")[0]
        for delimiter in DELIMITERS:
            names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
            if len(names) > 1 and set(names) & set(TEXT_KEYS):
                rows = csv.reader(io.StringIO(lines), delimiter=delimiter)
                sizes = [len(row) for row, _ in zip(rows, range(CSV_ROWS), strict=False)]
                if len(sizes) > 1 and set(sizes) == {len(names)}:
                    return delimiter
    except csv.Error:
        pass
    return ""


def csv_delimiter(header: str) -> str:
    """Of a file that is named CSV: what its header has most of, outside quotes."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=plain.count) if plain.strip() else ","


def tsv_is_quoted(lines: list[str]) -> bool:
    """Whether the fields of a TSV stand in quotes where they have to, as libraries write tables;
    most are written without, and a quote is a quote there."""
    fields = [field for line in lines for field in line.rstrip("\r\n").split("\t")]
    begun = [field for field in fields if field.startswith('"')]
    if len({line.count("\t") for line in lines if line.strip()}) <= 1:
        return bool(begun) and all(re.fullmatch(r'"([^"]|"")*"', field) for field in begun)
    sizes: list[int] = []
    try:
        sizes += (len(row) for row in csv.reader(lines, delimiter="\t") if row)
    except csv.Error:
        return False
    return bool(begun) and len(set(sizes[:-1])) == 1  # the last row may go on behind these lines
