"""Selection: what another slice would keep, cost and read like, and how to make it so."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from mlxprune.units import count
from mlxprune_tui.drawing import histogram, line_chart
from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.histogram import Layers
from mlxprune_tui.drawing.line_chart import Extras, Frame, Series
from mlxprune_tui.drawing.text import fit, line_of
from mlxprune_tui.readers import what_if
from mlxprune_tui.readers.what_if import LEAP, STEP, Scored, WhatIf, words_of
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.slice_tables import (
    SWEPT,
    around_rows,
    cost_rows,
    letter_of,
    lost_domains,
    mix_rows,
)
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, Words
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Table

START_SECONDS = 60


class Selection(RunScreen):
    NAME = "selection"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("selection")
    FOCUS = "#slice"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reset()

    def reset(self) -> None:
        self.number = 0  # which slice of the run it began from
        self.what: WhatIf | None = None
        self.trouble: str | None = None
        self.asked: Any = None
        self.skip = 0
        self.looked: float | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="selection-parts"):
            with Vertical(id="selection-left"):
                yield Pane(
                    "",
                    Picture(self.draw_slice, "slice", chart=True, focusable=True),
                    Words("under-slice"),
                    ident="slice-pane",
                )
                yield Pane("", Table("around", cursor=False), ident="around-pane")
            with Vertical(id="selection-right"):
                yield Pane("Kept, and what training on it takes", Table("costs", cursor=False),
                           ident="costs-pane")  # fmt: skip
                yield Pane("Domains, share of tokens", Table("mix", cursor=False), ident="mix-pane")
                yield Pane("", Picture(self.draw_sweep, "sweep"), ident="sweep-pane")

    # --- what it rests on

    def ready(self) -> bool:
        """Whether the scores are at hand; else they are fetched, aside."""
        found = self.in_hand()
        if isinstance(found, str):
            self.trouble = found
            return False
        view, config = found
        choice = config.slices[self.number % len(config.slices)]
        name = choice.reference or config.primary_reference.name
        try:
            written = view.run.scores(name).stat().st_mtime_ns
        except OSError:
            state = str(view.state.stages["score"].state)
            self.trouble = "what-if begins when every document is scored"
            if state in ("done", "reused"):
                self.trouble = (
                    "the scores of this run are missing. To make them again: "
                    f"{view.again} --force score"
                )
            return self.what is not None
        wanted = (str(view.run.path), self.number, written, choice)
        if self.asked != wanted:
            self.asked, self.trouble = wanted, None

            def loaded(found: Scored | str) -> None:
                if self.asked != wanted:
                    return
                if isinstance(found, str):
                    self.trouble = f"{found}. To make them again: {view.again} --force score"
                    return
                self.what = WhatIf(view, config, found)
                self._sort_others(self.what)
                self.renew()

            def work() -> Scored | str:
                try:
                    return what_if.load(view.run, config, choice)
                except Exception as error:  # a file that is being replaced, or damaged
                    return f"the scores cannot be read ({line_of(str(error))[:160]})"

            self.host.later(work, loaded)
        return self.what is not None

    def _sort_others(self, what: WhatIf) -> None:
        """The other groupings, before a key asks for them."""
        if what.table.scores.domain is None:
            return
        wanted = [what.choice.model_copy(update={"by": by}) for by in what_if.GROUPS]
        self.host.later(lambda: [what.table.sorted(one) for one in wanted], lambda found: None)

    def nothing(self) -> str | None:
        if (why := super().nothing()) is not None:
            return why
        if not self.ready():
            if self.trouble:
                return f"What-if waits: {self.trouble}."
            return "Sorting the scores; it takes a moment for each million documents ..."
        return None

    @property
    def now(self) -> WhatIf:
        assert self.what is not None
        return self.what

    # --- what is shown

    def headline(self) -> Headline:
        what = self.now
        found, before = what.costs(), what.costs(what.own)
        share = 100 * found.tokens / max(1, found.all_tokens)
        keeps = f"{found.documents:,} documents, {share:.1f} % of the tokens"
        said = f"What if: {words_of(what.choice)}? It keeps {keeps}"
        if found.passes is not None and found.passes > 1.05:
            said += f", repeated {found.passes:.1f} times"
        behind = f"The run does {words_of(what.own)}"
        if what.choice == what.own:
            said = f"The run keeps {words_of(what.own)}: {keeps}"
            behind = "Change it: nothing of the run changes"
        elif found.effective and before.effective:
            change = found.effective / before.effective - 1
            behind += f"; this is worth {100 * change:+.0f} % fresh tokens of it, as predicted"
        if what.held is not None and what.held[0] != what.choice:
            overlap = what.overlap()
            too = f"{100 * (overlap or 0):.0f} % of these, too"
            behind += f". A is {words_of(what.held[0])}: it keeps {too}"
        lost = lost_domains(what)
        tone = ""
        if lost:
            behind += f". Nearly lost: {', '.join(lost[:4])}"
            tone = "warn"
        return Headline(f"{said}.", f"{behind}.", tone, "enter starts it, w writes it")

    def renew_body(self) -> None:
        what = self.now
        own = (
            "as the run does" if what.choice == what.own else f"the run's edge: {self.glyphs.ghost}"
        )
        self.query_one("#slice-pane", Pane).entitle(f"{words_of(what.choice)} ({own})")
        of = "" if what.choice.by == "corpus" else " of the largest group"
        edge = "upper" if self.is_upper() else "lower"
        self.query_one("#around-pane", Pane).entitle(f"Text around the {edge} edge{of}")
        self.query_one("#sweep-pane", Pane).entitle(
            "Every rate: share of tokens kept of each domain"
        )
        self.pictures("slice", "sweep")
        self.query_one("#under-slice", Words).tell(self._legend())
        self.query_one("#costs", Table).show(*cost_rows(what))
        self.query_one("#mix", Table).show(*mix_rows(what, self.glyphs))
        around = self.query_one("#around", Table)
        room = max(2, around.size.height - 1)
        around.show(*around_rows(what, self.is_upper(), room, self.skip))

    def is_upper(self) -> bool:
        """Which edge is looked around: that in hand, or the only one there is."""
        return {"high": False, "low": True}.get(self.now.choice.criterion, self.now.upper)

    def draw_slice(self, cells: int, rows: int) -> list[Line]:
        if self.what is None:
            return []
        what = self.now
        table, choice, kept = what.table, what.choice, what.kept
        edges = table.edges
        counts = table.heights(choice).astype(np.float64)
        low, high = float(edges[0]), float(edges[-1])
        columns = histogram.columns_of(cells)
        heights = histogram.rebinned(counts, edges, low, high, columns)
        inside = histogram.rebinned(counts * kept.columns, edges, low, high, columns)
        share = np.divide(inside, heights, out=np.zeros(columns), where=heights > 0)
        ghost = self._ghost(columns, low, high, heights) if choice != what.own else None
        lines = histogram.histogram(
            Layers(heights, share, None, ghost), low, high, cells, rows - 1, self.glyphs
        )
        cuts = table.cut_values(choice, kept)
        if cuts is None:
            told = "ranked inside groups: solid where more than half is kept"
            if kept.spans is None:
                told = "no interval of one order: solid where more than half is kept"
            return [*lines, [("      " + told, "dim")]]
        first, last = max(cuts[0], low), min(cuts[1], high)
        return [*lines, histogram.band(first, last, low, high, choice.label, cells)]

    def _ghost(
        self, columns: int, low: float, high: float, heights: np.ndarray
    ) -> np.ndarray | None:
        """The run's own slice as marks above the bars at its edges."""
        what = self.now
        cuts = what.table.cut_values(what.own, what.own_kept)
        if cuts is None:
            return None
        ghost = np.zeros(columns)
        first, last = (
            min(columns - 1, max(0, round((c - low) / (high - low) * (columns - 1)))) for c in cuts
        )
        ghost[first : last + 1] = float(heights.max(initial=0.0)) * 0.999
        return ghost

    def _legend(self) -> Line:
        glyphs = self.glyphs
        if self.looked is not None:
            share = self.now.share_below(self.looked) if self.now.choice.by == "corpus" else None
            told = f"at {self.looked:.2f}"
            if share is not None:
                told += f": {100 * share:.1f} % of the {self.now.choice.unit} are below"
            return [(f"{told}; drag moves the nearest edge here", "bold")]
        return [
            (glyphs.kept, "kept"), (" kept  ", "dim"), (glyphs.dropped, "dropped"),
            (" dropped  ", "dim"), (glyphs.ghost, "ghost"), (" what the run keeps", "dim"),
        ]  # fmt: skip

    def draw_sweep(self, cells: int, rows: int) -> list[Line]:
        if self.what is None:
            return []
        points = self.now.sweep()
        if not points:
            return [[("a rate is what low, medium and high have: c takes one of them", "dim")]]
        x = np.array([100 * p.rate for p in points])
        shares = np.array([p.domains for p in points]) * 100
        largest = np.argsort(-self.now.table.all_tokens, kind="stable")[:SWEPT].tolist()
        series, ends = [], []
        for place, code in enumerate(largest):
            letter = letter_of(place)[1]
            name = line_of(self.now.table.domains[code])
            series.append(Series(x, shares[:, code], letter, letter.upper()))
            ends.append(
                (float(shares[-1, code]), f"{letter.upper()} {fit(name, 12).rstrip()}", letter)
            )
        cursor = 100 * float(self.now.rate)
        frame = Frame(0.0, 100.0, 0.0, 100.0)
        extras = Extras(cursor=cursor, ends=ends, unit="% rate")
        lines = line_chart.chart(series, frame, cells, rows - 1, self.glyphs, extras)
        near = min(points, key=lambda p: abs(100 * p.rate - cursor))
        told = f"at {100 * near.rate:.0f} %"
        if near.passes is not None and near.effective is not None:
            told += f": {near.passes:.2f} passes, worth {count(near.effective)} fresh tokens"
        return [*lines, [(told, "bold")]]

    # --- mouse and keys

    def _value(self, event: Picture.At) -> float | None:
        if self.what is None or event.x < 0 or event.picture.id != "slice":
            return None
        edges = self.now.table.edges
        cells = event.picture.content_size.width
        return histogram.value_at(event.x, float(edges[0]), float(edges[-1]), cells)

    def on_picture_hovered(self, event: Picture.Hovered) -> None:
        self.looked = self._value(event)
        if self.what is not None:
            self.query_one("#under-slice", Words).tell(self._legend())

    def on_picture_clicked(self, event: Picture.Clicked) -> None:
        self._drag(event)

    def on_picture_dragged(self, event: Picture.Dragged) -> None:
        self._drag(event)

    def _drag(self, event: Picture.At) -> None:
        value = self._value(event)
        if value is not None:
            told = self.now.drag_to(value)
            if told is not None:
                self.host.say(told)
            self.renew()

    def on_picture_wheeled(self, event: Picture.Wheeled) -> None:
        if event.picture.id == "slice" and self.what is not None and self.now.choice.band is None:
            self.now.move(STEP if event.up else -STEP)
            self.renew()

    def why_not_here(self, action: str) -> str | None:
        if self.what is None:
            return self.trouble or "the scores are not sorted yet"
        choice = self.now.choice
        if action in ("edge_down", "edge_up", "edge") and choice.criterion != "band":
            return "edges move one by one in a band: c chooses it; left and right move the rate"
        if action in ("less", "more", "much_less", "much_more") and choice.band:
            return "a band has edges: , and . move the one in hand, b takes the other"
        if action == "criterion" and choice.criterion == "soft":
            return "this slice is drawn by lot: i takes another"
        if action == "group" and self.now.table.scores.domain is None:
            return "these scores name no domain"
        if action == "group" and self.now.next_group() not in self.now.table.held:
            return "that grouping is being sorted: a moment"
        if action == "slice" and len(self.now.config.slices) < 2:
            return "the run has one slice"
        if action == "start" and self.session.read_only:
            return "this window only looks"
        return None

    def do_criterion(self) -> str | None:
        return self.now.next_criterion()

    def do_less(self) -> str | None:
        return self.now.move(-STEP)

    def do_more(self) -> str | None:
        return self.now.move(STEP)

    def do_much_less(self) -> str | None:
        return self.now.move(-LEAP)

    def do_much_more(self) -> str | None:
        return self.now.move(LEAP)

    def do_edge_down(self) -> str | None:
        return self.now.move_edge(-STEP)

    def do_edge_up(self) -> str | None:
        return self.now.move_edge(STEP)

    def do_edge(self) -> None:
        self.now.upper = not self.now.upper

    def do_unit(self) -> str | None:
        other = "documents" if self.now.choice.unit == "tokens" else "tokens"
        return self.now.change(unit=other, rule="exact")

    def do_group(self) -> str | None:
        return self.now.change(by=self.now.next_group())

    def do_hold_as_a(self) -> None:
        self.now.hold()

    def do_documents(self) -> None:
        self.skip = (self.skip * 3 + 1) % 1000

    def do_slice(self) -> None:
        self.number += 1
        self.what = self.asked = None

    def do_reset(self) -> None:
        self.now.reset()
        self.skip = 0

    def copied(self) -> tuple[str, str] | None:
        if self.what is None:
            return None
        return self.now.command(), "the command that goes on with this slice"

    def do_write(self) -> None:
        name = f"{self.now.config.name}-{self.now.choice.label}"
        self.host.ask(
            "Write a configuration with this slice to",
            f"{name}.yaml",
            "the run in hand stays as it is; mlxprune run FILE makes a new one",
            lambda given: self.now.write(Path(given).expanduser(), name),
        )

    def do_start(self) -> None:
        """A new run with this slice beside the one in hand; asked for the name of its folder."""
        what = self.now
        usual = what.view.run.path.with_name(f"{what.view.run.path.name}-{what.choice.label}")

        def begin(given: str) -> str:
            folder = Path(given).expanduser()
            if folder.absolute() != what.view.run.path.absolute() and folder.exists():
                return f"{folder} exists: choose another name"
            self.host.later(lambda: start(what, folder), self._started)
            return "starting ..."

        self.host.ask(
            f"Start a run with {words_of(what.choice)} in the background, in",
            str(usual),
            "a new folder does everything anew, the reference too; in the folder of this run it "
            "goes on from the scores",
            begin,
        )

    def _started(self, told: str) -> None:
        self.host.say(told)


def start(what: WhatIf, folder: Path) -> str:
    """Begin it in a process that outlives the app; what it says of that."""
    words = shlex.split(what.command())
    if words[words.index("--dir") + 1] != str(folder):
        words += ["--set", f"name={json.dumps(folder.name)}"]  # so that the two are told apart
    words[words.index("--dir") + 1] = str(folder)
    command = [sys.executable, "-m", *words, "--detach"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return line_of(str(error))
    return line_of(done.stdout if done.returncode == 0 else done.stderr)
