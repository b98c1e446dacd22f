"""A late search is not shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.run.folder import RunFolder
from mlxprune_tui.testing import (
    on_screen,
)


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
