"""Steering a run that works: commands from ``commands/``, SIGINT and SIGTERM, at batch edges."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from mlxprune import machine
from mlxprune.errors import Interrupted, Stopped
from mlxprune.execution.sleep import SleepWatch
from mlxprune.run.event_kinds import Command, Device, Heartbeat, Paused, Resumed, Slept
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder, removed_folder, take_commands

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: its terminal was closed


def _device_event(sample: machine.MachineSample) -> Device:
    return Device(**dataclasses.asdict(sample))


class Control:
    """``pending`` is cheap and asked at every batch edge; ``obey`` does what was asked."""

    def __init__(
        self, run: RunFolder | None, log: EventLog, sleep: SleepWatch | None = None
    ) -> None:
        self.run, self.log = run, log
        self.signal_number = 0
        self._asked: list[str] = []
        self._polled = 0.0
        self._beat = 0.0
        self._previous: dict[int, Any] = {}
        self._sleep = sleep or SleepWatch()

    def __enter__(self) -> Control:
        for number in SIGNALS:
            ignored = signal.getsignal(number) == signal.SIG_IGN  # a hang-up is, under nohup
            if number != signal.SIGHUP or not ignored:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number != signal.SIGHUP:  # the second time, at once
            raise KeyboardInterrupt
        # A closed terminal often says so twice, once through the shell.
        self.signal_number = self.signal_number or number

    def pending(self) -> bool:
        now = time.monotonic()
        if now - self._polled >= POLL_SECONDS and self.run is not None:
            self._polled = now
            if not self.run.events.exists():
                raise removed_folder(self.run)
            self._asked += take_commands(self.run)
            if now - self._beat >= HEARTBEAT_SECONDS:
                self._beat = now
                self.log.emit(None, Heartbeat())
                if slept := self._sleep.slept():
                    self.log.emit(None, Slept(seconds=slept))
                self.log.emit(None, _device_event(machine.sample(self.run.path)))
        return bool(self.signal_number or self._asked)

    def obey(self, save: Callable[[], None]) -> None:
        """Carry out what is pending; ``save`` writes a checkpoint.

        Raises Stopped after a stop, Interrupted after a signal, both with a clean checkpoint.
        """
        paused = False
        while self.pending() or paused:
            if self.signal_number:
                save()
                raise Interrupted(self.signal_number, self._where(), self._again())
            if not self._asked:
                time.sleep(POLL_SECONDS)
                continue
            verb = self._asked.pop(0)
            self.log.emit(None, Command(verb=verb))
            if verb in ("checkpoint", "pause", "stop"):
                save()
            if verb == "stop":
                raise Stopped("on request, after a checkpoint", self._where(), self._again())
            if verb == "pause" and not paused:
                paused = True
                self.log.emit(None, Paused())
            if verb == "resume" and paused:
                paused = False
                self.log.emit(None, Resumed())

    def check(self) -> None:
        """For work whose results so far are safe as they are."""
        if self.pending():
            self.obey(lambda: None)

    def _where(self) -> str:
        return str(self.run.path) if self.run else "this command"

    def _again(self) -> str:
        return "run the same command again: it goes on from there"
