"""Overview: the run told in order: what matters now, one live picture, the stages, what needs a
look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DataTable

from mlxprune.experiment.comparisons import best_slice
from mlxprune.experiment.study_result import StudyResult
from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device, RunEnd, StageStatus, Warned
from mlxprune.run.folder import STAGES
from mlxprune.run.phrases import memorising_words, words_of
from mlxprune.run.state import StageState
from mlxprune.run.status import ENDED_EARLY, Standing
from mlxprune.units import ago, count, short_duration, size
from mlxprune_tui.drawing import intervals
from mlxprune_tui.drawing.cells import Line, bar, pad, sparkline
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import run_comparison, run_view, study_grid, training_curves
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens import pictures
from mlxprune_tui.screens.arm_table import arm_rows
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.headlines import headline_of
from mlxprune_tui.screens.model_table import COLUMNS, model_row
from mlxprune_tui.screens.phrases import (
    BROKEN,
    STATE_STYLE,
)
from mlxprune_tui.screens.pictures import BytesPerToken, CurveView
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, ScrolledWords
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Column, Table, TableRow

SCREEN_OF = {
    "reference": "training", "score": "scoring", "selection": "selection", "final": "training",
    "evaluation": "compare", "report": "compare", "corpus": "documents", "split": "documents",
    "tokenizer": "documents", "tokens": "documents",
}  # fmt: skip
NEWCOMER = (
    "No run has written a word here yet: this looks on until one does.\n\n"
    "  mlxprune demo                 a corpus, a run and a report in minutes\n"
    "  mlxprune init DATA...         writes a configuration for your data\n"
    "  mlxprune run mlxprune.yaml    runs it; mlxprune tui runs/NAME looks on"
)
STAGE_COLUMNS = (
    Column("", told="state"), Column("stage"), Column("", most=27, told="facts"),
    Column("", right=True, told="time"),
)  # fmt: skip
BAR = 10
AWAY_SECONDS = 300.0  # who was away for less has seen it


class Overview(RunScreen):
    NAME = "overview"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("overview")
    FOCUS = "#stages"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.shows_news = True
        self.scale: BytesPerToken | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="overview-parts"):
            with Vertical(id="overview-left"):
                yield Pane("", Picture(self.draw_live, "live"), ident="live-pane")
                yield Pane("Arms", Table("arms"), ident="arms-pane")
            with Vertical(id="overview-right"):
                yield Pane("Stages", Table("stages"), ident="stages-pane")
                yield Pane("Needs a look", ScrolledWords("attention"), ident="attention-pane")
                with Container(id="overview-more"):
                    yield Pane("Safe to leave?", ScrolledWords("leave"), ident="leave-pane")
                    yield Pane("Events, newest first", ScrolledWords("told"), ident="told-pane")

    def reset(self) -> None:
        self.shows_news, self.scale = True, None

    def nothing(self) -> str | None:
        view = self.view
        if view is not None and view.gone:
            return None
        if view is None or (view.loaded and view.state.started is None):
            return NEWCOMER
        return super().nothing()

    # --- the headline

    def headline(self) -> Headline:
        view = self.view
        assert view is not None
        return headline_of(view, self.session)

    # --- the body

    def renew_body(self) -> None:
        view = self.view
        assert view is not None
        result = run_comparison.present_result(view)
        self.set_class(view.standing == Standing.DONE and result is not None, "-done")
        self.query_one("#live-pane", Pane).entitle(self.live_title())
        self.pictures("live")
        self._stages(view)
        self._arms(view, result)
        attention = attention_of(view, self.session)
        self.set_class(bool(attention), "-attention")
        self.query_one("#attention", ScrolledWords).tell(attention)
        self.set_class(not view.live, "-ended")
        self.query_one("#leave", ScrolledWords).tell(leaving_of(view))
        title, told = self._told(view)
        self.query_one("#told-pane", Pane).entitle(title)
        self.query_one("#told", ScrolledWords).tell(told)

    def live_title(self) -> str:
        view = self.view
        assert view is not None
        what = self.live_kind()
        if what == "histogram":
            found = view.state.histogram
            documents = sum((found.documents if found else None) or [])
            return f"Log-perplexity of {documents:,} documents, nats a token"
        if what == "curve":
            return f"{line_of(self.model() or '')}: bits per byte"
        if what == "forest":
            return "Arms minus control, bits per byte; left of zero is better"
        return f"Now: {forecast.running_stage(view.state) or view.standing}"

    def live_kind(self) -> str:
        """What the picture of the stage in hand is."""
        view = self.view
        assert view is not None
        busy = forecast.running_stage(view.state)
        result = run_comparison.present_result(view)
        if result is not None and result.comparisons and busy is None:
            return "forest"
        trained = self.model()
        if busy in ("reference", "final", "evaluation", "report") and trained is not None:
            return "curve"
        if view.state.histogram is not None and (busy in ("score", "selection") or not trained):
            return "histogram"
        return "curve" if trained is not None else "words"

    def model(self) -> str | None:
        """The model that trains now, else the last one of the present configuration."""
        view = self.view
        assert view is not None
        names = [name for name in view.state.curves if view.is_present(name)]
        return names[-1] if names else None

    def draw_live(self, cells: int, rows: int) -> list[Line]:
        view = self.view
        assert view is not None
        kind = self.live_kind()
        if kind == "histogram":
            return pictures.histogram_lines(self.session, {}, cells, rows)
        if kind == "curve":
            model = self.model()
            assert model is not None
            if self.scale is None or self.scale.view is not view:
                self.scale = BytesPerToken(view)
            one = training_curves.curve(model, view.state.curves[model])
            looks = CurveView()
            return pictures.curve_picture(
                one, [], self.scale.of(model), looks, cells, rows, self.glyphs
            ).lines
        if kind == "forest":
            result = run_comparison.present_result(view)
            assert result is not None
            return result_picture(view, result, cells, rows, self.session)
        return self._words(cells)

    def _words(self, cells: int) -> list[Line]:
        """A stage that has no picture: how far it is."""
        view = self.view
        assert view is not None
        busy = forecast.running_stage(view.state)
        stage = view.state.stages.get(busy or "", StageState())
        if not busy:
            return [[("nothing is at work", "dim")]]
        done, total = stage.done or 0, stage.total or 0
        lines: list[Line] = [[]]
        if total:
            lines += [[(bar(done / total, max(10, cells - 8), self.glyphs), "kept"),
                       (f" {100 * done / total:3.0f} %", "bold")]]  # fmt: skip
        told = f"{count(done)} of {count(total)} {line_of(str(stage.unit or ''))}"
        lines += [[], [(told, ""), (f"  {line_of(str(stage.what or ''))}", "dim")]]
        rates = sparkline(stage.rates["rate"], max(4, cells - 20), self.glyphs)
        lines += [[], [(f"{count(stage.rate)}/s  ", ""), (rates, "dim")]]
        return [pad(line, cells) for line in lines]

    def _stages(self, view: View) -> None:
        table = self.query_one("#stages", Table)
        rows = [stage_row(view, name, self.session) for name in STAGES]
        before = table.chosen_key()
        table.show(STAGE_COLUMNS, rows)
        busy = forecast.running_stage(view.state)
        if before is None and busy is not None:
            table.choose(busy)

    def _arms(self, view: View, result: StudyResult | None) -> None:
        table = self.query_one("#arms", Table)
        if result is not None and view.standing == Standing.DONE:
            columns, rows = arm_rows(result)
        else:
            columns = COLUMNS
            rows = [model_row(cell, self.glyphs) for cell in study_grid.grid(view)]
        is_result = result is not None and view.standing == Standing.DONE
        self.query_one("#arms-pane", Pane).entitle("Arms" if is_result else "Models")
        self.set_class(not rows, "-no-arms")
        table.show(columns, rows)

    def _told(self, view: View) -> tuple[str, Line]:
        seen = self.session.seen
        news = run_view.since(view.state, seen) if seen is not None else []
        away = view.now() - seen if seen is not None else 0.0
        if news and self.shows_news and seen is not None and away > AWAY_SECONDS:
            told = "\n".join(line_of(n) for n in news)
            return f"Since you left, {ago(view.now() - seen)} ago (n closes)", [(told, "")]
        spans: Line = []
        for event in reversed(view.state.recent):
            moment = time.strftime("%H:%M:%S", time.localtime(event.t or 0.0))
            style = "warn" if isinstance(event, Warned) else ""
            style = "bold" if isinstance(event, RunEnd) else style
            spans += [(f"{moment} ", "dim"), (f"{line_of(words_of(event))}\n", style)]
        return "Events, newest first", spans

    # --- keys

    def why_not_here(self, action: str) -> str | None:
        if action == "news" and self.session.seen is None:
            return "this is the first look at this run"
        if action == "open" and self.view is None:
            return "no run is open"
        return None

    def do_news(self) -> None:
        self.shows_news = not self.shows_news

    def do_open(self) -> None:
        """The screen of what is in hand: a stage, an arm."""
        focused = self.focused
        if isinstance(focused, Table) and focused.id == "arms":
            result = run_comparison.present_result(self.view) if self.view else None
            self.host.go("compare" if result is not None else "training")
            return
        stage = self.query_one("#stages", Table).chosen_key()
        if stage is not None:
            self.host.go(SCREEN_OF.get(stage, "overview"))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.do_open()

    def copied(self) -> tuple[str, str] | None:
        view = self.view
        if view is None:
            return None
        result = run_comparison.present_result(view)
        if view.standing in ENDED_EARLY:
            return view.again, "the command that goes on"
        if result is not None and result.conclusion is not None and result.conclusion.command:
            return result.conclusion.command, "the next command"
        return view.command("status"), "the command that tells this"


def attention_of(view: View, session: Session) -> Line:
    """What a person should read, whole: troubles, memorising, warnings, the newest first."""
    spans: Line = []
    for trouble in view.troubles():
        spans += [("trouble  ", "bad"), (f"{line_of(trouble)}\n", "")]
    for model, facts in view.state.memorising.items():
        if view.is_present(model):
            mark = session.glyphs.up_mark
            spans += [
                (f"{mark} memorising  ", "bad"),
                (f"{line_of(memorising_words(model, facts))}\n", ""),
            ]
    for check in view.leaving() if view.live else []:
        if check.good is False:
            spans += [(f"{check.name}  ", "bad"), (f"{line_of(check.told)}\n", "")]
    for warning in reversed(view.state.warnings):
        moment = time.strftime("%H:%M ", time.localtime(warning.t)) if warning.t else ""
        spans += [(moment, "dim"), (f"{line_of(str(warning.message))}\n", "warn")]
    return spans


def leaving_of(view: View) -> Line:
    """Whether the run can be left alone, and how it uses the machine."""
    if not view.live:
        return [(f"It is {view.standing}: nothing is at work.", "dim")]
    spans: Line = []
    for check in sorted(view.leaving(), key=lambda c: (c.good is not False, c.good is None)):
        mark, style = {True: ("ok", "good"), False: ("NO", "bad"), None: ("?", "warn")}[check.good]
        spans += [
            (f"{mark:<3}", style),
            (f"{check.name:<11}", "head"),
            (f"{line_of(check.told)}\n", ""),
        ]
    machine = view.state.machine or Device()
    total = f", machine {size(machine.memory_used)} of {size(machine.memory_total)}"
    total = total if machine.memory_total else ""
    spans += [("   uses       ", "head"), (f"{size(machine.memory_bytes)}{total}\n", "")]
    spans += [("   on         ", "head"), (line_of(str(view.state.device or "not known")), "")]
    return spans


def stage_row(view: View, name: str, session: Session) -> TableRow:
    stage = view.state.stages[name]
    state: str = stage.state
    if state == "running" and view.standing in BROKEN:
        state = view.standing
    mark = session.glyphs.states.get(state, "?")
    style = STATE_STYLE.get(state, "dim")
    right = short_duration(stage.seconds) if stage.seconds is not None else ""
    if stage.state == StageStatus.PENDING and view.live:
        likely = forecast.expected(view.state).get(name)
        right = f"about {short_duration(likely)}" if likely is not None else ""
    done, total = stage.done or 0, stage.total or 0
    facts: tuple[str, str] | tuple[tuple[str, str], ...] = (_facts(stage), "dim")
    if stage.state == StageStatus.RUNNING or (
        stage.state in (StageStatus.STOPPED, StageStatus.FAILED) and total
    ):
        left = forecast.left(stage)
        right = f"{short_duration(left)} left" if left is not None and state == "running" else state
        if total:
            share = done / total
            facts = ((bar(share, BAR, session.glyphs), "kept"), (f" {100 * share:3.0f} %", "bold"))
        else:
            facts = (line_of(str(stage.why or "")), "dim")
    bold = "bold" if stage.state == StageStatus.RUNNING else ""
    return TableRow(name, ((mark, style), (name, bold), facts, (right, "")))


def _facts(stage: StageState) -> str:
    """A finished or waiting stage in some words."""
    told = stage.summary or {}
    words: list[str] = [stage.state] if stage.state in ("failed", "stopped") else []
    if stage.state == "reused":
        words.append("unchanged")
    if isinstance(told.get("validation_bpb"), float):
        words.append(f"{told['validation_bpb']:.3f} bits per byte")
    if isinstance(told.get("mean_nll"), float):
        words.append(f"mean {told['mean_nll']:.2f} nats")
    for key, what in (
        ("documents", "documents"), ("tokens", "tokens"), ("vocab_size", "pieces"),
        ("kept_documents", "kept"),
    ):  # fmt: skip
        if isinstance(told.get(key), int) and told[key]:
            words.append(f"{count(told[key])} {what}")
    if isinstance(told.get("pieces"), int) and isinstance(told.get("built"), int):
        made, all_of = told["built"], told["pieces"]
        words.append(f"{all_of} ready" + (f", {made} made now" if made < all_of else ""))
    return ", ".join(words[:3])


def result_picture(
    view: View, result: StudyResult, cells: int, rows: int, session: Session
) -> list[Line]:
    """Every arm minus its control; below, where there is room, what the domains add, and the curves
    of all arms."""
    kinds = {name: arm.kind for name, arm in result.arms.items()}
    compared = sorted(result.comparisons, key=lambda c: (not c.main, c.difference))
    drawn = pictures.intervals_of(compared, kinds, session.glyphs)
    noise = pictures.noise_of(compared)
    first = min(len(drawn) + 2, rows)
    lines = intervals.forest(drawn, noise, cells, first, session.glyphs)
    best = best_slice(compared)
    parts = pictures.parts_of(best) if best is not None else []
    left = rows - first - 2
    if best is not None and len(parts) > 1 and left >= 4:
        title = f"{line_of(best.arm)} - {line_of(best.control)}: what each domain adds"
        lines += [[], [(title, "title")]]
        high = min(left, len(parts) + 1)
        lines += intervals.waterfall(parts, cells, high, session.glyphs)
    left = rows - len(lines) - 2
    if left >= 8:
        found = [
            training_curves.curve(n, c) for n, c in view.state.curves.items() if view.is_present(n)
        ]
        arms = training_curves.by_arm(found, "tokens")
        lines += [[], [("validation of every arm, mean over seeds, bits per byte", "title")]]
        lines += pictures.arms_picture(arms, kinds, CurveView(), cells, left, session.glyphs).lines
    return lines
