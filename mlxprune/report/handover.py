"""Handover: the commands that hand over the text of a slice, as whoever made it would type them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import Verdict


def export_command(
    place: str, slice_name: str | None, out: str, data: Sequence[str] | None = None
) -> str:
    """``mlxprune export`` of the kept text."""
    words = ["mlxprune", "export", place]
    words += ["--slice", slice_name] if slice_name is not None else []
    words += [word for path in data or () for word in ("--data", path)]
    return shlex.join([*words, "--to", "jsonl", "--out", out])


def filter_command(place: str, slice_name: str) -> str:
    """``mlxprune filter`` of text that the run never saw."""
    named = shlex.join(["mlxprune", "filter", place, "--slice", slice_name])
    return f"{named} --data NEW... --out new-{slice_name}"


def handed_over(result: StudyResult) -> str | None:
    """The slice whose text somebody would want: the best against its control, else the first."""
    main = [c for c in result.comparisons if c.main and c.arm in (result.slices or {})]
    if main:
        return min(main, key=lambda c: (c.verdict != Verdict.BETTER, c.difference)).arm
    return next(iter(result.slices or {}), None)


def handover_commands(result: StudyResult) -> list[str]:
    """The commands that hand over the text of that slice, and what it keeps of new text; none
    before anything is selected."""
    name = handed_over(result)
    if name is None:
        return []
    return [export_command(result.run, name, name), filter_command(result.run, name)]
