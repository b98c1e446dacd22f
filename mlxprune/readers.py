"""Files to rows: JSON Lines and Parquet and plain texts, compressed or not, local or on the hub.

The codec is sniffed from the bytes, never from the name. A compressed file that ends early is an
error that names it. Rows that are no documents come back as ``Skip`` with the reason.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from mlxprune.errors import DataError, one_line

CHUNK_BYTES = 1 << 20
AUTO_DOMAIN_KEYS = ("domain", "source", "meta.pile_set_name")
AUTO_DOMAIN_ROWS = 100  # rows of a file that decide which of those keys it has
NO_DOMAIN = "(none)"
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".json")
CODEC_SUFFIXES = (".gz", ".zst", ".xz")
CHECKSUM_SUFFIXES = (".sha256", ".sha512", ".sha1", ".md5", ".crc", ".asc", ".sig")
# The reasons that do not count towards data.max_bad: such rows are common and harmless.
HARMLESS_REASONS = ("empty_text", "null_text")


@dataclass(frozen=True)
class Source:
    """One input file. ``name`` is its path below the common root: what fingerprints and ids use."""

    path: Path
    name: str
    form: str  # jsonl, parquet, text
    top: str  # the path below the entry of data.paths that named it, for domains from folders


@dataclass(frozen=True)
class Keys:
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


@dataclass(frozen=True, slots=True)
class Skip:
    number: int
    reason: str
    start: str
    keys: tuple[str, ...] = ()  # the keys that the row has, when the text key is not among them


def find_sources(paths: list[str]) -> tuple[list[Source], list[str]]:
    """The input files in canonical order, and the files of data folders that were left out."""
    found: dict[Path, tuple[str, str]] = {}
    left_out: list[str] = []
    for entry in paths:
        for path, form, top in _expand(entry, left_out):
            found.setdefault(path, (form, top))
    if not found:
        raise DataError("no input files", ", ".join(paths), "check data.paths")
    files = sorted(found)
    root = Path(*_common_parts([p.parent for p in files]))
    sources = [Source(p, p.relative_to(root).as_posix(), *found[p]) for p in files]
    return sorted(sources, key=lambda s: s.name), sorted(left_out)


def _expand(entry: str, left_out: list[str]) -> Iterator[tuple[Path, str, str]]:
    if entry.startswith("hf://"):
        entry = str(download_dataset(entry))
    matches = sorted(glob(entry, recursive=True)) if has_magic(entry) else [entry]  # noqa: PTH207
    if not matches:
        raise DataError("the pattern matches no file", entry, "check data.paths")
    for match in matches:
        path = Path(match).absolute()
        if not path.exists():
            raise DataError("no such file or folder", str(path), "check data.paths")
        if path.is_dir():
            if has_magic(entry) and _ignored(path.name):
                continue
            yield from _folder(path, left_out)
        elif not (has_magic(entry) and _ignored(path.name)):
            yield path, form_of(path), path.name


def _folder(folder: Path, left_out: list[str]) -> Iterator[tuple[Path, str, str]]:
    files = [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not any(_ignored(part) for part in p.relative_to(folder).parts)
    ]
    data = [p for p in files if _suffix_form(p) in ("jsonl", "parquet") and p.suffix != ".json"]
    for path in data or files:
        form = form_of(path) if data else "text"
        yield path, form, path.relative_to(folder).as_posix()
    if data:
        left_out.extend(str(p) for p in files if p not in set(data))


def _ignored(name: str) -> bool:
    if name.startswith((".", "_")) or name.endswith(".tmp"):
        return True
    return name.lower().endswith(CHECKSUM_SUFFIXES)


def _common_parts(folders: list[Path]) -> tuple[str, ...]:
    parts = list(folders[0].parts)
    for folder in folders[1:]:
        same = 0
        for mine, other in zip(parts, folder.parts, strict=False):
            if mine != other:
                break
            same += 1
        del parts[same:]
    return tuple(parts)


def _suffix_form(path: Path) -> str:
    name = path.name.lower()
    for suffix in CODEC_SUFFIXES:
        name = name.removesuffix(suffix)
    if name.endswith(JSONL_SUFFIXES):
        return "jsonl"
    return "parquet" if name.endswith(".parquet") else ""


def form_of(path: Path) -> str:
    """By the name; a name that says nothing is decided by the first line."""
    form = _suffix_form(path)
    if form:
        return form
    for _, line in lines(path):
        try:
            return "jsonl" if isinstance(orjson.loads(line), dict) else "text"
        except orjson.JSONDecodeError:
            return "text"
    return "text"


def download_dataset(address: str) -> Path:
    """``hf://datasets/org/name[@revision][/folder]`` -> a local snapshot with its data files."""
    found = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?", address)
    if not found:
        raise DataError("not a dataset address", address, "write hf://datasets/org/name[@revision]")
    repo, revision, inside = found.groups()
    from huggingface_hub import snapshot_download

    below = f"{inside}/" if inside else ""
    patterns = [
        f"{below}**{s}{c}" for s in (*JSONL_SUFFIXES, ".parquet") for c in ("", *CODEC_SUFFIXES)
    ]
    patterns += [inside] if inside else []
    try:
        root = snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # the hub's client raises many kinds, over several libraries
        fix = "check the name, the network and HF_TOKEN; HF_HUB_OFFLINE=1 uses the cache alone"
        raise DataError(f"cannot fetch it: {one_line(error)}", address, fix) from None
    return Path(root) / inside if inside else Path(root)


