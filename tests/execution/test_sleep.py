"""Sleep: two clocks tell it, it is in no rate, and a Mac is kept awake while a run works."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from mlxprune.execution.control import Control
from mlxprune.execution.sleep import SleepWatch, clock_through_sleep, kept_awake
from mlxprune.run.events import EventLog, fold_log, read_events
from mlxprune.run.folder import RunFolder


class Clocks:
    """A pair of them: both go on awake, one alone in sleep."""

    def __init__(self) -> None:
        self.awake, self.through = 100.0, 900.0

    def work(self, seconds: float) -> None:
        self.awake += seconds
        self.through += seconds

    def sleep(self, seconds: float) -> None:
        self.through += seconds


def watch_of(clocks: Clocks) -> SleepWatch:
    return SleepWatch(lambda: clocks.awake, lambda: clocks.through)


def test_sleep_is_told_once_and_small_differences_are_none() -> None:
    clocks = Clocks()
    watch = watch_of(clocks)
    clocks.work(3600)
    assert watch.slept() == 0
    clocks.sleep(2)
    assert watch.slept() == 0
    clocks.sleep(28_000)
    assert watch.slept() == pytest.approx(28_002)
    assert watch.slept() == 0
    clocks.work(10)
    clocks.sleep(60)
    assert watch.slept() == pytest.approx(60)


def test_a_run_tells_that_the_machine_slept(tmp_path: Path) -> None:
    clocks, log = Clocks(), EventLog(tmp_path / "events")
    control = Control(RunFolder(tmp_path), log, watch_of(clocks))
    clocks.sleep(7200)
    control.pending()
    log.close()
    told = [event for event in read_events(tmp_path / "events") if event.kind == "slept"]
    assert [event.seconds for event in told] == [pytest.approx(7200)]
    assert fold_log(tmp_path / "events").slept_seconds == pytest.approx(7200)


def test_the_clocks_of_this_machine_go_alike_while_it_is_awake() -> None:
    before = clock_through_sleep() - time.monotonic()
    time.sleep(0.05)
    assert abs(clock_through_sleep() - time.monotonic() - before) < 1.0


def test_caffeinate_is_started_with_this_process_and_ends_with_the_work(tmp_path: Path) -> None:
    """A stand-in that notes what it was asked and waits, as the real one does."""
    noted = tmp_path / "noted"
    stand_in = tmp_path / "caffeinate"
    stand_in.write_text(f'#!/bin/sh\necho "$$ $@" > {noted}\nexec sleep 60\n')
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    with kept_awake(True, stand_in) as is_kept:
        assert is_kept
        deadline = time.monotonic() + 10
        while not noted.exists() or not noted.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid, *asked = noted.read_text().split()
        assert asked == ["-i", "-w", str(os.getpid())]
        assert psutil.pid_exists(int(pid))
    assert not psutil.pid_exists(int(pid))
    with kept_awake(False, stand_in) as is_kept:
        assert not is_kept
    with kept_awake(True, tmp_path / "none") as is_kept:
        assert not is_kept


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_is_a_signal_unless_it_is_ignored(ignored: bool, tmp_path: Path) -> None:
    """As under nohup: there a hang-up does nothing."""
    program = f"""
        import os, signal
        from pathlib import Path
        signal.signal(signal.SIGHUP, signal.SIG_IGN if {ignored} else signal.SIG_DFL)
        from mlxprune.execution.control import Control
        from mlxprune.run.events import EventLog
        with Control(None, EventLog(Path({str(tmp_path)!r}))) as control:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)  # the shell's and the kernel's
            print(control.pending(), control.signal_number)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = "False 0" if ignored else f"True {signal.SIGHUP.value}"
    assert done.stdout.strip() == expected, done.stderr
