"""Options: what the commands of the command line share."""

from __future__ import annotations

import errno
import json
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune.files import json_bytes

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="a YAML file; see init")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress lines")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="override a key; repeatable")
]
Data = Annotated[list[str], typer.Option("--data", metavar="PATH", help="files, folders, hf://...")]
TextKey = Annotated[str, typer.Option("--text-key", help="where the text is")]
DomainKey = Annotated[str, typer.Option("--domain-key", help="where the domain is")]
More = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="further files, as a pattern after --data gives them"),
]
Memory = Annotated[
    str | None, typer.Option("--memory", help="what batches may fill, as in 8G; as memory: 8G")
]
Pool = Annotated[
    str | None, typer.Option("--pool", help="auto: what the budgets need; all: as split.pool")
]
IdKey = Annotated[str, typer.Option("--id-key", help="where the id is")]


def run_name(config: Path) -> str:
    """What a study is called after the file of its configuration: what may become a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", config.stem).strip("-._")[:60] or "run"


def print_json(value: Any) -> None:
    from mlxprune.records import plain

    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    data = json_bytes(plain(value))
    if sys.stdout.isatty():  # where control characters and directions of writing would be obeyed
        data = escaped(data.decode()).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def escaped(text: str) -> str:
    """JSON text with everything that is no printable character as JSON escapes it."""
    return "".join(
        c if c.isprintable() or c == "\n" else json.dumps(c, ensure_ascii=True)[1:-1] for c in text
    )


def told_as_json(value: Any) -> Any:
    """What a log holds as JSON can say it: keys and bytes as text, no NaN."""
    if isinstance(value, dict):
        return {str(told_as_json(key)): told_as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [told_as_json(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def listeners(quiet: bool, first: str = "") -> list[Any]:
    """What prints a run's lines, ``first`` above all others."""
    if quiet:
        return []
    from mlxprune.commands.console import Console

    return [Console(first=first, stages=True)]
