"""Work: one run under way, and what every stage does alike: reuse, build, say why, remember."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mlxprune import machine
from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import MlxpruneError, RunError, SpaceError, one_line
from mlxprune.files import fingerprint_of, read_json, write_atomic, write_json
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import forget, mark_done, read_marker, set_aside
from mlxprune.version import __version__


def progress_between(
    report: Callable[[int, int], None], size: int, number: int, count: int
) -> Callable[[int, int, float], None]:
    """Progress of the ``number``-th of ``count`` equal pieces of work, called between batches."""
    done = number * size

    def between(scored: int, slots: int, waited: float) -> None:
        nonlocal done
        done += scored
        report(done, count * size)

    return between


@dataclass
class RunContext:
    """One run under way: its configuration, its folder, its log, and what each stage rests on."""

    config: Config
    run: RunFolder
    log: EventLog
    control: Control
    forced: tuple[str, ...] = ()
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by stage, what is hashed
    before: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same, of the last time
    pieces: dict[str, str] = field(default_factory=dict)  # what is current: place -> fingerprint

    def fingerprint(self, stage: str) -> str:
        return fingerprint_of(self.inputs[stage])

    def warn(self, stage: str, message: str) -> None:
        self.log.emit(stage, "warning", message=message)


@dataclass(frozen=True)
class Artifact:
    """One thing that a stage makes: where, for which fingerprint, and how."""

    place: Path
    fingerprint: str
    build: Callable[[], dict[str, Any] | None]


def run_stage(work: RunContext, name: str, pieces: list[Artifact]) -> None:
    """Build the pieces that are not in place; say why; put the marker last."""
    work.control.check()
    began = time.monotonic()
    missing = [p for p in pieces if not set_aside(p.place, p.fingerprint)]
    if name in work.forced:
        missing = pieces
        for piece in pieces:
            forget(piece.place)
    here = {str(p.place.relative_to(work.run.path)): p.fingerprint for p in pieces}
    work.pieces |= here
    if not missing:
        remember_inputs(work)
        work.log.emit(name, "stage.end", state="reused", seconds=time.monotonic() - began)
        return
    why = "forced" if name in work.forced else _why(work, name)
    work.log.emit(name, "stage.start", why=why)
    summary: dict[str, Any] | None = None
    reused = 0
    for piece in missing:
        summary = piece.build()
        reused += bool(summary and "same_as" in summary)
        if read_marker(piece.place) is None:
            mark_done(piece.place, name, piece.fingerprint)
        work.control.check()
    work.log.emit(
        name,
        "stage.end",
        state="done",
        seconds=time.monotonic() - began,
        why=why,
        summary=summary
        if len(pieces) == 1
        else {"pieces": len(pieces), "built": len(missing) - reused, "found_elsewhere": reused},
        peak_memory_bytes=machine.peak_memory_bytes(),
    )
    remember_inputs(work)


def _why(work: RunContext, name: str) -> str:
    before = work.before.get(name)
    if before is None:
        return "was not done before"
    changed = _differences(before, work.inputs[name], "")
    if not changed:
        return "unfinished"
    return "changed: " + ", ".join(changed[:4]) + (", ..." if len(changed) > 4 else "")


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in sorted({*before, *after}):
            below = f"{path}.{key}" if path else key
            found += _differences(before.get(key), after.get(key), below)
        return found
    if before == after:
        return []
    short = [one_line(v) for v in (before, after)]
    is_hash = any(len(s) == 24 and s.isalnum() for s in short)
    return [path if is_hash or max(map(len, short)) > 20 else f"{path} {short[0]} -> {short[1]}"]


def stage_progress(
    work: RunContext, stage: str, unit: str, what: str | None = None
) -> Callable[[int, int], None]:
    """A function of (done, total) that reports, with what is left at the rate so far."""
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        work.control.check()
        elapsed = time.monotonic() - began
        rate = done / elapsed if elapsed > 0 else 0.0
        left = (total - done) / rate if rate else None
        work.log.emit(
            stage,
            "progress",
            done=done,
            total=total,
            unit=unit,
            what=what,
            rate=rate,
            eta_seconds=left,
        )

    return report


def adding_progress(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """A function of what has been done since the last call, in place of (done, total)."""
    done = 0

    def more(amount: int) -> None:
        nonlocal done
        done = min(total, done + amount)
        report(done, total)

    return more


def plain(value: Any) -> dict[str, Any]:
    return asdict(value)


def inputs_before(run_folder: RunFolder) -> dict[str, dict[str, Any]]:
    try:
        found = read_json(run_folder.run_json)["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: stage["inputs"] for name, stage in found.items()}


def remember_inputs(work: RunContext) -> None:
    if not work.run.run_json.exists():  # a single stage outside a study
        return
    known = read_json(work.run.run_json)
    stages = known.setdefault("stages", {})
    for name, inputs in work.inputs.items():
        stages[name] = {"fingerprint": fingerprint_of(inputs), "inputs": inputs}
    known["pieces"] = work.pieces
    write_json(work.run.run_json, known)


def begin_run(work: RunContext, study: str, need_bytes: int) -> None:
    """Refuse a disk that will not do, write run.json and config.yaml, and say what starts."""
    run_folder, config = work.run, work.config
    free = shutil.disk_usage(run_folder.path).free
    if need_bytes > free and not run_folder.run_json.exists():
        raise SpaceError(
            f"the run needs about {need_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            str(run_folder.path),
            "free some space, choose another --dir, or take smaller models",
        )
    known = read_json(run_folder.run_json) if run_folder.run_json.exists() else {}
    settings = fingerprint_of(config.model_dump(mode="json"))
    if known.get("settings") == settings:  # what stood for this configuration still does
        work.pieces |= known.get("pieces", {})
    known |= {"name": config.name, "study": study, "version": __version__}
    known |= {"settings": settings, "pieces": work.pieces}
    write_atomic(run_folder.config, write_yaml(config.model_dump(mode="json")))
    device = f"{platform.system()} {platform.machine()}, {machine.cores()} cores"
    known |= {"pid": os.getpid(), "started": psutil.Process().create_time()}
    known |= {
        "host": socket.gethostname(),
        "device": device,
        "versions": machine.package_versions(),
    }
    write_json(run_folder.run_json, known)
    work.log.emit(
        None,
        "run.start",
        run=config.name,
        folder=str(run_folder.path),
        config=config.model_dump(mode="json"),
        device=device,
        versions=machine.package_versions(),
        pid=os.getpid(),
        disk_bytes=need_bytes,
    )


def finish_run(
    work: RunContext, error: BaseException | None, result: dict[str, Any] | None = None
) -> None:
    """The last event of a run says how it ended, whatever happened, and with what ``result``."""
    status, told = "done", None
    if isinstance(error, MlxpruneError):
        status = "stopped" if error.exit_code in (3, 130, 143) else "failed"
        told = error.as_json()
    elif isinstance(error, KeyboardInterrupt):
        status = "stopped"
    elif error is not None:
        status = "failed"
        problem = f"{type(error).__name__}: {one_line(error)}"
        told = RunError(problem, str(work.run.path), "run again with --debug").as_json()
    work.log.emit(None, "run.end", status=status, error=told, result=result)
    work.log.close()
