"""Steering: what a command to a run would do, why it cannot be given, and sending it."""

from __future__ import annotations

from mlxprune.run.folder import send_command
from mlxprune.run.status import ENDED_EARLY
from mlxprune_tui.readers.run_view import View


def why_not(view: View | None, verb: str, read_only: bool) -> str | None:
    """Why a command cannot be given now."""
    if read_only:
        return "this window only looks"
    if view is None:
        return "no run is open"
    if verb == "resume" and view.standing in ENDED_EARLY:
        return None  # it is started again
    if not view.live:
        return f"the run is {view.standing}: no process would hear it"
    if verb == "resume" and view.standing != "paused":
        return "the run is not paused"
    if verb == "pause" and view.standing == "paused":
        return "the run is paused already"
    return None


def consequences(view: View, verb: str, again: bool = False) -> str:
    """What happens on a command, and what of the work is kept; ``again``: a run that has ended is
    started once more."""
    if again:
        return f"It is started in the background and goes on where it ended:\n\n{view.again}"
    kept = {
        "pause": "It saves a checkpoint at the next batch edge, then waits: R lets it go on.",
        "resume": "It goes on where it paused.",
        "checkpoint": "It saves a checkpoint at the next batch edge and goes on.",
        "stop": "It saves a checkpoint at the next batch edge and ends. Finished stages and "
        f"this checkpoint are kept. To go on later:\n\n{view.again}",
    }[verb]
    saved = next(c.told for c in view.leaving() if c.name == "checkpoint")
    where = "\nIt runs on another host: it hears this where it shares the folder." if (
        view.standing == "elsewhere"
    ) else ""  # fmt: skip
    return f"{kept}\n{where}\nlast checkpoint: {saved}"


def send(view: View, verb: str) -> str:
    """Write the command; a sentence on how that went. Raises OSError where it cannot be written."""
    send_command(view.run, verb)
    return f"asked to {verb}; it answers at the next batch edge"
