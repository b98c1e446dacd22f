from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxprune_tui.app import Monitor
from mlxprune_tui.testing import check_frame, opened, until


@pytest.mark.slow
def test_what_a_person_types_ends_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    tries = {
        ("runs", "n"): ["it's.yaml", "none.yaml", ""],
        ("selection", "w"): ["~nobody-of-that-name/x.yaml", "made.yaml", "made.yaml"],
        ("documents", "slash"): ["nll>", "tokens>" + 300 * "9", "domain:none", "kept !def the"],
        ("documents", "percent_sign"): ["-3", "x", "50"],
    }

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        app.notify = lambda message, **more: told.append(message)  # type: ignore[method-assign]
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for (name, key), texts in tries.items():
                app.show_page(name)
                await until(pilot, lambda page=app.page: page.why_not("write") is None)
                for text in texts:
                    await pilot.press(key)
                    await until(pilot, lambda: len(app.screen_stack) == 2)
                    app.screen.query_one("Input").value = text  # type: ignore[attr-defined]
                    await pilot.press("enter")
                    await pilot.pause(0.05)
                    for _ in range(3):  # it asks again, with what is wrong
                        if len(app.screen_stack) > 1:
                            await pilot.press("escape")
                            await pilot.pause()
                    assert len(app.screen_stack) == 1
            check_frame(app, 100, 30)

    asyncio.run(go())
    assert (tmp_path / "made.yaml").exists()
    assert any("exists" in t for t in told)
    assert any("percentile" in t for t in told)


def test_escape_of_a_line_of_text_does_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            app.show_page("selection")
            await until(pilot, lambda: app.page.why_not("write") is None)
            await pilot.press("w")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            await pilot.pause(0.1)
            assert not list(tmp_path.glob("*.yaml"))

    asyncio.run(go())
