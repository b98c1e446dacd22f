"""What the app does outside of its screen: opens files, names the terminal's window, shows how far
a run is in its tab, and tells the end of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mlxprune_tui.drawing.text import line_of

# Terminals that understand OSC 9 as a notice, and OSC 9;4 as progress; others take 9;4 as a notice.
PROGRESS = ("ghostty", "iTerm.app", "WezTerm", "kitty")
NOTICES = ("iTerm.app", "ghostty", "WezTerm", "kitty")


def open_path(path: Path) -> str:
    """Show a file or a folder as the desktop does; what was done, in a sentence."""
    if os.environ.get("SSH_TTY") or os.environ.get("SSH_CONNECTION"):
        return f"you are on another machine: it lies there as {path}"
    opener = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    if shutil.which(opener) is None:
        return f"nothing here opens files: it is {path}"
    try:
        subprocess.Popen(
            [opener, str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"{opener} cannot be started ({error}): it is {path}"
    return f"opened {path}"


class Window:
    """The terminal's window: its title, its progress, its notices. ``write`` sends to it; nothing
    is sent twice."""

    def __init__(self, write: Callable[[str], None], program: str) -> None:
        self.write, self.program = write, program
        self.said: tuple[str, int | None] = ("", None)

    def show(self, title: str, share: float | None, failed: bool = False) -> None:
        """The title, and in the tab or the dock how far the run is; None takes that away."""
        percent = None if share is None else max(0, min(100, round(100 * share)))
        title = line_of(title)[:80]
        if self.said == (title, percent):
            return
        if self.said[0] != title:
            self.write(f"\x1b]0;{title}\x07")
        if self.program in PROGRESS and self.said[1] != percent:
            state = 0 if percent is None else (2 if failed else 1)
            self.write(f"\x1b]9;4;{state};{percent or 0}\x07")
        self.said = (title, percent)

    def notice(self, sentence: str) -> None:
        """One notice of the desktop, where the terminal makes them."""
        if self.program in NOTICES:
            self.write(f"\x1b]9;{line_of(sentence)[:200]}\x07")

    def close(self) -> None:
        self.show("", None)
