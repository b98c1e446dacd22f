"""Compare: two arms or runs: curves, verdicts with intervals, tasks, domains, differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.conclusion import saving_sentence
from mlxprune.experiment.study_result import StudyResult
from mlxprune.experiment.task_results import ArmTasks
from mlxprune.records import plain
from mlxprune.units import plural
from mlxprune_tui.drawing import line_chart
from mlxprune_tui.drawing.cells import Line, pad, table
from mlxprune_tui.drawing.line_chart import Series
from mlxprune_tui.drawing.text import fit, line_of, wrap
from mlxprune_tui.readers import run_comparison, training_curves
from mlxprune_tui.readers.run_comparison import Entry
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import AXES
from mlxprune_tui.screens.page import WIDE, Layout, Page, Pane, Split, empty

WHATS = ("verdicts", "tasks", "domains", "differences")
SLICE_SECONDS = 0.01


class Compare(Page):
    name = "compare"
    defaults = {"what": "verdicts", "axis": "tokens", "relative": False}  # noqa: RUF012
    choices = {"what": WHATS, "axis": AXES}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.first: str | None = None
        self.second: str | None = None
        self.top = 0
        self.others: dict[str, View] = {}
        self._held: tuple[Any, list[Entry]] | None = None

    def tick(self) -> bool:
        """Read the marked runs a little further."""
        changed = False
        for one in self._marked():
            changed |= one.read(SLICE_SECONDS) | one.look()
        return changed

    def _marked(self) -> list[View]:
        view = self.context.view
        here = str(view.run.path.absolute()) if view is not None else ""
        for folder in self.context.marked:
            if folder != here and folder not in self.others:
                self.others[folder] = View(Path(folder))
        return [self.others[f] for f in self.context.marked if f != here]

    def entries(self) -> list[Entry]:
        """The arms of the run in hand, then those of the marked runs."""
        view = self.context.view
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
        """The two that are compared: by default what the verdict is on."""
        found = {e.label: e for e in self.entries()}
        if len(found) < 2:
            return None
        first, second = self.first, self.second
        view = self.context.view
        if view is not None and (first not in found or second not in found):
            main = next((c for c in self._comparisons() if c.main), None)
            kinds = [e.label for e in found.values() if e.record and e.record.kind == "pruned"]
            random = [e.label for e in found.values() if e.record and e.record.kind == "random"]
            usual = [main.arm, main.control] if main else [*kinds[:1], *random[:1]]
            usual += [label for label in found if label not in usual]
            first = first if first in found else usual[0]
            second = second if second in found else next(x for x in usual if x != first)
        names = list(found)
        first = first if first in found else names[0]
        second = second if second in found else next(x for x in names if x != first)
        assert first is not None
        assert second is not None
        return found[first], found[second]

    def _result(self) -> StudyResult | None:
        view = self.context.view
        return run_comparison.result_of(view) if view is not None else None

    def _comparisons(self) -> list[Comparison]:
        result = self._result()
        return result.comparisons if result is not None else []

    def layout(self, cells: int, rows: int) -> Layout:
        both = self.pair()
        if both is None:
            return empty(
                "There is nothing to compare before two arms have begun to train.",
                "Mark runs on screen 7 with m to compare arms across runs.",
            )
        one, other = both
        title = f"A {line_of(one.label)} and B {line_of(other.label)}: validation"
        if self.options["relative"]:
            title = f"A - B: {line_of(one.label)} minus {line_of(other.label)}, validation"
        picture = Pane(title, self.draw_picture)
        told = Pane(self.options["what"].capitalize(), self.draw_table)
        if cells >= WIDE:
            return Split(True, [(0.52, picture), (0.48, told)])
        return Split(False, [(0.55, picture), (0.45, told)])

    def draw_picture(self, cells: int, rows: int) -> list[Line]:
        both = self.pair()
        assert both is not None
        shown = [e.curve for e in both]
        lines = []
        if self.options["relative"]:
            lines = self._relative(shown, cells, rows - 2)
        else:
            series = [
                Series(c.x, c.mean, "ab"[i], "AB"[i], dashed=i == 1)
                for i, c in enumerate(shown)
                if c is not None
            ]
            band = None
            everything = [e.curve for e in self.entries() if e.curve is not None]
            spread = training_curves.noise(everything)
            if spread is not None:
                band = (Series(spread.x, spread.low, ""), Series(spread.x, spread.high, ""))
            if series:
                frame = line_chart.frame_of(series, quantile=0.02)
                lines = line_chart.chart(
                    series, frame, cells, rows - 2, self.context.glyphs, band_of=band
                )
        lines = lines or [[("no validation yet", "dim")]]
        lines += [[] for _ in range(rows - 2 - len(lines))]
        for letter, entry in zip("ab", both, strict=True):
            lines.append(pad(_known(letter, entry), cells))
        return lines

    def _relative(self, shown: list[Any], cells: int, rows: int) -> list[Line]:
        if shown[0] is None or shown[1] is None:
            return []
        x = shown[0].x[shown[0].x <= shown[1].x[-1]]
        if not len(x):
            return []
        between = shown[0].mean[: len(x)] - np.interp(x, shown[1].x, shown[1].mean)
        series = [
            Series(x, between, "a", "*"),
            Series(np.array([x[0], x[-1]]), np.zeros(2), "dim", "-", dashed=True),
        ]
        return line_chart.chart(
            series, line_chart.frame_of(series), cells, rows, self.context.glyphs
        )

    # --- the table

    def draw_table(self, cells: int, rows: int) -> list[Line]:
        lines: list[Line] = getattr(self, f"table_of_{self.options['what']}")(cells)
        self.top = min(self.top, max(0, len(lines) - rows))
        if self.top and len(lines) > 1:
            return [lines[0], *lines[1 + self.top : self.top + rows]]
        return lines[:rows]

    def table_of_verdicts(self, cells: int) -> list[Line]:
        found = self._comparisons()
        if not found:
            return self._so_far(cells)
        marks = {"better": "+", "worse": "-"}

        def shows(row: Comparison) -> str:
            return "n=1" if len(row.seeds) == 1 else row.verdict.short

        lines = table(
            [
                (
                    line_of(f"{c.arm} - {c.control}"),
                    f"{c.difference:+.4f}",
                    f"{c.interval[0]:+.4f} {c.interval[1]:+.4f}",
                    line_of(f"{marks.get(c.verdict, ' ')} {shows(c)}").rjust(9),
                )
                for c in found
            ],
            ("arm minus control", "bits", "interval", "verdict"),
            cells,
            style=lambda row: "bold" if found[row].main else "",
        )
        seeds = max(len(c.seeds) for c in found)
        view = self.context.view
        primary = view.config.evaluation.primary if view and view.config else "the primary figure"
        told = f"{primary}, lower is better; paired over {seeds} seeds, 95 %"
        if seeds == 1:
            told = f"{primary}, lower is better; one seed: document noise only, no verdict"
        together = [c for c in found if c.main and len(c.seeds) > 1]
        if len(together) > 1:
            told += f"; the {len(together)} slices are decided together: with 95 % all their "
            told += "intervals hold"
        return [*lines, [], *[[(line, "dim")] for line in wrap(told, cells, 5)], *self._rho(cells)]

    def _rho(self, cells: int) -> list[Line]:
        told = []
        for c in self._comparisons():
            if c.main and (sentence := saving_sentence(c, None)):
                told.append(sentence)
        return [[(line, "")] for text in told for line in wrap(text, cells, 2)]

    def _so_far(self, cells: int) -> list[Line]:
        """Before the report there is no interval: what single models show."""
        found = [e for e in self.entries() if e.macro is not None]
        why, view = "no interval yet: it comes with the stage report", self.context.view
        if view is not None and (view.run.path / "report.json").exists() and not self._result():
            why = "another version wrote the report: mlxprune report RUN writes it anew"
        lines: list[Line] = [[(line, "dim")] for line in wrap(why, cells, 3)]
        if found:
            lines += table(
                [(line_of(e.label), f"{e.macro:.4f}") for e in found],
                ("arm", "test, macro"),
                cells,
            )
        return lines

    def table_of_tasks(self, cells: int) -> list[Line]:
        result = self._result()
        told = result.tasks.arms if result is not None and result.tasks is not None else None
        if not told:
            return [
                [(line, "dim")]
                for line in wrap("no tasks: evaluation.tasks names none, or none is asked yet",
                                 cells, 3)
            ]  # fmt: skip
        rows = []
        for name, arm in told.items():
            average = arm.average
            low, high = _percent(average.normalised_low), _percent(average.normalised_high)
            rows.append(
                (
                    line_of(name),
                    _percent(average.normalised_accuracy),
                    f"{low} {high}",
                    _percent(average.normalised_one_answer),
                    f"{arm.gold_bpb:.4f}" if arm.gold_bpb is not None else "-",
                )
            )
        lines = table(rows, ("arm", "norm", "interval", "one", "bits"), cells)
        legend = (
            "norm: average over guessing, %, higher is better; one: that of one answer to all; "
        )
        legend += "bits: bits per byte of the right answers, lower is better"
        lines += [[], *[[(line, "dim")] for line in wrap(legend, cells, 4)], []]
        return lines + self._by_category(told, cells)

    def _by_category(self, told: dict[str, ArmTasks], cells: int) -> list[Line]:
        both = self.pair()
        assert both is not None
        one, other = (told.get(e.arm) for e in both)
        if not one or not other:
            return []
        rows = []
        for name, found in one.categories.items():
            against = other.categories.get(name)
            if against is not None:
                a, b = (100 * (c.normalised_accuracy or 0.0) for c in (found, against))
                rows.append((line_of(name), f"{a:.1f}", f"{b:.1f}", f"{a - b:+.1f}"))
        return table(rows, ("category", "A", "B", "A - B"), cells) if rows else []

    def table_of_domains(self, cells: int) -> list[Line]:
        both = self.pair()
        assert both is not None
        one, other = (e.domains for e in both)
        names = [n for n in one if n in other]
        if not names:
            return [[("no domain is tested yet: it comes with the report", "dim")]]
        names.sort(key=lambda n: one[n] - other[n])
        return table(
            [
                (line_of(n), f"{one[n]:.4f}", f"{other[n]:.4f}", f"{one[n] - other[n]:+.4f}")
                for n in names
            ],
            ("domain, bits a byte", "A", "B", "A - B"),
            cells,
        )

    def table_of_differences(self, cells: int) -> list[Line]:
        both = self.pair()
        assert both is not None
        one, other = both
        found = run_comparison.differences(plain(one.record) or {}, plain(other.record) or {})
        if one.view is not other.view:
            configs = [e.view.config for e in both]
            trees = [c.model_dump(mode="json") if c is not None else {} for c in configs]
            found = run_comparison.differences(trees[0], trees[1]) + found
            same = _comparable(one, other)
            if same:
                lead: list[Line] = [[(line, "warn")] for line in wrap(same, cells, 3)]
                return lead + self._table_of(found, cells)
        return self._table_of(found, cells)

    def _table_of(self, found: list[tuple[str, str, str]], cells: int) -> list[Line]:
        if not found:
            return [[("nothing differs but the seed", "dim")]]
        room = max(12, (cells - 20) // 2)
        rows = [(key, *(fit(line_of(v), room).rstrip() for v in pair)) for key, *pair in found]
        return table(rows, ("key", "A", "B"), cells)

    # --- keys

    def why_not(self, action: str) -> str | None:
        if len(self.entries()) < 2:
            return "there are no two arms yet"
        return None

    def _next(self, now: str, but: str) -> str:
        names = [e.label for e in self.entries() if e.label != but]
        at = names.index(now) if now in names else -1
        return names[(at + 1) % len(names)]

    def do_first(self) -> None:
        both = self.pair()
        assert both is not None
        self.second = both[1].label
        self.first = self._next(both[0].label, self.second)

    def do_second(self) -> None:
        both = self.pair()
        assert both is not None
        self.first = both[0].label
        self.second = self._next(both[1].label, self.first)

    def do_what(self) -> None:
        self.cycle("what", list(WHATS))
        self.top = 0

    def do_axis(self) -> None:
        self.cycle("axis", list(AXES))

    def do_relative(self) -> None:
        self.options["relative"] = not self.options["relative"]

    def do_down(self) -> None:
        self.top += 1

    def do_up(self) -> None:
        self.top = max(0, self.top - 1)

    def copied(self) -> str | None:
        found = self._comparisons()
        if not found:
            return None
        lines = ["| arm - control | bits per byte | interval | shows |", "|---|---|---|---|"]
        for c in found:
            low, high = c.interval
            shows = "n=1, no verdict" if len(c.seeds) == 1 else c.verdict
            lines.append(
                f"| {c.arm} - {c.control} | {c.difference:+.4f} "
                f"| {low:+.4f} to {high:+.4f} | {shows} |"
            )
        return "\n".join(lines)


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f}" if share is not None else "-"


def _known(letter: str, entry: Entry) -> Line:
    words = [f"{letter.upper()} {line_of(entry.label)}"]
    if entry.curve is not None:
        ended, begun = entry.curve.seeds, entry.curve.begun
        seeds = f"{ended} of {begun} seeds" if ended < begun else plural(ended, "seed")
        words.append(f"validation {entry.curve.mean[-1]:.4f}, {seeds}")
    if entry.macro is not None:
        words.append(f"test {entry.macro:.4f}")
    if entry.record is not None:
        words.append(f"U {entry.record.unique_tokens:,}")
    return [("; ".join(words), letter)]


def _comparable(one: Entry, other: Entry) -> str | None:
    """Why figures of two runs cannot be held against each other, if so."""
    trees = [e.view.config for e in (one, other)]
    if trees[0] is None or trees[1] is None:
        return "a configuration cannot be read: who wins cannot be said"
    a, b = (c.model_dump(mode="json") for c in trees if c is not None)
    for key in ("data", "split", "seed", "tokenizer"):
        if a.get(key) != b.get(key):
            return f"{key} differs: these figures are of other text, no winner can be named"
    return None
