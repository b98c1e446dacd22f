"""Runs: every one under a folder, and how it stands: by its newest segment, not its whole log."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from mlxprune.config.schema import Config
from mlxprune.run import forecast, lock
from mlxprune.run.event_kinds import StageStatus
from mlxprune.run.events import EventReader, log_bytes
from mlxprune.run.folder import STAGES, RunFolder, runs_under
from mlxprune.run.state import RunState, StageState
from mlxprune.run.status import Standing, standing_of
from mlxprune.units import short_count
from mlxprune_tui.readers.run_view import View, verdict_of

SORTS = ("time", "name", "state", "figure")


@dataclass(frozen=True)
class Row:
    """One run. ``verdict`` is its main difference in bits per byte, ``validation`` the newest;
    None where there is none yet."""

    folder: Path
    name: str
    standing: Standing
    stage: str
    share: float | None
    verdict: float | None
    validation: float | None
    told: str  # what these are
    updated: float | None
    started: float | None
    warnings: int
    error: str | None
    pid: int | None
    device: str
    memorising: int = 0  # models of its configuration that do
    is_read: bool = True  # whether its log was read to its end
    settings: RunSettings | None = None

    def words(self) -> str:
        slices = self.settings.slices if self.settings is not None else ""
        return f"{self.name} {self.standing} {self.stage} {self.folder.name} {slices}".lower()


@dataclass(frozen=True)
class RunSettings:
    """What of a configuration tells runs apart."""

    slices: str
    model: str
    seeds: int
    budget: str  # targets, passes, or targets a parameter


def settings_of(config: Config) -> RunSettings:
    final = config.final
    if final.passes is not None:
        budget = f"{final.passes:g} passes"
    elif final.per_parameter is not None:
        budget = f"{final.per_parameter:g} a parameter"
    else:
        budget = f"{short_count(float(final.tokens or 0))} targets"
    slices = ", ".join(choice.label for choice in config.slices)
    return RunSettings(slices, str(final.model), len(final.seeds), budget)


class RunList:
    """Readers of runs at work; of those that have ended only their rows stay, until they grow."""

    def __init__(self) -> None:
        self.readers: dict[Path, EventReader] = {}
        self.ended: dict[Path, tuple[int, Row]] = {}  # with the bytes of their logs
        self.unread = 0  # runs whose logs have not been read to their end
        self.views: dict[Path, View] = {}  # of which configurations are asked

    def look(self, folder: Path, now: float, seconds: float) -> list[Row]:
        """The runs under a folder, for about so long: what is not read yet comes the next time."""
        until, found, self.unread = time.monotonic() + seconds, [], 0
        for run in runs_under(folder):
            size = log_bytes(run.events)
            if run.path in self.ended and self.ended[run.path][0] == size:
                found.append(self.ended[run.path][1])
                continue
            reader = self.readers.get(run.path)
            if reader is None:
                if time.monotonic() > until:
                    self.unread += 1
                    continue
                reader = self.readers[run.path] = EventReader(run.events)
            new = reader.read(max(0.0, until - time.monotonic()))
            view = self.views.setdefault(run.path, View(run.path))
            row = row_of(run, reader.state, now, view)
            if new and reader.behind:
                row = replace(row, is_read=False)
            found.append(row)
            if new and reader.behind:
                self.unread += 1
            elif row.standing in (Standing.DONE, Standing.FAILED, Standing.STOPPED):
                self.ended[run.path] = (size, row)
                del self.readers[run.path]
        return found


def row_of(run: RunFolder, state: RunState, now: float, view: View) -> Row:
    standing = standing_of(run, state, now)
    busy = forecast.running_stage(state)
    stages = state.stages
    touched = [
        n for n in STAGES if stages[n].state not in (StageStatus.PENDING, StageStatus.REUSED)
    ]
    stage = busy or (touched[-1] if touched else "-")
    told = stages.get(stage, StageState())
    done, total = told.done or 0, told.total or 0
    verdict, validation, what = _figures(state)
    error = None if state.error is None else state.error.problem
    holder = lock.owner(run)
    return Row(
        run.path,
        str(state.run or run.path.name),
        standing,
        stage,
        done / total if total and busy else None,
        verdict,
        validation,
        what,
        state.updated,
        state.started,
        len(state.warnings),
        str(error) if error else None,
        holder.pid if holder else None,
        str(state.device or "-"),
        sum(view.is_present(model) for model in state.memorising),
        True,
        settings_of(config) if (config := view.config) is not None else None,
    )


def _figures(state: RunState) -> tuple[float | None, float | None, str]:
    told, verdict, validation = [], None, None
    found = verdict_of(state)
    if found is not None:
        verdict = found.difference
        low, high = found.interval
        told.append(f"{found.pair} {low:+.4f} {high:+.4f}")
    for name, curve in reversed(list(state.curves.items())):
        if len(curve.validation):
            validation = curve.validation.last("bits_per_byte")
            told.append(f"validation of {name}")
            break
    return verdict, validation, "; ".join(told)


def kept(rows: list[Row], words: str) -> list[Row]:
    """Rows that hold every word, and none that a ! stands before."""
    for word in words.lower().split():
        without = word.startswith("!")
        rows = [r for r in rows if (word.lstrip("!") in r.words()) != without]
    return rows


def ordered(rows: list[Row], sort: str) -> list[Row]:
    if sort == "name":
        return sorted(rows, key=lambda r: r.name)
    if sort == "state":
        return sorted(rows, key=lambda r: (r.standing, r.name))
    if sort == "figure":
        return sorted(
            rows,
            key=lambda r: (
                r.verdict is None,
                r.verdict or 0.0,
                r.validation is None,
                r.validation or 0.0,
            ),
        )
    return sorted(rows, key=lambda r: -(r.updated or 0.0))
