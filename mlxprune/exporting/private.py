"""Private: what of a run is nobody else's business: folders of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.experiment.artifacts import RunArtifacts


def private_folders(held: RunArtifacts) -> list[str]:
    """Folders whose names must not leave this machine, longest first."""
    run = held.run.path.absolute()
    folders = {run, run.parent, run.resolve(), run.resolve().parent, Path.home(), Path.cwd()}
    named = [source.path for source in held.corpus.sources]
    named += [Path(entry.path) for entry in held.config.data.paths if "://" not in entry.path]
    asked = held.config.evaluation
    named += [Path(p) for p in (*asked.target, *asked.tasks, asked.gauntlet or "") if p]
    models = [r.pretrained for r in held.config.scorers if r.pretrained]
    models += [held.config.tokenizer.pretrained or "", held.config.final.model]
    named += [Path(name).expanduser() for name in models if name]
    for path in named:
        if path.is_absolute():
            folders |= {path.parent, path.parent.resolve()}
    told = {str(folder) for folder in folders if len(folder.parts) > 1}
    return sorted(told, key=len, reverse=True)


def without_folders(text: str, folders: list[str]) -> str:
    """The same text with paths below these folders told from there on."""
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(folder, "(folder)")
    return text


def shared_config(config: Config, folders: list[str]) -> str:
    """The configuration as YAML, without the folders."""
    tree: dict[str, Any] = config.model_dump(mode="json")
    return without_folders(write_yaml(tree), folders)
