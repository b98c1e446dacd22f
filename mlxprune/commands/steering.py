"""The commands that steer a run that works: pause, resume, stop, checkpoint."""

from __future__ import annotations

from mlxprune.commands.options import RunPath
from mlxprune.errors import UsageError
from mlxprune.run import lock
from mlxprune.run.event_kinds import RunStatus
from mlxprune.run.events import fold_log
from mlxprune.run.folder import existing_run, send_command


def pause(run_path: RunPath) -> None:
    """Ask a run to save a checkpoint and wait."""
    _send(run_path, "pause")


def resume(run_path: RunPath) -> None:
    """Let a paused run go on."""
    _send(run_path, "resume")


def stop(run_path: RunPath) -> None:
    """Ask a run to save a checkpoint and end; it can be run again."""
    _send(run_path, "stop")


def checkpoint(run_path: RunPath) -> None:
    """Ask a run to save a checkpoint now."""
    _send(run_path, "checkpoint")


def _send(run_path: RunPath, verb: str) -> None:
    run = existing_run(run_path)
    holder = lock.owner(run)
    if holder is None or holder.alive() is False:
        fix = f"mlxprune run {run.config} --dir {run.path}"
        raise UsageError("no process works on this run", str(run.path), fix)
    if verb == "resume" and fold_log(run.events).state != RunStatus.PAUSED:
        print(f"process {holder.pid} is not paused: there is nothing to resume")
        return
    send_command(run, verb)
    print(f"asked process {holder.pid} to {verb}")
