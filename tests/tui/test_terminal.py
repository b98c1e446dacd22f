"""The app on a real terminal, on a live run: seen, resized, left, steered, killed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlxprune.config.yaml_file import write_yaml
from mlxprune.run import lock
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny
from mlxprune_tui.shell.keys import SCREENS

TMUX = shutil.which("tmux")
MLXPRUNE = [sys.executable, "-m", "mlxprune"]


class Terminal:
    """A tmux server of its own, with one window."""

    def __init__(self, cells: int, rows: int, command: list[str], environment: dict[str, str]):
        self.name = f"mlxprune-test-{os.getpid()}-{time.time_ns()}"
        told = " ".join(f"{k}={shlex.quote(v)}" for k, v in environment.items())
        size = ["-x", str(cells), "-y", str(rows)]
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", *size, f"env {told} {shlex.join(command)}"
        )

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(TMUX), "-L", self.name, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, cells: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(cells), "-y", str(rows))

    def pid(self) -> int:
        return int(self._tmux("list-panes", "-F", "#{pane_pid}"))

    def alive(self) -> bool:
        return bool(self._tmux("list-sessions"))

    def kill(self) -> None:
        self._tmux("kill-server")


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def filled_lines(shown: Terminal) -> list[str]:
    return [line for line in shown.screen().split("\n") if line.strip()]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that works for a minute or two, in a process of its own."""
    tree = tiny.tiny_config(tiny.tiny_corpus(tmp_path / "corpus", documents=1500))
    tree["reference"] |= {"tokens": 300_000, "checkpoint_every": 40_000}
    tree["final"] |= {"tokens": 1_500_000, "checkpoint_every": 40_000}
    path = tmp_path / "live.yaml"
    path.write_text(write_yaml(tree))
    run = RunFolder(tmp_path / "runs" / "live")
    subprocess.run([*MLXPRUNE, "run", str(path), "--dir", str(run.path), "--detach"], check=True)
    yield run
    holder = lock.owner(run)
    if holder is not None and holder.alive():
        os.kill(holder.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.skipif(TMUX is None, reason="tmux is not installed")
def test_a_life_on_a_terminal(live: RunFolder, tmp_path: Path) -> None:
    environment = {
        "TERM": "xterm-256color", "MLXPRUNE_CONFIG_HOME": str(tmp_path / "home"), "LANG": "C.UTF-8",
    }  # fmt: skip
    command = [*MLXPRUNE, "tui", str(live.path)]
    shown = Terminal(120, 40, command, environment)
    try:
        until(lambda: "RUNNING" in shown.screen(), 30, "it never showed the run")
        for number, name in enumerate(SCREENS, 1):
            shown.press(str(number))
            assert name.capitalize() in shown.screen()
            assert "Traceback" not in shown.screen()
        shown.press("2")
        until(lambda: re.search(r"[\d,]+ documents", shown.screen()), 60, "no histogram came")
        until(lambda: "8/10 final" in shown.screen(), 90, "the final stage never began")
        told = subprocess.run(
            [*MLXPRUNE, "status", str(live.path), "--json"], capture_output=True, check=True
        )
        documents = sum(json.loads(told.stdout)["histogram"]["documents"])
        found = re.search(r"([\d,]+) documents", shown.screen())
        assert found is not None
        assert int(found[1].replace(",", "")) == documents

        for cells, rows in ((80, 24), (50, 10), (120, 40)):
            shown.resize(cells, rows)
            filled = 1 if rows < 15 else rows
            # A screen may end a pane with empty lines; below the least size there is one line.
            until(lambda count=filled: count // 2 < len(filled_lines(shown)) <= count, 10,
                  f"{cells} x {rows}")  # fmt: skip
            assert max(map(len, filled_lines(shown))) <= cells

        shown.press("q")
        until(lambda: not shown.alive(), 10, "it did not detach")
        holder = lock.owner(live)
        assert holder is not None
        assert holder.alive()

        shown = Terminal(80, 24, command, environment)
        until(lambda: "RUNNING" in shown.screen(), 30, "it did not attach again")
        shown.press("P")
        until(lambda: "Pause" in shown.screen(), 10, "it did not ask")
        shown.press("y")
        until(lambda: "PAUSED" in shown.screen(), 20, "it did not pause")
        shown.press("R")
        until(lambda: "Resume" in shown.screen(), 10, "it did not ask")
        shown.press("y")
        until(lambda: "RUNNING" in shown.screen(), 20, "it did not go on")

        os.kill(holder.pid, signal.SIGKILL)
        shown.press("1")
        until(lambda: "CRASHED" in shown.screen(), 20, "the crash was not seen in time")
        until(lambda: "--dir" in shown.screen(), 10, "no command to go on was shown")
        shown.press("R")
        until(lambda: "Go on with" in shown.screen(), 10, "it did not ask")
        shown.press("y")
        until(lambda: "RUNNING" in shown.screen(), 60, "the app did not start it again")

        app = psutil.Process(shown.pid())
        shown.kill()
        until(lambda: not app.is_running() or app.status() == "zombie", 10, "it outlived it")
        holder = lock.owner(live)
        assert holder is not None
        assert holder.alive()
        shown = Terminal(80, 24, command, environment)
        until(lambda: "RUNNING" in shown.screen(), 30, "it did not attach a third time")
        shown.press("X")
        until(lambda: "Stop" in shown.screen(), 10, "it did not ask")
        shown.press("y")
        until(lambda: "STOPPED" in shown.screen(), 30, "it did not stop")
    except AssertionError:
        print(shown.screen())
        raise
    finally:
        shown.kill()


@pytest.mark.slow
@pytest.mark.skipif(TMUX is None, reason="tmux is not installed")
def test_a_terminal_that_is_gone_without_a_word(tiny_run: RunFolder, tmp_path: Path) -> None:
    """No signal, only a closed descriptor: the app ends, and keeps no core busy."""
    import pty

    child, descriptor = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.environ |= {"TERM": "xterm-256color", "MLXPRUNE_CONFIG_HOME": str(tmp_path)}
        os.execv(sys.executable, [*MLXPRUNE, "tui", str(tiny_run.path)])
    try:
        seen = b""
        end = time.monotonic() + 30
        while b"DONE" not in seen and time.monotonic() < end:
            seen += os.read(descriptor, 65536)
        assert b"DONE" in seen
        os.close(descriptor)
        process = psutil.Process(child)
        until(lambda: process.status() == psutil.STATUS_ZOMBIE, 15, "it went on without a terminal")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("environment", "told"),
    [({"TERM": "dumb"}, "cannot draw"), ({"TERM": "xterm"}, "no terminal")],
)
def test_what_is_no_terminal_is_refused_with_a_sentence(
    environment: dict[str, str], told: str, tiny_run: RunFolder
) -> None:
    done = subprocess.run(
        [*MLXPRUNE, "tui", str(tiny_run.path)],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert "mlxprune watch --plain" in done.stderr
    assert len(done.stderr.splitlines()) == 3
