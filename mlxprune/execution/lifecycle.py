"""How an execution begins and ends: run.json, config.yaml, the first and the last event."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from mlxprune import machine
from mlxprune.checksums import write_sealed
from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import MlxpruneError, SpaceError, UsageError, one_line
from mlxprune.execution.context import Execution
from mlxprune.execution.control import Control
from mlxprune.execution.stage import tell_of_damage
from mlxprune.files import fingerprint_of, no_space_is_an_error, write_atomic
from mlxprune.records import Json
from mlxprune.run import lock
from mlxprune.run.event_kinds import ErrorFacts, RunEnd, RunStart
from mlxprune.run.events import EventLog, Listener
from mlxprune.run.folder import RunFolder, known_of, known_stages
from mlxprune.version import __version__


def inputs_before(run: RunFolder) -> dict[str, Json]:
    """What each stage rested on the last time; nothing where there was none."""
    return {name: stage["inputs"] for name, stage in known_stages(run).items()}


def begin_run(execution: Execution, study: str, need_bytes: int) -> None:
    """Refuse a disk that will not do, write run.json and config.yaml, and say what starts."""
    run, config = execution.run, execution.config
    free = shutil.disk_usage(run.path).free
    if need_bytes > free and not run.run_json.exists():
        raise SpaceError(
            f"the run needs about {need_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            str(run.path),
            "free some space, choose another --dir, or take smaller models",
        )
    settings = config.model_dump(mode="json")
    known = known_of(run)
    was_damaged = run.run_json.exists() and not known
    pieces = known.get("pieces")
    if known.get("settings") == fingerprint_of(settings) and isinstance(pieces, dict):
        execution.current |= pieces  # what stood for these still does
    device = f"{platform.system()} {platform.machine()}, {machine.cores()} cores"
    versions = machine.package_versions()
    known |= {"name": config.name, "study": study, "version": __version__}
    known |= {"settings": fingerprint_of(settings), "pieces": execution.current}
    known |= {"pid": os.getpid(), "started": psutil.Process().create_time()}
    known |= {"host": socket.gethostname(), "device": device, "versions": versions}
    write_atomic(run.config, write_yaml(settings))
    write_sealed(run.run_json, known)
    started = RunStart(
        run=config.name,
        folder=str(run.path),
        config=settings,
        device=device,
        versions=versions,
        pid=os.getpid(),
        disk_bytes=need_bytes,
    )
    execution.log.emit(None, started)
    if was_damaged:
        tell_of_damage(execution, "corpus", [run.run_json], "written anew")


def leave_nothing_where_removed(run: RunFolder) -> None:
    """Somebody removed the folder while the run worked: what was made of it since goes, too, since
    a later start would take it for a run."""
    if run.path.exists() and not run.run_json.exists() and not run.events.exists():
        shutil.rmtree(run.path, ignore_errors=True)


def finish_run(
    execution: Execution, error: BaseException | None, result: Json | None = None
) -> None:
    """The last event of a run says how it ended, whatever happened, and with what ``result``."""
    status, facts = "done", None
    if isinstance(error, MlxpruneError):
        status = error.status
        facts = ErrorFacts(problem=error.problem, where=error.where, fix=error.fix)
    elif isinstance(error, KeyboardInterrupt):
        status = "stopped"
    elif error is not None:
        status = "failed"
        problem = f"{type(error).__name__}: {one_line(error)}"
        facts = ErrorFacts(
            problem=problem, where=str(execution.run.path), fix="run again with --debug"
        )
    execution.log.emit(None, RunEnd(status=status, error=facts, result=result))
    execution.log.close()


@contextlib.contextmanager
def alone(config: Config, out: Path, listeners: list[Listener]) -> Iterator[Execution]:
    """One stage without a study, in a folder of its own: a study's corpus and tokens are not its to
    replace. Raises UsageError where the folder holds a run, or somebody works in it."""
    if (out / "run.json").exists():
        raise UsageError("this folder holds a run", str(out), "choose another --out")
    run = RunFolder(out)
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, no_space_is_an_error(out):
            execution = Execution(config, run, log, control)
            with contextlib.closing(execution.children):
                yield execution
        log.close()
