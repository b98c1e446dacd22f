"""Sources: which files a list of paths, folders, globs and hub addresses means, in what order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape, glob, has_magic
from itertools import takewhile
from pathlib import Path

import orjson

from mlxprune import hub
from mlxprune.errors import DataError
from mlxprune.unpack import lines

JSONL_SUFFIXES = (".jsonl", ".ndjson", ".json")
CODEC_SUFFIXES = (".gz", ".zst", ".xz")
CHECKSUM_SUFFIXES = (".sha256", ".sha512", ".sha1", ".md5", ".crc", ".asc", ".sig")


@dataclass(frozen=True)
class Source:
    """One input file. ``name`` is its path below the common root: what fingerprints and ids use."""

    path: Path
    name: str
    form: str  # jsonl, parquet, text
    top: str  # the path below the entry of data.paths that named it, for domains from folders


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
    pattern = has_magic(entry) and not Path(entry).exists()
    matches = sorted(glob(entry, recursive=True)) if pattern else [entry]  # noqa: PTH207
    # Folder levels below the fixed part of a pattern name domains, as those of a folder do.
    fixed = len(list(takewhile(_is_literal, Path(entry).absolute().parts)))
    if not matches:
        raise DataError("the pattern matches no file", entry, "check data.paths")
    for match in matches:
        path = Path(match).absolute()
        if not path.exists():
            raise DataError("no such file or folder", str(path), "check data.paths")
        if path.is_dir():
            if not (pattern and _ignored(path.name)):
                yield from _folder(path, left_out)
        elif not pattern:
            yield path, form_of(path), path.name
        elif not _ignored(path.name):
            yield path, form_of(path), "/".join(path.parts[fixed:])


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


def _is_literal(part: str) -> bool:
    """Whether a part of a pattern matches only itself; ``[[]`` is an escaped bracket."""
    return escape(re.sub(r"\[([*?[])\]", r"\1", part)) == part


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
    below = f"{inside}/" if inside else ""
    patterns = [
        f"{below}**{s}{c}" for s in (*JSONL_SUFFIXES, ".parquet") for c in ("", *CODEC_SUFFIXES)
    ]
    patterns += [inside] if inside else []
    root = hub.snapshot(repo, patterns, "dataset", revision)
    return root / inside if inside else root
