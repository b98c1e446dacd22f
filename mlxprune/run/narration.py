"""Sentences: a run in plain words, one a change, for screen readers and logs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

from mlxprune.errors import one_line
from mlxprune.run import forecast
from mlxprune.run.event_kinds import Event, Progress, TrainStep
from mlxprune.run.events import EventReader
from mlxprune.run.folder import RunFolder
from mlxprune.run.phrases import sentence_of
from mlxprune.run.state import RunState
from mlxprune.run.status import LIVE, Standing, standing_of
from mlxprune.units import duration, short_count

LEAST_SECONDS = 5.0  # between two sentences on a stage under way
EVERY_SECONDS = 60.0  # of a stage under way, besides every tenth of it


class Narrator:
    """What is worth a sentence, from events and the state after them."""

    def __init__(self) -> None:
        self.tenth: dict[str, int] = {}
        self.spoken: dict[str, float] = {}

    def tell(self, event: Event, state: RunState) -> str | None:
        """A sentence, or None for what no one would be told."""
        if isinstance(event, Progress | TrainStep):
            sentence = self._progress(event, state)
        else:
            sentence = sentence_of(event)
        return one_line(sentence) if sentence else None

    def _progress(self, event: Progress | TrainStep, state: RunState) -> str | None:
        name, stage = event.stage or "", state.stage(event.stage)
        done, total = stage.done or 0, stage.total or 0
        if not total:
            return None
        tenth, now = int(10 * done / total), event.t or 0.0
        quiet = now - self.spoken.get(name, 0.0)
        if quiet < (EVERY_SECONDS if tenth == self.tenth.get(name) else LEAST_SECONDS):
            return None
        self.tenth[name], self.spoken[name] = tenth, now
        left = forecast.left(stage)
        sentence = f"Stage {name} is {100 * done / total:.0f} percent done"
        if stage.rate:
            sentence += f", {short_count(stage.rate)} {stage.unit or ''} a second"
        if isinstance(event, TrainStep) and event.loss is not None:
            sentence += f", loss {event.loss:.3f}"
        return sentence + (f", {duration(left)} left." if left is not None else ".")


def standing_sentence(run: RunFolder, state: RunState) -> str:
    """How a run stands, and when it will be done, in one sentence."""
    now = time.time()
    standing = standing_of(run, state, now)
    busy = forecast.running_stage(state)
    is_over = standing in (Standing.FAILED, Standing.CRASHED)
    sentence = f"Run {state.run or run.path.name} {'has' if is_over else 'is'} {standing}"
    if busy and standing != Standing.CRASHED:
        sentence += f", in stage {busy}"
        left = forecast.finish(state, now).likely
        sentence += f", about {duration(left)} to the end" if left is not None else ""
    if standing == Standing.CRASHED:
        command = shlex.join(["mlxprune", "run", str(run.config), "--dir", str(run.path)])
        sentence += f"; to go on: {command}"
    return one_line(sentence) + "."


def follow_sentences(run: RunFolder, poll_seconds: float = 0.25) -> Iterator[str]:
    """Sentences from here on, until the run ends or its process is gone."""
    reader, teller = EventReader(run.events), Narrator()
    reader.to_end()
    yield standing_sentence(run, reader.state)
    trouble = None
    while standing_of(run, reader.state, time.time()) in LIVE:
        for event in reader.read(poll_seconds):
            sentence = teller.tell(event, reader.state)
            if sentence:
                yield sentence
        if reader.trouble and reader.trouble != trouble:
            trouble = reader.trouble
            yield f"Trouble: {trouble}."
        time.sleep(poll_seconds)
    for event in reader.read(1.0):
        sentence = teller.tell(event, reader.state)
        if sentence:
            yield sentence
    if reader.state.state in ("running", "paused"):
        yield standing_sentence(run, reader.state)