def codec_of(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head):
        return "zst"
    return "xz" if head.startswith(b"\xfd7zXZ\x00") else "plain"


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file. A broken or early end is a DataError that names it."""
    try:
        with path.open("rb") as file:
            codec = codec_of(file.read(6))
            file.seek(0)
            if codec == "zst":
                yield from _zstd_chunks(file, path)
                return
            stream: Any = file
            if codec == "gz":
                stream = gzip.GzipFile(fileobj=file)
            elif codec == "xz":
                stream = lzma.LZMAFile(file)  # noqa: SIM115 (the file is closed below)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except EOFError:
        raise _cut_short(path) from None
    except (OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(path), "check the file, or leave it out") from None


def _zstd_chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Frame by frame: the library's stream readers end silently when the last frame is cut."""
    frame = None
    while data := file.read(CHUNK_BYTES // 4):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            out = frame.decompress(data)
            if out:
                yield out
            if not frame.eof:
                break
            data, frame = frame.unused_data, None
    if frame is not None:
        raise _cut_short(path)


def _cut_short(path: Path) -> DataError:
    return DataError("the compressed file ends early", str(path), "fetch it again, or leave it out")


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset in the decompressed stream, line without its end). Only LF ends a line."""
    offset, pending = 0, bytearray()
    for chunk in chunks(path):
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line = bytes(pending) + chunk[start:end]
            yield offset, line
            offset += len(line) + 1
            pending.clear()
            start = end + 1
        pending += chunk[start:]
    if pending:
        yield offset, bytes(pending)


def read(source: Source, keys: Keys) -> Iterator[Row | Skip]:
    """The rows of one file in order. Blank lines are no rows."""
    if source.form == "text":
        yield _text_row(source, keys)
        return
    values = jsonl_values(source) if source.form == "jsonl" else _parquet_values(source, keys)
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
        if any(isinstance(_get(row, key), str) for row in rows):
            return key
    return "path:1" if "/" in source.top else "file"


def _text_row(source: Source, keys: Keys) -> Row | Skip:
    data = b"".join(chunks(source.path))
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


def jsonl_values(source: Source) -> Iterator[tuple[int, int, Any]]:
    number = 0
    for offset, line in lines(source.path):
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if not line.strip():
            continue
        yield number, offset, _parse(line)
        number += 1


def _parse(line: bytes) -> Any:
    """The JSON value, or a ``_Bad`` reason. Bytes are checked before JSON."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return _Bad("invalid_utf8", ascii(line[:80]))
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # It also refuses NaN and lone surrogates, which are not broken JSON to everyone.
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            return _Bad("bad_json", line[:80].decode("utf-8", "replace"))


@dataclass(frozen=True)
class _Bad:
    reason: str
    start: str


def _parquet_values(source: Source, keys: Keys) -> Iterator[tuple[int, int, Any]]:
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
            for value in batch.to_pylist():
                yield number, 0, value
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), "check the file, or leave it out") from None


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
    source: Source, keys: Keys, domain_key: str, number: int, offset: int, value: Any
) -> Row | Skip:
    if isinstance(value, _Bad):
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
    group = _scalar(_get(value, keys.group)) if keys.group else None
    identity = _scalar(_get(value, keys.id))
    return Row(number, offset, text, identity, _domain(source, domain_key, value), group)


def _scalar(value: Any) -> str | None:
    """A value as text that any file can hold; None where there is nothing to say."""
    if value is _MISSING or value is None or value == "":
        return None
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
