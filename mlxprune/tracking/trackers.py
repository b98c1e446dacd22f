"""Trackers: the three programs that points are written to, each through its own library."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any, Protocol

from mlxprune.errors import UsageError
from mlxprune.records import Json
from mlxprune.tracking.points import Point

KINDS = ("tensorboard", "wandb", "trackio")


class Tracker(Protocol):
    """Takes points of one series at a time; what it has taken is safe after ``flush``."""

    def write(self, series: str, points: list[Point]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def open_tracker(
    kind: str, folder: Path, run: str, project: str, config: Json, offline: bool
) -> Tracker:
    """Raises UsageError with the line that installs what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if kind == "tensorboard":
            return TensorBoard(folder)
        if kind == "wandb":
            return Wandb(folder, run, project, config, offline)
        return Trackio(folder, run, project, config)
    except ImportError:
        fix = f"pip install 'mlxprune[{kind}]'"
        raise UsageError(f"{kind} is not installed", "mlxprune track", fix) from None


def safe_name(text: str) -> str:
    """What every tracker takes for a name or an id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:100] or "run"


class TensorBoard:
    """A folder of event files a series. ``tensorboard --logdir FOLDER`` shows them."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.folder, self.event, self.summary = folder, Event, Summary
        self.opened, self.writers = EventFileWriter, dict[str, Any]()

    def write(self, series: str, points: list[Point]) -> None:
        if series not in self.writers:
            # As folders of tensorboard: a name comes from the log, which anyone may have written.
            parts = [safe_name(part) for part in series.split("/") if part.strip(".")]
            place = self.folder.joinpath(*parts[:4] or ["run"])
            self.writers[series] = self.opened(str(place), max_queue_size=1000, flush_secs=10)
        for point in points:
            values = [
                self.summary.Value(tag=name, simple_value=value)
                for name, value in point.figures.items()
            ]
            event = self.event(
                wall_time=point.time, step=point.step, summary=self.summary(value=values)
            )
            self.writers[series].add_event(event)

    def flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class Wandb:
    """A run a series, all in one group; ids follow from the names, so that a later time goes on
    with the same runs."""

    def __init__(self, folder: Path, run: str, project: str, config: Json, offline: bool) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would ask for a host
        import wandb

        self.wandb, self.folder, self.run, self.project = wandb, folder, run, project
        self.config = config
        self.mode: Any = "offline" if offline else os.environ.get("WANDB_MODE", "online")
        self.runs: dict[str, Any] = {}

    def write(self, series: str, points: list[Point]) -> None:
        if series not in self.runs:
            settings = self.wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True,
                x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
            )  # fmt: skip
            self.runs[series] = self.wandb.init(
                project=self.project,
                group=self.run,
                name=f"{self.run}/{series}",
                id=safe_name(f"{self.run}-{series}"),
                resume="allow",
                reinit="create_new",
                dir=str(self.folder),
                mode=self.mode,
                config=self.config,
                settings=settings,
            )
            self.runs[series].define_metric("step")
            self.runs[series].define_metric("*", step_metric="step")
        for point in points:  # by a metric of its own, since theirs may not go back
            told = {**point.figures, "step": point.step, "_timestamp": point.time}
            self.runs[series].log(told)

    def flush(self) -> None:
        """It writes by itself, some seconds later; ``close`` waits for it."""

    def close(self) -> None:
        for run in self.runs.values():
            run.finish()
        self.wandb.teardown()


class Trackio:
    """A run a series in a database on this disk. ``trackio show`` shows them."""

    def __init__(self, folder: Path, run: str, project: str, config: Json) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder))  # before it is imported
        with contextlib.redirect_stdout(io.StringIO()):
            import trackio

        self.trackio, self.run, self.project = trackio, safe_name(run), safe_name(project)
        self.config = {key: value for key, value in config.items() if not key.startswith("_")}

    def write(self, series: str, points: list[Point]) -> None:
        """One run is open at a time; it goes on where it ended."""
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of uploads: there are none
            run = self.trackio.init(
                project=self.project,
                name=safe_name(f"{self.run}-{series}"),
                group=self.run,
                config=self.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            for point in points:
                run.log(dict(point.figures), step=point.step)
            self.trackio.finish()

    def flush(self) -> None:
        """Every write ends with what is written on the disk."""

    def close(self) -> None:
        """Nothing is open."""
