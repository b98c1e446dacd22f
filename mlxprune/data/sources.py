"""Sources: which files a list of paths, folders, globs and hub addresses means, in what order."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape, glob, has_magic
from itertools import takewhile
from pathlib import Path

import orjson

from mlxprune.data.decompression import decompressed_lines
from mlxprune.data.hub import hub_snapshot
from mlxprune.errors import DataError, one_line

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
    names: dict[Path, tuple[str, str]] = {}
    left_out: list[str] = []
    for entry in paths:
        for path, form, top in _expand(entry, left_out):
            names.setdefault(path, (form, top))
    if not names:
        raise DataError("no input files", ", ".join(paths), "check data.paths")
    files = sorted(_each_once(names))
    for path in files:
        _refuse_odd_name(path)
    root = Path(*_common_parts([p.parent for p in files]))
    sources = [Source(p, p.relative_to(root).as_posix(), *names[p]) for p in files]
    return sorted(sources, key=lambda s: s.name), sorted(left_out)


def _each_once(names: dict[Path, tuple[str, str]]) -> list[Path]:
    """A file that links lead to twice is read once, under its own name where it has one here."""
    own: dict[str, Path] = {}
    for path in sorted(names, key=lambda p: (p.is_symlink(), p)):
        own.setdefault(os.path.realpath(path), path)
    return list(own.values())


def _refuse_odd_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        fix = "rename the file"
        raise DataError("the file's name is not UTF-8", ascii(str(path)), fix) from None


def _expand(entry: str, left_out: list[str]) -> Iterator[tuple[Path, str, str]]:
    if entry.startswith("hf://"):
        entry = str(download_dataset(entry))
    pattern = has_magic(entry) and not Path(entry).exists()
    matches = _matches(entry) if pattern else [entry]
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


def _matches(pattern: str) -> list[str]:
    """What a pattern matches, in either form of composed letters: a Mac's disk may hold a name that
    was typed as one letter as a letter and its accent."""
    forms = {pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))}
    return sorted({match for form in forms for match in glob(form, recursive=True)})  # noqa: PTH207


def _folder(folder: Path, left_out: list[str]) -> Iterator[tuple[Path, str, str]]:
    files = sorted(_walk(folder))
    data = [p for p in files if _suffix_form(p) in ("jsonl", "parquet") and p.suffix != ".json"]
    if not data:  # a .json file is often a note about the data, but not when it is all there is
        data = [p for p in files if _suffix_form(p) == "jsonl" and _first_is_object(p)]
    for path in data or files:
        form = form_of(path) if data else "text"
        yield path, form, path.relative_to(folder).as_posix()
    if data:
        left_out.extend(str(p) for p in files if p not in set(data))


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, symbolic links followed once; run folders are no data."""

    def fail(error: OSError) -> None:
        fix = "check its permissions"
        raise DataError(f"cannot read it: {one_line(error)}", str(folder), fix)

    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(here)
        is_run = "run.json" in files and "events" in folders
        if real in seen or is_run:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not _ignored(f))
        for name in files:
            path = Path(here) / name
            if not _ignored(name) and path.is_file():
                yield path


def _first_is_object(path: Path) -> bool:
    for _, line in decompressed_lines(path):
        try:
            return isinstance(orjson.loads(line), dict)
        except orjson.JSONDecodeError:
            return False
    return False


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
    return "jsonl" if _first_is_object(path) else "text"


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
    root = hub_snapshot(repo, patterns, "dataset", revision)
    return root / inside if inside else root
