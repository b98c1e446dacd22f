from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxprune import machine
from mlxprune.errors import UsageError
from mlxprune.files import (
    write_json,
)
from mlxprune.run import lock
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState
from mlxprune.run.status import standing_of


def held(told: str, updated: float | None = None) -> RunState:
    return RunState(state=told, updated=updated)


@pytest.mark.parametrize("told", ["pending", "done", "failed", "stopped"])
def test_what_has_ended_stands_as_it_says(told: str, tmp_path: Path) -> None:
    assert standing_of(RunFolder(tmp_path), held(told), time.time()) == told


def test_a_run_at_work_is_slow_then_stale_never_crashed(tmp_path: Path) -> None:
    run, now = RunFolder(tmp_path), time.time()
    with lock.locked(run):
        for silent, expected in ((1.0, "running"), (60.0, "slow"), (1000.0, "stale")):
            assert standing_of(run, held("running", now - silent), now) == expected
        assert standing_of(run, held("paused", now - 60.0), now) == "paused"
        assert standing_of(run, held("paused", now - 1000.0), now) == "stale"
        assert standing_of(run, held("running"), now) == "running"


def test_the_dead_the_far_and_the_unknown(tmp_path: Path) -> None:
    run, now = RunFolder(tmp_path), time.time()
    dead = {"pid": 2**22 + 1, "started": 1.0, "host": os.uname().nodename}
    write_json(tmp_path / "lock", dead)
    assert standing_of(run, held("running", now), now) == "crashed"
    write_json(tmp_path / "lock", {**dead, "host": "another-host"})
    assert standing_of(run, held("running", now), now) == "elsewhere"
    (tmp_path / "lock").unlink()  # its process ended properly, and the log does not say so
    assert standing_of(run, held("running", now), now) == "unknown"


def test_a_copied_lock_names_a_process_that_does_not_hold_it(tmp_path: Path) -> None:
    """Of this very process, which holds no lock there."""
    import psutil

    mine = psutil.Process()
    told = {"pid": mine.pid, "started": mine.create_time(), "host": os.uname().nodename}
    write_json(tmp_path / "lock", told)
    now = time.time()
    assert standing_of(RunFolder(tmp_path), held("running", now), now) == "crashed"


def test_a_dead_owner_is_known_to_be_dead(tmp_path: Path) -> None:
    """The lock ends with its process, whatever became of the pid."""
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
        # Where a clock steps, a process seems to have begun at another time.
        stepped = lock.Owner(mine.pid, mine.started - 1000, mine.host, tmp_path)
        assert stepped.alive() is True
        assert lock.Owner(1, 0.0, "elsewhere", tmp_path).alive() is None
    assert lock.owner(run) is None


def test_a_host_is_known_by_its_boot_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Mac's name changes with the network: the same start of the machine is the same host."""
    monkeypatch.setattr(machine, "boot_session", lambda: "40962879-B7EE")
    with lock.locked(RunFolder(tmp_path)):
        mine = lock.owner(RunFolder(tmp_path))
        assert mine is not None
        monkeypatch.setattr(socket, "gethostname", lambda: "mac.fritz.box")
        assert mine.alive() is True
        monkeypatch.setattr(machine, "boot_session", lambda: "A7417159-025C")
        assert mine.alive() is None  # another machine
        monkeypatch.setattr(socket, "gethostname", lambda: mine.host)
        assert mine.alive() is False  # this one, started again since


def test_a_disk_that_cannot_lock_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(UsageError) as caught, lock.locked(RunFolder(tmp_path)):
        pass
    assert "cannot lock" in caught.value.problem
    assert "--dir" in caught.value.fix
