"""Pictures of a run that more than one screen shows: histogram, curve of a model, forest."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune.experiment.arm_styles import style_of
from mlxprune.experiment.comparisons import Comparison
from mlxprune.inference.verdict import Verdict
from mlxprune.records import read_record
from mlxprune.selection.manifest import SliceManifest
from mlxprune.tokenization.token_file import TokenSummary
from mlxprune.units import LN2, count, short_duration
from mlxprune_tui.drawing import histogram, line_chart
from mlxprune_tui.drawing.cells import Glyphs, Line, pad
from mlxprune_tui.drawing.histogram import Layers
from mlxprune_tui.drawing.intervals import Interval, PartOf
from mlxprune_tui.drawing.line_chart import Extras, Frame, Mark, Passes, Series
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import live_histogram, training_curves
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import Curve
from mlxprune_tui.shell.session import Session

FIGURE_UNITS = {
    "loss": "bits per byte",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "rate": "tokens a second",
    "utilisation": "share of peak",
}


AXIS_UNITS = {"tokens": "targets", "steps": "steps", "time": "s"}

# --- the histogram


def histogram_range(session: Session, whole: bool) -> tuple[float, float] | None:
    """What the axis shows; None before a document is begun."""
    view = session.view
    found = view.state.histogram if view is not None else None
    if found is None or not found.edges:
        return None
    edges = np.array(found.edges, np.float64)
    counts = np.array(found.documents or [], np.float64)
    counts = counts + in_hand_of(found)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return None
    if whole:
        return float(edges[filled[0]]), float(edges[filled[-1] + 1])
    return histogram.shown_range(counts, edges)


def columns_inside(band: live_histogram.Band, low: float, high: float, columns: int) -> np.ndarray:
    """1.0 for columns of [low, high] of which at least half lies in a band, float64; one that is
    narrower than that has the column that its middle is in."""
    edges = np.linspace(low, high, columns + 1)
    overlap = np.minimum(edges[1:], band.high) - np.maximum(edges[:-1], band.low)
    inside = (overlap >= 0.5 * (high - low) / columns).astype(np.float64)
    middle = (band.low + band.high) / 2
    if not inside.any() and low <= middle <= high and columns:
        inside[min(columns - 1, int((middle - low) / (high - low) * columns))] = 1.0
    return inside


def in_hand_of(found: Any) -> np.ndarray:
    """Documents in hand by bin, float64."""
    counts = np.zeros(len(found.edges or []) - 1)
    for at, number in zip(found.in_hand_bins or [], found.in_hand or [], strict=False):
        if 0 <= at < len(counts):
            counts[at] += number
    return counts


def histogram_lines(session: Session, options: dict[str, Any], cells: int, rows: int) -> list[Line]:
    """Bars with the kept band and quantiles, documents in hand, and how it stood a minute ago."""
    view = session.view
    assert view is not None
    found = view.state.histogram
    span = histogram_range(session, options.get("whole", False))
    if found is None or span is None:
        return []
    low, high = span
    edges = np.array(found.edges, np.float64)
    weight = options.get("weight", "documents")
    weight = weight if getattr(found, weight) else "documents"
    counts = np.array(getattr(found, weight), np.float64)
    columns = histogram.columns_of(cells)
    heights = histogram.rebinned(counts, edges, low, high, columns)
    band = session.slice.band() if session.slice is not None else None
    kept = np.ones(columns) if band is None else columns_inside(band, low, high, columns)
    hand = ghost = None
    if weight == "documents":
        in_hand = in_hand_of(found)
        hand = histogram.rebinned(in_hand, edges, low, high, columns) if in_hand.any() else None
        before = (
            session.ghost.scaled(found) if view.state.stages["score"].state == "running" else None
        )
        if before is not None:
            ghost = histogram.rebinned(before[1], edges, low, high, columns)
    plot = max(2, rows - 2)
    lines = histogram.histogram(
        Layers(heights, kept, hand, ghost), low, high, cells, plot, session.glyphs,
        options.get("log", False),
    )  # fmt: skip
    lines.append(_under(session, band, low, high, cells))
    lines.append(
        histogram.quantiles_line(live_histogram.quantiles(counts, edges), low, high, cells)
    )
    return lines


def _under(
    session: Session, band: live_histogram.Band | None, low: float, high: float, cells: int
) -> Line:
    choice = session.slice.choice if session.slice is not None else None
    if choice is None:
        return [("      the configuration cannot be read: no band", "warn")]
    if band is None:
        why = {"soft": "drawn by lot"}.get(choice.criterion, "ranked by other groups or figures")
        return [(f"      {choice.label}: {why}, so no one band shows it", "dim")]
    sure = "" if band.sure else ", so far"
    return histogram.band(band.low, band.high, low, high, f"{choice.label}{sure}", cells)


# --- the curve of a model


class BytesPerToken:
    """Of what models train on: of a slice where the arm is one, else of the corpus; read once."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.held: dict[tuple[str, str], float | None] = {}

    def of(self, model: str) -> float | None:
        key = (model, str(self.view.state.stages["selection"].state))
        if key not in self.held:
            self.held[key] = self._read(training_curves.SEED.sub("", model))
        return self.held[key]

    def _read(self, name: str) -> float | None:
        kind, _, arm = name.partition("/")
        run = self.view.run
        try:
            whole = read_record(run.tokens() / "tokens.json", TokenSummary).bytes_per_token
        except (OSError, ValueError):
            return None
        if kind == "final":
            with contextlib.suppress(OSError, ValueError):
                manifest = read_record(run.selection(arm) / "manifest.json", SliceManifest)
                if manifest.kept_bytes and manifest.kept_tokens:
                    return manifest.kept_bytes / manifest.kept_tokens
        return whole


