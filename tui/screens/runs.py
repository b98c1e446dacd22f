"""Runs: every run under a folder; open one, mark some to compare, start a new one."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import DataTable, Input

from mlxprune.run.status import ENDED_EARLY, Standing
from mlxprune.units import ago, plural
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import run_list
from mlxprune_tui.readers.run_list import Row, RunList
from mlxprune_tui.readers.run_view import again
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.phrases import STATE_STYLE
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, Words
from mlxprune_tui.widgets.table import Column, Table, TableRow

LOOK_SECONDS = 2.0
SLICE_SECONDS = 0.03
START_SECONDS = 60


class Runs(RunScreen):
    NAME = "runs"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("runs")
    FOCUS = "#runs-table"
    DEFAULTS: ClassVar = {"sort": "time", "filter": ""}
    CHOICES: ClassVar = {"sort": run_list.SORTS}

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.shelf = RunList()
        self.rows: list[Row] = []
        self.looked = 0.0

    def body(self) -> Iterator[Widget]:
        yield Input(
            placeholder="words of name, state or slice; !word leaves out", id="filter", compact=True
        )
        yield Pane("Runs", Table("runs-table"), ident="runs-pane")
        yield Pane("This run", Words("run-facts"), ident="run-pane")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(Input).display = False

    def tick(self) -> bool:
        """Look again, every other second."""
        if self.session.folder is None:
            return False
        if not self.shelf.unread and time.monotonic() - self.looked <= LOOK_SECONDS:
            return False
        self.looked = time.monotonic()
        self.rows = self.shelf.look(self.session.folder, time.time(), SLICE_SECONDS)
        return True

    def shown(self) -> list[Row]:
        if not self.looked:
            self.tick()
        return run_list.ordered(
            run_list.kept(self.rows, self.options["filter"]), self.options["sort"]
        )

    def chosen(self) -> Row | None:
        key = self.query_one("#runs-table", Table).chosen_key() if self.is_built else None
        found = self.shown()
        return next((r for r in found if str(r.folder) == key), found[0] if found else None)

    def nothing(self) -> str | None:
        self.shown()
        if not self.rows:
            folder = line_of(str(self.session.folder or ""))
            return (
                f"There is no run under {folder} yet: this looks on until one comes.\n\n"
                "  a starts one from a configuration; mlxprune init DATA... writes one."
            )
        return None

    def headline(self) -> Headline:
        found = self.shown()
        live = sum(r.standing in ("running", "slow", "stale") for r in self.rows)
        paused = sum(r.standing == "paused" for r in self.rows)
        folder = line_of(str(self.session.folder or ""))
        waits = f", {paused} paused" if paused else ""
        said = f"{plural(len(found), 'run')} under {folder}, {live} at work{waits}."
        behind = f"By {self.options['sort']}"
        if self.shelf.unread:
            behind += f"; {self.shelf.unread:,} are still being read"
        if self.options["filter"]:
            behind += f"; filter {line_of(self.options['filter'])}, which leaves {len(found)}"
        if self.session.marked:
            behind += f"; {len(self.session.marked)} marked: 5 compares their arms"
        return Headline(said, f"{behind}.", "", "enter opens")

    def renew_body(self) -> None:
        columns = (
            Column("", most=2, told="mark"), Column("run", most=28), Column("state"),
            Column("stage"),
            Column("verdict", True), Column("valid", True), Column("slices", most=22),
            Column("model"), Column("seeds", True), Column("trains"), Column("heard", True),
        )  # fmt: skip
        rows = [self._row(row) for row in self.shown()]
        with self.prevent(DataTable.RowHighlighted):
            self.query_one("#runs-table", Table).show(columns, rows)
        self.query_one("#run-facts", Words).tell_facts(self._facts())

    def _row(self, row: Row) -> TableRow:
        glyphs, now, view = self.glyphs, time.time(), self.view
        opened = view.run.path.absolute() if view is not None else None
        mark = "*" if str(row.folder.absolute()) in self.session.marked else " "
        mark = "o" if mark == " " and row.folder.absolute() == opened else mark
        style = STATE_STYLE.get(row.standing, "")
        state = f"{glyphs.states.get(row.standing, '?')} {line_of(row.standing)}"
        if not row.is_read:
            state, style = "reading ...", "dim"
        share = f" {100 * row.share:.0f} %" if row.share is not None else ""
        memorising = f" {glyphs.up_mark}" if row.memorising else ""
        told = row.settings
        verdict = f"{row.verdict:+.4f}" if row.verdict is not None else "-"
        verdict_style = "" if row.verdict is None else ("good" if row.verdict < 0 else "bad")
        valid = f"{row.validation:.3f}" if row.validation is not None else "-"
        heard = f"{ago(now - row.updated)} ago" if row.updated else "-"
        return TableRow(
            str(row.folder),
            (
                (mark, ""), (line_of(row.folder.name), "bold" if mark == "o" else ""),
                (state, style), (line_of(row.stage) + share, ""), (verdict, verdict_style),
                ((valid, ""), (memorising, "bad")), (told.slices if told else "-", ""),
                (told.model if told else "-", ""), (str(told.seeds) if told else "-", ""),
                (told.budget if told else "-", ""), (heard, "dim"),
            ),
        )  # fmt: skip

    def _facts(self) -> list[tuple[str, str, str]]:
        row = self.chosen()
        if row is None:
            return [("", "the filter leaves no run: esc clears it", "dim")]
        began = (
            time.strftime("%a %d %b, %H:%M", time.localtime(row.started)) if row.started else "-"
        )
        pid = f", process {row.pid}" if row.pid and row.standing != Standing.CRASHED else ""
        facts = [
            ("run", f"{line_of(row.name)} in {line_of(str(row.folder))}", ""),
            ("began", f"{began} on {line_of(row.device)}{pid}", ""),
        ]
        if row.told:
            facts.append(("figures", line_of(row.told), ""))
        if row.memorising:
            facts.append(("memorising", f"{plural(row.memorising, 'model')}: 4 shows which", "bad"))
        if row.warnings:
            facts.append(("warnings", f"{row.warnings}: 1 shows them", "warn"))
        if row.error:
            facts.append(("error", line_of(row.error), "bad"))
        if row.standing in ENDED_EARLY:
            facts.append(("go on", line_of(again(row.folder)), "bold"))
        return facts

    # --- keys

    def why_not_here(self, action: str) -> str | None:
        if action == "add" and self.session.read_only:
            return "this window only looks"
        if action in ("open", "mark", "sort", "filter") and not self.rows:
            return "there is no run here"
        return None

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.do_open()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        self.query_one("#run-facts", Words).tell_facts(self._facts())

    def do_open(self) -> None:
        row = self.chosen()
        if row is not None:
            self.host.open_run(row.folder)
            self.host.go("overview")

    def do_mark(self) -> str | None:
        row = self.chosen()
        if row is None:
            return None
        folder = str(row.folder.absolute())
        if folder in self.session.marked:
            self.session.marked.remove(folder)
            return f"{line_of(row.name)} is no longer marked"
        self.session.marked.append(folder)
        return f"{line_of(row.name)} is marked: screen 5 compares its arms, too"

    def do_sort(self) -> None:
        self.cycle("sort", run_list.SORTS)

    def do_filter(self) -> None:
        field = self.query_one(Input)
        field.value, field.display = self.options["filter"], True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_focus:
            self.options["filter"] = event.value.strip()
            self.renew()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.input.display = False
        self.query_one("#runs-table").focus()

    def typed_over(self) -> Widget:
        return self.query_one("#runs-table")

    def back(self) -> bool:
        """Escape clears the filter before it leaves."""
        had, self.options["filter"] = bool(self.options["filter"]), ""
        return had

    def do_add(self) -> None:
        def take(given: str) -> str | None:
            words = shlex.split(given)
            if not words:
                return None
            folder = self.session.folder

            def begun(told: str) -> None:
                self.looked = 0.0
                self.host.say(told)

            self.host.later(lambda: start(words, folder), begun)
            return "starting ..."

        row = self.chosen() if self.rows else None
        given = "mlxprune.yaml"
        if row is not None and row.standing in ENDED_EARLY:
            given = again(row.folder).removeprefix("mlxprune run ")  # it goes on
        self.host.ask(
            "Start a run from a configuration, or go on with one",
            given,
            "a file; --dir FOLDER and --set a.b=value as you like; it outlives this window",
            take,
        )

    def copied(self) -> tuple[str, str] | None:
        row = self.chosen() if self.rows else None
        if row is None:
            return None
        return shlex.join(["mlxprune", "status", str(row.folder)]), "the command that tells of it"


def start(words: list[str], folder: Path | None) -> str:
    """Run a configuration in a process that outlives the app; what it says of it.

    The run goes under the folder that is looked at, by the name that its configuration has.
    """
    from mlxprune.config.loading import load_config
    from mlxprune.errors import MlxpruneError

    settings = [words[i + 1] for i, w in enumerate(words[:-1]) if w == "--set"]
    command = [sys.executable, "-m", "mlxprune", "run", *words, "--detach"]
    try:
        if folder is not None and "--dir" not in words:
            name = load_config(Path(words[0]).expanduser(), settings).name
            command += ["--dir", str(folder / name)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (MlxpruneError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        return line_of(str(error))
    return line_of(done.stdout if done.returncode == 0 else done.stderr)
