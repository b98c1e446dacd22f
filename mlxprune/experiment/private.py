"""Private: what of a run is nobody else's business: folders of this machine."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import RunError
from mlxprune.experiment.artifacts import RunArtifacts

HERE = "\0here\0"  # in place of a folder, until all are found


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
    """The same text with paths below these folders told from there on; what only looks alike, as
    part of an address or of another path, stays."""
    for folder in folders:
        end = r"(?=[/\s\"'<>),;:]|$)"
        text = re.sub(rf"(?<![\w.:/~-]){re.escape(folder)}{end}", HERE, text)
    return text.replace(f"{HERE}/", "").replace(HERE, "(folder)")


def shared(value: Any, folders: list[str]) -> Any:
    """Plain values whose texts name no folder: before they are written in any way that escapes."""
    if isinstance(value, dict):
        return {key: shared(one, folders) for key, one in value.items()}
    if isinstance(value, list):
        return [shared(one, folders) for one in value]
    return without_folders(value, folders) if isinstance(value, str) else value


def shared_config(config: Config, folders: list[str]) -> str:
    """The configuration as YAML, without the folders."""
    return write_yaml(shared(config.model_dump(mode="json"), folders))


def refuse_private(name: str, text: str, folders: list[str]) -> None:
    """Raises RunError where a folder is told after all, however it is written there."""
    plain = " ".join(html.unescape(text).replace("\\/", "/").split())
    plain = plain.replace("'\"'\"'", "'").replace("''", "'")  # as a shell and YAML read it
    for folder in folders:
        told = " ".join(folder.split())
        pattern = rf"(?<![\w.:~/-]){re.escape(told)}/"
        if len(Path(folder).parts) > 2 and re.search(pattern, plain):
            fix = "report this; leave the file out meanwhile"
            raise RunError(f"a folder of this machine stands in {name}", folder, fix)
