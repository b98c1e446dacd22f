"""A late search is not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.run.folder import RunFolder
from mlxprune_tui.testing import on_screen, until


def test_a_late_search_is_not_shown(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        waiting: list[Any] = []
        app.later = lambda work, done: waiting.append(done)
        app.page.options["filter"] = "import"
        app.page.find()
        app.page.options["filter"] = ""
        app.page.find()
        everything = len(app.page.rows)
        waiting.pop()((np.zeros(0, np.int64), "searched"))
        assert len(app.page.rows) == everything

    on_screen(tiny_run.path, "documents", go)


def test_the_list_is_written_as_it_is_shown(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def go(app: Any, pilot: Any) -> None:
        held = app.page.library
        await pilot.press("e")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("enter")
        path = tmp_path / "tiny-documents.csv"
        await until(pilot, path.exists)
        lines = path.read_text().splitlines()
        assert len(lines) == 1 + len(held)
        assert lines[0].startswith("id,log_perplexity,tokens,kept")
        row = int(app.page.rows[0])
        assert lines[1].split(",")[1] == f"{held.nll[row]:.6f}"

    on_screen(tiny_run.path, "documents", go)
