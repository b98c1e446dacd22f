"""The run folder: atomic writes, markers, setting aside, the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxprune.errors import UsageError
from mlxprune.run.folder import RunFolder, existing_run, send_command, take_commands


def test_commands_are_taken_once_in_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for verb in ("pause", "checkpoint", "resume"):
        send_command(run, verb)
    (run.commands / "5-explode.json").write_text("{}")
    assert take_commands(run) == ["pause", "checkpoint", "resume"]
    assert take_commands(run) == []


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        existing_run(tmp_path)
