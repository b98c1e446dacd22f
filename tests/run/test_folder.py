"""The run folder: atomic writes, markers, setting aside, the lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxprune.errors import SpaceError, UsageError
from mlxprune.files import (
    fingerprint_of,
    folder_in_the_making,
    no_space_is_an_error,
    read_json,
    write_json,
)
from mlxprune.run import lock
from mlxprune.run.folder import RunFolder, existing_run, send_command, take_commands
from mlxprune.run.markers import claim, is_done, mark_done, read_marker, set_aside
from mlxprune.units import duration


def test_a_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SpaceError), no_space_is_an_error(tmp_path):
        write_json(path, {"n": 2})
    assert read_json(path) == {"n": 1}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError), folder_in_the_making(tmp_path / "x") as partial:
        (partial / "half").write_text("x")
        raise ValueError
    assert not (tmp_path / "x").exists()
    with folder_in_the_making(tmp_path / "x") as partial:
        assert not (partial / "half").exists()
    assert (tmp_path / "x").is_dir()


def test_setting_aside_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "high-50"
    for fingerprint in ("aaaaaaaaaa", "bbbbbbbbbb"):
        assert not set_aside(place, fingerprint)
        place.mkdir()
        (place / "data").write_text(fingerprint)
        mark_done(place, "selection", fingerprint)
    assert set_aside(place, "aaaaaaaaaa")
    assert (place / "data").read_text() == "aaaaaaaaaa"
    assert set_aside(place, "bbbbbbbbbb")
    assert (place / "data").read_text() == "bbbbbbbbbb"


def test_a_file_is_marked_beside_itself_and_set_aside_with_its_mark(tmp_path: Path) -> None:
    place = tmp_path / "main.parquet"
    for fingerprint in ("aaaaaaaaaa", "bbbbbbbbbb"):
        assert not set_aside(place, fingerprint)
        place.write_text(fingerprint)
        assert read_marker(place) is None
        mark_done(place, "score", fingerprint, summary={"n": fingerprint})
    assert set_aside(place, "aaaaaaaaaa")
    assert place.read_text() == "aaaaaaaaaa"
    assert read_marker(place).summary == {"n": "aaaaaaaaaa"}
    place.unlink()
    assert not is_done(place, "aaaaaaaaaa"), "a mark without its file is nothing"


def test_unfinished_work_towards_something_else_is_cleared(tmp_path: Path) -> None:
    place = tmp_path / "model"
    claim(place, "aaaa")
    (place / "half").write_text("x")
    assert not set_aside(place, "aaaa")
    assert (place / "half").exists()
    assert not set_aside(place, "bbbb")
    assert not place.exists()


def test_a_dead_owner_is_known_to_be_dead(tmp_path: Path) -> None:
    """The lock names a process by its pid and start; another process with that pid is not it."""
    run = RunFolder(tmp_path)
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom mlxprune.run import lock\n"
        "from mlxprune.run.folder import RunFolder\n"
        "with lock.locked(RunFolder(Path(sys.argv[1]))): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    holder = lock.owner(run)
    assert holder is not None
    assert holder.alive() is False
    with lock.locked(run):
        mine = lock.owner(run)
        assert mine is not None
        assert mine.pid == os.getpid()
        assert mine.alive() is True
        assert lock.Owner(mine.pid, mine.started - 1000, mine.host, tmp_path).alive() is False
        assert lock.Owner(1, 0.0, "elsewhere", tmp_path).alive() is None
    assert lock.owner(run) is None


def test_commands_are_taken_once_in_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for verb in ("pause", "checkpoint", "resume"):
        send_command(run, verb)
    (run.commands / "5-explode.json").write_text("{}")
    assert take_commands(run) == ["pause", "checkpoint", "resume"]
    assert take_commands(run) == []


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        existing_run(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.04, "7.0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
