"""What ``mlxprune run`` prints while it works: one reader of the events among others.

On a terminal a table of the stages is redrawn in place; elsewhere a line every ten seconds.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from mlxprune.commands.stage_table import StageTable
from mlxprune.errors import MlxpruneError, one_line
from mlxprune.run import forecast
from mlxprune.run.event_kinds import (
    Event,
    Progress,
    RunEnd,
    StageEnd,
    StageStart,
    StageStatus,
    TrainStep,
    Wire,
)
from mlxprune.run.folder import RunFolder
from mlxprune.run.phrases import console_line, memorising_words
from mlxprune.run.state import RunState, StageState
from mlxprune.run.status import Standing, standing_of, status_word
from mlxprune.units import duration, short_count

if TYPE_CHECKING:
    from mlxprune.planning.plan import Fit, Plan
    from mlxprune.planning.power_forecast import PowerForecast

PLAIN_SECONDS = 10.0
WELL_SECONDS = 5.0
CHANGES_SHOWN = 3


def byte_progress(what: str) -> Callable[[int, int], None]:
    """A line on a terminal that is redrawn with bytes done, in all, and the time left; nothing
    elsewhere. It is gone when all is done."""
    console, began, drawn = Console(), time.monotonic(), 0.0

    def said(done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if not console.live or (now - drawn < 0.2 and done < total):
            return
        drawn = now
        left = (now - began) * (total - done) / max(done, 1)
        if done >= total:
            console.clear()
        elif now - began > 1.0:
            console.progress(
                f"{what}: {done / 1e9:.1f} of {total / 1e9:.1f} GB, {duration(left)} left"
            )

    return said


class Console:
    """Renders events to ``out``; holds only what is on the screen. ``first``: a line above all
    others, once work goes on, so that a mistake in the input is told alone. ``stages``: on a
    terminal as a table."""

    def __init__(self, out: TextIO | None = None, first: str = "", stages: bool = False) -> None:
        self.out = out or sys.stderr
        self.first = first
        self.live = self.out.isatty()
        self.drawn = False
        self.last = time.monotonic()
        self.table = StageTable(self.out) if stages and self.live else None

    def __call__(self, event: Event, state: RunState) -> None:
        if self.first and _goes_well(event, state):
            first, self.first = self.first, ""
            self.line(first)
        if self.table is not None:
            self._draw(self.table, event, state)
        elif isinstance(event, Progress | TrainStep):
            loss = event.loss if isinstance(event, TrainStep) else None
            self.progress(progress_line(str(event.stage), state.stage(event.stage), loss))
        elif line := console_line(event):
            self.line(line)

    def _draw(self, table: StageTable, event: Event, state: RunState) -> None:
        if isinstance(event, RunEnd):
            if table.is_open:
                table.show(state, at_once=True)
            table.close()
            return
        if not isinstance(event, StageEnd) and (line := console_line(event)):
            self.line(line)  # how a stage ended stands in its row
        if table.is_open or isinstance(event, StageEnd) or _goes_well(event, state):
            table.show(state, at_once=isinstance(event, StageStart | StageEnd))

    def progress(self, text: str) -> None:
        now = time.monotonic()
        if self.live:
            width = max(20, shutil.get_terminal_size().columns - 1)
            self.out.write(f"\r\x1b[2K{text[:width]}")
            self.out.flush()
            self.drawn = True
        elif now - self.last >= PLAIN_SECONDS:
            self.last = now
            print(text, file=self.out, flush=True)

    def line(self, text: str) -> None:
        if self.table is not None:
            self.table.say(text)
            return
        self.clear()
        print(text, file=self.out, flush=True)
        self.last = time.monotonic()

    def clear(self) -> None:
        if self.drawn:
            self.out.write("\r\x1b[2K")
            self.drawn = False


def _goes_well(event: Event, state: RunState) -> bool:
    """A stage ended, or has worked for seconds: most mistakes in the input are behind."""
    if isinstance(event, Progress | TrainStep):
        now, since = event.t or 0.0, state.stage(event.stage).started
        return since is not None and now - since > WELL_SECONDS
    return isinstance(event, StageEnd)


def progress_line(name: str, stage: StageState, loss: float | None = None) -> str:
    """``reference   41 %  412k / 1.0M tokens, 6.1k/s, loss 5.12, 1 min 20 s left``."""
    done, total = stage.done or 0, stage.total or 0
    share = f"{100 * done / total:3.0f} %" if total else "    "
    unit = one_line(stage.unit or "")
    parts = [f"{short_count(done)} / {short_count(total)} {unit}".rstrip()]
    if stage.rate:
        parts.append(f"{short_count(stage.rate)}/s{_how_well(stage)}")
    if loss is not None:
        parts.append(f"loss {loss:.3f}")
    if stage.eta_seconds is not None:
        parts.append(f"{duration(stage.eta_seconds)} left")
    what = f"  [{one_line(stage.what)}]" if stage.what else ""
    return f"{one_line(name):<10} {share}  {', '.join(parts)}{what}"


def counting(name: str, unit: str, quiet: bool) -> Callable[[int, int], None]:
    """A function of (done, total) that draws the line of work outside a run."""
    if quiet:
        return lambda done, total: None
    console, began = Console(), time.monotonic()

    def report(done: int, total: int) -> None:
        elapsed = time.monotonic() - began
        rate = done / elapsed if elapsed > 0 else None
        left = (total - done) / rate if rate else None
        stage = StageState(done=done, total=total, unit=unit, rate=rate, eta_seconds=left)
        console.progress(progress_line(name, stage))
        if done >= total:
            console.clear()

    return report


def _how_well(stage: StageState) -> str:
    """What share of the machine's matrix products that is, and what went on padding."""
    shares = ((stage.utilisation, "of peak"), (stage.padding_share, "padding"))
    words = [f"{100 * s:.0f} % {label}" for s, label in shares if isinstance(s, float)]
    return f" ({', '.join(words)})" if words else ""


