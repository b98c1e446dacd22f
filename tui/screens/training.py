"""Training: the curves of the reference and of every arm, their passes, and what they cost."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from mlxprune.records import read_record
from mlxprune.run import forecast
from mlxprune.run.event_kinds import StageStatus
from mlxprune.selection.manifest import SliceManifest
from mlxprune.tokenization.token_file import TokenSummary
from mlxprune.units import LN2, ago, clock, count, size
from mlxprune_tui.drawing import line_chart
from mlxprune_tui.drawing.cells import SERIES, Line, pad, sparkline, table
from mlxprune_tui.drawing.line_chart import Series
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import training_curves
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import AXES, FIGURES, Curve
from mlxprune_tui.screens.page import SHORT, TALL, WIDE, Layout, Page, Pane, Split, empty, say

UNITS = {
    "loss": "bits per byte",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "rate": "tokens a second",
    "utilisation": "share of peak",
}
SMOOTH = [0.0, 0.01, 0.03, 0.1]
CURSOR_STEPS = 60
MEMORISES = 0.005  # bits per byte that validation rises above its best while training goes on


class Training(Page):
    name = "training"
    defaults = {  # noqa: RUF012
        "figure": "loss", "axis": "tokens", "log": False, "log_x": False, "smooth": 0.03,
        "all": False,
    }  # fmt: skip
    choices = {"figure": FIGURES, "axis": AXES, "smooth": SMOOTH}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.model: str | None = None  # None: the one that trains
        self.cursor: float | None = None  # a share of what is shown
        self.window = (0.0, 1.0)  # of the whole axis
        self._held: tuple[Any, Curve] | None = None
        self._sizes: dict[Any, float | None] = {}

    # --- what is shown

    def names(self) -> list[str]:
        view = self.context.view
        return list(view.state.curves) if view else []

    def chosen(self) -> str | None:
        names = self.names()
        if self.model in names:
            return self.model
        return names[-1] if names else None

    def curve(self, name: str) -> Curve:
        view = self.context.view
        assert view is not None
        held = view.state.curves[name]
        key = (id(view), name, len(held.train), len(held.validation), view.state.updated)
        if self._held is None or self._held[0] != key:
            self._held = (key, training_curves.curve(name, held))
        return self._held[1]

    def bytes_per_token(self, name: str | None = None) -> float | None:
        """Of what a model trains on: of its slice where it is one, else of the corpus."""
        view, name = self.context.view, name or self.chosen()
        if view is None or name is None:
            return None
        key = (id(view), name, view.state.stages["selection"].state)
        if key not in self._sizes:
            self._sizes[key] = _bytes_per_token(view, training_curves.SEED.sub("", name))
        return self._sizes[key]

    def layout(self, cells: int, rows: int) -> Layout:
        name = self.chosen()
        if name is None:
            return empty(
                "Nothing has trained yet: the reference is the first.",
                "Its loss, its validation and what it costs are drawn here as it goes.",
            )
        title = self._title(name)
        picture = Pane(title, self._picture)
        facts = Pane(f"Now: {line_of(name.partition('/')[2])}", self.draw_facts)
        passes = Pane("Train and validation by pass", self.draw_passes)
        if cells >= WIDE:
            side = Split(False, [(12, facts), (1.0, passes)])
            return Split(True, [(0.68, picture), (0.32, side)])
        if rows >= TALL:
            return Split(False, [(1.0, picture), (12, facts), (8, passes)])
        below = 7 if rows >= SHORT else 4
        return Split(False, [(1.0, picture), (below, Split(True, [(0.55, facts), (0.45, passes)]))])

    def _title(self, name: str) -> str:
        if self.options["all"]:
            return "validation of every arm, bits per byte, mean over seeds"
        figure = self.options["figure"]
        at = f"{self.names().index(name) + 1} of {len(self.names())}"
        view = self.context.view
        at += " so far" if view is not None and view.live else ""
        logged = ", log" if self.options["log"] else ""
        return f"{line_of(name)} ({at}): {UNITS[figure]}{logged}"

    def _picture(self, cells: int, rows: int) -> list[Line]:
        if self.options["all"]:
            return self._every_arm(cells, rows)
        name = self.chosen()
        assert name is not None
        one = self.curve(name)
        series, told = self._series(one)
        return self._draw(series, told, cells, rows, one.boundaries(self.options["axis"]))

    def _series(self, one: Curve) -> tuple[list[Series], list[tuple[str, str]]]:
        """Curves of one model, and the legend: (words, style)."""
        axis, figure = self.options["axis"], self.options["figure"]
        x = one.axis(axis)
        if len(x) and not np.isfinite(x).any():
            return [], [(f"this log does not tell {axis}: x takes another axis", "warn")]
        if figure != "loss":
            return [Series(x, one.train[figure], "a")], [(UNITS[figure], "a")]
        scale = self.bytes_per_token()
        if scale is None:
            return [Series(x, one.train["loss"], "a")], [("train, nats a token", "a")]
        y = one.train["loss"] / (LN2 * scale)
        smooth = self.options["smooth"]
        series, told = [], []
        if smooth:
            series.append(Series(x, y, "dim", "."))
        series.append(Series(x, line_chart.smoothed(x, y, smooth), "a", "*"))
        told.append((f"train, at about {scale:.2f} bytes a token" + (
            f", smoothed {smooth:g} of the axis" if smooth else ""), "a"))  # fmt: skip
        if len(one.validation["targets"]):
            held_out = one.validation["bits_per_byte"]
            series.append(Series(one.axis(axis, True), held_out, "b", "o", dashed=True))
            mark = "o" if self.context.glyphs.name == "ascii" else "dashed"
            told.append((f"validation ({mark})", "b"))
        return series, told

    def _every_arm(self, cells: int, rows: int) -> list[Line]:
        view = self.context.view
        assert view is not None
        found = [training_curves.curve(n, c) for n, c in view.state.curves.items()]
        arms = training_curves.by_arm(found, self.options["axis"])
        known = {one.arm for one in found if one.final and len(one.validation["targets"])}
        missing = sorted(known - {arm.arm for arm in arms})
        if not arms:
            why = f"This log does not tell {self.options['axis']}: x takes another axis."
            return [[(why if known else "No arm has a validation yet.", "dim")]]
        shown = arms[: len(SERIES)]
        series = [
            Series(arm.x, arm.mean, SERIES[i].lower(), SERIES[i], dashed=i % 2 == 1)
            for i, arm in enumerate(shown)
        ]
        told = []
        for letter, arm in zip(SERIES, shown, strict=False):
            words = f"{letter} {line_of(arm.arm)} {arm.mean[-1]:.4f}{_seeds(arm)}"
            told.append((words, letter.lower()))
        if missing:
            told.insert(0, (f"no {self.options['axis']} known of {', '.join(missing)}", "warn"))
        if len(arms) > len(shown):
            told.append((f"and {len(arms) - len(shown)} more: press 5", "dim"))
        spread = training_curves.noise(arms)
        band = None
        if spread is not None:
            band = (Series(spread.x, spread.low, ""), Series(spread.x, spread.high, ""))
            apart = float(spread.high[-1] - spread.low[-1])
            told.append((f"... {line_of(spread.arm)} against itself: {apart:.4f} apart", "dim"))
        else:
            told.append(("no noise band: it takes two ended seeds of random", "dim"))
        return self._draw(series, told, cells, rows, np.zeros(0), band, zoom_y=True)

    def _draw(
        self,
        series: list[Series],
        told: list[tuple[str, str]],
        cells: int,
        rows: int,
        boundaries: np.ndarray,
        band: tuple[Series, Series] | None = None,
        zoom_y: bool = False,
    ) -> list[Line]:
        options = self.options
        whole = line_chart.frame_of(series, options["log_x"], options["log"])
        span = whole.right - whole.left
        left, right = (whole.left + share * span for share in self.window)
        # The start of a training is so high that nothing else is seen: the frame leaves it out.
        inside = [_between(s, left, right, options["log_x"]) for s in series]
        quantile = 0.02 if options["figure"] == "loss" and not zoom_y else 0.0
        fitted = line_chart.frame_of(inside, options["log_x"], options["log"], quantile)
        frame = line_chart.Frame(
            left, right, fitted.bottom, fitted.top, options["log_x"], options["log"]
        )
        legend = _legend(told, cells, 2 if rows > 8 else 1)
        cursor, reading = None, None
        if self.cursor is not None:
            at = left + self.cursor * (right - left)
            cursor = 10**at if options["log_x"] else at
            reading = self._reading(series, told, cursor)
        room = rows - len(legend) - (1 if reading else 0)
        lines = line_chart.chart(
            series, frame, cells, room, self.context.glyphs, boundaries.tolist(), cursor, band
        )
        if reading:
            lines.append(pad([(reading, "bold")], cells))
        return lines + legend

    def _reading(self, series: list[Series], told: list[tuple[str, str]], at: float) -> str:
        """The numbers under the cursor."""
        words = [f"at {self._unit(at)}:"]
        for one in series:
            if one.style == "dim":
                continue
            able = np.isfinite(one.y) & np.isfinite(one.x)
            if not able.any():
                continue
            value = float(np.interp(at, one.x[able], one.y[able]))
            name = next((w.split(",")[0].split(" (")[0] for w, s in told if s == one.style), "")
            words.append(f"{name} {value:.4g}")
        return "  ".join(words)

    def _unit(self, value: float) -> str:
        axis = self.options["axis"]
        if axis == "time":
            return clock(value)
        return f"{count(value, 10)} {axis}"

    def draw_facts(self, cells: int, rows: int) -> list[Line]:
        name = self.chosen()
        view = self.context.view
        assert name is not None
        assert view is not None
        one = self.curve(name)
        last = {k: float(v[-1]) if len(v) else math.nan for k, v in one.train.items()}
        scale = self.bytes_per_token()
        trained = f"{last['loss']:.3f} nats"
        if scale:
            trained = f"{last['loss'] / (LN2 * scale):.3f} bits a byte, {trained}"
        valid = one.validation["bits_per_byte"]
        change = f" ({valid[-1] - valid[-2]:+.4f})" if len(valid) > 1 else ""
        stage = view.state.stage("final" if one.final else "reference")
        trains = (
            view.live
            and view.standing != "paused"
            and name == self.names()[-1]
            and stage.state == StageStatus.RUNNING
        )
        done = last["targets"] / one.total if one.total else math.nan
        saved = view.state.checkpoint
        left = forecast.left(stage)
        pairs = [
            ("step", f"{_n(last['step'])}, {_percent(done)} of {count(one.total)} tokens, "
             f"pass {_n(last['pass'])}", ""),
            ("train", trained, "a"),
            ("valid", f"{valid[-1]:.4f}{change}" if len(valid) else "none yet", "b"),
            ("rate", f"{count(last['rate']) if math.isfinite(last['rate']) else '-'} tokens/s", ""),
            ("", sparkline(one.train["rate"].tolist(), cells - 9, self.context.glyphs), "dim"),
            ("use", f"{_percent(last['utilisation'])} of peak", ""),
            ("lr, grad", f"{_g(last['learning_rate'])}, {_g(last['gradient_norm'])}", ""),
            ("memory", f"peak {size(view.state.peak_memory_bytes or None)}", ""),
            ("saved", f"{ago(view.now() - saved.t)} ago, step {saved.step}"
             if saved and saved.t and trains else "-", ""),
            ("left", f"{clock(left)} of this stage" if trains and left is not None else "-", ""),
        ]  # fmt: skip
        if rows < len(pairs):  # the little room is for figures
            pairs = [p for p in pairs if p[0]]
        return say(pairs[:rows], cells)

    def draw_passes(self, cells: int, rows: int) -> list[Line]:
        name, scale = self.chosen(), self.bytes_per_token()
        if name is None or scale is None:
            return [[("bytes a token are not known yet", "dim")]]
        one = self.curve(name)
        found = training_curves.gaps(one, scale)
        if not found:
            return [[("no validation yet", "dim")]]
        lines = table(
            [(str(n), f"{t:.3f}", f"{v:.3f}", f"{v - t:+.3f}") for n, t, v in found[-(rows - 1) :]],
            ("pass", "train", "valid", "gap"),
            cells,
        )
        if len(found) > 1 and len(lines) < rows:
            change = (found[-1][2] - found[-1][1]) - (found[0][2] - found[0][1])
            best = min(v for _, _, v in found)
            rises = found[-1][2] - best > MEMORISES and change > 0
            told = (
                "memorising: validation rises again" if rises else f"gap {change:+.3f} since pass 1"
            )
            lines.append(pad([(told, "warn" if rises else "dim")], cells))
        return lines

    # --- keys

    def why_not(self, action: str) -> str | None:
        if not self.names():
            return "nothing has trained yet"
        if action == "figure" and self.options["all"]:
            return "every arm shows its validation; press a for one model"
        if action == "all" and not any(n.startswith("final/") for n in self.names()):
            return "no arm has trained yet"
        return None

    def do_model(self, step: int = 1) -> None:
        names, now = self.names(), self.chosen()
        if now is not None:
            self.model = names[(names.index(now) + step) % len(names)]
            self.options["all"] = False

    def do_previous_model(self) -> None:
        self.do_model(-1)

    def do_figure(self) -> None:
        self.cycle("figure", list(FIGURES))

    def do_all(self) -> None:
        self.options["all"] = not self.options["all"]

    def do_axis(self) -> None:
        self.cycle("axis", list(AXES))

    def do_log(self) -> None:
        self.options["log"] = not self.options["log"]

    def do_log_x(self) -> None:
        self.options["log_x"] = not self.options["log_x"]

    def do_smooth(self) -> None:
        self.cycle("smooth", SMOOTH)

    def do_cursor_left(self) -> None:
        self._cursor(-1)

    def do_cursor_right(self) -> None:
        self._cursor(1)

    def _cursor(self, step: int) -> None:
        now = 1.0 if self.cursor is None else self.cursor + step / CURSOR_STEPS
        self.cursor = min(1.0, max(0.0, now))

    def do_zoom_in(self) -> None:
        self._zoom(0.6)

    def do_zoom_out(self) -> None:
        self._zoom(1 / 0.6)

    def _zoom(self, factor: float) -> None:
        left, right = self.window
        held = 1.0 if self.cursor is None else self.cursor
        centre = left + held * (right - left)
        span = min(1.0, max(0.01, (right - left) * factor))
        left = min(max(0.0, centre - held * span), 1.0 - span)
        self.window = (left, left + span)

    def do_reset(self) -> None:
        self.cursor, self.window = None, (0.0, 1.0)

    def copied(self) -> str | None:
        name = self.chosen()
        if name is None:
            return None
        one = self.curve(name)
        rows = zip(one.validation["targets"], one.validation["bits_per_byte"], strict=True)
        return "targets,validation_bits_per_byte\n" + "\n".join(f"{t:.0f},{v}" for t, v in rows)


def _bytes_per_token(view: View, name: str) -> float | None:
    kind, _, arm = name.partition("/")
    try:
        whole = read_record(view.run.tokens() / "tokens.json", TokenSummary).bytes_per_token
    except (OSError, ValueError):
        return None
    if kind == "final":
        with contextlib.suppress(OSError, ValueError):
            manifest = read_record(view.run.selection(arm) / "manifest.json", SliceManifest)
            if manifest.kept_bytes and manifest.kept_tokens:
                return manifest.kept_bytes / manifest.kept_tokens
    return whole


def _seeds(arm: training_curves.ArmCurve) -> str:
    return f" ({arm.seeds} of {arm.begun} seeds ended)" if arm.begun > arm.seeds else ""


def _between(one: Series, left: float, right: float, log: bool) -> Series:
    with np.errstate(all="ignore"):
        x = np.log10(one.x) if log else one.x
    inside = (x >= left) & (x <= right)
    return Series(one.x[inside], one.y[inside], one.style)


def _legend(told: list[tuple[str, str]], cells: int, rows: int) -> list[Line]:
    lines: list[Line] = [[]]
    used = 0
    for words, style in told:
        room = len(words) + 3
        if used + room > cells and used:
            if len(lines) == rows:
                break
            lines.append([])
            used = 0
        lines[-1].append((words + "   ", style))
        used += room
    return [pad(line, cells) for line in lines]


def _n(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def _g(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "-"
