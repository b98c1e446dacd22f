"""The run folder: where things lie, how they are written, who holds it.

Everything is written to a temporary name, flushed and renamed; a folder's ``stage.json`` comes last
and says which fingerprint its content answers to.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from mlxprune.checksums import read_sealed
from mlxprune.errors import ConfigError, RunError, UsageError
from mlxprune.files import write_json
from mlxprune.records import Json

STAGES = (
    "corpus", "split", "tokenizer", "tokens", "reference",
    "score", "selection", "final", "evaluation", "report",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def commands(self) -> Path:
        return self.path / "commands"

    @property
    def corpus(self) -> Path:
        return self.path / "corpus"

    @property
    def split(self) -> Path:
        return self.path / "split"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    def tokens(self, tokenizer: str = "main") -> Path:
        return self.path / "tokens" / tokenizer

    def reference(self, name: str = "main") -> Path:
        return self.path / "references" / name

    def scores(self, name: str = "main") -> Path:
        return self.path / "scores" / f"{name}.parquet"

    def selection(self, slice_name: str) -> Path:
        return self.path / "selection" / slice_name

    def final(self, arm_seed: str) -> Path:
        return self.path / "final" / arm_seed

    @property
    def arms(self) -> Path:
        """What every arm of the study is: its documents, U, T, and what was left out and why."""
        return self.path / "final" / "arms.json"

    def arm_documents(self, arm_seed: str) -> Path:
        """The keys of the documents of an arm, uint64, in canonical order."""
        return self.path / "arms" / f"{arm_seed}.npy"

    @property
    def screening(self) -> Path:
        return self.path / "final" / "screening.json"

    def evaluation(self, arm_seed: str) -> Path:
        return self.path / "eval" / f"{arm_seed}.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def existing_run(path: Path) -> RunFolder:
    """An existing run. Raises UsageError where there is none."""
    if not (path / "run.json").exists():
        raise UsageError("no run in this folder", str(path), "name a folder that holds run.json")
    return RunFolder(path)


def known_of(run: RunFolder) -> Json:
    """What run.json says; nothing where it is not there or damaged: a start writes it anew."""
    try:
        return read_sealed(run.run_json)
    except (OSError, ValueError):
        return {}


def known_stages(run: RunFolder) -> dict[str, Json]:
    """Of every stage its ``fingerprint`` and its ``inputs``, as run.json says."""
    stages = known_of(run).get("stages")
    told = stages.items() if isinstance(stages, dict) else ()
    return {
        str(name): stage
        for name, stage in told
        if isinstance(stage, dict) and isinstance(stage.get("inputs"), dict)
    }


def removed_folder(run: RunFolder) -> RunError:
    """What a run ends with whose folder somebody removed."""
    fix = "choose another --dir, and leave it alone while the run works"
    return RunError("the run folder was removed", str(run.path), fix)


def runs_under(folder: Path) -> list[RunFolder]:
    if (folder / "run.json").exists():
        return [RunFolder(folder)]
    return [RunFolder(p.parent) for p in sorted(folder.glob("*/run.json"))]


LOOKED_IN = ("", "*", "*/*")  # below a folder, for runs whose place nobody said


def newest_run(folder: Path) -> Path | None:
    """The run under a folder, or the folder itself, whose log was written to last; a folder of runs
    and the demo's are found two levels down. None where there is none."""
    found: list[tuple[float, Path]] = []
    for pattern in LOOKED_IN:
        for path in [folder / "run.json"] if not pattern else folder.glob(f"{pattern}/run.json"):
            with contextlib.suppress(OSError):
                logs = [*(path.parent / "events").iterdir()] if path.exists() else []
                newest = max((log.stat().st_mtime for log in logs), default=path.stat().st_mtime)
                found.append((newest, path.parent))
    return max(found)[1] if found else None


COMMANDS = ("pause", "resume", "stop", "checkpoint")


def send_command(run: RunFolder, verb: str) -> Path:
    path = run.commands / f"{time.time_ns()}-{verb}.json"
    write_json(path, {"verb": verb, "time": time.time()})
    return path


def take_commands(run: RunFolder) -> list[str]:
    """The commands that wait, oldest first; taking removes them. Those of another user, who may
    write into the folder, are removed and not obeyed."""
    try:
        waiting = sorted(p for p in run.commands.iterdir() if p.suffix == ".json")
    except OSError:
        return []
    verbs = []
    for path in waiting:
        with contextlib.suppress(OSError):
            verb, user = path.stem.rpartition("-")[2], path.lstat().st_uid
            path.unlink()
            if verb in COMMANDS and user in (os.geteuid(), 0):
                verbs.append(verb)
    return verbs


COSTLY = ("references", "scores", "final")  # what takes more than a pass over the text


def is_costly(run: RunFolder) -> bool:
    """Whether a run holds what a model was trained or used for, were it in part."""
    folders = [run.path / name for name in COSTLY]
    return any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def is_other_study(run: RunFolder, study: str) -> bool:
    """Whether a folder was begun with another corpus, seed or split. Raises ConfigError where it
    holds what was costly: then it belongs to those for good."""
    known = known_of(run).get("study")
    if known is None or known == study:
        return False
    if is_costly(run):
        raise ConfigError(
            "this folder belongs to a run with other data, seed or split",
            str(run.path),
            "choose another --dir or name; settings below `split` may change",
        )
    return True