@dataclass(frozen=True)
class CurveView:
    """How a curve is looked at: ``window`` the shown share of the axis, ``cursor`` a share of what
    is shown."""

    figure: str = "loss"
    axis: str = "tokens"
    log: bool = False
    smooth: float = 0.03
    window: tuple[float, float] = (0.0, 1.0)
    cursor: float | None = None


@dataclass(frozen=True)
class CurvePicture:
    """``lines`` for the cells, ``reading`` the numbers under the cursor."""

    lines: list[Line]
    reading: str
    extras: Extras


def curve_picture(
    one: Curve, others: list[Curve], scale: float | None, looks: CurveView, cells: int, rows: int,
    glyphs: Glyphs,
) -> CurvePicture:  # fmt: skip
    """Training and validation of a model with its passes and its best validation; ``others`` are
    seeds of the same arm, faint behind it."""
    axis, figure = looks.axis, looks.figure
    x = one.axis(axis)
    if len(x) and not np.isfinite(x).any():
        told = f"this log does not tell {axis}: t takes another axis"
        return CurvePicture([[(told, "warn")]], "", Extras())
    series: list[Series] = []
    ends: list[tuple[float, str, str]] = []
    marks: list[Mark] = []
    if figure != "loss" or scale is None:
        y = one.train[figure]
        series.append(Series(x, y, "train"))
        ends = _end(y, "train" if figure == "loss" else "", "train")
    else:
        y = one.train["loss"] / (LN2 * scale)
        for other in others:
            series.append(
                Series(other.axis(axis, True), other.validation["bits_per_byte"], "grid", ".")
            )
        if looks.smooth:
            series.append(Series(x, y, "grid", "."))
        smooth = line_chart.smoothed(x, y, looks.smooth)
        series.append(Series(x, smooth, "train", "*"))
        ends += _end(smooth, "train", "train")
        held = one.validation["bits_per_byte"]
        if len(held):
            at = one.axis(axis, True)
            series.append(Series(at, held, "valid", "o", dashed=True))
            ends += _end(held, "valid", "valid")
            best = int(np.nanargmin(held))
            if np.isfinite(at[best]):
                text = f"{glyphs.down_mark}{held[best]:.3f}"
                marks.append(Mark(float(at[best]), float(held[best]), text, "good"))
    begins = one.boundaries(axis)
    numbers = one.train["pass"]
    first = int(numbers[0]) if len(numbers) and np.isfinite(numbers[0]) else 1
    frame = _frame(series, looks, figure == "loss", one.total if axis == "tokens" else None)
    cursor, reading = None, ""
    if looks.cursor is not None:
        cursor = frame.left + looks.cursor * (frame.right - frame.left)
        reading = _reading(series, axis, cursor)
    unit = AXIS_UNITS[axis]
    passes = Passes(begins.tolist(), first) if len(begins) else Passes()
    extras = Extras(passes, cursor, None, marks, ends, unit)
    lines = line_chart.chart(series, frame, cells, rows - bool(reading), glyphs, extras)
    if reading:
        lines.append(pad([(reading, "bold")], cells))
    return CurvePicture(lines, reading, extras)


def _end(y: np.ndarray, name: str, style: str) -> list[tuple[float, str, str]]:
    known = y[np.isfinite(y)]
    return [(float(known[-1]), f"{name} {known[-1]:.4g}".strip(), style)] if len(known) else []


