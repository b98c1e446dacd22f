from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from mlxprune_tui import (
    palette,
)


def test_names_of_folders_are_no_markup(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "evil" / "[red]x"
    shutil.copytree(make_run("done"), folder)
    found = palette.commands(folder.parent, [], print, print, print, print)
    from textual.markup import to_content

    (one,) = [c for c in found if c.title.startswith("open ") and "red" in c.title]
    assert to_content(one.title).plain == "open [red]x"
