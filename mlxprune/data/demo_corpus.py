"""The demo corpus: real text in several domains out of the Python installation that runs us."""

from __future__ import annotations

import ast
import html.entities
import importlib.metadata
import sysconfig
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from mlxprune.errors import DataError
from mlxprune.files import fingerprint_of, write_atomic

BYTES_PER_DOMAIN = 700_000
LONGEST_DOCUMENT = 6_000
LICENCE_STEMS = ("licen", "copying", "notice", "authors")
CONFIG = """\
# The configuration of `mlxprune demo`: a tiny model, so that the loop ends in minutes.
# `mlxprune run {file} --set selection.rate=0.5` tries another slice and reuses the scores.
version: 1
name: demo
data:
  paths: [corpus]
  domain_key: domain
split: {{reference: 0.3}}
tokenizer: {{train: {{vocab_size: 2048}}}}
reference: {{model: pico, tokens: 600k, context: 256}}
selection: {{criterion: high, rate: 0.08, unit: tokens}}
final: {{model: pico, tokens: 300k, context: 256, arms: [pruned, random, matched],
         seeds: [0, 1, 2]}}
"""


def write_demo_corpus(folder: Path, bytes_per_domain: int = BYTES_PER_DOMAIN) -> dict[str, int]:
    """One JSONL file a domain under ``folder``; returns documents by domain.

    The same installation gives the same bytes. Raises DataError when it carries no source code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for domain, texts in DOMAINS.items():
        lines, size = [], 0
        for name, text in texts():
            if size >= bytes_per_domain:
                break
            for number, piece in enumerate(_pieces(text)):
                record = {"id": f"{domain}/{name}/{number}", "text": piece, "domain": domain}
                lines.append(orjson.dumps(record) + b"\n")
                size += len(piece.encode())
        if lines:
            write_atomic(folder / f"{domain}.jsonl", b"".join(lines))
            counts[domain] = len(lines)
    if len(counts) < 3:
        fix = "run the demo with a full Python installation"
        raise DataError("this Python carries too little text", sysconfig.get_paths()["stdlib"], fix)
    return counts


def _pieces(text: str) -> Iterator[str]:
    """Documents of at most LONGEST_DOCUMENT characters, cut at blank lines where possible."""
    text = text.strip()
    while text:
        if len(text) <= LONGEST_DOCUMENT:
            cut = len(text)
        else:
            cut = text.rfind("\n\n", LONGEST_DOCUMENT // 4, LONGEST_DOCUMENT)
            cut = cut if cut > 0 else LONGEST_DOCUMENT
        piece, text = text[:cut].strip(), text[cut:].strip()
        if len(piece) >= 40:
            yield piece


def _modules() -> Iterator[tuple[str, str]]:
    """Modules of the standard library in a fixed, mixed order, without tests and tables."""
    root = Path(sysconfig.get_paths()["stdlib"])
    apart = {"test", "tests", "site-packages", "idlelib", "encodings", "pydoc_data", "lib2to3"}
    files = [
        p
        for p in sorted(root.rglob("*.py"))
        if not apart & set(p.relative_to(root).parts) and "dist-packages" not in p.parts
    ]
    for path in sorted(files, key=lambda p: fingerprint_of(p.relative_to(root).as_posix())):
        try:
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _code() -> Iterator[tuple[str, str]]:
    yield from _modules()


def _docstrings() -> Iterator[tuple[str, str]]:
    """Long docstrings of packages and modules as prose, one document each."""
    for name, source in _installed_sources():
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, kinds):
                text = ast.get_docstring(node)
                if text and len(text) >= 400:
                    yield f"{name}:{getattr(node, 'name', 'module')}:{node_line(node)}", text


def node_line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _installed_sources() -> Iterator[tuple[str, str]]:
    """Source files of installed packages whose docstrings are long prose."""
    root = Path(sysconfig.get_paths()["purelib"])
    files = [
        p
        for package in ("numpy", "pydantic", "huggingface_hub", "matplotlib", "rich", "typer")
        for p in sorted((root / package).rglob("*.py"))
        if "tests" not in p.parts and p.stat().st_size < 400_000
    ]
    for path in sorted(files, key=lambda p: fingerprint_of(p.relative_to(root).as_posix())):
        try:
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _help_topics() -> Iterator[tuple[str, str]]:
    """The language reference that ``help()`` carries."""
    try:
        from pydoc_data import topics
    except ImportError:
        return
    for name in sorted(topics.topics, key=fingerprint_of):
        yield name, topics.topics[name]


def _distributions() -> list[importlib.metadata.Distribution]:
    found = {d.metadata["Name"].lower(): d for d in importlib.metadata.distributions()}
    return [found[name] for name in sorted(found)]


def _readmes() -> Iterator[tuple[str, str]]:
    for distribution in _distributions():
        text = distribution.metadata.get_payload()  # type: ignore[attr-defined]
        if isinstance(text, str) and len(text) > 200:
            yield distribution.metadata["Name"], text


def _licences() -> Iterator[tuple[str, str]]:
    for distribution in _distributions():
        for file in distribution.files or []:
            if file.name.lower().startswith(LICENCE_STEMS):
                try:
                    yield (
                        f"{distribution.metadata['Name']}/{file.as_posix()}",
                        file.read_text("utf-8"),
                    )
                except (OSError, UnicodeDecodeError):
                    continue
    licence = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"
    if licence.exists():
        yield "python", licence.read_text(encoding="utf-8")


def _tables() -> Iterator[tuple[str, str]]:
    """Generated tables: codecs as shipped, Unicode names and HTML entities written out."""
    folder = Path(sysconfig.get_paths()["stdlib"]) / "encodings"
    for path in sorted(folder.glob("*.py")):
        if path.stat().st_size > 8_000:
            text = path.read_text(encoding="utf-8", errors="replace")
            yield path.name, text[:LONGEST_DOCUMENT]
    names = sorted(html.entities.html5.items())
    for start in range(0, len(names), 120):
        rows = (
            f"{name:<28}{' '.join(f'U+{ord(c):04X}' for c in v)}"
            for name, v in names[start : start + 120]
        )
        yield f"entities-{start}", "\n".join(rows)
    for start in range(0x20, 0x3000, 0x80):
        characters = map(chr, range(start, start + 0x80))
        rows = (
            f"{ord(c):05X};{unicodedata.name(c, '<unassigned>')};{unicodedata.category(c)}"
            for c in characters
        )
        yield f"names-{start:05x}", "\n".join(rows)


DOMAINS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "code": _code,
    "docstrings": _docstrings,
    "help": _help_topics,
    "licences": _licences,
    "readmes": _readmes,
    "tables": _tables,
}


def prepare_demo(folder: Path) -> Path:
    """Write corpus and configuration into ``folder`` once; return the configuration's path."""
    config = folder / "demo.yaml"
    if not config.exists():
        write_demo_corpus(folder / "corpus")
        write_atomic(config, CONFIG.format(file=config.name))
    return config
