"""Endings: what it means that a child process failed or died, by what it or MLX said last."""

from __future__ import annotations

import re
import signal
from enum import StrEnum

from mlxprune.errors import DeviceError, one_line

TAIL_BYTES = 4096


class Ending(StrEnum):
    """How the work of a child ended too early."""

    MEMORY = "out of memory"
    INTERACTIVITY = "the screen had to wait"
    TIMEOUT = "the GPU took too long"
    DEVICE = "the device failed"
    DIED = "died without a word"
    HUNG = "did not answer"


# Texts of MLX 0.25 to 0.32 (mlx/backend/metal, cuda and common), and of the system.
_SAID = {
    Ending.INTERACTIVITY: r"Impacting Interactivity|ImpactingInteractivity",
    Ending.TIMEOUT: r"GPU Timeout|CallbackErrorTimeout|GPU Hang",
    Ending.MEMORY: (
        r"\[metal::malloc\]|\[malloc\]|\[malloc_or_wait\]|Insufficient Memory|ErrorOutOfMemory"
        r"|failed: out of memory|std::bad_alloc|MemoryError|Unable to allocate|Killed: 9"
    ),
    Ending.DEVICE: r"\[METAL\]|CUDA|cuda\w+\(.*\) failed|cuda\w+ failed|cudnn|cublas",
}


def ending_of(text: str, code: int | None = None) -> Ending | None:
    """By its last words and its exit code; None: an error that is no device's, a bug of ours."""
    for ending, pattern in _SAID.items():
        if re.search(pattern, text, re.IGNORECASE):
            return ending
    if code == -signal.SIGKILL:  # the system's answer to a lack of memory
        return Ending.MEMORY
    return Ending.DIED if code is not None else None


def device_error(ending: Ending, said: str, stage: str, times: int) -> DeviceError:
    """What people read when it has happened ``times`` times without progress."""
    problem = f"{stage} ended {times} times in a row without progress: {ending}"
    if said:
        problem += f" ({one_line(said)[:160]})"
    return DeviceError(problem, f"{stage}; what is done is kept", FIXES[ending])


FIXES = {
    Ending.MEMORY: "close other programs, set `memory` lower, or take a smaller model or context; "
    "then run again",
    Ending.INTERACTIVITY: "let the display sleep (pmset displaysleepnow), or set "
    "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 in the environment; then run again",
    Ending.TIMEOUT: "let the display sleep (pmset displaysleepnow), or set "
    "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 in the environment; then run again",
    Ending.DEVICE: "restart the machine, update its system, and run again: it goes on from there",
    Ending.HUNG: "run again: it goes on from there; if it stays, mlxprune doctor --selftest",
    Ending.DIED: "set `memory` lower and run again; if it stays, mlxprune doctor --selftest",
}
