"""The hub: a name is a local folder, or a repository that huggingface_hub fetches and caches."""

from __future__ import annotations

from pathlib import Path

from mlxprune.errors import DataError, one_line

OFFLINE = "check the name, the network and HF_TOKEN; HF_HUB_OFFLINE=1 uses the cache alone"


def fetch_from_hub(name: str, patterns: list[str]) -> Path:
    """A local folder as it is, or a snapshot of the files of ``org/name`` that match.

    Raises DataError when there is neither.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        return local.absolute()
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise DataError("no such folder", name, "give a folder or a hub id")
    return hub_snapshot(name, patterns)


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
        raise DataError(f"cannot fetch it: {one_line(error)}", repository, OFFLINE) from None
    return Path(folder)
