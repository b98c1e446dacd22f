"""The table of stages on a terminal, drawn on one that is made up, and its twin elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Rich

from mlxprune.commands.console import Console
from mlxprune.commands.stage_table import stage_rows
from mlxprune.config.loading import validate_config
from mlxprune.pipeline.runner import run_study
from mlxprune.run.event_kinds import StageStatus
from mlxprune.run.folder import STAGES, RunFolder
from mlxprune.run.state import RunState, StageState
from mlxprune.testing import tiny


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def drawn(state: RunState, width: int, plain: bool = False) -> list[str]:
    out = io.StringIO()
    Rich(file=out, width=width, force_terminal=False).print(stage_rows(state, 0.0, plain))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def at_work() -> RunState:
    state = RunState(run="x")
    state.stages = {name: StageState() for name in STAGES}
    state.stages["corpus"] = StageState(state=StageStatus.DONE, seconds=61.0)
    state.stages["split"] = StageState(state=StageStatus.REUSED, seconds=0.1)
    state.stages["reference"] = StageState(
        state=StageStatus.RUNNING, done=250, total=1000, unit="tokens", rate=50.0,
        eta_seconds=15.0, what="references/main\x1b[2J",
    )  # fmt: skip
    return state


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_stage_has_a_row_that_fits(width: int) -> None:
    lines = drawn(at_work(), width)
    assert len(lines) >= len(STAGES) and max(map(len, lines)) <= width
    for line, name in zip(lines, STAGES, strict=False):
        assert name[:9] in line
    (running,) = [line for line in lines if "reference" in line]
    assert "250 /" in running and "15 s left" in running and "\x1b" not in running
    assert "1 min" in lines[0] and "reused" in lines[1]


def test_a_terminal_without_signs_gets_letters() -> None:
    assert all(line.isascii() or "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line
               for line in drawn(at_work(), 80, plain=True))  # fmt: skip
    assert drawn(at_work(), 80, plain=True)[0].startswith("+")


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_run_is_drawn_as_a_table_on_a_terminal_and_told_in_lines_elsewhere(
    kind: Any, tmp_path: Path
) -> None:
    corpus = tiny.tiny_corpus(tmp_path / "corpus", 120)
    out = kind()
    config = validate_config(tiny.tiny_config(corpus), "test")
    console = Console(out, stages=True)
    run_study(config, RunFolder(tmp_path / "run"), until="tokens", listeners=[console])
    text = out.getvalue()
    if kind is Terminal:
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rpartition("corpus")[2]
        assert "tokens" in last and "\N{MIDDLE DOT}" in last  # later stages are yet to come
        assert text.count("\x1b[?25h") == text.count("\x1b[?25l") == 1  # the cursor is back
    else:
        assert "\x1b" not in text and re.search(r"^tokens +done", text, re.M)
