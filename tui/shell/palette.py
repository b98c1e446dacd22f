"""Palette: everything that can be done, to be searched: keys, runs, themes, glyphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import SystemCommand
from textual.markup import escape

from mlxprune.run.folder import runs_under
from mlxprune_tui.drawing.cells import GLYPHS
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.shell import keys


def commands(
    folder: Path | None,
    themes: list[str],
    press: Callable[[keys.Key], None],
    open_run: Callable[[Any], None],
    choose_theme: Callable[[str], None],
    choose_glyphs: Callable[[str], None],
) -> Iterator[SystemCommand]:
    """Names of folders are text from elsewhere: no markup of theirs is obeyed."""
    for key in keys.KEYS:
        if key.action in ("palette", "back"):
            continue
        name = key.action.replace("_", " ")
        where = name if key.screen == keys.EVERYWHERE else f"{key.screen}: {name}"
        yield SystemCommand(where, escape(f"{key.told}; key {key.shown}"), partial(press, key))
    for run in runs_under(folder) if folder is not None else []:
        name, place = (escape(line_of(str(t))) for t in (run.path.name, run.path))
        yield SystemCommand(f"open {name}", place, partial(open_run, run.path))
    for theme in themes:
        yield SystemCommand(f"theme {theme}", "colours", partial(choose_theme, theme))
    for glyphs in GLYPHS:
        told = "what pictures are made of"
        yield SystemCommand(f"glyphs {glyphs}", told, partial(choose_glyphs, glyphs))
