"""Titles and words are harmless, and broken under their names."""

from __future__ import annotations

import asyncio

from textual.app import ComposeResult

from mlxprune_tui.testing import Held
from mlxprune_tui.widgets.panes import Pane, ScrolledWords, Words


def test_words_are_broken_under_their_name() -> None:
    class Two(Held):
        CSS = "Words { width: 30; } Pane { height: 8; }"

        def compose(self) -> ComposeResult:
            yield Pane("[b]title[/b]", Words("w"), ScrolledWords("s"), ident="pane")

    async def run() -> None:
        app = Two(None)
        async with app.run_test(size=(60, 20)) as pilot:
            await pilot.pause()
            words = app.query_one("#w", Words)
            words.tell_facts([("name", "a value that is longer than its line", ""), ("b", "c", "")])
            lines = words.plain_text.split("\n")
            assert lines[0].startswith("name  a value")
            assert lines[1].startswith("      ")
            assert all(len(line) <= 30 for line in lines)
            app.query_one(Pane).entitle("\x1b[31m[red]x" + "y" * 90)
            await pilot.pause()
            assert "\x1b" not in str(app.query_one(Pane).border_title)

    asyncio.run(run())
