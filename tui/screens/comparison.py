"""Compare: did the slice help, how sure is that, and where does the difference come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DataTable

from mlxprune.experiment.comparisons import Comparison, best_slice
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import Verdict
from mlxprune.units import plural
from mlxprune_tui.drawing import intervals, line_chart
from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.line_chart import Extras, Series
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import run_comparison
from mlxprune_tui.readers.run_comparison import Entry
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import AXES
from mlxprune_tui.screens import pictures
from mlxprune_tui.screens.arm_table import arm_rows
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.comparison_tables import (
    domain_rows,
    known_of,
    not_comparable,
    setting_rows,
    task_rows,
)
from mlxprune_tui.screens.pictures import CurveView
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, Words
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Column, Table, TableRow

TASK_WORDS = (
    "average over guessing, higher is better; one answer: that of one answer to all; bits per byte "
    "of the right answers, lower is better"
)
WHATS = ("domains", "curves", "tasks", "settings")
TITLES = {
    "domains": "Where it comes from: what each domain adds, bits per byte",
    "curves": "Validation of two arms, bits per byte",
    "tasks": "Tasks",
    "settings": "What differs between the two",
}


class Compare(RunScreen):
    NAME = "compare"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("compare")
    FOCUS = "#contrasts"
    DEFAULTS: ClassVar = {"what": "domains", "axis": "tokens", "difference": False}
    CHOICES: ClassVar = {"what": WHATS, "axis": AXES}

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.others: dict[str, View] = {}
        self.reset()

    def reset(self) -> None:
        self.first: str | None = None
        self.second: str | None = None
        self._held: tuple[Any, list[Entry]] | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="compare-parts"):
            with Vertical(id="compare-left"):
                yield Pane("", Picture(self.draw_forest, "forest"), ident="forest-pane")
                yield Pane("Every contrast", Table("contrasts"), ident="contrasts-pane")
                yield Pane("Arms", Table("arms-here", cursor=False), ident="arms-here-pane")
                yield Pane("", Picture(self.draw_curves, "curves"), ident="curves-pane")
            with Vertical(id="compare-right"), Pane("", ident="why-pane"):
                yield Words("why-words")
                yield Picture(self.draw_why, "why")
                yield Table("why-table")

    # --- what is shown

    def tick(self) -> bool:
        """Runs that are marked are read on while they work."""
        changed = [one.read(0.01) or one.look() for one in self._marked()]
        return any(changed)

    def _marked(self) -> list[View]:
        view = self.view
        here = str(view.run.path.absolute()) if view is not None else ""
        for folder in self.session.marked:
            if folder != here and folder not in self.others:
                self.others[folder] = View(Path(folder))
        return [self.others[f] for f in self.session.marked if f != here]

    def entries(self) -> list[Entry]:
        """The arms of the run in hand that belong to its configuration, then those of marked
        runs."""
        view = self.view
        found: list[View] = [view] if view is not None else []
        found += self._marked()
        key = (self.options["axis"], *((id(v), v.state.events, v.standing) for v in found))
        if self._held is None or self._held[0] != key:
            entries = []
            for one in found:
                prefix = "" if one is view else f"{one.run.path.name}:"
                entries += run_comparison.entries_of(one, self.options["axis"], prefix)
            self._held = (key, entries)
        return self._held[1]

    def pair(self) -> tuple[Entry, Entry] | None:
        """The two whose curves are drawn: by default those of the contrast that is chosen."""
        found = {e.label: e for e in self.entries()}
        if len(found) < 2:
            return None
        chosen = self.chosen()
        usual = [chosen.arm, chosen.control] if chosen is not None else []
        kinds = [(e.label, e.record.kind if e.record else "") for e in found.values()]
        usual += [name for name, kind in kinds if kind == "pruned"][:1]
        usual += [name for name, kind in kinds if kind == "random"][:1]
        usual = [u for u in [*usual, *found] if u in found]
        first = self.first if self.first in found else usual[0]
        second = self.second if self.second in found else None
        if second is None or second == first:
            second = next(u for u in [*usual, *found] if u != first)
        assert first is not None
        return found[first], found[second]

    def result(self) -> StudyResult | None:
        return run_comparison.present_result(self.view) if self.view is not None else None

    def comparisons(self) -> list[Comparison]:
        """Of the present configuration, the main ones first, then by their difference."""
        result = self.result()
        found = result.comparisons if result is not None else []
        return sorted(found, key=lambda c: (not c.main, c.difference))

    def chosen(self) -> Comparison | None:
        found = self.comparisons()
        if not found:
            return None
        key = self.query_one("#contrasts", Table).chosen_key() if self.is_built else None
        return next((c for c in found if _key(c) == key), found[0])

    def nothing(self) -> str | None:
        if (why := super().nothing()) is not None:
            return why
        if len(self.entries()) < 2:
            return (
                "There is nothing to compare before two arms have begun to train.\n\n"
                "  Mark runs on screen 7 with m to compare arms across runs."
            )
        return None

    def headline(self) -> Headline:
        result, compared = self.result(), self.chosen()
        if result is None or compared is None:
            return Headline(
                "No verdict yet: intervals come with the stage report.",
                "Until then the curves of the arms stand here; the lower one leads.", "warn",
            )  # fmt: skip
        best = best_slice(result.comparisons)
        if result.conclusion is not None and best is not None and _key(best) == _key(compared):
            told = result.conclusion
            tone = {Verdict.BETTER: "good", Verdict.WORSE: "bad"}.get(best.verdict, "warn")
            return Headline(line_of(told.lead), line_of(told.why or ""), tone, "o report")
        low, high = compared.interval
        said = (
            f"{line_of(compared.arm)} minus {line_of(compared.control)} is "
            f"{compared.difference:+.4f} "
            f"bits per byte (95 %: {low:+.4f} to {high:+.4f}, "
            f"{plural(len(compared.seeds), 'seed')})."
        )
        behind = f"It shows: {compared.about}, {compared.verdict.short}."
        tone = {Verdict.BETTER: "good", Verdict.WORSE: "bad"}.get(compared.verdict, "warn")
        return Headline(said, behind, tone)

    def renew_body(self) -> None:
        result, found = self.result(), self.comparisons()
        self.set_class(not found, "-no-verdict")
        self.set_class(bool(found), "-verdict")
        primary = "bits per byte"
        self.query_one("#forest-pane", Pane).entitle(f"Arm minus control, {primary}")
        self._contrasts(found)
        self.query_one("#forest", Picture).set_rows(len(found) + 2)
        self.pictures("forest")
        self._arms(result)
        what = self.what()
        for name in WHATS:
            self.set_class(what == name, f"-{name}")
        self.query_one("#why-pane", Pane).entitle(self._why_title(what))
        self.query_one("#why-words", Words).tell(self._why_words(what))
        compared = self.chosen()
        parts = len((compared.domains if compared is not None else None) or [])
        room = max(6, self.size.height // 2)
        self.query_one("#why", Picture).set_rows(
            min(parts + 1, room) if what == "domains" else None
        )
        self.pictures("why", "curves")
        self.query_one("#curves-pane", Pane).entitle(self._why_title("curves"))
        columns, rows = self._why_rows(what)
        self.query_one("#why-table", Table).show(columns, rows)

    def what(self) -> str:
        what: str = self.options["what"]
        compared = self.chosen()
        if what == "domains" and (compared is None or not compared.domains):
            return "curves"
        return what

    def _contrasts(self, found: list[Comparison]) -> None:
        columns = (
            Column("contrast", most=28), Column("verdict"), Column("95 % interval", True),
            Column("shows"),
        )  # fmt: skip
        kinds = self.kinds()
        rows = []
        for one in found:
            said, style = pictures.verdict_words(one, self.glyphs)
            low, high = one.interval
            kind = f"arm-{kinds.get(one.arm, 'pruned')}"
            rows.append(
                TableRow(
                    _key(one),
                    (
                        (line_of(f"{one.arm} - {one.control}"), kind),
                        (said, style), (f"{low:+.4f} to {high:+.4f}", "bold" if one.main else ""),
                        (one.about, "dim"),
                    ),
                )
            )  # fmt: skip
        with self.prevent(DataTable.RowHighlighted):
            self.query_one("#contrasts", Table).show(columns, rows)

    def kinds(self) -> dict[str, str]:
        result = self.result()
        known = {e.arm: e.record.kind for e in self.entries() if e.record is not None}
        return known | ({n: a.kind for n, a in result.arms.items()} if result is not None else {})

    def _arms(self, result: StudyResult | None) -> None:
        if result is not None:
            columns, rows = arm_rows(result)
        else:
            columns = (Column("arm", most=30), Column("test so far", True))
            rows = [
                TableRow(
                    e.label,
                    (
                        (line_of(e.label), ""),
                        (f"{e.macro:.4f}" if e.macro is not None else "-", ""),
                    ),
                )
                for e in self.entries()
            ]
        self.query_one("#arms-here", Table).show(columns, rows)

    def draw_forest(self, cells: int, rows: int) -> list[Line]:
        found = self.comparisons()
        if not found:
            return []
        drawn = pictures.intervals_of(found, self.kinds(), self.glyphs)
        compared = self.chosen()
        chosen = found.index(compared) if compared is not None else None
        return intervals.forest(drawn, pictures.noise_of(found), cells, rows, self.glyphs, chosen)

    # --- why

    def _why_title(self, what: str) -> str:
        compared, both = self.chosen(), self.pair()
        if what == "domains" and compared is not None:
            return f"{compared.arm} - {compared.control}: what each domain adds, bits per byte"
        if what == "curves" and both is not None:
            if self.options["difference"]:
                return f"{both[0].label} minus {both[1].label}: validation, bits per byte"
            return f"{both[0].label} and {both[1].label}: validation, bits per byte"
        return TITLES[what]

    def draw_why(self, cells: int, rows: int) -> list[Line]:
        what = self.what()
        if what == "domains":
            compared = self.chosen()
            parts = pictures.parts_of(compared) if compared is not None else []
            return intervals.waterfall(parts, cells, rows, self.glyphs)
        return self.draw_curves(cells, rows) if what == "curves" else []

    def draw_curves(self, cells: int, rows: int) -> list[Line]:
        both = self.pair()
        if both is None:
            return []
        if self.options["difference"]:
            return self._difference(both, cells, rows)
        arms = [e.curve for e in both if e.curve is not None]
        if not arms:
            return [[("no validation yet", "dim")]]
        kinds = self.kinds()
        looks = CurveView(axis=self.options["axis"])
        return pictures.arms_picture(arms, kinds, looks, cells, rows, self.glyphs).lines

    def _difference(self, both: tuple[Entry, Entry], cells: int, rows: int) -> list[Line]:
        one, other = (e.curve for e in both)
        if one is None or other is None:
            return [[("no validation of both yet", "dim")]]
        x = one.x[one.x <= other.x[-1]]
        if not len(x):
            return [[("they have no targets in common yet", "dim")]]
        between = one.mean[: len(x)] - np.interp(x, other.x, other.mean)
        kind = self.kinds().get(both[0].arm, "pruned")
        series = [
            Series(x, between, f"arm-{kind}", "*"),
            Series(np.array([x[0], x[-1]]), np.zeros(2), "grid", "-", dashed=True),
        ]
        band = self._noise_band(both, x)
        ends = [(float(between[-1]), f"{between[-1]:+.4f}", f"arm-{kind}")]
        unit = pictures.AXIS_UNITS[self.options["axis"]]
        frame = line_chart.frame_of(series)
        extras = Extras(band=band, ends=ends, unit=unit)
        return line_chart.chart(series, frame, cells, rows, self.glyphs, extras)

    def _noise_band(self, both: tuple[Entry, Entry], x: np.ndarray) -> tuple[Series, Series] | None:
        """How far the seeds of the control lie apart, around zero; only where the second is one
        that has trained on as many targets as the first."""
        control = both[1].curve
        records = [e.record for e in both]
        alike = records[0] is not None and records[1] is not None
        alike = alike and records[0].targets == records[1].targets  # type: ignore[union-attr]
        if control is None or control.seeds < 2 or not alike:
            return None
        half = np.interp(x, control.x, (control.high - control.low) / 2)
        return Series(x, -half, ""), Series(x, half, "")

    def _why_words(self, what: str) -> Line:
        both = self.pair()
        if what == "curves" and both is not None:
            spans: Line = []
            for entry in both:
                spans += [(f"{line_of(entry.label)}  ", "bold"), (f"{known_of(entry)}\n", "")]
            return spans
        if what == "tasks":
            return [(TASK_WORDS, "dim")]
        if what == "settings" and both is not None and (same := not_comparable(*both)):
            return [(same, "warn")]
        return []

    def _why_rows(self, what: str) -> tuple[tuple[Column, ...], list[TableRow]]:
        if what == "domains":
            return domain_rows(self.chosen())
        if what == "tasks":
            return task_rows(self.result(), self.pair())
        if what == "settings":
            both = self.pair()
            assert both is not None
            return setting_rows(both)
        return (Column(""),), []

    # --- keys

    def why_not_here(self, action: str) -> str | None:
        if action in ("what", "first", "second", "difference", "axis") and len(self.entries()) < 2:
            return "there are no two arms yet"
        if action == "difference" and self.what() != "curves":
            return "it is of two curves: c shows them"
        return None

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "contrasts":
            self.first = self.second = None
            self.renew()

    def _next(self, now: str, but: str) -> str:
        names = [e.label for e in self.entries() if e.label != but]
        at = names.index(now) if now in names else -1
        return names[(at + 1) % len(names)]

    def do_first(self) -> None:
        both = self.pair()
        assert both is not None
        self.second = both[1].label
        self.first = self._next(both[0].label, self.second)
        self.options["what"] = "curves"

    def do_second(self) -> None:
        both = self.pair()
        assert both is not None
        self.first = both[0].label
        self.second = self._next(both[1].label, self.first)
        self.options["what"] = "curves"

    def do_what(self) -> None:
        self.options["what"] = self.what()
        self.cycle("what", WHATS)

    def do_axis(self) -> None:
        self.cycle("axis", AXES)

    def do_difference(self) -> None:
        self.options["difference"] = not self.options["difference"]

    def copied(self) -> tuple[str, str] | None:
        if self.view is None:
            return None
        marked = [str(one.run.path) for one in self._marked()]
        if marked:
            return self.view.command("compare", *marked), "the command that compares these runs"
        if not self.comparisons():
            return None
        return self.view.command("report"), "the command that writes the report"


def _key(compared: Comparison) -> str:
    return f"{compared.arm} - {compared.control} - {compared.about}"
