from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell import palette
from mlxprune_tui.testing import opened


def test_names_of_folders_are_no_markup(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "evil" / "[red]x"
    shutil.copytree(make_run("done"), folder)
    found = palette.commands(folder.parent, [], print, print, print, print)
    from textual.markup import to_content

    (one,) = [c for c in found if c.title.startswith("open ") and "red" in c.title]
    assert to_content(one.title).plain == "open [red]x"


def test_the_palette_opens_a_run(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        app = Monitor(one, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            names = {c.title for c in app.get_system_commands(app.screen)}
            assert {
                "open done",
                "open failed",
                "theme nord",
                "show training",
                "documents: heat",
            } <= names
            command = next(
                c for c in app.get_system_commands(app.screen) if c.title == "open failed"
            )
            command.callback()
            await opened(app, pilot)
            assert app.context.view is not None
            assert app.context.view.run.path == other

    asyncio.run(go())
