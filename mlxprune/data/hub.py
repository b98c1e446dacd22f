"""The hub: a name is a local folder, or a repository that huggingface_hub fetches and caches."""

from __future__ import annotations

import re
from pathlib import Path

from mlxprune.errors import DataError, one_line

OFFLINE = "check the name, the network and HF_TOKEN; HF_HUB_OFFLINE=1 uses the cache alone"


def is_local(name: str) -> bool:
    """Whether a name is a folder that is here."""
    try:
        return Path(name).expanduser().is_dir()
    except (RuntimeError, OSError, ValueError):  # ~name of nobody, a name that no file can have
        return False


def fetch_from_hub(name: str, patterns: list[str]) -> Path:
    """A local folder as it is, or a snapshot of the files of ``org/name`` that match.

    Raises DataError when there is neither.
    """
    if is_local(name):
        return Path(name).expanduser().absolute()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith((".", "~")):
        raise DataError("no such folder", name, "give a folder or a hub id")
    parent = Path(name).parent
    if parent != Path() and parent.is_dir():  # a mistyped folder: its name stays on this machine
        fix = f"it holds: {_names_in(parent)}; a hub id must not begin as a folder that is here"
        raise DataError(f"there is no {Path(name).name} in {parent}", name, fix)
    try:
        return hub_snapshot(name, patterns)
    except DataError as error:
        problem = (
            f"there is no folder of this name, and the hub gives no such model: {error.problem}"
        )
        raise DataError(problem, name, error.fix) from None


def _names_in(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return ", ".join(map(one_line, names[:5])) + (", ..." if len(names) > 5 else "") or "nothing"


def hub_snapshot(
    repository: str, patterns: list[str], kind: str = "model", revision: str | None = None
) -> Path:
    """The cached or fetched files of a repository of the hub; ``kind`` is model or dataset."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, repo_type=kind, revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # the hub's client raises many kinds, over several libraries
        raise DataError(_why(error), repository, OFFLINE) from None
    return Path(folder)


def _why(error: Exception) -> str:
    """What went wrong, without the client's own advice."""
    text = one_line(error)
    if re.search("Name or service not known|getaddrinfo|nodename nor servname|ConnectError", text):
        return "the hub is out of reach"
    return f"cannot fetch it: {text}"


def pinned_revision(snapshot: Path, asked: str | None) -> str | None:
    """The commit of a snapshot: the name of its folder in the hub's cache; else what was asked
    for."""
    for part in reversed(snapshot.parts):
        if re.fullmatch(r"[0-9a-f]{40}", part):
            return part
    return asked