def event_line(event: Wire) -> str:
    """One event for people: time, stage, kind, and its short fields."""
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(float(event.get("t") or 0)))
    except (ValueError, TypeError, OverflowError, OSError):  # of a stranger's log
        clock = "--:--:--"
    hidden = {"v", "seq", "t", "writer", "stage", "kind", "config", "state", "result", "versions"}
    fields = []
    for key, value in event.items():
        if key in hidden or isinstance(value, list | dict) or value is None:
            continue
        shown = f"{value:.4g}" if isinstance(value, float) else one_line(value)
        fields.append(f"{one_line(key)}={shown}")
    stage, kind = (one_line(event.get(name) or "-") for name in ("stage", "kind"))
    return f"{clock} {stage:<10} {kind:<11} {' '.join(fields)}"


def print_plan(plan: Plan) -> None:
    """What will happen, what it takes, and the warnings."""
    from mlxprune.experiment.document_account import account_sentence

    corpus = plan.corpus
    exact = "" if corpus.exact else " (estimated from some rows of each file)"
    print(f"corpus     {corpus.documents:,} documents, {corpus.bytes / 1e6:,.1f} MB{exact}")
    domains = sorted(corpus.domains.items(), key=lambda d: -d[1])
    shown = ", ".join(f"{one_line(d)} {n:,}" for d, n in domains[:10])
    print(f"domains    {shown}{', ...' if len(domains) > 10 else ''}")
    print(f"rows       {account_sentence(plan.account)}")
    parts = ", ".join(f"{name} {short_count(n)}" for name, n in plan.parts.items())
    print(f"tokens     about {short_count(plan.tokens)}: {parts}")
    width = max([len(name) for name in plan.arms], default=4) + 2
    print(f"{'arms':<{width + 11}} {'unique':>8} {'targets':>8} {'passes':>7} {'worth':>8}  seeds")
    for name, arm in plan.arms.items():
        print(
            f"           {name:<{width}} {short_count(arm.unique_tokens):>7} "
            f"{short_count(arm.targets):>8} {arm.passes:>7.2f} "
            f"{short_count(arm.effective_tokens):>8}  {arm.seeds}"
        )
    for name, why in plan.left_out.items():
        print(f"           {name} is left out: {why}")
    if plan.task_tokens:
        print(f"tasks      about {short_count(plan.task_tokens)} tokens for every model")
    print(f"compute    {plan.flops:.2e} FLOPs")
    memory, disk = plan.memory_bytes / 1e9, plan.disk_bytes / 1e9
    given = plan.memory_given / 1e9
    print(f"memory     about {memory:.1f} of {given:.1f} GB, disk {disk:.1f} GB")
    if plan.seconds is not None:
        stages = [(name, s) for name, s in (plan.stage_seconds or {}).items() if s]
        print(f"time       {', '.join(f'{name} {duration(s)}' for name, s in stages)}")
        _print_fit(plan.fits, plan.seconds)
    _print_power(plan.decides)
    for warning in plan.warnings:
        print(f"warning    {one_line(warning)}")


