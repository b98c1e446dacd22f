"""What every stage does alike: reuse, build, say why, remember."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlxprune import machine
from mlxprune.checksums import write_sealed
from mlxprune.errors import one_line
from mlxprune.execution.context import Execution
from mlxprune.files import fingerprint_of
from mlxprune.records import Json, plain
from mlxprune.run.event_kinds import Damaged, Reason, StageEnd, StageStart, StageStatus
from mlxprune.run.folder import known_of, known_stages
from mlxprune.run.markers import (
    damaged_files,
    discard,
    forget,
    mark_done,
    read_marker,
    set_aside,
)


@dataclass(frozen=True)
class Artifact:
    """One thing that a stage makes: where, from which inputs, and how.

    ``inputs`` are plain values, which its fingerprint hashes. ``build`` makes it and returns what
    people are told of it.
    """

    path: Path
    inputs: tuple[Any, ...]
    build: Callable[[], object]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(*self.inputs)


def in_place(execution: Execution, stage: str, place: Path, fingerprint: str) -> bool:
    """Whether a finished thing of this fingerprint is in place, every byte as it was written. What
    is damaged is discarded, and told."""
    if not set_aside(place, fingerprint):
        return False
    damaged = damaged_files(place)
    if not damaged:
        return True
    discard(place, damaged)
    execution.damaged.add(stage)
    tell_of_damage(execution, stage, damaged, "made again")
    return False


def tell_of_damage(execution: Execution, stage: str, files: list[Path], then: str) -> None:
    """A warning, and an event: these files of the run are not what they were; what is done."""
    base = execution.run.path
    names = [p.relative_to(base).as_posix() if p.is_relative_to(base) else str(p) for p in files]
    shown = ", ".join(map(one_line, names[:3])) + (", ..." if len(names) > 3 else "")
    verb = "is" if len(names) == 1 else "are"
    execution.warn(stage, f"{shown} {verb} damaged (the checksum differs): {then}")
    execution.log.emit(stage, Damaged(files=names[:100], then=then))


def run_stage(
    execution: Execution, name: str, artifacts: list[Artifact], inputs: Json | None = None
) -> None:
    """Build the artifacts that are not in place; say why; put the marker last.

    ``inputs``: what the stage rests on; that of its one artifact by default.
    """
    execution.inputs[name] = artifacts[0].inputs[0] if inputs is None else inputs
    execution.control.check()
    began = time.monotonic()
    missing = [a for a in artifacts if not in_place(execution, name, a.path, a.fingerprint)]
    if name in execution.forced:
        missing = artifacts
        for artifact in artifacts:
            forget(artifact.path)
    for artifact in artifacts:
        place = str(artifact.path.relative_to(execution.run.path))
        execution.current[place] = artifact.fingerprint
    if not missing:
        remember_inputs(execution)
        ended = StageEnd(state=StageStatus.REUSED, seconds=time.monotonic() - began)
        execution.log.emit(name, ended)
        return
    why = Reason.FORCED if name in execution.forced else _why(execution, name)
    execution.log.emit(name, StageStart(why=why))
    summary: Json | None = None
    elsewhere = 0
    for artifact in missing:
        summary = plain(artifact.build())
        elsewhere += bool(summary and "same_as" in summary)
        if read_marker(artifact.path) is None:
            mark_done(artifact.path, name, artifact.fingerprint)
        execution.control.check()
    if len(artifacts) > 1:
        built = len(missing) - elsewhere
        summary = {"pieces": len(artifacts), "built": built, "found_elsewhere": elsewhere}
    ended = StageEnd(
        state=StageStatus.DONE,
        seconds=time.monotonic() - began,
        why=why,
        summary=summary,
        peak_memory_bytes=max(machine.peak_memory_bytes(), execution.children.peak_bytes),
    )
    execution.log.emit(name, ended)
    remember_inputs(execution)


def _why(execution: Execution, name: str) -> str:
    before = execution.before.get(name)
    if before is None:
        return Reason.FIRST
    changed = _differences(before, execution.inputs[name], "")
    if not changed:
        return Reason.DAMAGED if name in execution.damaged else Reason.UNFINISHED
    return "changed: " + ", ".join(changed[:4]) + (", ..." if len(changed) > 4 else "")


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        changed = []
        for key in sorted({*before, *after}):
            below = f"{path}.{key}" if path else key
            changed += _differences(before.get(key), after.get(key), below)
        return changed
    if before == after:
        return []
    short = [one_line(v) for v in (before, after)]
    is_hash = any(len(s) == 24 and s.isalnum() for s in short)
    return [path if is_hash or max(map(len, short)) > 20 else f"{path} {short[0]} -> {short[1]}"]


def remember_inputs(execution: Execution) -> None:
    """Write to run.json what every stage so far rests on, and what is current."""
    if not execution.run.run_json.exists():  # a single stage outside a study
        return
    known = known_of(execution.run)
    known["stages"] = stages = known_stages(execution.run)
    for name, inputs in execution.inputs.items():
        stages[name] = {"fingerprint": fingerprint_of(inputs), "inputs": inputs}
    known["pieces"] = execution.current
    write_sealed(execution.run.run_json, known)
