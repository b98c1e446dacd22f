"""View: one run as a reader sees it, attached or long finished, here or copied: one way for all."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlxprune.config.loading import load_config
from mlxprune.config.schema import Config
from mlxprune.errors import MlxpruneError
from mlxprune.experiment.arms import Arm, arms_of
from mlxprune.run import forecast, lock
from mlxprune.run.event_kinds import Assessed, RunStatus
from mlxprune.run.events import EventReader
from mlxprune.run.folder import RunFolder
from mlxprune.run.phrases import news_of
from mlxprune.run.state import RunState
from mlxprune.run.status import LIVE, Standing, standing_of

STANDING_SECONDS = 2.0


class View:
    """Reads the log of a run in slices. ``now`` is a clock, so that tests can stop it."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.run = RunFolder(folder)
        self.now = now
        self.reader = EventReader(self.run.events)
        self.loaded = False  # whether the log was read to its end once
        self.frozen = False
        self.standing = Standing.UNKNOWN
        self._looked = 0.0
        self._news = False  # whether anything came since it was looked after
        self._config: Config | None = None
        self._config_time = -1.0
        self.config_trouble: str | None = None
        self._arms: tuple[Config | None, list[Arm]] = (None, [])
        self._names: tuple[list[Arm] | None, set[str]] = (None, set())

    @property
    def state(self) -> RunState:
        return self.reader.state

    @property
    def name(self) -> str:
        return str(self.state.run or self.run.path.name)

    @property
    def label(self) -> str:
        """Its name, and its folder's where that is another: two runs may have one name."""
        folder = self.run.path.absolute().name
        return self.name if folder in (self.name, "run") else f"{self.name} ({folder})"

    def read(self, seconds: float) -> bool:
        """Take in what is new, for about so long; whether anything was."""
        if self.loaded and (self.frozen or self.gone):
            return False
        new = self.reader.read(seconds)
        self._news |= bool(new)
        # A torn tail stays behind; so does a log of which a slow disk gave nothing in time.
        if not self.reader.behind or (not new and seconds > 0):
            self.loaded = True
        return bool(new)

    def look(self, at_once: bool = False) -> bool:
        """Whether the run still stands as it did: looked after every other second."""
        now = self.now()
        other = (self.state.state in (RunStatus.RUNNING, RunStatus.PAUSED)) != (
            self.standing in LIVE
        )
        due = now - self._looked >= STANDING_SECONDS
        if not (at_once or due or (self._news and other)):
            return False
        self._looked, self._news = now, False
        # A picture that is held still tells nothing of how long the run has been silent.
        told = standing_of(self.run, self.state, now)
        before = self.standing
        is_silent = told in (Standing.SLOW, Standing.STALE)
        self.standing = Standing.RUNNING if self.frozen and is_silent else told
        return before != self.standing

    @property
    def live(self) -> bool:
        return self.standing in LIVE

    @property
    def lag(self) -> float | None:
        """Seconds since the last event; a frozen picture must not look healthy."""
        updated = self.state.updated
        return None if updated is None else max(0.0, self.now() - updated)

    @property
    def pid(self) -> int | None:
        holder = lock.owner(self.run)
        return holder.pid if holder else None

    @property
    def config(self) -> Config | None:
        """The run's configuration; None, and why, where it cannot be read."""
        try:
            changed = self.run.config.stat().st_mtime
        except OSError:
            self.config_trouble = "config.yaml is not there"
            return None
        if changed != self._config_time:
            self._config_time = changed
            try:
                self._config, self.config_trouble = load_config(self.run.config), None
            except (MlxpruneError, OSError, ValueError) as error:
                self._config, self.config_trouble = None, str(error)
        return self._config

    def arms(self) -> list[Arm]:
        """The final models that the present configuration asks for; none where it cannot be
        read."""
        config = self.config
        if self._arms[0] is not config:
            self._arms = (config, arms_of(config) if config is not None else [])
        return self._arms[1]

    def is_present(self, model: str) -> bool:
        """Whether a model belongs to the present configuration, and not to an earlier slice of the
        folder; where that cannot be known, all do."""
        arms = self.arms()
        if not model.startswith("final/") or not arms:
            return True
        if self._names[0] is not arms:
            self._names = (arms, {arm.name for arm in arms})
        return model.removeprefix("final/").partition(".at-")[0] in self._names[1]

    @property
    def again(self) -> str:
        """The command that goes on with the run."""
        return again(self.run.path)

    @property
    def gone(self) -> bool:
        """Whether the folder was there and is not any more; what was read of it stays."""
        return self.loaded and self.state.started is not None and not self.run.path.exists()

    def command(self, verb: str, *more: str) -> str:
        """A command line on this run."""
        return shlex.join(["mlxprune", verb, str(near(self.run.path)), *more])

    def troubles(self) -> list[str]:
        """What keeps the picture from being whole."""
        found = [self.reader.trouble] if self.reader.trouble else []
        if self.state.newer:
            found.append(
                f"the log is of a newer version ({self.state.newer}): some of it is not shown"
            )
        if self.config_trouble:
            found.append(f"the configuration cannot be read: {self.config_trouble}")
        return found

    def finish(self) -> forecast.Finish:
        return forecast.finish(self.state, self.now())

    def leaving(self) -> list[forecast.Check]:
        return forecast.leaving(self.state, self.now())


def again(folder: Path) -> str:
    """The command that goes on with the run in a folder."""
    folder = near(folder)
    return shlex.join(["mlxprune", "run", f"{folder}/config.yaml", "--dir", str(folder)])


def near(path: Path) -> Path:
    """A path as short as it can be from here."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


class VerdictFigures(msgspec.Struct):
    """What of a verdict is shown beside a run; other versions may say more."""

    arm: str
    control: str
    difference: float
    interval: tuple[float, float]

    @property
    def pair(self) -> str:
        return f"{self.arm} - {self.control}"


def verdict_of(state: RunState) -> VerdictFigures | None:
    """The verdict that the end of the log tells."""
    told = (state.result or {}).get("verdict")
    try:
        return msgspec.convert(told, VerdictFigures | None)
    except msgspec.ValidationError:
        return None


def since(state: RunState, then: float) -> list[str]:
    """What happened after a moment, as sentences, from the state alone."""
    recent = [event for event in state.recent if (event.t or 0.0) > then]
    found = [news for event in recent if (news := news_of(event))]
    found += [
        f"test of {event.model}: {event.macro:.4f} bits per byte"
        for event in recent
        if isinstance(event, Assessed) and event.macro is not None
    ]
    verdict = verdict_of(state)
    if verdict is not None and state.updated and state.updated > then:
        low, high = verdict.interval
        found.append(
            f"verdict: {verdict.pair} {verdict.difference:+.4f} ({low:+.4f} to {high:+.4f})"
        )
    for name, curve in state.curves.items():
        points = zip(curve.validation["t"], curve.validation["bits_per_byte"], strict=True)
        known = [(t, bits) for t, bits in points if t and bits is not None]
        before = [bits for t, bits in known if t <= then]
        after = [bits for t, bits in known if t > then]
        if before and after:
            found.append(f"{name}: validation {before[-1]:.4f} -> {after[-1]:.4f}")
    return found
