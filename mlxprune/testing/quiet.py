"""A log and a control that take no folder: doubles for what a stage reports to and obeys."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mlxprune.errors import Stopped
from mlxprune.run.event_kinds import Event


class QuietLog:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def due(self, stage: str | None, kind: type[Event]) -> bool:
        return True

    def emit(self, stage: str | None, event: Event, force: bool = False) -> None:
        self.events.append(msgspec.structs.replace(event, stage=stage))


class QuietControl:
    """Asks to stop at the n-th batch edge, once."""

    def __init__(self, stop_at: int = -1) -> None:
        self.left = stop_at

    def pending(self) -> bool:
        self.left -= 1
        return self.left == -1 and True

    def obey(self, save: Callable[[], None]) -> None:
        save()
        raise Stopped("stopped", "test", "go on")
