"""The terminal's title, progress and notices; files are opened where the person sits."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxprune_tui.shell import outside
from mlxprune_tui.shell.outside import Window


def test_title_and_progress_are_sent_once() -> None:
    sent: list[str] = []
    window = Window(sent.append, "WezTerm")
    for _ in range(3):
        window.show("run: running", 0.414)
    assert sent == ["\x1b]0;run: running\x07", "\x1b]9;4;1;41\x07"]
    window.show("run: failed", 0.414, failed=True)
    assert sent[2:] == ["\x1b]0;run: failed\x07"]
    window.close()
    assert sent[-1] == "\x1b]9;4;0;0\x07"


def test_a_terminal_that_would_take_progress_for_a_notice_gets_none() -> None:
    sent: list[str] = []
    window = Window(sent.append, "Apple_Terminal")
    window.show("run", 0.5)
    window.notice("done")
    assert sent == ["\x1b]0;run\x07"]


def test_a_hostile_name_is_no_escape() -> None:
    sent: list[str] = []
    window = Window(sent.append, "WezTerm")
    window.show("x\x07\x1b]52;c;evil\x07", None)
    window.notice("y\x1b[2J")
    for one in sent:
        assert one.count("\x1b") == 1
        assert one.count("\x07") == 1


def test_over_ssh_nothing_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
    assert str(tmp_path) in outside.open_path(tmp_path)
    monkeypatch.delenv("SSH_TTY")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(outside.shutil, "which", lambda name: None)
    assert "nothing here opens files" in outside.open_path(tmp_path)
