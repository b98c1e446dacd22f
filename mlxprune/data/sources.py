"""Sources: which files a list of paths, folders, globs and hub addresses means, in what order.

A folder is data when any of its files is; its other files are left out, and named. It is a folder
of texts only where texts are what its files are: prose or source code by name, or text without any
suffix.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from glob import escape, glob, has_magic
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlxprune.config.data import Data, SourceEntry
from mlxprune.data.formats import (
    CODEC_SUFFIXES,
    DATA_SUFFIXES,
    Format,
    format_of,
    named_as_text,
    suffix_of,
)
from mlxprune.data.hub import hub_snapshot, pinned_revision
from mlxprune.data.rows import RowKeys, row_keys_of
from mlxprune.errors import DataError, one_line
from mlxprune.files import read_json
from mlxprune.records import record_of

CHECKSUM_SUFFIXES = (".sha256", ".sha512", ".sha1", ".md5", ".crc", ".asc", ".sig")
HIDDEN, UNDERSCORE = "hidden", "named with a leading underscore"
BESIDE = "beside data of another format"
NOTE = "a note about the data"
NOTES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
NAMED = 5  # files that a sentence names
# Formats from what most people mean to what is often only a note beside the data.
TIERS = (("jsonl", "parquet", "arrow", "warc"), ("csv", "tsv"), ("json",), ("text",))
TEXTS = len(TIERS) - 1


USUAL_KEYS = RowKeys()


@dataclass(frozen=True)
class Source:
    """One input file. ``name`` is its path below the common root: what fingerprints and ids use."""

    path: Path
    name: str
    form: str  # jsonl, json, parquet, arrow, csv, tsv, warc, text
    top: str  # the path below the entry of data.paths that named it, for domains from folders
    keys: RowKeys = USUAL_KEYS
    entry: int = 0  # which of data.paths
    inside: str = ""  # of json: where its rows are


@dataclass(frozen=True)
class LeftOut:
    """A file of a folder or pattern that is not read."""

    path: str
    why: str


@dataclass(frozen=True)
class FileProblem:
    """A file that was named and cannot be read as it is."""

    path: str
    problem: str
    fix: str
    entry: int = 0  # which of data.paths


@dataclass
class FoundFiles:
    """What the entries of data.paths mean: ``sources`` in canonical order, the files that are
    left out, files that cannot be read, and folders that are taken for folders of texts."""

    sources: list[Source] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    text_folders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Match:
    form: Format
    top: str
    entry: int


def find_sources(data: Data) -> FoundFiles:
    """The input files of a configuration. Raises DataError where an entry means no file."""
    found = FoundFiles()
    matches: dict[Path, _Match] = {}
    for number, entry in enumerate(data.paths):
        for path, form, top in _expand(entry, found):
            if not form.form:
                found.problems.append(FileProblem(str(path), form.problem, form.fix, number))
            elif path in matches and matches[path].entry != number:
                found.left_out.append(LeftOut(str(path), "named by an entry before, too"))
            else:
                matches[path] = _Match(form, top, number)
    if not matches and not found.problems:
        listed = ", ".join(e.path for e in data.paths)
        raise DataError("no input files", listed, "check data.paths")
    files = sorted(_each_once(matches))
    for path in files:
        _refuse_odd_name(path)
    root = Path(*_common_parts([p.parent for p in files])) if files else Path()
    keys = [row_keys_of(data, entry) for entry in data.paths]
    for path in files:
        match = matches[path]
        name = path.relative_to(root).as_posix()
        found.sources.append(
            Source(
                path, name, match.form.form, match.top, keys[match.entry], match.entry,
                match.form.inside,
            )
        )  # fmt: skip
    found.sources.sort(key=lambda s: s.name)
    found.left_out.sort(key=lambda left: left.path)
    return found


def plain_source(source: Source) -> dict[str, Any]:
    """A source as plain values."""
    return {**asdict(source), "path": str(source.path)}


def source_from(place: dict[str, Any], usual: RowKeys) -> Source:
    """The source that plain values are; ``usual`` keys where they hold none."""
    keys = record_of(place["keys"], RowKeys) if "keys" in place else usual
    return Source(**{**place, "path": Path(place["path"]), "keys": keys})


def notes_on_files(found: FoundFiles) -> list[str]:
    """What a reader should know before any row is read."""
    notes = [left_out_sentence(found.left_out)] if found.left_out else []
    texts = "is read as a folder of texts, a document each file"
    return [*notes, *(f"{folder} {texts}" for folder in found.text_folders)]


def left_out_sentence(left_out: list[LeftOut]) -> str:
    """How many files are left out, why, and some of their names."""
    why = Counter(left.why for left in left_out)
    parts = []
    for reason, count in why.most_common():
        names = ["/".join(Path(left.path).parts[-2:]) for left in left_out if left.why == reason]
        more = ", ..." if count > NAMED else ""
        parts.append(f"{count:,} {reason} ({', '.join(map(one_line, names[:NAMED]))}{more})")
    files = "1 file is" if len(left_out) == 1 else f"{len(left_out):,} files are"
    return f"{files} left out: {'; '.join(parts)}"


def _each_once(names: dict[Path, _Match]) -> list[Path]:
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


def _expand(given: SourceEntry, found: FoundFiles) -> Iterator[tuple[Path, Format, str]]:
    entry = given.path
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
        why = _ignored(path.name) if pattern else ""
        if why:
            found.left_out.append(LeftOut(str(path), why))
        elif path.is_dir():
            yield from _folder(path, found)
        elif not path.is_file():
            yield path, Format("", what="not a regular file", fix="leave it out"), ""
        else:
            yield path, format_of(path), "/".join(path.parts[fixed:]) if pattern else path.name


def _matches(pattern: str) -> list[str]:
    """What a pattern matches, in either form of composed letters: a Mac's disk may hold a name that
    was typed as one letter as a letter and its accent."""
    forms = {pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))}
    return sorted({match for form in forms for match in glob(form, recursive=True)})  # noqa: PTH207


def _folder(folder: Path, found: FoundFiles) -> Iterator[tuple[Path, Format, str]]:
    files = sorted(_walk(folder, found))
    listed = _listed_arrow_files(files)
    by_tier: dict[int, list[tuple[Path, Format]]] = {}
    refused: list[tuple[Path, Format]] = []
    for path in files:
        if path in listed:
            continue
        form = _format_in_folder(path)
        if form.form:
            by_tier.setdefault(_tier(path, form), []).append((path, form))
        else:
            refused.append((path, form))
    if not by_tier and not any(_named_as_data(path) for path, _ in refused):
        kinds = Counter(form.what for _, form in refused)
        holds = ", ".join(f"{n} times {what}" for what, n in kinds.most_common(4)) or "no file"
        fix = "name the files themselves, or have their text written as JSON Lines"
        raise DataError(f"nothing in this folder is read: it holds {holds}", str(folder), fix)
    best = min(by_tier, default=len(TIERS))
    if best == TEXTS:
        found.text_folders.append(str(folder))
    for path in listed:
        found.left_out.append(LeftOut(str(path), "not listed in state.json"))
    for path, form in refused:
        named = _named_as_data(path) and best < TEXTS and form.what != NOTE
        broken = form.broken and (_named_as_data(path) or named_as_text(path.name))
        if named or broken or best == len(TIERS):
            yield path, form, ""
        else:
            found.left_out.append(LeftOut(str(path), form.what))
    for tier, members in by_tier.items():
        if tier > best:
            found.left_out.extend(LeftOut(str(path), BESIDE) for path, _ in members)
    for path, form in by_tier.get(best, []):
        yield path, form, path.relative_to(folder).as_posix()


def _tier(path: Path, form: Format) -> int:
    if suffix_of(path.name) == ".json":  # often a note about the data
        return TIERS.index(("json",))
    if form.form == "json":
        return 0
    return next(i for i, forms in enumerate(TIERS) if form.form in forms)


def _named_as_data(path: Path) -> bool:
    return suffix_of(path.name) in DATA_SUFFIXES


def _format_in_folder(path: Path) -> Format:
    """As ``format_of``, and what a folder does not count as text or as data."""
    try:
        form = format_of(path)
    except DataError as error:
        return Format("", what=error.problem, fix=error.fix, broken=True)
    suffix = suffix_of(path.name)
    if path.name in NOTES:
        return Format("", what=NOTE)
    if suffix in (".yaml", ".yml") and form.form == "text" and _is_configuration(path):
        return Format("", what="a configuration of mlxprune")
    if form.form == "text" and suffix and not named_as_text(path.name):
        return Format("", what=f"of an unknown kind ({suffix})")
    return form


def _is_configuration(path: Path) -> bool:
    """Whether a YAML file is one of ours: what is written into it would change the corpus."""
    head = path.read_bytes()[:100_000].decode("utf-8", "replace")
    return bool(
        re.search(r"^data:", head, re.M) and re.search(r"^\s+paths:|\{\s*paths:", head, re.M)
    )


def _listed_arrow_files(files: list[Path]) -> set[Path]:
    """Arrow files beside a state.json of ``save_to_disk`` that does not list them: caches."""
    unlisted: set[Path] = set()
    for state in (p for p in files if p.name == "state.json"):
        try:
            listed = {str(f["filename"]) for f in read_json(state)["_data_files"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
        beside = [p for p in files if p.parent == state.parent and p.suffix == ".arrow"]
        if listed:
            unlisted |= {p for p in beside if p.name not in listed}
    return unlisted


def _walk(folder: Path, found: FoundFiles) -> Iterator[Path]:
    """The files below a folder, symbolic links followed once; run folders are no data."""

    def fail(error: OSError) -> None:
        fix = "check its permissions"
        raise DataError(f"cannot read it: {one_line(error)}", str(folder), fix)

    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if "run.json" in files and "events" in folders:
            found.left_out.append(LeftOut(here, "a run of mlxprune"))
            folders.clear()
            continue
        for name in sorted(folders):
            if why := _ignored(name):
                folders.remove(name)
                found.left_out.extend(_below(Path(here) / name, why))
        folders.sort()
        for name in files:
            path = Path(here) / name
            if why := _ignored(name):
                found.left_out.append(LeftOut(str(path), why))
            elif path.is_file():
                yield path
            else:
                why = "a link to nothing" if path.is_symlink() else "not a regular file"
                found.left_out.append(LeftOut(str(path), why))


def _below(folder: Path, why: str) -> list[LeftOut]:
    """The files of a folder that is left out; of a hidden one, itself: it may hold thousands."""
    if why == HIDDEN:
        return [LeftOut(str(folder), why)]
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [LeftOut(str(path), why) for path in files]


def _is_literal(part: str) -> bool:
    """Whether a part of a pattern matches only itself; ``[[]`` is an escaped bracket."""
    return escape(re.sub(r"\[([*?[])\]", r"\1", part)) == part


def _ignored(name: str) -> str:
    """Why files and folders of this name are never read; empty where they are."""
    if name.startswith("."):
        return HIDDEN
    if name.startswith("_"):
        return UNDERSCORE
    if name.endswith(".tmp"):
        return "temporary"
    return "a checksum" if name.lower().endswith(CHECKSUM_SUFFIXES) else ""


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


def download_dataset(address: str) -> Path:
    """``hf://datasets/org/name[@revision][/folder]`` -> a local snapshot with its data files."""
    repo, revision, inside = dataset_address(address)
    below = f"{inside}/" if inside else ""
    patterns = [f"{below}**{s}{c}" for s in DATA_SUFFIXES for c in ("", *CODEC_SUFFIXES)]
    patterns += [inside] if inside else []
    root = hub_snapshot(repo, patterns, "dataset", revision)
    return root / inside if inside else root


def dataset_address(address: str) -> tuple[str, str | None, str | None]:
    """(repository, revision, folder inside) of an address."""
    found = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?", address)
    if not found:
        raise DataError("not a dataset address", address, "write hf://datasets/org/name[@revision]")
    return found[1], found[2], found[3]


def pinned(data: Data, before: Data | None = None) -> Data:
    """The same with every address of the hub at one commit: that of a run's data ``before`` where
    it names the same place and no revision is asked for, else what it means now."""
    known = {}
    for entry in before.paths if before is not None else []:
        if entry.path.startswith("hf://"):
            repo, revision, inside = dataset_address(entry.path)
            known[repo, inside] = revision
    paths = []
    for entry in data.paths:
        path = entry.path
        if path.startswith("hf://"):
            repo, revision, inside = dataset_address(path)
            exact = revision or known.get((repo, inside))
            if exact is None or not re.fullmatch(r"[0-9a-f]{40}", exact):
                exact = pinned_revision(download_dataset(path), revision)
            below = f"/{inside}" if inside else ""
            path = f"hf://datasets/{repo}@{exact}{below}" if exact else path
        paths.append(path)
    return data.with_paths(paths)
