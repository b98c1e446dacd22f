"""Settings: what the app remembers of a person: theme, glyphs, screen, own keys, runs seen."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxprune.files import read_json, write_json

DEFAULTS: dict[str, Any] = {
    "theme": None,  # a theme of Textual's; None: by the terminal
    "glyphs": None,  # braille, block, ascii; None: by the terminal
    "screen": "overview",
    "hertz": None,  # how often the picture is drawn; None: 4
    "keys": {},  # {"screen.action": "key"}
    "options": {},  # of each screen, as they were left
    "seen": {},  # {run folder: when it was last looked at}
}
SEEN_KEPT = 200


def path() -> Path:
    """MLXPRUNE_CONFIG_HOME, else XDG_CONFIG_HOME/mlxprune, else ~/.config/mlxprune."""
    own = os.environ.get("MLXPRUNE_CONFIG_HOME")
    if own:
        return Path(own) / "tui.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "mlxprune" / "tui.json"


def usual() -> dict[str, Any]:
    """The defaults, anew."""
    return copy.deepcopy(DEFAULTS)


def load() -> dict[str, Any]:
    """What is kept; a file that cannot be read is as if there were none."""
    try:
        found = read_json(path())
    except (OSError, ValueError):
        found = {}
    known = found if isinstance(found, dict) else {}
    result = usual()
    for key, sound in SOUND.items():
        if key in known and sound(known[key]):
            result[key] = known[key]
    result["seen"] = {k: v for k, v in result["seen"].items() if _number(v)}
    result["keys"] = {k: v for k, v in result["keys"].items() if isinstance(v, str) and v}
    result["options"] = {k: v for k, v in result["options"].items() if isinstance(v, dict)}
    return result


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


SOUND: dict[str, Callable[[Any], bool]] = {
    "theme": _text,
    "glyphs": _text,
    "screen": lambda value: isinstance(value, str),
    "hertz": lambda value: value is None or (_number(value) and 0.1 <= value <= 30),
    "keys": lambda value: isinstance(value, dict),
    "options": lambda value: isinstance(value, dict),
    "seen": lambda value: isinstance(value, dict),
}


def save(settings: dict[str, Any]) -> str | None:
    """Keep them; returns why that was not possible."""
    seen = sorted(settings["seen"].items(), key=lambda s: -float(s[1]))[:SEEN_KEPT]
    try:
        write_json(path(), {**settings, "seen": dict(seen)})
    except OSError as error:
        return f"settings are not kept: {error.strerror or error}"
    return None


def glyphs_of(settings: dict[str, Any], environment: dict[str, str]) -> str:
    """What the terminal can show: the settings' word, else by its character set."""
    chosen = settings["glyphs"]
    if chosen in ("braille", "block", "ascii"):
        return str(chosen)
    named = " ".join(environment.get(k, "") for k in ("LC_ALL", "LC_CTYPE", "LANG")).lower()
    if named.strip() and "utf" not in named:
        return "ascii"
    return "block" if environment.get("TERM", "").startswith("linux") else "braille"
