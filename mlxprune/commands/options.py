"""Options: what the commands of the command line share."""

from __future__ import annotations

import errno
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
More = Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="more of --data")]
Memory = Annotated[
    str | None, typer.Option("--memory", help="what batches may fill, as in 8G; as memory: 8G")
]
Pool = Annotated[
    str | None, typer.Option("--pool", help="auto: what the budgets need; all: as split.pool")
]
IdKey = Annotated[str, typer.Option("--id-key", help="where the id is")]


def print_json(value: Any) -> None:
    from mlxprune.records import plain

    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    sys.stdout.buffer.write(json_bytes(plain(value)))
    sys.stdout.flush()


def listeners(quiet: bool) -> list[Any]:
    if quiet:
        return []
    from mlxprune.commands.console import Console

    return [Console()]
