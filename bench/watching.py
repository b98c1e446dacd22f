"""What the app costs and how fast it answers: on a real terminal, on logs that it can meet.

    python bench/watching.py            about two minutes
    python bench/watching.py --short    half a minute, fewer events

Prints each figure beside what it should stay under. CPU is of one core, of the app's process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pty
import select
import statistics
import struct
import sys
import tempfile
import time
from decimal import Decimal
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import msgpack
import numpy as np
import psutil

from mlxprune.config.slices import Slice
from mlxprune.files import write_json
from mlxprune.run import lock
from mlxprune.run.event_kinds import (
    Device,
    Heartbeat,
    Histogram,
    Progress,
    RunStart,
    StageStart,
)
from mlxprune.run.events import SEGMENT_BYTES, EventLog, log_segments
from mlxprune.run.fold import fold_event
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState
from mlxprune.run.wire import event_of
from mlxprune.scoring.histogram import HISTOGRAM_EDGES
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.selector import apply_slice
from mlxprune_tui.app import SCREENS, Monitor
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import GLYPHS
from mlxprune_tui.drawing.histogram import Layers
from mlxprune_tui.readers import run_view, slice_preview

CELLS, ROWS = 120, 40
HIST = {
    "edges": HISTOGRAM_EDGES.tolist(),
    "documents": [7] * 160,
    "tokens": [900] * 160,
    "bytes": [4000] * 160,
    "domains": {
        f"domain-{n}": {"first": 20, "counts": [3] * 60, "nll": 9e5, "tokens": 3e5, "bytes": 1e6}
        for n in range(20)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    print(f"{'figure':<58} {'seen':>10}   should be")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["MLXPRUNE_CONFIG_HOME"] = str(place / "settings")
        opening(place / "long", 100_000 if short else 1_000_000)
        streaming(place / "live", 5.0 if short else 20.0)
        day(place / "day", 2.0 if short else 24.0)
    what_if(100_000 if short else 1_000_000)


def tell(what: str, seen: float, unit: str, limit: float | None) -> None:
    told = f"under {limit:g} {unit}" if limit is not None else ""
    flag = "" if limit is None or seen < limit else "   NOT"
    print(f"{what:<58} {seen:10.3f}   {told or unit}{flag}", flush=True)


def event(n: int, t: float) -> dict[str, Any]:
    """The n-th event of a training that reports as often as it may."""
    told = {"v": 1, "seq": n + 1, "t": t, "writer": "bench", "stage": "final"}
    if n % 50 == 49:
        return {**told, "kind": "evaluation", "model": f"final/high-50-s{n // 250_000}",
                "targets": n * 4096, "bits_per_byte": 3.0, "rank_correlation": 0.99}  # fmt: skip
    if n % 10 == 9:
        return {**told, "kind": "device", "memory_bytes": 1 << 30, "memory_used": 1 << 33,
                "memory_total": 1 << 34, "disk_free": 1 << 36}  # fmt: skip
    return {
        **told, "kind": "train.step", "model": f"final/high-50-s{n // 250_000}",
        "what": f"final/high-50-s{n // 250_000}, 1 of 4", "step": n, "targets": n * 4096,
        "done": n * 4096, "total": 5_000_000_000, "unit": "tokens", "model_targets": 1_100_000_000,
        "new_targets": 4096, "loss": 3.0 + 1.0 / (n + 1), "learning_rate": 1e-3,
        "gradient_norm": 0.5, "rate": 40_000.0 + n % 7, "eta_seconds": 3600.0,
        "peak_memory_bytes": 1 << 30, "utilisation": 0.4, "input_wait_share": 0.01, "pass": 1,
    }  # fmt: skip


def begin(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    write_json(run.run_json, {"name": "bench"})
    return run


def write_log(run: RunFolder, count: int) -> int:
    """Segments of 64 MiB, each beginning with a snapshot, as a run writes them."""
    state = RunState()
    first = {"v": 1, "seq": 0, "t": 1.0, "writer": "bench", "stage": None, "kind": "run.start",
             "run": "bench"}  # fmt: skip
    fold_event(state, event_of(first))
    fold_event(state, event_of({**first, "kind": "stage.start", "stage": "final"}))
    fold_event(state, event_of({**first, "kind": "histogram", "stage": "score", **HIST}))
    number, out, size = 0, None, SEGMENT_BYTES + 1
    run.events.mkdir()
    n = 0
    # The worst that a log can be: its last segment is nearly full.
    while n < count or size < 0.97 * SEGMENT_BYTES:
        if size > SEGMENT_BYTES:
            number += 1
            out = (run.events / f"{number:06d}-bench.msgpack").open("wb")
            size = out.write(msgpack.packb({**first, "kind": "snapshot", "state": state.as_json()}))
        record = event(n, 1e9 + n / 2)
        fold_event(state, event_of(record))
        assert out is not None
        size += out.write(msgpack.packb(record))
        n += 1
    assert out is not None
    out.close()
    return n


def opening(folder: Path, count: int) -> None:
    """A long log, from nothing to the last event, and what the longest slice held up the keys."""
    run = begin(folder)
    count = write_log(run, count)
    size = sum(p.stat().st_size for p in log_segments(run.events))
    began = time.perf_counter()
    one, slices = run_view.View(run.path), []
    while not one.loaded:
        before = time.perf_counter()
        one.read(0.02)
        slices.append(time.perf_counter() - before)
    seconds = time.perf_counter() - began
    what = f"open a log of {count:,} events, {size / 1e6:.0f} MB"
    tell(what, seconds, "s", 3.0)
    tell("  longest time that it held up the keys", 1e3 * max(slices), "ms", 50.0)


class Terminal:
    """The app in a process of its own on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self.child, self.descriptor = pty.fork()
        if self.child == 0:
            os.environ |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
            os.execv(sys.executable, [sys.executable, "-m", "mlxprune", "tui", str(folder)])
        ioctl(self.descriptor, TIOCSWINSZ, struct.pack("HHHH", ROWS, CELLS, 0, 0))
        self.process = psutil.Process(self.child)
        self.written = 0

    def read(self, seconds: float, wanted: bytes | None = None) -> bytes:
        """What it draws, for so long or until it draws what is wanted."""
        end, seen = time.monotonic() + seconds, b""
        while time.monotonic() < end and (wanted is None or wanted not in seen):
            if select.select([self.descriptor], [], [], 0.005)[0]:
                try:
                    part = os.read(self.descriptor, 1 << 16)
                except OSError:  # it has ended
                    break
                self.written += len(part)
                seen = (seen + part)[-(1 << 20) :]
        return seen

    def close(self) -> None:
        os.write(self.descriptor, b"q")
        self.read(2.0)
        self.process.kill()
        os.waitpid(self.child, 0)
        os.close(self.descriptor)


