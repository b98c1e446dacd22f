from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import documents
from mlxprune_tui.testing import on


def test_documents_filters(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, documents.Documents)
    assert page.ready()
    held = page.library
    page.do_domain()
    first = held.domains.index(page.domain)
    assert len(page.rows) == (held.domain == first).sum() < len(held)
    page.domain = None
    kept = held.kept[page.slice_name()]
    page.do_kept()
    assert page.options["kept"] == "kept"
    assert set(page.rows) == set(np.flatnonzero(kept))
    lines = plain(page.draw_list(100, 8)).split("\n")[1:]
    assert all(" K " in line for line in lines)
    page.do_kept()
    assert set(page.rows) == set(np.flatnonzero(~kept))


def test_documents_jump(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, documents.Documents)
    assert page.ready()
    page.do_jump().then("0")
    assert page.at == 0
    page.do_jump().then("100")
    assert page.at == len(page.rows) - 1


def test_losses_are_of_the_document_asked_for(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = on(tiny_run.path, documents.Documents)
    assert page.ready()
    waiting: list[Any] = []
    page.context.later = lambda work, done: waiting.append((work, done))
    asked: list[int] = []
    monkeypatch.setattr(documents, "_losses", lambda run, held, number: asked.append(number))
    row = page.chosen_row()
    page.ask_losses(row)
    page.do_last()
    work, done = waiting.pop()
    done(work())
    assert asked == [int(page.library.numbers[row])]
    assert list(page.losses) == [row]


def test_a_late_search_is_not_shown(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, documents.Documents)
    assert page.ready()
    waiting: list[Any] = []
    page.context.later = lambda work, done: waiting.append(done)
    page.options["filter"] = "import"
    page.find()
    page.options["filter"] = ""
    page.find()
    everything = len(page.rows)
    waiting.pop()((np.zeros(0, np.int64), "searched"))
    assert len(page.rows) == everything


def test_shades_are_warmer_for_larger_losses() -> None:
    (line,) = documents.shaded(["a", "b", "c"], [0.1, 20.0, None], 40)
    assert [style for _, style in line] == ["heat0", "heat5", "dim"]
    (line,) = documents.shaded(["\x1b[31m"], [1.0], 40)
    assert "\x1b" not in line[0][0]
