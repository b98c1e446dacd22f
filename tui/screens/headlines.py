"""Headlines: the sentence that answers the moment of a run."""

from __future__ import annotations

import math

from mlxprune.experiment.comparisons import best_slice
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import Verdict
from mlxprune.run import forecast
from mlxprune.run.phrases import memorising_words
from mlxprune.run.status import Standing
from mlxprune.units import ago, short_duration
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import run_comparison, study_grid
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens.phrases import finish_words, paused_since
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline


def headline_of(view: View, session: Session) -> Headline:
    """What answers the moment."""
    if view.gone:
        return Headline(
            f"The folder of {line_of(view.name)} is gone.",
            "What is shown is the last that was read of it.", "bad",
        )  # fmt: skip
    ended = _ended(view)
    return ended if ended is not None else _at_work(view, session)


def _ended(view: View) -> Headline | None:
    """Of a run that ended before its end; None of any other."""
    state = view.state
    if state.error is not None and not view.live:
        asked = view.standing == Standing.STOPPED
        fix = line_of(str(state.error.fix or ""))
        said = (
            f"The run {'was stopped' if asked else 'failed'}: {line_of(str(state.error.problem))}"
        )
        return Headline(said, fix, "warn" if asked else "bad", "R goes on: finished work is kept")
    if view.standing == Standing.CRASHED:
        return Headline(
            "The process of this run is dead, without an error. Finished work is kept.",
            f"To go on: {line_of(view.again)}", "bad", "R goes on",
        )  # fmt: skip
    if view.standing == Standing.UNKNOWN:
        return Headline(
            "No process holds this run, and its log does not say how it ended.",
            f"It is damaged, or the copy of a run that worked. To go on: {line_of(view.again)}",
            "bad",
        )  # fmt: skip
    if view.standing == Standing.STOPPED:
        return Headline("The run was stopped.", f"To go on: {view.again}", "warn", "R goes on")
    return None


def _at_work(view: View, session: Session) -> Headline:
    state = view.state
    result = run_comparison.present_result(view)
    if not view.live and result is not None and result.conclusion is not None:
        return _conclusion(result)
    if view.standing == Standing.PAUSED:
        since = paused_since(view)
        told = f" for {ago(view.now() - since)}" if since is not None else ""
        return Headline(f"Paused{told}. A checkpoint is saved.", "", "warn", "R lets it go on")
    busy = forecast.running_stage(state)
    if busy is None:
        return Headline(f"{line_of(view.name)} is {view.standing}.")
    stage = state.stages[busy]
    done, total = stage.done or 0, stage.total or 0
    share = f" {100 * done / total:.0f} %" if total else ""
    left = forecast.left(stage)
    ends = f", {short_duration(left)} left of this stage" if left is not None else ""
    behind = f"The whole run: {finish_words(view)}."
    memorising = [m for m in state.memorising if view.is_present(m)]
    if busy == "score":
        return Headline(f"Scoring{share}{ends}. {edge_words(session)}", behind, "", "2 watch it")
    if busy in ("reference", "final"):
        said = _training_words(view, busy, share, ends)
        if memorising:
            facts = state.memorising[memorising[-1]]
            return Headline(
                said, f"Memorising: {line_of(memorising_words(memorising[-1], facts))}. {behind}",
                "bad", "4 why",
            )  # fmt: skip
        return Headline(said, behind, "", "4 watch it")
    return Headline(f"Stage {line_of(busy)}{share}{ends}.", behind)


def _conclusion(result: StudyResult) -> Headline:
    told, best = result.conclusion, best_slice(result.comparisons)
    assert told is not None
    tone = (
        {Verdict.BETTER: "good", Verdict.WORSE: "bad"}.get(best.verdict, "warn") if best else "warn"
    )
    behind = " ".join(map(line_of, told.reasons))
    step = f"{told.next_step} y copies it" if told.command and told.next_step else "5 why, o report"
    return Headline(line_of(told.lead), behind, tone, line_of(step))


def edge_words(session: Session) -> str:
    """Where the slice would begin by now, and how sure that is."""
    shown = session.slice
    band = shown.band() if shown is not None else None
    choice = shown.choice if shown is not None else None
    if band is None or choice is None:
        return ""
    where = {"high": f"from {band.low:.2f} nats up", "low": f"up to {band.high:.2f} nats"}.get(
        choice.criterion, f"from {band.low:.2f} to {band.high:.2f} nats"
    )
    if band.sure or band.settled is None:
        return f"{choice.label} keeps {where}."
    return f"{choice.label} would keep {where}, settled to ±{band.settled:.2f}."


def _training_words(view: View, busy: str, share: str, ends: str) -> str:
    cells = study_grid.grid(view)
    training = next((c for c in cells if c.state == "training"), None)
    finals = [c for c in cells if c.kind != "reference"]
    if busy == "reference" or training is None:
        return (
            f"Training the {'reference' if busy == 'reference' else 'final models'}{share}{ends}."
        )
    done = sum(c.state == "done" for c in finals)
    passes = ""
    if training.pass_number is not None and (training.passes or 0) > 1:
        passes = f", pass {training.pass_number} of {math.ceil(training.passes or 0)}"
    seed = f", seed {training.seed}" if training.seed is not None else ""
    return f"{line_of(training.arm)}{seed}{passes}: {done} of {len(finals)} models trained{ends}."
