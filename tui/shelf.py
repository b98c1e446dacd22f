"""Shelf: every run under a folder, and how it stands: by its newest segment, not its whole log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxprune import events, lock, outlook, runs
from mlxprune.runs import STAGES

SORTS = ("time", "name", "state", "figure")


@dataclass(frozen=True)
class Row:
    """One run. ``figure`` is its main difference in bits per byte where it has one, else the newest
    validation."""

    folder: Path
    name: str
    standing: str
    stage: str
    share: float | None
    figure: float | None
    told: str  # what the figure is
    updated: float | None
    started: float | None
    warnings: int
    error: str | None
    pid: int | None
    device: str

    def words(self) -> str:
        return f"{self.name} {self.standing} {self.stage} {self.folder.name}".lower()


class Shelf:
    """Rows are read anew when a run's newest segment has grown, and states looked after."""

    def __init__(self) -> None:
        self.readers: dict[Path, events.Reader] = {}

    def look(self, folder: Path, now: float, seconds: float) -> list[Row]:
        """Every run under a folder; long logs are read a little further each time."""
        found = []
        for run in runs.runs_under(folder):
            reader = self.readers.get(run.path)
            if reader is None:
                reader = self.readers[run.path] = events.Reader(run.events)
            reader.read(seconds)
            found.append(row_of(run, reader.state, now))
        return found


def row_of(run: runs.RunFolder, state: dict[str, Any], now: float) -> Row:
    standing = lock.standing(run, state, now)
    busy = outlook.running_stage(state)
    stages = state["stages"]
    touched = [n for n in STAGES if stages[n]["state"] not in ("pending", "reused")]
    stage = busy or (touched[-1] if touched else "-")
    told = stages.get(stage, {})
    done, total = told.get("done") or 0, told.get("total") or 0
    figure, what = _figure(state)
    error = (state["error"] or {}).get("problem")
    holder = lock.owner(run)
    return Row(
        run.path,
        str(state["run"] or run.path.name),
        standing,
        stage,
        done / total if total and busy else None,
        figure,
        what,
        state["updated"],
        state["started"],
        len(state["warnings"]),
        str(error) if error else None,
        holder.pid if holder else None,
        str(state["device"] or "-"),
    )


def _figure(state: dict[str, Any]) -> tuple[float | None, str]:
    verdict = (state["result"] or {}).get("verdict")
    if verdict:
        low, high = verdict["interval"]
        return verdict[
            "difference"
        ], f"{verdict['arm']} - {verdict['control']}, {low:+.4f} {high:+.4f}"
    for name, curve in reversed(list(state["curves"].items())):
        if curve["validation"]:
            return curve["validation"][-1][1], f"validation of {name}"
    return None, ""


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
        return sorted(rows, key=lambda r: (r.figure is None, r.figure or 0.0))
    return sorted(rows, key=lambda r: -(r.updated or 0.0))
