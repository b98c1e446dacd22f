"""Clipboard: text to the clipboard of the machine that a person sits at, and where it went."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SECONDS = 3.0


@dataclass(frozen=True)
class Way:
    """``command`` takes the text on its standard input; None: the terminal is asked (OSC 52)."""

    command: tuple[str, ...] | None
    told: str


def way(environment: Mapping[str, str], platform: str, has: Callable[[str], bool]) -> Way:
    """How text gets there: by the system's own program where the app runs on the machine that is
    looked at, through the terminal over SSH."""
    if environment.get("SSH_TTY") or environment.get("SSH_CONNECTION"):
        told = "sent to your terminal (OSC 52), which may have to allow it"
        if environment.get("TMUX"):
            told = "sent through tmux (OSC 52): it takes `set -g set-clipboard on`"
        return Way(None, told)
    if platform == "darwin" and has("pbcopy"):
        return Way(("pbcopy",), "to the clipboard (pbcopy)")
    if environment.get("WAYLAND_DISPLAY") and has("wl-copy"):
        return Way(("wl-copy",), "to the clipboard (wl-copy)")
    if environment.get("DISPLAY") and has("xclip"):
        return Way(("xclip", "-selection", "clipboard"), "to the clipboard (xclip)")
    if environment.get("DISPLAY") and has("xsel"):
        return Way(("xsel", "--clipboard", "--input"), "to the clipboard (xsel)")
    return Way(None, "sent to your terminal (OSC 52), which may have to allow it")


def copy(text: str, through_terminal: Callable[[str], None]) -> str:
    """Copy, and say where it went."""
    found = way(os.environ, sys.platform, lambda name: shutil.which(name) is not None)
    if found.command is not None:
        try:
            subprocess.run(
                found.command, input=text.encode(), timeout=SECONDS, check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            through_terminal(text)
            return f"{found.command[0]} failed ({error}): sent to your terminal (OSC 52)"
        return found.told
    through_terminal(text)
    return found.told