def streaming(folder: Path, seconds: float) -> None:
    """CPU while a run reports as often as it may, and while nothing happens; keys meanwhile."""
    run = begin(folder)
    log = EventLog(run.events)
    log.emit(None, RunStart(run="bench"))
    log.emit("score", Histogram(**HIST))
    log.emit("final", StageStart(why="bench"))
    with lock.locked(run):
        shown = Terminal(run.path)
        began = time.perf_counter()
        assert b"RUNNING" in shown.read(20.0, b"RUNNING")
        tell("from the command to its first picture", time.perf_counter() - began, "s", None)
        shown.read(2.0)
        number = 0

        def emit() -> None:
            nonlocal number
            record = event(number * 10, time.time())
            log.emit(record["stage"], event_of(record), force=True)
            log.emit("final", Progress(done=number, total=10_000, rate=1.0), force=True)
            log.emit("score", Histogram(**HIST), force=True)
            log.emit(None, Device(memory_bytes=1 << 30), force=True)
            log.emit(None, Heartbeat(), force=True)
            number += 1

        for screen in (b"1", b"2", b"4"):
            os.write(shown.descriptor, screen)
            shown.read(1.0)
            spent, bytes_before = cpu(shown.process), shown.written
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                emit()
                shown.read(0.5)
            wall = time.monotonic() - began
            share = 100 * (cpu(shown.process) - spent) / wall
            name = {b"1": "overview", b"2": "scoring", b"4": "training"}[screen]
            tell(f"CPU at full rate, 4 Hz, {name}", share, "% of a core", 5.0)
            rate = (shown.written - bytes_before) / wall / 1e3
            tell(f"  what it draws, {name}", rate, "kB/s", 40.0)
        keys(shown, emit, 40 if seconds < 10 else 200)
        log.close()
        os.write(shown.descriptor, b"1")
        shown.read(3.0)
        spent, began = cpu(shown.process), time.monotonic()
        shown.read(seconds)
        share = 100 * (cpu(shown.process) - spent) / (time.monotonic() - began)
        tell("CPU while the run says nothing", share, "% of a core", 1.0)
        shown.close()


