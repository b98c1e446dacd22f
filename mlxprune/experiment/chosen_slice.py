"""Chosen slice: a slice of a run by its name, or one that was chosen from its scores since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlxprune.config.slices import ABSOLUTE_KEYS, Slice
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.records import Json, read_record
from mlxprune.run.markers import is_current
from mlxprune.selection.manifest import SliceManifest


@dataclass(frozen=True)
class ChosenSlice:
    """``folder`` holds its manifest.json and kept.parquet; ``choice`` as it was asked for."""

    choice: Slice
    manifest: SliceManifest
    folder: Path


def chosen_slice(held: RunArtifacts, name: str | None) -> ChosenSlice | None:
    """The slice of this name, or in this folder of ``mlxprune select``; without a name the first of
    the run, or None where the run has selected nothing yet.

    Raises UsageError: no such slice, or one that is not taken yet.
    """
    run, labels = held.run, {choice.label: choice for choice in held.config.slices}
    if name is not None and name not in labels:
        return slice_in(Path(name), f"{closest(name, labels)}; or name a folder of `select`")
    choice = labels.get(str(name), held.config.slices[0])
    folder = run.selection(choice.label)
    if not is_current(run, folder):
        if name is None:
            return None
        fix = f"mlxprune run {run.config} --dir {run.path} --until selection"
        raise UsageError(f"the run has not selected {choice.label} yet", str(run.path), fix)
    return slice_in(folder, "")


def slice_in(folder: Path, fix: str = "give a folder that `mlxprune select` wrote") -> ChosenSlice:
    """The slice that a folder holds. Raises UsageError where it holds none."""
    try:
        manifest = read_record(folder / "manifest.json", SliceManifest)
    except (OSError, ValueError):
        raise UsageError(f"there is no slice {one_line(folder)}", str(folder), fix) from None
    return ChosenSlice(slice_of(manifest.slice), manifest, folder)


def slice_of(told: Json) -> Slice:
    """A slice as its manifest tells it; an absolute one without the share that it came to."""
    absolute = any(told.get(key) is not None for key in ABSOLUTE_KEYS)
    dropped = ("rate", "band") if absolute else ()
    return Slice.model_validate(
        {k: v for k, v in told.items() if k not in dropped and v is not None}
    )
