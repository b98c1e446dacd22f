"""Every error that a user can meet, as a tree.

MlxpruneError            three lines for people: problem, where, fix
+-- UsageError           exit 2: the command, the configuration or the input is wrong
|   +-- ConfigError      an unknown key, an impossible value, another run's configuration
|   +-- DataError        a missing or broken file, no documents, too many bad rows
|   |   `-- DamagedFile  a file of ours that is not what we wrote; a ValueError, too
|   `-- SpaceError       the disk will not do
+-- RunError             exit 1: the work failed
|   +-- NonFiniteLoss    training diverged
|   `-- DeviceError      exit 3: memory or GPU failed, again and again; resumable
+-- Stopped              exit 3: stopped on request, resumable
`-- Interrupted          exit 129, 130 or 143: SIGHUP, SIGINT, SIGTERM after a clean checkpoint
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class MlxpruneError(Exception):
    """``problem`` says what is wrong, ``where`` in what, ``fix`` what to do about it."""

    exit_code = 1
    label = "error"

    @property
    def status(self) -> str:
        """How a run ends with it: on request it can be gone on with."""
        return "stopped" if self.exit_code in (3, 129, 130, 143) else "failed"

    def __init__(self, problem: str, where: str, fix: str, details: Iterable[str] = ()) -> None:
        """``details``: where several things are wrong at once, a line for each."""
        super().__init__(problem)
        self.problem, self.where, self.fix, self.details = problem, where, fix, [*details]

    def lines(self) -> str:
        problem, where, fix = map(one_line, (self.problem, self.where, self.fix))
        details = "".join(f"\n      {one_line(line)}" for line in self.details)
        return f"{self.label}: {problem}\n  at: {where}{details}\n  fix: {fix}"

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"problem": self.problem, "where": self.where, "fix": self.fix}
        return {**found, "details": self.details} if self.details else found


class UsageError(MlxpruneError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class DataError(UsageError):
    pass


class DamagedFile(DataError, ValueError):
    pass


class SpaceError(UsageError):
    pass


class RunError(MlxpruneError):
    pass


class NonFiniteLoss(RunError):
    pass


class DeviceError(RunError):
    exit_code = 3


class Stopped(MlxpruneError):
    exit_code = 3
    label = "stopped"


class Interrupted(MlxpruneError):
    label = "interrupted"

    def __init__(self, signal_number: int, where: str, fix: str) -> None:
        super().__init__("the last checkpoint is complete", where, fix)
        self.exit_code = 128 + signal_number


def one_line(text: object) -> str:
    """Text from data or from another library, safe on a terminal and on one line."""
    joined = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)[:400]


def closest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists them all."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
