"""The run folder: atomic writes, markers, setting aside, the lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxprune.errors import UsageError
from mlxprune.run.folder import (
    RunFolder,
    existing_run,
    known_of,
    known_stages,
    send_command,
    take_commands,
)


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


def test_commands_of_another_user_are_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    path = send_command(run, "stop")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    if path.stat().st_uid == 0:
        os.chown(path, 4711, -1)
    assert take_commands(run) == []
    assert not path.exists()


def test_what_run_json_says_is_taken_only_where_it_is_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for damaged in (b"", b"[]", b"\xff", b"null", b'{"stages": null}', b'{"stages": {"a": []}}'):
        run.run_json.write_bytes(damaged)
        assert known_stages(run) == {}
        assert isinstance(known_of(run), dict)
