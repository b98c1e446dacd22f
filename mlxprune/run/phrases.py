"""Phrases: what an event says to people, in the four lengths that are shown, each in one table.

``console_line`` is for the terminal of the run, ``words_of`` for a list of events, ``news_of`` for
one who was away, ``sentence_of`` for screen readers and logs. None: nothing is said. But for the
first, texts of the data stand in them as they are: who prints them makes them one line.
"""

from __future__ import annotations

from mlxprune.errors import one_line
from mlxprune.run.event_kinds import (
    Assessed,
    Checkpoint,
    Command,
    Damaged,
    Diverged,
    Evaluation,
    Event,
    Memorising,
    Paused,
    Reason,
    Restarted,
    Resumed,
    RolledBack,
    RunEnd,
    RunStart,
    Slept,
    StageEnd,
    StageStart,
    Warned,
    Wire,
)
from mlxprune.run.state import MemorisingFacts
from mlxprune.units import duration, short_count, short_duration

SUMMARY_COUNTS = (
    "documents", "tokens", "kept_documents", "kept_tokens", "vocab_size", "passes", "built",
    "found_elsewhere",
)  # fmt: skip


def console_line(event: Event) -> str | None:
    stage = one_line(event.stage or "")
    match event:
        case StageStart(why=why):
            return None if why == Reason.FIRST else f"{stage:<10} {one_line(why)}"
        case StageEnd():
            told = summary_words(event.summary)
            ended = f"{stage:<10} {one_line(event.state)}, {duration(event.seconds)}"
            return f"{ended}: {told}" if told else ended
        case Warned():
            return f"warning: {one_line(event.message)}"
        case Command():
            return f"command {one_line(event.verb)}"
        case Paused() | Resumed():
            return event.kind
        case Slept(seconds=seconds):
            return f"the machine slept for {duration(seconds)}"
        case Memorising() if event.is_new:
            return f"memorising: {one_line(memorising_words(event.model, event))}"
    return None


def memorising_words(model: str | None, told: Memorising | MemorisingFacts) -> str:
    """Which model, since when, and how far it is above its best."""
    bits, best = told.bits_per_byte or 0.0, told.best or 0.0
    return (
        f"{model} in pass {told.pass_number}: validation {bits:.4f}, above the {best:.4f} of pass "
        f"{told.best_pass}"
    )


def words_of(event: Event) -> str:
    stage = event.stage or ""
    match event:
        case Warned():
            return f"{stage}: {event.message}"
        case Restarted():
            return f"{event.what} was begun again: {event.ending}"
        case Damaged():
            return f"{', '.join((event.files or [])[:3])} damaged: {event.then}"
        case Diverged():
            return f"{event.model} {event.why}"
        case RolledBack():
            return f"{event.model} went back from step {event.step} to {event.back_to}"
        case Slept(seconds=seconds):
            return f"the machine slept for {duration(seconds)}"
        case StageStart():
            return f"{stage} begins: {event.why}"
        case StageEnd(seconds=took):
            return f"{stage} {event.state}" + (f", {short_duration(took)}" if took else "")
        case Evaluation(bits_per_byte=bits):
            return f"validation {bits:.4f} of {event.model}" if bits else "validation"
        case Memorising():
            return f"memorising: {memorising_words(event.model, event)}"
        case Assessed(macro=macro):
            return f"test {macro:.4f} of {event.model}" if macro else "assessed"
        case Checkpoint():
            return f"checkpoint of {event.model}, step {event.step}"
        case Command():
            return f"asked to {event.verb}"
        case RunStart():
            return "the run starts"
        case RunEnd():
            return f"the run ended: {event.status}"
    return event.kind


def news_of(event: Event) -> str | None:
    match event:
        case StageEnd():
            return f"{event.stage} {event.state}"
        case Warned():
            return f"warning: {event.message}"
        case RunStart():
            return "the run was started again"
        case RunEnd():
            return f"the run ended: {event.status}"
        case Paused():
            return "the run was paused"
        case Resumed():
            return "the run went on"
        case Memorising():
            return f"memorising: {memorising_words(event.model, event)}"
    return None


def sentence_of(event: Event) -> str | None:
    stage = event.stage or ""
    match event:
        case RunStart():
            return f"Run {event.run} starts on {event.device}."
        case StageStart():
            return f"Stage {stage} begins, because: {event.why}."
        case StageEnd(seconds=took):
            after = f" after {duration(took)}" if took and event.state == "done" else ""
            return f"Stage {stage} is {event.state}{after}."
        case Evaluation(bits_per_byte=bits):
            return f"Validation of {event.model}: {bits:.4f} bits per byte." if bits else None
        case Memorising() if event.is_new:
            return f"Memorising: {memorising_words(event.model, event)}."
        case Assessed(macro=macro):
            return f"Test of {event.model}: {macro:.4f} bits per byte." if macro else None
        case Warned():
            return f"Warning from {stage or 'the run'}: {event.message}."
        case Command():
            return f"The run was asked to {event.verb}."
        case Paused():
            return "The run is paused."
        case Resumed():
            return "The run goes on."
        case Slept(seconds=seconds):
            return f"The machine slept for {duration(seconds)}."
        case RunEnd(error=error):
            why = f": {error.problem}. To mend it: {error.fix}" if error else ""
            verb = "has" if event.status == "failed" else "is"
            return f"The run {verb} {event.status}{why}."
    return None


def summary_words(summary: Wire | None) -> str:
    """What a stage made, in some figures."""
    words = []
    for key in SUMMARY_COUNTS:
        value = (summary or {}).get(key)
        if isinstance(value, int | float) and (value or key != "found_elsewhere"):
            shown = f"{value:.2f}" if isinstance(value, float) else short_count(value)
            words.append(f"{key.replace('_', ' ')} {shown}")
    loss, bits = ((summary or {}).get(key) for key in ("mean_nll", "validation_bpb"))
    if isinstance(loss, float):
        words.append(f"mean loss {loss:.3f} nats")
    if isinstance(bits, float):
        words.append(f"validation {bits:.4f} bits per byte")
    return ", ".join(words)
