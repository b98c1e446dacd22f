"""A log and a control that take no folder: doubles for what a stage reports to and obeys."""

from __future__ import annotations

from typing import Any

from mlxprune.errors import Stopped


class QuietLog:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def due(self, stage: str, kind: str) -> bool:
        return True

    def emit(self, stage: str, kind: str, **fields: Any) -> None:
        self.events.append({"stage": stage, "kind": kind, **fields})


class QuietControl:
    """Asks to stop at the n-th batch edge, once."""

    def __init__(self, stop_at: int = -1) -> None:
        self.left = stop_at

    def pending(self) -> bool:
        self.left -= 1
        return self.left == -1 and True

    def obey(self, save: Any) -> None:
        save()
        raise Stopped("stopped", "test", "go on")
