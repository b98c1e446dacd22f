"""Text goes to the clipboard of the machine that a person sits at, and is told where."""

from __future__ import annotations

import pytest

from mlxprune_tui.shell import clipboard
from mlxprune_tui.shell.clipboard import way


@pytest.mark.parametrize(
    ("environment", "platform", "has", "command", "word"),
    [
        ({}, "darwin", {"pbcopy"}, ("pbcopy",), "pbcopy"),
        ({"WAYLAND_DISPLAY": "w"}, "linux", {"wl-copy"}, ("wl-copy",), "wl-copy"),
        ({"DISPLAY": ":0"}, "linux", {"xclip"}, ("xclip", "-selection", "clipboard"), "xclip"),
        ({"DISPLAY": ":0"}, "linux", set(), None, "OSC 52"),
        ({}, "linux", {"xclip"}, None, "OSC 52"),
        ({"SSH_TTY": "/dev/pts/1"}, "darwin", {"pbcopy"}, None, "OSC 52"),
        ({"SSH_CONNECTION": "x", "TMUX": "y"}, "linux", set(), None, "set-clipboard"),
    ],
)
def test_the_way_there(
    environment: dict[str, str], platform: str, has: set[str], command: tuple[str, ...] | None,
    word: str,
) -> None:  # fmt: skip
    found = way(environment, platform, lambda name: name in has)
    assert found.command == command
    assert word in found.told


def test_what_a_program_takes_is_the_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    out = tmp_path / "out"  # type: ignore[operator]
    taken: list[str] = []
    told = clipboard.Way(("sh", "-c", f"cat > {out}"), "to a file")
    monkeypatch.setattr(clipboard, "way", lambda *args: told)
    assert clipboard.copy("a b\n\u4f60", taken.append) == "to a file"
    assert out.read_text() == "a b\n\u4f60"
    assert taken == []


def test_a_program_that_fails_is_told_and_the_terminal_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(clipboard, "way", lambda *args: clipboard.Way(("false",), "x"))
    assert "failed" in clipboard.copy("text", taken.append)
    assert taken == ["text"]
