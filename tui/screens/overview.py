"""Overview: the pipeline as a picture, when it will be done, and whether it can be left alone."""

from __future__ import annotations

import time
from typing import Any

from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device, RunEnd, StageStatus, Warned
from mlxprune.run.folder import STAGES
from mlxprune.run.phrases import words_of
from mlxprune.run.state import RunState, StageState
from mlxprune.run.status import Standing
from mlxprune.units import ago, clock, count, duration, size
from mlxprune_tui.drawing.cells import Line, bar, pad, sparkline
from mlxprune_tui.drawing.text import fit, line_of, wrap
from mlxprune_tui.readers import run_view
from mlxprune_tui.screens import run_phrases
from mlxprune_tui.screens.page import TALL, WIDE, Layout, Page, Pane, Split, empty, say

SCREEN_OF = {
    "reference": "training", "score": "scoring", "selection": "selection", "final": "training",
    "evaluation": "compare", "report": "compare", "corpus": "documents", "split": "documents",
    "tokenizer": "documents", "tokens": "documents",
}  # fmt: skip
BROKEN = (Standing.CRASHED, Standing.PAUSED, Standing.UNKNOWN)


class Overview(Page):
    name = "overview"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.stage: int | None = None  # None: the one that works
        self.since_hidden = False

    def layout(self, cells: int, rows: int) -> Layout:
        view = self.context.view
        if view is None or view.state.started is None:
            folder = self.context.folder
            return empty(
                "No run has written a word here yet.",
                "",
                "mlxprune demo                      a corpus, a run and a report in minutes",
                "mlxprune init DATA...              writes a configuration for your data",
                "mlxprune run mlxprune.yaml         runs it; mlxprune tui runs/NAME looks on",
                "",
                f"Runs under {line_of(str(folder))}: press 7" if folder else "",
            )
        pipeline = Pane("Pipeline", self._pipeline)
        now = Pane(self._now_title(), self._now)
        leave = Pane("Safe to leave?", self.draw_leaving)
        stage = Pane(f"Stage {self._chosen()}", self._stage)
        told = Pane(*self.told_pane())
        troubled = view.standing in run_phrases.ENDED_EARLY
        if cells >= WIDE:
            left = Split(False, [(len(STAGES) + 2, pipeline), (1.0, stage)])
            if troubled:
                right = Split(False, [(14, now), (1.0, told)])
            else:
                right = Split(False, [(9 if rows >= TALL else 6, now), (8, leave), (1.0, told)])
            return Split(True, [(0.54, left), (0.46, right)])
        parts: list[tuple[float, Layout]] = [(len(STAGES) + 2, pipeline)]
        if troubled:
            below = rows - len(STAGES) - 2
            parts += [(0.5, now), (0.5, told)] if below >= 16 else [(1.0, now)]
        elif rows >= TALL:
            parts += [(6, now), (8, leave), (1.0, told)]
        elif rows - len(STAGES) - 2 >= 8:
            parts += [(4, now), (1.0, Split(True, [(0.5, leave), (0.5, told)]))]
        else:
            parts += [(1.0, Split(True, [(0.5, now), (0.5, told)]))]
        return Split(False, parts)

    # --- panes

    def _chosen(self) -> str:
        if self.stage is not None:
            return STAGES[self.stage]
        busy = self._busy()
        return busy if busy in STAGES else self._last()

    def _busy(self) -> str | None:
        return forecast.running_stage(self._state)

    def _last(self) -> str:
        stages = self._state.stages
        touched = [n for n in STAGES if stages[n].state != StageStatus.PENDING]
        return touched[-1] if touched else STAGES[0]

    @property
    def _state(self) -> RunState:
        assert self.context.view is not None
        return self.context.view.state

    def _pipeline(self, cells: int, rows: int) -> list[Line]:
        return [self.draw_stage_row(name, cells) for name in STAGES][:rows]

    def draw_stage_row(self, name: str, cells: int) -> Line:
        stage = self._state.stages[name]
        state: str = stage.state
        view = self.context.view
        if state == "running" and view is not None and view.standing in BROKEN:
            state = view.standing
        glyphs = self.context.glyphs
        marked = glyphs.arrow if name == self._chosen() else " "
        line: Line = [
            (marked, "focus"),
            (glyphs.states.get(state, "?") + " ", run_phrases.STATE_STYLE.get(state, "dim")),
            (f"{name:<11}", "bold" if stage.state == StageStatus.RUNNING else ""),
        ]
        took = stage.seconds
        right = clock(took) if took is not None else ""
        if stage.state == StageStatus.PENDING and view is not None and view.live:
            likely = forecast.expected(self._state).get(name)
            right = f"about {clock(likely)}" if likely is not None else ""
        done, total = stage.done or 0, stage.total or 0
        begun = stage.state in (StageStatus.STOPPED, StageStatus.FAILED) and total
        if stage.state == StageStatus.RUNNING or begun:
            share = done / total if total else None
            left = forecast.left(stage)
            right = f"{clock(left)} left" if left is not None else "starting"
            right = state if state in BROKEN or begun else right
            room = cells - 14 - 6 - len(right) - 2
            if share is not None and room >= 6:
                line += [(bar(share, room, glyphs), "good"), (f" {100 * share:3.0f}% ", "bold")]
            else:
                line += [(fit(line_of(str(stage.why or "")), max(0, room + 6)), "dim")]
        else:
            line.append((fit(self._facts(name, stage), max(0, cells - 14 - len(right) - 1)), "dim"))
        used = sum(len(t) for t, _ in line)
        return [*line, (" " * max(1, cells - used - len(right)), ""), (right, "")]

    def _facts(self, name: str, stage: StageState) -> str:
        """A finished or waiting stage in some words."""
        state, told = stage.state, stage.summary or {}
        words: list[str] = [state] if state in ("failed", "stopped") else []
        if state == "reused":
            words.append("reused: unchanged")
        for key, what in (
            ("documents", "docs"), ("tokens", "tokens"), ("vocab_size", "words"),
            ("kept_documents", "kept"), ("found_elsewhere", "found"),
        ):  # fmt: skip
            if isinstance(told.get(key), int) and (told[key] or key != "found_elsewhere"):
                words.append(f"{count(told[key])} {what}")
        if isinstance(told.get("pieces"), int) and isinstance(told.get("built"), int):
            words.append(f"{told['built']} of {told['pieces']} built")
        if isinstance(told.get("validation_bpb"), float):
            words.append(f"{told['validation_bpb']:.3f} bits a byte")
        if isinstance(told.get("mean_nll"), float):
            words.append(f"mean {told['mean_nll']:.2f} nats")
        if state == "pending":
            flops = self._state.forecast.get(name)
            words.append(f"{flops:.1e} FLOPs" if flops else "")
        return ", ".join(w for w in words if w)

    def _now_title(self) -> str:
        return f"Now: {self._busy() or self.context.view.standing}" if self.context.view else "Now"

    def _now(self, cells: int, rows: int) -> list[Line]:
        state, view = self._state, self.context.view
        assert view is not None
        busy = self._busy()
        stage = state.stages.get(busy or "", StageState())
        machine = state.machine or Device()
        unit = line_of(str(stage.unit or ""))
        rate = f"{count(stage.rate)}/s " if stage.rate else "- "
        shown = sparkline(stage.rates["rate"], cells - 10 - len(rate),
                          self.context.glyphs)  # fmt: skip
        done = f"{count(stage.done)} / {count(stage.total)} {unit}"
        what = line_of(str(stage.what or ""))
        pairs = [
            ("ends", *run_phrases.finish_words(view)),
            ("done", f"{done}  {what}" if busy else "-", ""),
            ("rate", rate + shown, ""),
            ("memory", self._memory(machine), ""),
            ("use", self._use(stage, machine), ""),
            ("device", line_of(str(state.device or "not known")), ""),
            ("lag", ago(view.lag) if view.lag is not None and view.live else "-", ""),
        ]
        if state.error:
            error = state.error
            asked = view.standing == "stopped"
            problem = line_of(str(error.problem))
            pairs = [
                ("stopped" if asked else "error", problem, "bold" if asked else "bad"),
                ("fix", line_of(str(error.fix)), ""),
                ("go on", line_of(view.again), "bold"),
                *pairs[3:],
            ]
        elif view.standing == "crashed":
            pairs = [
                ("crashed", "its process is dead, without an error; finished work is kept", "bad"),
                ("go on", line_of(view.again), "bold"),
                ("last", self._last_word(), ""),
                *pairs[3:],
            ]
        elif view.standing == "unknown":
            told = (
                "no process holds this run, and its log does not say how it ended: it is damaged, "
            )
            pairs = [
                ("unknown", told + "or the copy of a run that worked", "bad"),
                ("go on", line_of(view.again), "bold"),
                *pairs[3:],
            ]
        return say(pairs, cells)[:rows]

    def _last_word(self) -> str:
        moment = self._state.updated
        clocked = time.strftime("%H:%M:%S", time.localtime(moment)) if moment else "-"
        recent = self._state.recent
        return f"{clocked}: {line_of(words_of(recent[-1]))}" if recent else clocked

    def _memory(self, machine: Device) -> str:
        used, total = machine.memory_used, machine.memory_total
        told = f"run {size(machine.memory_bytes)}, largest process "
        told += size(self._state.peak_memory_bytes or None)
        if total:
            told += f"; machine {size(used)} of {size(total)}, swap {size(machine.swap_used)}"
        return told

    def _use(self, stage: StageState, machine: Device) -> str:
        words = []
        if isinstance(stage.utilisation, float):
            words.append(f"{100 * stage.utilisation:.0f} % of peak")
        if machine.cpu_share is not None:
            words.append(f"CPU {100 * machine.cpu_share:.0f} %")
        heat = machine.heat
        words.append(f"{heat:.0f} degrees" if heat is not None else "heat not measured")
        return ", ".join(words)

    def draw_leaving(self, cells: int, rows: int) -> list[Line]:
        view = self.context.view
        assert view is not None
        if not view.live:
            told = "nothing is left to watch" if view.standing == "done" else "nothing is at work"
            return [pad([(f"It is {view.standing}: {told}.", "dim")], cells)]
        checks = view.leaving()
        lines = [_check(c.good, c.name, c.told, cells) for c in checks if c.good is False]
        for good in (True, None):
            alike = [c for c in checks if c.good is good]
            if rows >= len(checks):
                lines += [_check(good, c.name, c.told, cells) for c in alike]
            elif alike:  # where there is little room, what is wrong in full, the rest by name
                lines.append(_check(good, ", ".join(c.name for c in alike), "", cells))
        return lines[:rows]

    def _stage(self, cells: int, rows: int) -> list[Line]:
        name = self._chosen()
        stage = self._state.stages[name]
        view = self.context.view
        assert view is not None
        broken = stage.state == StageStatus.RUNNING and view.standing in BROKEN
        pairs: list[tuple[str, str, str]] = [
            ("state", view.standing if broken else stage.state, "")
        ]
        if stage.why:
            pairs.append(("why", line_of(str(stage.why)), ""))
        if stage.seconds is not None:
            pairs.append(("took", duration(stage.seconds), ""))
        if stage.built_seconds is not None and stage.state == StageStatus.REUSED:
            pairs.append(("built in", duration(stage.built_seconds), ""))
        pairs += [
            (line_of(key.replace("_", " ")), _plain(value), "")
            for key, value in sorted((stage.summary or {}).items())
            if key != "report"  # a path that a copy of the run does not have
        ]
        return say(pairs[:rows], cells)

    def told_pane(self) -> tuple[str, Any]:
        view = self.context.view
        assert view is not None
        seen = self.context.seen
        if view.troubles():
            return "Trouble", lambda cells, rows: _sentences(view.troubles(), cells, rows, "warn")
        news = run_view.since(view.state, seen) if seen is not None else []
        if news and not self.since_hidden and seen is not None:
            title = f"Since you left, {ago(view.now() - seen)} ago (l: close)"
            return title, lambda cells, rows: _sentences(news, cells, rows)
        return "Events, newest first", self.draw_events

    def draw_events(self, cells: int, rows: int) -> list[Line]:
        lines: list[Line] = []
        for event in reversed(self._state.recent):
            if len(lines) >= rows:
                break
            moment = time.strftime("%H:%M:%S", time.localtime(event.t or 0.0))
            style = "warn" if isinstance(event, Warned) else ""
            style = "bold" if isinstance(event, RunEnd) else style
            lines.append(pad([(f"{moment} ", "dim"), (line_of(words_of(event)), style)], cells))
        return lines

    # --- keys

    def do_up(self) -> None:
        self._move(-1)

    def do_down(self) -> None:
        self._move(1)

    def _move(self, step: int) -> None:
        if self.context.view is not None:
            at = STAGES.index(self._chosen())
            self.stage = min(len(STAGES) - 1, max(0, at + step))

    def opened(self) -> str:
        """The screen of the stage in hand."""
        return SCREEN_OF[self._chosen()]

    def do_since(self) -> str | None:
        self.since_hidden = not self.since_hidden
        if self.context.seen is None:
            return "this is the first look at this run"
        return None

    def clicked(self, pane: str, x: int, y: int) -> None:
        if pane == "Pipeline" and 0 <= y < len(STAGES):
            self.stage = y

    def copied(self) -> str | None:
        return self.context.view.again if self.context.view else None


def _check(good: bool | None, name: str, told: str, cells: int) -> Line:
    mark, style = {True: ("ok", "good"), False: ("NO", "bad"), None: ("?", "warn")}[good]
    return pad([(f"{mark:<3}", style), (f"{name:<11}", "head"), (told, "")], cells)


def _sentences(texts: list[str], cells: int, rows: int, style: str = "") -> list[Line]:
    lines = [line for text in texts for line in wrap(line_of(text), cells, 3)]
    return [[(line, style)] for line in lines[:rows]]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else line_of(str(value))
