"""The palette: this screen's keys first, and arms, runs, themes; names are no markup."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from textual.content import Content

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell import palette
from mlxprune_tui.testing import opened, show, until


def test_names_of_folders_are_no_markup(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "evil" / "[red]x"
    shutil.copytree(make_run("done"), folder)

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            (one,) = [c for c in app.choices() if c.name.startswith("open ") and "red" in c.name]
            assert Content(one.name).plain == "open [red]x"
            assert Content.from_markup(one.told).plain.endswith("[red]x")

    asyncio.run(go())


def test_the_palette_opens_a_run(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        app = Monitor(one, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "scoring")
            found = app.choices()
            names = [c.name for c in found]
            assert {"open done", "open failed", "theme nord", "show training"} <= set(names)
            assert {"training: all", "arm high-50-s0", "stage score"} <= set(names)
            assert names[0] == "what if"  # this screen's own first
            next(c for c in found if c.name == "open failed").do()
            await opened(app, pilot)
            assert app.session.view is not None
            assert app.session.view.run.path == other

    asyncio.run(go())


def test_an_arm_is_shown(make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            next(c for c in app.choices() if c.name == "arm high-50-s0").do()
            await until(pilot, lambda: app.current_mode == "training")
            await until(pilot, lambda: getattr(app.page, "model", None) == "final/high-50-s0")

    asyncio.run(go())


def test_words_that_people_use_find_keys(make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for word, wanted in (
                ("overfit", "show training"), ("export", "export"), ("verdict", "show compare"),
                ("quit", "leave"), ("clipboard", "copy"),
            ):  # fmt: skip
                finder = palette.Choices(app.screen)
                hits = [hit async for hit in finder.search(word)]
                assert wanted in [str(hit.text) for hit in hits], word  # type: ignore[union-attr]

    asyncio.run(go())
