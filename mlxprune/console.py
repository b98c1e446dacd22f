"""The lines that ``mlxprune run`` prints while it works: one reader of the events among others.

On a terminal the running stage has one line that is redrawn; elsewhere a line every ten seconds.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from mlxprune.errors import one_line
from mlxprune.runs import duration

PLAIN_SECONDS = 10.0


class Console:
    """Renders events to ``out``; holds only what is on the screen."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.live = self.out.isatty()
        self.drawn = False
        self.last = 0.0

    def __call__(self, event: dict[str, Any], state: dict[str, Any]) -> None:
        kind, stage = event["kind"], event.get("stage")
        if kind == "stage.start":
            self.line(f"{stage:<10} {event['why']}")
        elif kind == "stage.end":
            took = duration(event["seconds"])
            self.line(f"{stage:<10} {event['state']}, {took}{_summary(event.get('summary'))}")
        elif kind == "warning":
            self.line(f"warning: {one_line(event['message'])}")
        elif kind in ("paused", "resumed", "command"):
            self.line(f"{kind}{' ' + event['verb'] if kind == 'command' else ''}")
        elif kind in ("progress", "train.step"):
            self.progress(progress_line(str(stage), state["stages"][stage], event))

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
        self.clear()
        print(text, file=self.out, flush=True)
        self.last = time.monotonic()

    def clear(self) -> None:
        if self.drawn:
            self.out.write("\r\x1b[2K")
            self.drawn = False


def progress_line(name: str, stage: dict[str, Any], event: dict[str, Any]) -> str:
    """``reference   41 %  412k / 1.0M tokens, 6.1k/s, loss 5.12, 1 min 20 s left``."""
    done, total = stage.get("done") or 0, stage.get("total") or 0
    share = f"{100 * done / total:3.0f} %" if total else "    "
    parts = [f"{short(done)} / {short(total)} {stage.get('unit') or ''}".rstrip()]
    if stage.get("rate"):
        parts.append(f"{short(stage['rate'])}/s")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.3f}")
    if stage.get("eta_seconds") is not None:
        parts.append(f"{duration(stage['eta_seconds'])} left")
    what = stage.get("what")
    return f"{name:<10} {share}  {', '.join(parts)}{f'  [{what}]' if what else ''}"


def short(number: float) -> str:
    """1234567 -> 1.2M."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f}{suffix}"
    return f"{number:.0f}"


def _summary(summary: dict[str, Any] | None) -> str:
    if not summary:
        return ""
    words = []
    for key in ("documents", "tokens", "kept_documents", "kept_tokens", "vocab_size", "passes"):
        value = summary.get(key)
        if isinstance(value, int | float):
            shown = f"{value:.2f}" if isinstance(value, float) else short(value)
            words.append(f"{key.replace('_', ' ')} {shown}")
    if isinstance(summary.get("mean_nll"), float):
        words.append(f"mean loss {summary['mean_nll']:.3f} nats")
    if isinstance(summary.get("validation_bpb"), float):
        words.append(f"validation {summary['validation_bpb']:.4f} bits per byte")
    return ": " + ", ".join(words) if words else ""
