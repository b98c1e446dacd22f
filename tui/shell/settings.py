"""Settings: what the app remembers of a person: theme, glyphs, screen, own keys, runs seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlxprune.files import read_json, write_json

Options = dict[str, Any]  # of a screen, by name: what it lets people choose


@dataclass
class Settings:
    """What is kept from one time to the next; None: as the terminal has it."""

    theme: str | None = None  # a theme of Textual's
    glyphs: str | None = None  # braille, block, ascii
    screen: str = "overview"
    hertz: float | None = None  # how often the picture is drawn; None: 4
    keys: dict[str, str] = field(default_factory=dict)  # {"screen.action": "key"}
    options: dict[str, Options] = field(default_factory=dict)  # of each screen, as they were left
    seen: dict[str, float] = field(default_factory=dict)  # {run folder: when last looked at}

    def with_chosen(self, theme: str | None, glyphs: str | None, hertz: float | None) -> Settings:
        """The same with what was asked for this time."""
        return replace(
            self,
            theme=theme or self.theme,
            glyphs=glyphs or self.glyphs,
            hertz=hertz or self.hertz,
        )


SEEN_KEPT = 200
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")  # what Python sets LC_CTYPE to in place of C


def path() -> Path:
    """MLXPRUNE_CONFIG_HOME, else XDG_CONFIG_HOME/mlxprune, else ~/.config/mlxprune."""
    own = os.environ.get("MLXPRUNE_CONFIG_HOME")
    if own:
        return Path(own) / "tui.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "mlxprune" / "tui.json"


def load() -> Settings:
    """What is kept; a file that cannot be read is as if there were none, and so is a value."""
    try:
        found = read_json(path())
    except (OSError, ValueError):
        found = {}
    result = Settings()
    for name, sound in SOUND.items():
        if isinstance(found, dict) and name in found and sound(found[name]):
            setattr(result, name, found[name])
    result.seen = {k: v for k, v in result.seen.items() if _number(v)}
    result.keys = {k: v for k, v in result.keys.items() if isinstance(v, str) and v}
    result.options = {k: v for k, v in result.options.items() if isinstance(v, dict)}
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


def save(settings: Settings) -> str | None:
    """Keep them; returns why that was not possible."""
    seen = sorted(settings.seen.items(), key=lambda s: -float(s[1]))[:SEEN_KEPT]
    try:
        write_json(path(), {**asdict(settings), "seen": dict(seen)})
    except OSError as error:
        return f"settings are not kept: {error.strerror or error}"
    return None


def glyphs_of(settings: Settings, environment: dict[str, str]) -> str:
    """What the terminal can show: the settings' word, else by its character set."""
    chosen = settings.glyphs
    if chosen in ("braille", "block", "ascii"):
        return chosen
    ctype = environment.get("LC_CTYPE", "")
    ctype = "" if ctype in COERCED else ctype  # Python's own word where the locale was C (PEP 538)
    named = (environment.get("LC_ALL") or ctype or environment.get("LANG", "")).lower()
    if named.strip() and "utf" not in named:
        return "ascii"
    return "block" if environment.get("TERM", "").startswith("linux") else "braille"