def _frame(
    series: list[Series], looks: CurveView, without_start: bool, end: float | None = None
) -> Frame:
    """The shown part of the axis, which goes to ``end`` where that is known, as high as what is in
    it. The start of a training is so high that nothing else would be seen: it is left out."""
    whole = line_chart.frame_of(series, log_y=looks.log)
    span = max(whole.right, end or whole.right) - whole.left
    left, right = (whole.left + share * span for share in looks.window)
    inside = []
    for one in series:
        kept = (one.x >= left) & (one.x <= right)
        inside.append(Series(one.x[kept], one.y[kept], one.style))
    fitted = line_chart.frame_of(inside, log_y=looks.log, quantile=0.02 * without_start)
    return Frame(left, right, fitted.bottom, fitted.top, log_y=looks.log)


def _reading(series: list[Series], axis: str, at: float) -> str:
    shown = short_duration(at) if axis == "time" else f"{count(at, 10)} {AXIS_UNITS[axis]}"
    words = [f"at {shown}:"]
    for one in series:
        able = np.isfinite(one.y) & np.isfinite(one.x)
        if one.style == "grid" or not able.any():
            continue
        value = float(np.interp(at, one.x[able], one.y[able]))
        words.append(f"{one.style.removeprefix('arm-')} {value:.4g}")
    return "  ".join(words)


def arms_picture(
    arms: list[training_curves.ArmCurve], kinds: dict[str, str], looks: CurveView, cells: int,
    rows: int, glyphs: Glyphs,
) -> CurvePicture:  # fmt: skip
    """Validation of every arm, means over seeds; the grey band is the control's seeds."""
    series, ends = [], []
    for one in arms:
        kind = kinds.get(one.arm, "base")
        style = style_of(kind)
        mark = kind[0] if glyphs.name == "ascii" else style.glyph
        series.append(Series(one.x, one.mean, f"arm-{kind}", mark, dashed=kind != "pruned"))
        name = line_of(one.arm)
        ends.append((float(one.mean[-1]), f"{one.mean[-1]:.3f} {name}", f"arm-{kind}"))
    control = next(
        (a for a in arms if kinds.get(a.arm) == "random" and a.seeds > 1 and len(arms) < 9), None
    )
    band = None
    if control is not None:
        band = (Series(control.x, control.low, ""), Series(control.x, control.high, ""))
    frame = _frame(series, looks, without_start=True)
    cursor, reading = None, ""
    if looks.cursor is not None:
        cursor = frame.left + looks.cursor * (frame.right - frame.left)
        reading = _reading(series, looks.axis, cursor)
    unit = AXIS_UNITS[looks.axis]
    extras = Extras(cursor=cursor, band=band, ends=ends, unit=unit)
    lines = line_chart.chart(series, frame, cells, rows - bool(reading), glyphs, extras)
    if reading:
        lines.append(pad([(reading, "bold")], cells))
    return CurvePicture(lines, reading, extras)


# --- comparisons


SIGNS = {Verdict.BETTER: "down_mark", Verdict.WORSE: "up_mark"}
VERDICT_STYLE = {Verdict.BETTER: "good", Verdict.WORSE: "bad"}


def verdict_words(compared: Comparison, glyphs: Glyphs) -> tuple[str, str]:
    """The difference with its sign and word, and the style of that."""
    sign = getattr(glyphs, SIGNS[compared.verdict]) if compared.verdict in SIGNS else "~"
    shows = "one seed" if len(compared.seeds) == 1 else compared.verdict.short
    style = VERDICT_STYLE.get(compared.verdict, "warn")
    return f"{compared.difference:+.3f} {sign} {shows}", style


def intervals_of(
    comparisons: list[Comparison], kinds: dict[str, str], glyphs: Glyphs
) -> list[Interval]:
    rows = []
    for compared in comparisons:
        kind = kinds.get(compared.arm, "pruned")
        mark = style_of(kind).glyph if glyphs.name != "ascii" else "o"
        said, style = verdict_words(compared, glyphs)
        name = f"{compared.arm} - {compared.control}"
        low, high = compared.interval
        rows.append(
            Interval(
                line_of(name), compared.difference, low, high, mark, f"arm-{kind}", said, style
            )
        )
    return rows


def noise_of(compared: list[Comparison]) -> float | None:
    """How far the control of the main comparisons moves from seed to seed."""
    moved = [c.seed_sd for c in compared if c.main and c.seed_sd is not None]
    known = [value for value in moved if math.isfinite(value)]
    return max(known) if known else None


def parts_of(compared: Comparison) -> list[PartOf]:
    return [PartOf(line_of(d.domain), d.adds) for d in compared.domains or []]
