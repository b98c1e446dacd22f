from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.config.slices import Slice
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import slice_preview
from mlxprune_tui.screens import selection, slice_panes
from mlxprune_tui.shell import keys
from mlxprune_tui.testing import BRAILLE, on


def some_table() -> tuple[slice_preview.Table, Slice]:
    from mlxprune.scoring.score_file import Scores

    n = 1000
    tokens = np.full(n, 10)
    mean = np.linspace(1, 5, n)
    scores = Scores(
        np.arange(n).astype(np.uint64),
        mean * tokens,
        tokens,
        tokens * 4,
        domain=(np.arange(n) >= 500).astype(np.int64),
        domains=("easy", "hard"),
    )
    choice = Slice.model_validate({"criterion": "high", "rate": 0.3, "unit": "documents"})
    return slice_preview.Table(scores, tokens, 3, choice), choice


def test_the_edges_of_a_what_if() -> None:
    table, choice = some_table()
    kept = table.ask(choice)
    low, high = table.cut_values(choice, kept)
    assert low == pytest.approx(table.values[700])
    assert high == pytest.approx(table.values[999])
    around = table.around(choice, kept, False, 8, 0)
    assert {row for row, _ in around} == set(range(696, 704))
    assert [inside for _, inside in sorted(around)] == [False] * 4 + [True] * 4
    assert kept.columns[:200].max() == 0 and kept.columns[-50:].min() == 1


def test_the_mix_is_of_what_is_kept() -> None:
    table, choice = some_table()
    kept = table.ask(choice)
    lines = plain(slice_panes.mix(table, kept, 60, 5)).split("\n")
    told = {line.split()[0]: line.split() for line in lines[1:]}
    assert told["hard"][1:] == ["50.0", "100.0", "+50.0", "60%"]
    assert told["easy"][1] == "!"
    lines = plain(slice_panes.bars(table, choice, kept, 66, 12, BRAILLE)).split("\n")
    row = lines[-3].ljust(66)
    assert row[histogram.GUTTER + 50] == BRAILLE.kept
    assert row[histogram.GUTTER + 10] == BRAILLE.dropped


def test_what_if_keys_and_costs(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, selection.Selection)
    assert page.ready()
    known = {k.key: k.action for k in keys.of_screen("selection")}
    assert (known["left"], known["right"]) == ("less", "more")
    rate = page.rate()
    page.do_more()
    assert page.rate() > rate
    page.do_reset()
    assert page.choice == page.own
    page.do_much_less()
    below = page.rate()
    assert below < rate
    page.do_much_more()
    assert page.rate() == rate
    found = page.costs()
    kept_tokens = found.tokens + found.documents
    assert found.passes == pytest.approx(found.targets / kept_tokens)
    facts = plain(page.draw_facts(80, 11))
    assert f"{100 * found.documents / found.all_documents:.1f} %" in facts.split("\n")[0]
    page.change(criterion="band", rate=None, band=(0.2, 0.6))
    page.upper = True
    page.do_edge_up()
    assert [float(b) for b in page.choice.band] == [0.2, 0.61]
    lines = plain(page.draw_around(120, 6)).split("\n")
    for (row, _), line in zip(
        page.table.around(page.choice, page.kept, True, 6, page.skip), lines, strict=True
    ):
        start = line_of(page.texts.text(int(page.numbers[row]), 0, 60))[:20]
        assert start in line


def test_flops_grow_with_the_targets(tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    page = on(tiny_run.path, selection.Selection)
    assert page.ready()
    final = page.config.final.model_copy(update={"passes": 2.0, "tokens": None})
    monkeypatch.setattr(type(page), "config", page.config.model_copy(update={"final": final}))
    page.context.view.state.forecast = {"final": 100.0}
    few, many = page.targets(1000), page.targets(2000)
    assert many[0] == 2 * few[0] == 4000
    assert many[1] == pytest.approx(2 * few[1])


def test_the_written_configuration_is_the_slice_in_hand(
    tiny_run: RunFolder, tmp_path: Path
) -> None:
    page = on(tiny_run.path, selection.Selection)
    assert page.ready()
    page.do_much_less()
    assert "wrote" in page.write(tmp_path / "x.yaml", "another")
    made = load_config(tmp_path / "x.yaml")
    assert made.name == "another"
    assert made.slices == [page.choice]
