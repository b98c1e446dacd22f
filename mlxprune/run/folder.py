"""The run folder: where things lie, how they are written, who holds it.

Everything is written to a temporary name, flushed and renamed; a folder's ``stage.json`` comes last
and says which fingerprint its content answers to.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from mlxprune.errors import ConfigError, UsageError
from mlxprune.files import read_json, write_json

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


def runs_under(folder: Path) -> list[RunFolder]:
    if (folder / "run.json").exists():
        return [RunFolder(folder)]
    return [RunFolder(p.parent) for p in sorted(folder.glob("*/run.json"))]


COMMANDS = ("pause", "resume", "stop", "checkpoint")


def send_command(run: RunFolder, verb: str) -> Path:
    path = run.commands / f"{time.time_ns()}-{verb}.json"
    write_json(path, {"verb": verb, "time": time.time()})
    return path


def take_commands(run: RunFolder) -> list[str]:
    """The commands that wait, oldest first; taking removes them."""
    try:
        waiting = sorted(p for p in run.commands.iterdir() if p.suffix == ".json")
    except OSError:
        return []
    verbs = []
    for path in waiting:
        with contextlib.suppress(OSError):
            verb = path.stem.rpartition("-")[2]
            path.unlink()
            if verb in COMMANDS:
                verbs.append(verb)
    return verbs


def check_same_study(run: RunFolder, study: str) -> None:
    """A folder belongs to one corpus, seed and split for good."""
    try:
        known = read_json(run.run_json).get("study")
    except (OSError, ValueError):
        return
    if known != study:
        raise ConfigError(
            "this folder belongs to a run with other data, seed or split",
            str(run.path),
            "choose another --dir or name; settings below `split` may change",
        )
