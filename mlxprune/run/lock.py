"""The lock of a run: two processes never work on one folder, and who held it last is known."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlxprune import machine
from mlxprune.errors import UsageError, one_line
from mlxprune.files import read_json, write_json
from mlxprune.run.folder import RunFolder

CANNOT_LOCK = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)


@dataclass(frozen=True)
class Owner:
    """The process that works on a run, as its lock names it."""

    pid: int
    started: float
    host: str
    folder: Path
    boot: str | None = None  # the start of the machine that it ran in

    def alive(self) -> bool | None:
        """None when it ran on another host, which nobody here can know. A host is known by its boot
        session: a Mac's name changes with the network."""
        here = machine.boot_session()
        if self.boot is not None and here is not None:
            if self.boot != here:
                return False if self.host == socket.gethostname() else None
        elif self.host != socket.gethostname():
            return None
        # The lock ends with the process, whatever the clock says of when that began.
        return _is_held(self.folder)


def owner(run: RunFolder) -> Owner | None:
    """Who works on the run, or did until it was killed; None when the last one ended properly."""
    try:
        known = read_json(run.path / "lock")
        boot = known.get("boot")
        return Owner(
            int(known["pid"]), float(known["started"]), str(known["host"]), run.path,
            None if boot is None else str(boot),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(folder: Path) -> bool:
    """Whether a process of this host holds the lock: a copied folder names one that does not."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _take(fd: int) -> None:
    """Lock, with a little patience: who only looks holds it for a moment."""
    for attempt in range(5):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 4:
                raise
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            fix = "keep the run folder on a disk of this machine (--dir)"
            problem = "this file system cannot lock files, so two runs could meet in one folder"
            raise UsageError(problem, one_line(error.strerror or error), fix) from None


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Hold the run; two processes never work on one folder. The lock outlives a killed process."""
    run.path.mkdir(parents=True, exist_ok=True)
    fd = os.open(run.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            _take(fd)
        except BlockingIOError:
            holder = owner(run)
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            fix = f"wait for it, or stop it: mlxprune stop {run.path}"
            raise UsageError(f"{who} works on this run", str(run.path), fix) from None
        me = {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "host": socket.gethostname(),
            "boot": machine.boot_session(),
        }
        write_json(run.path / "lock", me)
        yield
        (run.path / "lock").unlink(missing_ok=True)
    finally:
        os.close(fd)
