"""The lines that ``mlxprune run`` prints while it works: one reader of the events among others.

On a terminal the running stage has one line that is redrawn; elsewhere a line every ten seconds.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from mlxprune.errors import one_line
from mlxprune.units import duration, short_count

PLAIN_SECONDS = 10.0
CHANGES_SHOWN = 3


class Console:
    """Renders events to ``out``; holds only what is on the screen."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.live = self.out.isatty()
        self.drawn = False
        self.last = time.monotonic()

    def __call__(self, event: dict[str, Any], state: dict[str, Any]) -> None:
        kind, stage = event["kind"], event.get("stage")
        if kind == "stage.start":
            if event["why"] != "was not done before":
                self.line(f"{stage:<10} {one_line(event['why'])}")
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
    parts = [f"{short_count(done)} / {short_count(total)} {stage.get('unit') or ''}".rstrip()]
    if stage.get("rate"):
        parts.append(f"{short_count(stage['rate'])}/s{_how_well(stage)}")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.3f}")
    if stage.get("eta_seconds") is not None:
        parts.append(f"{duration(stage['eta_seconds'])} left")
    what = stage.get("what")
    return f"{name:<10} {share}  {', '.join(parts)}{f'  [{what}]' if what else ''}"


def _how_well(stage: dict[str, Any]) -> str:
    """What share of the machine's matrix products that is, and what went on padding."""
    words = [
        f"{100 * stage[key]:.0f} % {label}"
        for key, label in (("utilisation", "of peak"), ("padding_share", "padding"))
        if isinstance(stage.get(key), float)
    ]
    return f" ({', '.join(words)})" if words else ""


def _summary(summary: dict[str, Any] | None) -> str:
    if not summary:
        return ""
    words = []
    for key in (
        "documents", "tokens", "kept_documents", "kept_tokens", "vocab_size", "passes", "built",
        "found_elsewhere",
    ):  # fmt: skip
        value = summary.get(key)
        if isinstance(value, int | float) and (value or key != "found_elsewhere"):
            shown = f"{value:.2f}" if isinstance(value, float) else short_count(value)
            words.append(f"{key.replace('_', ' ')} {shown}")
    if isinstance(summary.get("mean_nll"), float):
        words.append(f"mean loss {summary['mean_nll']:.3f} nats")
    if isinstance(summary.get("validation_bpb"), float):
        words.append(f"validation {summary['validation_bpb']:.4f} bits per byte")
    return ": " + ", ".join(words) if words else ""


def event_line(event: dict[str, Any]) -> str:
    """One event for people: time, stage, kind, and its short fields."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.get("t", 0)))
    hidden = {"v", "seq", "t", "writer", "stage", "kind", "config", "state", "result", "versions"}
    fields = []
    for key, value in event.items():
        if key in hidden or isinstance(value, list | dict) or value is None:
            continue
        shown = f"{value:.4g}" if isinstance(value, float) else one_line(value)
        fields.append(f"{key}={shown}")
    return f"{clock} {event.get('stage') or '-':<10} {event.get('kind'):<11} {' '.join(fields)}"


def print_plan(found: dict[str, Any]) -> None:
    """What will happen, what it takes, and the warnings."""
    corpus, tokens = found["corpus"], found["tokens"]
    exact = "" if corpus["exact"] else " (estimated from the head of each file)"
    print(f"corpus     {corpus['documents']:,} documents, {corpus['bytes'] / 1e6:,.1f} MB{exact}")
    domains = sorted(corpus["domains"].items(), key=lambda d: -d[1])
    shown = ", ".join(f"{one_line(d)} {n:,}" for d, n in domains[:10])
    print(f"domains    {shown}{', ...' if len(domains) > 10 else ''}")
    for reason, count in corpus["skipped"].items():
        print(f"skipped    {count:,} {reason}")
    parts = ", ".join(f"{name} {short_count(n)}" for name, n in found["parts"].items())
    print(f"tokens     about {short_count(tokens)}: {parts}")
    width = max([len(name) for name in found["arms"]], default=4) + 2
    print(f"{'arms':<{width + 11}} {'unique':>8} {'targets':>8} {'passes':>7} {'worth':>8}  seeds")
    for name, arm in found["arms"].items():
        print(
            f"           {name:<{width}} {short_count(arm['unique_tokens']):>7} "
            f"{short_count(arm['targets']):>8} {arm['passes']:>7.2f} "
            f"{short_count(arm['effective_tokens']):>8}  {arm['seeds']}"
        )
    for name, why in found["left_out"].items():
        print(f"           {name} is left out: {why}")
    if found["task_tokens"]:
        print(f"tasks      about {short_count(found['task_tokens'])} tokens for every model")
    print(f"compute    {found['flops']:.2e} FLOPs")
    memory, disk = found["memory_bytes"] / 1e9, found["disk_bytes"] / 1e9
    print(f"memory     about {memory:.1f} GB, disk {disk:.1f} GB")
    if found["seconds"] is not None:
        stages = [(n, s) for n, s in found["stage_seconds"].items() if s]
        print(f"time       {', '.join(f'{n} {duration(s)}' for n, s in stages)}")
        fits = found["fits"]
        answer = "yes" if fits["fits"] else "no"
        label = f"fits {fits['hours']:g} h"
        print(f"{label:<10} {answer}: {duration(found['seconds'])}")
        for change in fits["changes"][:CHANGES_SHOWN]:
            settings = " ".join(f"--set '{setting}'" for setting in change["set"])
            print(f"           fits with {settings}: {duration(change['seconds'])}")
            print(f"             at the price of {change['loses']}")
        if not fits["fits"] and not fits["changes"]:
            print("           nothing that is known makes it fit: give it more hours, or less data")
    for warning in found["warnings"]:
        print(f"warning    {one_line(warning)}")


def print_status(found: dict[str, Any]) -> None:
    print(f"{one_line(found['run'] or '?')}: {found['state']}  ({found['folder']})")
    for name, stage in found["stages"].items():
        if stage["state"] == "running":
            print(f"  {progress_line(name, stage, {})}")
        else:
            took = f", {duration(stage['seconds'])}" if stage.get("seconds") is not None else ""
            rate = (
                f", {short_count(stage['rate'])}/s{_how_well(stage)}"
                if stage.get("utilisation")
                else ""
            )
            print(f"  {name:<10} {stage['state']}{took}{rate}")
    for warning in found["warnings"][-5:]:
        print(f"  warning: {one_line(warning['message'])}")
    if found["error"]:
        print(f"  error: {one_line(found['error']['problem'])}")
        print(f"  fix: {one_line(found['error']['fix'])}")
    if found["state"] == "crashed":
        print(f"  go on: mlxprune run {found['folder']}/config.yaml --dir {found['folder']}")


def print_runs(found: list[dict[str, Any]]) -> None:
    if not found:
        print("no runs here")
    for state in found:
        busy = [n for n, s in state["stages"].items() if s["state"] == "running"]
        ended = sum(s["state"] in ("done", "reused") for s in state["stages"].values())
        stage = busy[0] if busy else f"{ended} of {len(state['stages'])} stages"
        print(
            f"{one_line(state['run'] or '?'):<24} {state['state']:<9} {stage:<14} {state['folder']}"
        )
