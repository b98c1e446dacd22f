"""Execution: one run under way in this process."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlxprune.config.schema import Config
from mlxprune.execution.children import Children
from mlxprune.execution.control import Control
from mlxprune.files import fingerprint_of
from mlxprune.records import Json
from mlxprune.run.event_kinds import Warned
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder


@dataclass
class Execution:
    """Its configuration, its folder, its log, who steers it, and what each stage rests on."""

    config: Config
    run: RunFolder
    log: EventLog
    control: Control
    forced: tuple[str, ...] = ()  # stages that are built anew
    inputs: dict[str, Json] = field(default_factory=dict)  # by stage, what is hashed
    before: dict[str, Json] = field(default_factory=dict)  # the same, of the last time
    current: dict[str, str] = field(default_factory=dict)  # path in the run: fingerprint
    damaged: set[str] = field(default_factory=set)  # stages of which something is made again
    children: Children = field(default_factory=Children)  # processes that do the heavy work

    def fingerprint(self, stage: str) -> str:
        """Of a stage that has run."""
        return fingerprint_of(self.inputs[stage])

    def warn(self, stage: str, message: str) -> None:
        self.log.emit(stage, Warned(message=message))
