"""A document is read to its end, searched, and its tokens weighed."""

from __future__ import annotations

from typing import Any

import pytest

from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.screens import reader
from mlxprune_tui.testing import (
    frame,
    on_screen,
    until,
)


def test_a_document_is_read_to_its_end_and_searched(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(app: Any, pilot: Any) -> None:
        held = app.page.library
        app.page.options["sort"], app.page.options["reverse"] = "tokens", True
        app.page.find()
        await pilot.pause(0.1)
        row = app.page.chosen_row()
        assert held.tokens[row] == held.tokens.max()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, reader.Reader))
        page = app.screen
        await until(pilot, lambda: len(page.lines.spans) > 0)
        facts = held.facts.of(int(held.numbers[row]))
        assert line_of(facts.id)[:20] in frame(app)
        await pilot.press("G")
        await until(pilot, lambda: page.lines.is_whole)
        last = page.lines.text.split()[-1]
        await until(pilot, lambda: last in frame(app))
        word = page.lines.text.split()[5]
        await pilot.press("slash")
        page.query_one("#find").value = word
        await pilot.press("enter")
        await until(pilot, lambda: "match 1 of" in frame(app))
        count = len(page.lines.matches)
        assert count == page.lines.text.lower().replace("\n", " ").count(word.lower())
        if count > 1:
            await pilot.press("n")
            await until(pilot, lambda: "match 2 of" in frame(app))
        await pilot.press("full_stop")
        await until(pilot, lambda: page.row == int(app.page.rows[1]))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    on_screen(tiny_run.path, "documents", go)


def test_losses_are_of_the_document_asked_for(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def losses(run: Any, held: Any, number: int) -> Any:
        asked.append(number)
        return ["a", "b"], [0.5, 11.0]

    monkeypatch.setattr(reader, "_losses", losses)

    async def go(app: Any, pilot: Any) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, reader.Reader))
        page = app.screen
        await pilot.press("v")
        await until(pilot, lambda: page.hot is not None)
        assert asked == [page.document]
        assert [style for _, style in page.hot[0][0]] == ["heat0", "heat5"]
        assert "10+" in frame(app)  # the legend
        await pilot.press("p")
        assert page.peak == 1

    on_screen(tiny_run.path, "documents", go)