def _print_power(found: PowerForecast) -> None:
    if found.difference is None:
        print("decides    nothing: one seed gives no verdict")
        return
    slices = "" if found.slices == 1 else f" of {found.slices} slices"
    size = f"{found.difference:.3f} bits per byte"
    print(f"decides    a difference{slices} of {size} with {found.seeds} seeds, in 80 % of studies")
    noise = f"noise of seeds {found.seed_sd:.3f}, of documents {found.document_sd:.3f}"
    print(f"           ({noise}: {found.noise_from})")


def _print_fit(fit: Fit, seconds: float) -> None:
    label = f"fits {fit.hours:g} h"
    print(f"{label:<10} {'yes' if fit.fits else 'no'}: {duration(seconds)}")
    for change in fit.changes[:CHANGES_SHOWN]:
        settings = " ".join(f"--set '{setting}'" for setting in change.set)
        print(f"           fits with {settings}: {duration(change.seconds)}")
        print(f"             at the price of {change.loses}")
    if not fit.fits and not fit.changes:
        print("           nothing that is known makes it fit: give it more hours, or less data")


def print_status(run: RunFolder, state: RunState, now: float) -> None:
    """``models`` of earlier configurations of the folder are left out."""
    from mlxprune.config.loading import load_config
    from mlxprune.experiment.arms import present_models

    models = None
    with contextlib.suppress(MlxpruneError, OSError, ValueError):
        models = present_models(load_config(run.config))
    standing = status_word(standing_of(run, state, now), state)
    print(f"{one_line(state.run or '?')}: {standing}  ({one_line(run.path)})")
    for name, stage in state.stages.items():
        if stage.state == StageStatus.RUNNING:
            print(f"  {progress_line(name, stage)}")
        else:
            took = f", {duration(stage.seconds)}" if stage.seconds is not None else ""
            rate = ""
            if stage.utilisation:
                rate = f", {short_count(stage.rate or 0)}/s{_how_well(stage)}"
            print(f"  {name:<10} {stage.state}{took}{rate}")
    for model, told in state.memorising.items():
        if models is None or not model.startswith("final/") or model in models:
            print(f"  memorising: {one_line(memorising_words(model, told))}")
    for warning in state.warnings[-5:]:
        print(f"  warning: {one_line(warning.message)}")
    if state.error is not None:
        print(f"  error: {one_line(state.error.problem)}")
        print(f"  fix: {one_line(state.error.fix)}")
    if standing == Standing.CRASHED:
        print(f"  go on: mlxprune run {run.path}/config.yaml --dir {run.path}")


def print_runs(runs: list[tuple[RunFolder, RunState]], now: float) -> None:
    if not runs:
        print("no runs here")
    for run, state in runs:
        standing = status_word(standing_of(run, state, now), state)
        ended = sum(
            stage.state in (StageStatus.DONE, StageStatus.REUSED) for stage in state.stages.values()
        )
        stage = forecast.running_stage(state) or f"{ended} of {len(state.stages)} stages"
        print(f"{one_line(state.run or '?'):<24} {standing:<9} {stage:<14} {run.path}")