def keys(shown: Terminal, emit: Any, count: int) -> None:
    """From a key to its picture, while events stream: screens are changed and looked for."""
    wanted = {b"1": b"Stages", b"2": b"Log-perplexity", b"4": b"Passes"}
    taken = []
    for n in range(count):
        if n % 3 == 0:
            emit()
        key = [b"2", b"4", b"1"][n % 3]
        began = time.perf_counter()
        os.write(shown.descriptor, key)
        seen = shown.read(2.0, wanted[key])
        assert wanted[key] in seen, key
        taken.append(1e3 * (time.perf_counter() - began))
        shown.read(0.05)
    tell("a key to its picture while events stream, median", statistics.median(taken), "ms", None)
    tell("  95th percentile", statistics.quantiles(taken, n=20)[-1], "ms", 50.0)


def cpu(process: psutil.Process) -> float:
    told = process.cpu_times()
    return float(told.user + told.system)


def day(folder: Path, hours: float) -> None:
    """Memory of the app that draws every screen while the events of a day pass by."""
    run = begin(folder)
    run.events.mkdir()
    path = run.events / "000001-bench.msgpack"
    first = {"v": 1, "seq": 0, "t": 1.0, "writer": "bench", "stage": None}
    state = RunState()
    fold_event(state, event_of({**first, "kind": "run.start", "run": "bench"}))
    fold_event(state, event_of({**first, "kind": "histogram", "stage": "score", **HIST}))
    path.write_bytes(msgpack.packb({**first, "kind": "snapshot", "state": state.as_json()}))
    total = int(hours * 3600 * 4)  # four events a second
    sizes: list[int] = []

    async def pass_by() -> None:
        app = Monitor(run.path, remember=False)
        async with app.run_test(size=(CELLS, ROWS)) as pilot:
            with path.open("ab") as out:
                for begin_at in range(0, total, 4000):
                    some = range(begin_at, min(begin_at + 4000, total))
                    out.write(b"".join(msgpack.packb(event(n, n / 4)) for n in some))
                    out.flush()
                    assert app.session.view is not None
                    app.session.view.read(10.0)
                    for name in SCREENS:
                        app.go(name)
                        await pilot.pause()
                        app.page.renew()
                        await pilot.pause()
                    sizes.append(psutil.Process().memory_info().rss)

    asyncio.run(pass_by())
    early = sizes[max(2, len(sizes) // 8)]  # every screen has been seen
    growth = (sizes[-1] - early) / 1e6
    tell(f"memory after {hours:g} h of events, against an eighth of it", growth, "MB", 10.0)


def what_if(count: int) -> None:
    """Every key of the what-if on a large pool, from the key to its picture."""
    generator = np.random.default_rng()
    tokens = generator.integers(1, 2000, count)
    scores = Scores(
        generator.integers(0, 2**63, count).astype(np.uint64),
        generator.normal(4, 1, count).clip(0.1) * tokens,
        tokens,
        tokens * 4,
        domain=generator.integers(0, 20, count),
        domains=tuple(f"domain-{n}" for n in range(20)),
    )
    choice = Slice(criterion="medium", rate=Decimal("0.5"), unit="tokens")
    one = slice_preview.Table(scores, tokens, 0, choice)
    taken, direct = [], []
    for by in ("corpus", "domain", ("domain", "length")):
        one.sorted(choice.model_copy(update={"by": by}))
    for n in range(60):
        told: dict[str, Any] = {"rate": Decimal(n % 50 + 25) / 100, "unit": "tokens"}
        told |= {"criterion": ("low", "medium", "high")[n % 3]}
        told |= {"by": ("corpus", "domain", ("domain", "length"))[n // 20]}
        asked = Slice(**told)
        began = time.perf_counter()
        kept = one.ask(asked)
        columns = histogram.columns_of(CELLS)
        low, high = float(one.edges[0]), float(one.edges[-1])
        heights = histogram.rebinned(one.heights(asked), one.edges, low, high, columns)
        layers = Layers(heights, (heights > 0).astype(float))
        histogram.histogram(layers, low, high, CELLS, ROWS, GLYPHS["braille"])
        taken.append(1e3 * (time.perf_counter() - began))
        if n % 20 == 0:
            began = time.perf_counter()
            mask = apply_slice(scores, asked, 0, tokens).mask
            direct.append(1e3 * (time.perf_counter() - began))
            assert int(mask.sum()) == kept.all_documents
    what = f"a key of what-if, {count:,} documents, 20 domains: 95th"
    tell(what, statistics.quantiles(taken, n=20)[-1], "ms", 50.0)
    ratio = statistics.median(direct) / statistics.median(taken)
    tell("  mlxprune.selection, which it equals, takes so many times that", ratio, "times", None)


if __name__ == "__main__":
    main()
