"""Training: every model of the study, the curve of the one that is chosen, and what each pass
did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DataTable

from mlxprune.run import forecast
from mlxprune.run.event_kinds import StageStatus
from mlxprune.run.phrases import memorising_words
from mlxprune.units import ago, count, short_duration
from mlxprune_tui.drawing import line_chart, pass_strip
from mlxprune_tui.drawing.cells import Line, sparkline
from mlxprune_tui.drawing.pass_strip import PassCell
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import study_grid, training_curves
from mlxprune_tui.readers.study_grid import GridCell
from mlxprune_tui.readers.training_curves import AXES, FIGURES, Curve
from mlxprune_tui.screens import pictures
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.model_table import COLUMNS, earlier_row, model_row
from mlxprune_tui.screens.pictures import FIGURE_UNITS, BytesPerToken, CurvePicture, CurveView
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, ScrolledWords
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Table

SMOOTH = [0.0, 0.01, 0.03, 0.1]
CURSOR_STEPS = 60
PANELS = ("learning_rate", "gradient_norm", "rate")


class Training(RunScreen):
    NAME = "training"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("training")
    FOCUS = "#curve"
    DEFAULTS: ClassVar = {
        "figure": "loss", "axis": "tokens", "log": False, "smooth": 0.03, "all": False,
    }  # fmt: skip
    CHOICES: ClassVar = {"figure": FIGURES, "axis": AXES, "smooth": SMOOTH}

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reset()

    def reset(self) -> None:
        self.model: str | None = None  # None: the one that trains
        self.window = (0.0, 1.0)
        self.cursor: float | None = None
        self.scale: BytesPerToken | None = None
        self.drawn: CurvePicture | None = None
        self._dragged_from: tuple[float, float] | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="training-parts"):
            with Vertical(id="training-left"):
                yield Pane("Models", Table("grid"), ident="grid-pane")
                yield Pane("This model", ScrolledWords("facts"), ident="facts-pane")
            with Vertical(id="training-right"):
                yield Pane(
                    "",
                    Picture(self.draw_curve, "curve", chart=True, focusable=True),
                    ident="curve-pane",
                )
                with Horizontal(id="panels"):
                    for name in PANELS:
                        draw = lambda cells, rows, name=name: self.draw_panel(name, cells, rows)  # noqa: E731
                        yield Pane(
                            FIGURE_UNITS[name], Picture(draw, f"panel-{name}"), ident=f"pane-{name}"
                        )
        yield Pane("Passes", Picture(self.draw_passes, "passes"), ident="passes-pane")

    # --- what is shown

    def nothing(self) -> str | None:
        if (why := super().nothing()) is not None:
            return why
        if self.chosen() is None:
            return "Nothing has trained yet: the reference is the first. Its curves are drawn here."
        return None

    def names(self) -> list[str]:
        """Models of the present configuration first, then those of earlier slices."""
        view = self.view
        if view is None:
            return []
        old = set(study_grid.earlier(view))
        known = list(view.state.curves)
        return [n for n in known if n not in old] + [n for n in known if n in old]

    def chosen(self) -> str | None:
        names = self.names()
        if self.model in names:
            return self.model
        view = self.view
        present = [n for n in names if view is not None and view.is_present(n)]
        return present[-1] if present else (names[-1] if names else None)

    def curve(self, name: str) -> Curve:
        assert self.view is not None
        return training_curves.curve(name, self.view.state.curves[name])

    def bytes_per_token(self, name: str) -> float | None:
        assert self.view is not None
        if self.scale is None or self.scale.view is not self.view:
            self.scale = BytesPerToken(self.view)
        return self.scale.of(name)

    def cell(self, name: str) -> GridCell | None:
        assert self.view is not None
        return next((c for c in study_grid.grid(self.view) if c.model == name), None)

    def passes(self, name: str) -> list[PassCell]:
        cell, one = self.cell(name), self.curve(name)
        unique = None
        if cell is not None and cell.passes and one.total:
            unique = one.total / cell.passes
        return training_curves.passes_of(one, self.bytes_per_token(name), unique)

    def headline(self) -> Headline:
        view, name = self.view, self.chosen()
        assert view is not None
        assert name is not None
        cell = self.cell(name)
        held = view.state.curves[name]
        told = view.state.memorising.get(name)
        label = line_of(name.partition("/")[2])
        said = label
        if cell is not None:
            seed = f", seed {cell.seed}" if cell.seed is not None else ""
            said = f"{line_of(cell.arm)}{seed}"
        number = held.train.last("pass")
        if number is not None:
            of = f" of {math.ceil(cell.passes)}" if cell is not None and cell.passes else ""
            said += f": pass {int(number)}{of}"
        last = held.validation.last("bits_per_byte")
        if cell is not None and cell.best is not None and last is not None:
            said += f", validation {float(last):.3f}"
            if told is None:
                said += f", best {cell.best:.3f} in pass {cell.best_pass}"
        if told is not None:
            best = f"best in pass {told.best_pass} ({told.best:.3f})"
            said += f". It is memorising: validation was {best}"
        cells = [c for c in study_grid.grid(view) if c.kind != "reference"]
        done = sum(c.state == "done" for c in cells)
        behind = f"{done} of {len(cells)} models are trained" if cells else "The reference"
        stage = view.state.stages["final" if name.startswith("final/") else "reference"]
        left = forecast.left(stage) if view.live and stage.state == StageStatus.RUNNING else None
        behind += f", {short_duration(left)} left of the stage" if left is not None else ""
        others = [m for m in view.state.memorising if view.is_present(m) and m != name]
        if others:
            behind += (
                f"; memorising, too: {', '.join(line_of(m.partition('/')[2]) for m in others)}"
            )
        if not view.is_present(name):
            behind = "Of an earlier slice of this folder: not part of the present configuration"
        return Headline(f"{said}.", f"{behind}.", "bad" if told is not None else "")

    def renew_body(self) -> None:
        name = self.chosen()
        assert name is not None
        self._grid(name)
        self.query_one("#curve-pane", Pane).entitle(self._title(name))
        self.pictures("curve", "passes", *(f"panel-{p}" for p in PANELS))
        self.query_one("#facts", ScrolledWords).tell_facts(self.facts(name))
        self.query_one("#passes-pane", Pane).entitle(self._passes_title(name))

    def _title(self, name: str) -> str:
        if self.options["all"]:
            return "Validation of every arm, bits per byte, mean over seeds"
        logged = ", log" if self.options["log"] else ""
        unit = FIGURE_UNITS[self.options["figure"]]
        if self.options["figure"] == "loss" and self.bytes_per_token(name) is None:
            unit = "nats a token"
        return f"{line_of(name.partition('/')[2])}: {unit}{logged}"

    def _grid(self, chosen: str) -> None:
        view = self.view
        assert view is not None
        cells = study_grid.grid(view)
        rows = [model_row(cell, self.glyphs) for cell in cells]
        for name in study_grid.earlier(view):
            last = view.state.curves[name].validation.last("bits_per_byte")
            rows.append(earlier_row(name, None if last is None else float(last)))
        table = self.query_one("#grid", Table)
        with self.prevent(DataTable.RowHighlighted):
            table.show(COLUMNS, rows)
            if self.model is None or table.chosen_key() is None:
                table.choose(chosen)
        done = sum(c.state == "done" for c in cells)
        self.query_one("#grid-pane", Pane).entitle(f"Models, {done} of {len(cells)} done")

    def looks(self) -> CurveView:
        options = self.options
        return CurveView(
            options["figure"], options["axis"], options["log"], options["smooth"], self.window,
            self.cursor,
        )  # fmt: skip

    def draw_curve(self, cells: int, rows: int) -> list[Line]:
        view, name = self.view, self.chosen()
        if view is None or name is None:
            return []
        if self.options["all"]:
            self.drawn = self._every_arm(cells, rows)
        else:
            one = self.curve(name)
            present = {n for n in view.state.curves if view.is_present(n)}
            others = training_curves.seeds_of(view.state.curves, one.arm, present - {name})
            self.drawn = pictures.curve_picture(
                one, others, self.bytes_per_token(name), self.looks(), cells, rows, self.glyphs
            )
        return self.drawn.lines

    def _every_arm(self, cells: int, rows: int) -> CurvePicture:
        view = self.view
        assert view is not None
        found = [
            training_curves.curve(n, c) for n, c in view.state.curves.items() if view.is_present(n)
        ]
        arms = training_curves.by_arm(found, self.options["axis"])
        if not arms:
            told = "no arm has a validation yet, or this log does not tell the axis"
            return CurvePicture([[(told, "dim")]], "", line_chart.Extras())
        kinds = {arm.arm: arm.kind for arm in view.arms()}
        looks = replace(self.looks(), figure="loss")
        return pictures.arms_picture(arms, kinds, looks, cells, rows, self.glyphs)

    def draw_panel(self, figure: str, cells: int, rows: int) -> list[Line]:
        name = self.chosen()
        if self.view is None or name is None:
            return []
        looks = replace(self.looks(), figure=figure, cursor=None)
        return pictures.curve_picture(
            self.curve(name), [], None, looks, cells, rows, self.glyphs
        ).lines

    def _passes_title(self, name: str) -> str:
        told = self.view.state.memorising.get(name) if self.view is not None else None
        if told is not None:
            held = self.view.state.curves[name] if self.view is not None else None
            since = study_grid.pass_at(held, float(told.since or 0)) if held is not None else None
            return f"Passes: memorising, told since pass {since}; bits per byte"
        return "Passes: train, validation and the gap, bits per byte"

    def draw_passes(self, cells: int, rows: int) -> list[Line]:
        name = self.chosen()
        if self.view is None or name is None:
            return []
        found = self.passes(name)
        memorising = name in self.view.state.memorising
        return pass_strip.pass_strip(found, memorising, cells, rows, self.glyphs)

    def facts(self, name: str) -> list[tuple[str, str, str]]:
        view, one = self.view, self.curve(name)
        assert view is not None
        last = {k: float(v[-1]) if len(v) else math.nan for k, v in one.train.items()}
        cell = self.cell(name)
        trains = cell is not None and cell.state == "training"
        facts = []
        told = view.state.memorising.get(name)
        if told is not None:
            facts.append(
                ("memorising", line_of(memorising_words(None, told)).removeprefix("None "), "bad")
            )
        done = f"{count(last['targets'], 8)} of {count(one.total, 8)} targets"
        facts.append(("step", f"{_n(last['step'])}, {done}", ""))
        scale = self.bytes_per_token(name)
        if scale:
            facts.append(("train", f"{last['loss'] / (np.log(2) * scale):.4f} bits per byte, at "
                          f"{scale:.2f} bytes a token", "train"))  # fmt: skip
        facts.append(("", f"{last['loss']:.4f} nats a token", "train"))
        valid = one.validation["bits_per_byte"]
        change = f" ({valid[-1] - valid[-2]:+.4f})" if len(valid) > 1 else ""
        facts.append(("valid", f"{valid[-1]:.4f}{change}" if len(valid) else "none yet", "valid"))
        if math.isfinite(last["rate"]) and trains:
            facts.append(("rate", f"{count(last['rate'])} targets/s", ""))
            facts.append(("", sparkline(one.train["rate"].tolist(), 24, self.glyphs), "dim"))
        saved = view.state.checkpoint
        if saved is not None and saved.t and trains:
            facts.append(("saved", f"{ago(view.now() - saved.t)} ago, step {saved.step}", ""))
        facts.append(("learning rate", f"{_g(last['learning_rate'])}", "dim"))
        facts.append(("gradient", f"norm {_g(last['gradient_norm'])}", "dim"))
        return facts

    # --- mouse and keys

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        key = str(event.row_key.value)
        if (
            self.view is not None
            and key in self.view.state.curves
            and self.focused is event.data_table
        ):
            self.model = key
            self.options["all"] = False
            self.renew()

    def _share(self, event: Picture.At) -> float | None:
        if self.drawn is None or event.x < 0:
            return None
        cells = event.picture.content_size.width
        return line_chart.share_at(event.x, cells, self.drawn.extras)

    def on_picture_hovered(self, event: Picture.Hovered) -> None:
        if event.picture.id == "curve":
            self.cursor = self._share(event)
            self.pictures("curve")

    def on_picture_dragged(self, event: Picture.Dragged) -> None:
        """The picture follows the hand."""
        if event.picture.id != "curve":
            return
        left, right = self._dragged_from or self.window
        self._dragged_from = None if event.ended else (left, right)
        cells = max(1, event.picture.content_size.width - line_chart.AXIS)
        moved = (event.from_x - event.x) / cells * (right - left)
        moved = min(max(moved, -left), 1.0 - right)
        self.window = (left + moved, right + moved)
        self.pictures("curve")

    def on_picture_wheeled(self, event: Picture.Wheeled) -> None:
        if event.picture.id == "curve":
            self.cursor = self._share(event)
            self._zoom(0.8 if event.up else 1.25)
            self.pictures("curve")

    def why_not_here(self, action: str) -> str | None:
        if self.view is None or not self.view.state.curves:
            return "nothing has trained yet"
        if action == "figure" and self.options["all"]:
            return "every arm shows its validation; a shows one model"
        if action == "all" and not any(n.startswith("final/") for n in self.view.state.curves):
            return "no arm has trained yet"
        return None

    def do_model(self) -> None:
        names, now = self.names(), self.chosen()
        if now is not None:
            self.model = names[(names.index(now) + 1) % len(names)]
            self.options["all"] = False
            self.query_one("#grid", Table).choose(self.model)

    def do_figure(self) -> None:
        self.cycle("figure", FIGURES)

    def do_all(self) -> None:
        self.options["all"] = not self.options["all"]

    def do_axis(self) -> None:
        self.cycle("axis", AXES)

    def do_log(self) -> None:
        self.options["log"] = not self.options["log"]

    def do_smooth(self) -> None:
        self.cycle("smooth", SMOOTH)

    def do_cursor_left(self) -> None:
        self._move_cursor(-1)

    def do_cursor_right(self) -> None:
        self._move_cursor(1)

    def _move_cursor(self, step: int) -> None:
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

    def do_whole(self) -> None:
        self.cursor, self.window = None, (0.0, 1.0)

    def copied(self) -> tuple[str, str] | None:
        if self.view is None or self.chosen() is None:
            return None
        return self.view.command(
            "tail", "--no-follow", "-n", "40"
        ), "the command that tells the events"


def _n(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def _g(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"
