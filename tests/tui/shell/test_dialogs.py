from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell.dialogs import Help
from mlxprune_tui.testing import check_frame, opened, show, until

TRIES = {
    ("runs", "a"): ["it's.yaml", "none.yaml", ""],
    ("selection", "w"): ["~nobody-of-that-name/x.yaml", "made.yaml", "made.yaml"],
    ("documents", "percent_sign"): ["-3", "x", "50"],
    ("scoring", "e"): ["out.svg", "out.txt", "out.png", "no/such/folder.svg"],
}
FILTERS = ["nll>", "tokens>" + 300 * "9", "domain:none", "kept !def the", "nll>2 kept"]


@pytest.mark.slow
def test_what_a_person_types_ends_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        app.notify = lambda message, **more: told.append(message)  # type: ignore[method-assign]
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for (name, key), texts in TRIES.items():
                await show(app, pilot, name)
                await until(pilot, lambda: app.page.nothing() is None)
                await until(pilot, lambda: app.page.focused is not None)
                for text in texts:
                    await pilot.press(key)
                    await until(pilot, lambda: len(app.screen_stack) == 2)
                    app.screen.query_one("Input").value = text  # type: ignore[attr-defined]
                    await pilot.press("enter")
                    await until(pilot, lambda: len(app.screen_stack) == 1)
            for text in FILTERS:
                await show(app, pilot, "documents")
                await pilot.press("slash")
                app.page.query_one("#filter").value = text  # type: ignore[attr-defined]
                await pilot.press("enter")
                await pilot.pause(0.05)
                await pilot.press("escape", "escape")
            check_frame(app, 100, 30)

    asyncio.run(go())
    assert (tmp_path / "made.yaml").exists()
    assert (tmp_path / "out.svg").read_text().startswith("<svg")
    assert any("exists" in t for t in told)
    assert any("percentile" in t for t in told)
    assert any("no condition" in t or "condition" in t for t in told)
    assert any("written as" in t for t in told)


def test_escape_of_a_line_of_text_does_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "selection")
            await until(pilot, lambda: app.page.why_not("write") is None)
            await pilot.press("w")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            await pilot.pause(0.1)
            assert not list(tmp_path.glob("*.yaml"))

    asyncio.run(go())


def test_help_says_what_the_screen_shows_and_why_a_key_is_faint(
    make_run: Callable[[str], Path],
) -> None:
    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(100, 60)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "training")
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, Help))
            assert isinstance(app.screen, Help)
            said = "".join(text for text, _ in app.screen.spans())
            for wanted in ("memorising", "validation", "Keys here", "no process would hear it"):
                assert wanted in said
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)

    asyncio.run(go())
