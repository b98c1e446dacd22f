"""Sentences: a run in plain words, one a change, for screen readers and logs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Any

from mlxprune.errors import one_line
from mlxprune.run import forecast
from mlxprune.run.events import EventReader
from mlxprune.run.folder import RunFolder
from mlxprune.run.status import standing_of
from mlxprune.units import duration, short_count

LEAST_SECONDS = 5.0  # between two sentences on a stage under way
EVERY_SECONDS = 60.0  # of a stage under way, besides every tenth of it


class Narrator:
    """What is worth a sentence, from events and the state after them."""

    def __init__(self) -> None:
        self.tenth: dict[str, int] = {}
        self.spoken: dict[str, float] = {}

    def tell(self, event: dict[str, Any], state: dict[str, Any]) -> str | None:
        """A sentence, or None for what no one would be told."""
        kind, stage = event.get("kind"), str(event.get("stage") or "")
        handler = getattr(self, "_" + str(kind).replace(".", "_"), None)
        found = handler(event, stage, state) if handler else None
        return one_line(found) if found else None

    def _run_start(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return f"Run {event.get('run')} starts on {event.get('device')}."

    def _stage_start(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return f"Stage {stage} begins, because: {event.get('why')}."

    def _stage_end(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        took = event.get("seconds")
        after = f" after {duration(took)}" if took and event.get("state") == "done" else ""
        return f"Stage {stage} is {event.get('state')}{after}."

    def _progress(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str | None:
        told = state["stages"].get(stage, {})
        done, total = told.get("done") or 0, told.get("total") or 0
        if not total:
            return None
        tenth, now = int(10 * done / total), float(event.get("t") or 0)
        quiet = now - self.spoken.get(stage, 0.0)
        if quiet < (EVERY_SECONDS if tenth == self.tenth.get(stage) else LEAST_SECONDS):
            return None
        self.tenth[stage], self.spoken[stage] = tenth, now
        left = forecast.left(told)
        sentence = f"Stage {stage} is {100 * done / total:.0f} percent done"
        if told.get("rate"):
            sentence += f", {short_count(told['rate'])} {told.get('unit') or ''} a second"
        if event.get("loss") is not None:
            sentence += f", loss {event['loss']:.3f}"
        return sentence + (f", {duration(left)} left." if left is not None else ".")

    _train_step = _progress

    def _evaluation(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str | None:
        bits = event.get("bits_per_byte")
        return f"Validation of {event.get('model')}: {bits:.4f} bits per byte." if bits else None

    def _assessed(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str | None:
        macro = event.get("macro")
        return f"Test of {event.get('model')}: {macro:.4f} bits per byte." if macro else None

    def _warning(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return f"Warning from {stage or 'the run'}: {event.get('message')}."

    def _command(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return f"The run was asked to {event.get('verb')}."

    def _paused(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return "The run is paused."

    def _resumed(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        return "The run goes on."

    def _run_end(self, event: dict[str, Any], stage: str, state: dict[str, Any]) -> str:
        error = event.get("error") or {}
        why = f": {error.get('problem')}. To mend it: {error.get('fix')}" if error else ""
        return f"The run is {event.get('status')}{why}."


def standing_sentence(run: RunFolder, state: dict[str, Any]) -> str:
    """How a run stands, and when it will be done, in one sentence."""
    now = time.time()
    told = standing_of(run, state, now)
    busy = forecast.running_stage(state)
    sentence = f"Run {state['run'] or run.path.name} is {told}"
    if busy and told != "crashed":
        sentence += f", in stage {busy}"
        left = forecast.finish(state, now).likely
        sentence += f", about {duration(left)} to the end" if left is not None else ""
    if told == "crashed":
        command = shlex.join(["mlxprune", "run", str(run.config), "--dir", str(run.path)])
        sentence += f"; to go on: {command}"
    return one_line(sentence) + "."


def follow_sentences(run: RunFolder, poll_seconds: float = 0.25) -> Iterator[str]:
    """Sentences from here on, until the run ends or its process is gone."""
    reader, teller = EventReader(run.events), Narrator()
    reader.to_end()
    yield standing_sentence(run, reader.state)
    trouble = None
    while standing_of(run, reader.state, time.time()) in ("running", "paused", "slow", "stale",
                                                            "elsewhere"):  # fmt: skip
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
    if reader.state["state"] in ("running", "paused"):
        yield standing_sentence(run, reader.state)
