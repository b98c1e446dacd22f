"""Runs: every run under a folder; open one, mark some to compare, start a new one."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlxprune.run.status import Standing
from mlxprune.units import ago, plural
from mlxprune_tui.drawing.cells import Line, pad
from mlxprune_tui.drawing.text import fit, line_of
from mlxprune_tui.readers import run_list
from mlxprune_tui.readers.run_list import Row, RunList
from mlxprune_tui.readers.run_view import again
from mlxprune_tui.screens.page import Answer, Ask, Layout, Page, Pane, Split, empty, say
from mlxprune_tui.screens.run_phrases import ENDED_EARLY, STATE_STYLE

LOOK_SECONDS = 2.0
SLICE_SECONDS = 0.03
START_SECONDS = 60


class Runs(Page):
    name = "runs"
    defaults = {"sort": "time", "filter": ""}  # noqa: RUF012
    choices = {"sort": run_list.SORTS}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.shelf = RunList()
        self.rows: list[Row] = []
        self.at = self.top = 0
        self.looked = 0.0
        self.read_only = False

    def tick(self) -> bool:
        """Look again, every other second."""
        if self.context.folder is None:
            return False
        if not self.shelf.unread and time.monotonic() - self.looked <= LOOK_SECONDS:
            return False
        self.looked = time.monotonic()
        self.rows = self.shelf.look(Path(self.context.folder), time.time(), SLICE_SECONDS)
        return True

    def shown(self) -> list[Row]:
        if not self.looked:
            self.tick()
        return run_list.ordered(
            run_list.kept(self.rows, self.options["filter"]), self.options["sort"]
        )

    def chosen(self) -> Row | None:
        found = self.shown()
        self.at = min(max(0, self.at), max(0, len(found) - 1))
        return found[self.at] if found else None

    def layout(self, cells: int, rows: int) -> Layout:
        found = self.shown()
        folder = line_of(str(self.context.folder or ""))
        if not self.rows:
            return empty(
                f"There is no run under {folder}.",
                "n starts one from a configuration; mlxprune init DATA... writes one.",
            )
        live = sum(r.standing in ("running", "paused", "slow", "stale") for r in self.rows)
        title = (
            f"{plural(len(found), 'run')} under {folder}, {live} live, by {self.options['sort']}"
        )
        if self.shelf.unread:
            title += f", reading {self.shelf.unread:,} more"
        if self.options["filter"]:
            title += f", filter {line_of(self.options['filter'])}"
        detail = 8
        return Split(False, [(1.0, Pane(title, self._list)), (detail, Pane("Run", self._detail))])

    def _list(self, cells: int, rows: int) -> list[Line]:
        found = self.shown()
        if not found:
            return [[("the filter leaves no run: esc clears it", "dim")]]
        self.chosen()
        room = max(1, rows - 1)
        self.top = min(max(self.top, self.at - room + 1), self.at)
        name = max(12, min(28, cells - 58))
        head = f"    {'run':<{name}} {'state':<10} {'stage':<16} {'verdict':>8} {'valid':>7}  heard"
        lines: list[Line] = [[(fit(head, cells), "head")]]
        glyphs, now = self.context.glyphs, time.time()
        view = self.context.view
        opened = view.run.path.absolute() if view is not None else None
        for place in range(self.top, min(self.top + room, len(found))):
            row = found[place]
            here = place == self.at
            marked = "*" if str(row.folder.absolute()) in self.context.marked else " "
            marked = "o" if marked == " " and row.folder.absolute() == opened else marked
            state = f"{glyphs.states.get(row.standing, '?')} {line_of(row.standing)}"
            share = f" {100 * row.share:.0f}%" if row.share is not None else ""
            verdict = f"{row.verdict:+.4f}" if row.verdict is not None else "-"
            valid = f"{row.validation:.4f}" if row.validation is not None else "-"
            heard = f"{ago(now - row.updated)} ago" if row.updated else "-"
            style = "select" if here else ""
            words = line_of(row.error or row.told)
            lines.append(
                pad(
                    [
                        (f"{glyphs.arrow if here else ' '} {marked} ", style),
                        (fit(line_of(row.folder.name), name) + " ", style),
                        (fit(state, 11), style or STATE_STYLE.get(row.standing, "")),
                        (fit(line_of(row.stage) + share, 16), style),
                        (f" {verdict:>8} {valid:>7}  {fit(heard, 10)} {words}", style),
                    ],
                    cells,
                )
            )
        return lines

    def _detail(self, cells: int, rows: int) -> list[Line]:
        row = self.chosen()
        if row is None:
            return []
        began = (
            time.strftime("%a %d %b, %H:%M", time.localtime(row.started)) if row.started else "-"
        )
        pid = f", process {row.pid}" if row.pid and row.standing != Standing.CRASHED else ""
        pairs = [
            ("run", f"{line_of(row.name)} in {line_of(str(row.folder))}", ""),
            ("began", f"{began} on {line_of(row.device)}{pid}", ""),
            ("figures", line_of(row.told) or "-", ""),
            ("warned", f"{row.warnings} times", "warn" if row.warnings else ""),
        ]  # fmt: skip
        if row.error:
            pairs.append(("error", line_of(row.error), "bad"))
        if row.standing in ENDED_EARLY:
            pairs.append(("go on", line_of(again(row.folder)), "bold"))
        return say(pairs[:rows], cells)

    # --- keys

    def why_not(self, action: str) -> str | None:
        if action == "new" and self.read_only:
            return "this window only looks"
        if action in ("up", "down", "open", "mark", "sort") and not self.rows:
            return "there is no run here"
        return None

    def do_down(self) -> None:
        self.at = min(self.at + 1, max(0, len(self.shown()) - 1))

    def do_up(self) -> None:
        self.at = max(0, self.at - 1)

    def do_open(self) -> None:
        row = self.chosen()
        if row is not None:
            self.context.open(row.folder)
            self.context.go("overview")

    def do_mark(self) -> str | None:
        row = self.chosen()
        if row is None:
            return None
        folder = str(row.folder.absolute())
        if folder in self.context.marked:
            self.context.marked.remove(folder)
            return f"{line_of(row.name)} is no longer marked"
        self.context.marked.append(folder)
        return f"{line_of(row.name)} is marked: screen 5 compares its arms, too"

    def do_sort(self) -> None:
        self.cycle("sort", list(run_list.SORTS))

    def do_filter(self) -> Answer:
        def take(given: str) -> None:
            self.options["filter"] = given.strip()
            self.at = 0

        hint = "words of name, state or stage; !word leaves out"
        return Ask("Filter", self.options["filter"], take, hint)

    def back(self) -> bool:
        """Escape clears the filter before it leaves."""
        had, self.options["filter"] = bool(self.options["filter"]), ""
        return had

    def do_new(self) -> Answer:
        def take(given: str) -> str | None:
            words = shlex.split(given)
            if not words:
                return None
            folder = Path(self.context.folder) if self.context.folder is not None else None
            self.context.later(lambda: start(words, folder), self._started)
            return "starting ..."

        row = self.chosen()
        given = "mlxprune.yaml"
        if row is not None and row.standing in ENDED_EARLY:
            given = again(row.folder).removeprefix("mlxprune run ")  # it goes on
        return Ask(
            "Start a run from a configuration, or go on with one",
            given,
            take,
            "a file; --dir FOLDER and --set a.b=value as you like; it outlives this window",
        )

    def _started(self, told: str) -> None:
        self.looked = 0.0
        self.context.tell(told)

    def clicked(self, pane: str, x: int, y: int) -> None:
        if pane != "Run" and y >= 1:
            self.at = min(self.top + y - 1, max(0, len(self.shown()) - 1))

    def copied(self) -> str | None:
        row = self.chosen()
        return str(row.folder) if row is not None else None


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
