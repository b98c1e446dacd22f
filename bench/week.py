"""What the log of a week takes: bytes on the disk, memory of who writes it, seconds to open it.

    python bench/week.py [--days 7]

A clock that is not the machine's runs through the days: half of them training, half scoring with
24 domains, at the rates that a run has (train.step and progress twice a second, what came to the
histogram every two seconds, samples of the machine every ten).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mlxprune.run import events
from mlxprune.run.event_kinds import (
    Checkpoint,
    Device,
    Evaluation,
    Heartbeat,
    Progress,
    RunStart,
    StageStart,
    TrainStep,
)
from mlxprune.run.events import EventLog, fold_log, log_bytes, log_segments
from mlxprune.scoring.histogram import LossHistogram
from mlxprune.scoring.nll import PART_DTYPE

DAY = 86_400
MODELS = 20
NOTHING = "import sys, pathlib; from mlxprune.run.events import fold_log; "
OPEN = NOTHING + "fold_log(pathlib.Path(sys.argv[1]))"


class Clock:
    """The time that the log sees."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now


def sample(log: EventLog, n: int) -> None:
    if n % 20 == 0:
        log.emit(None, Heartbeat())
        log.emit(
            None,
            Device(
                memory_bytes=10**9 + n, memory_used=10**10 + 7 * n, memory_total=2 * 10**10,
                swap_used=0, cpu_share=0.9, disk_free=10**11 - n, disk_total=10**12,
                power="plugged", battery=0.9, heat=60.0,
            ),
        )  # fmt: skip


def train(log: EventLog, clock: Clock, steps: int, draw: np.random.Generator) -> None:
    log.emit("final", StageStart(why="was not done before"))
    for n in range(steps):
        clock.now += 0.5
        model = f"final/high-50-s{n * MODELS // steps}"
        loss, norm, rate = (draw.random(3) * (3, 1, 1e5)).tolist()
        log.emit(
            "final",
            TrainStep(
                model=model, what=f"{model}, 3 of {MODELS}", step=n,
                targets=n * 4096, done=n * 4096, total=steps * 4096, unit="tokens",
                model_targets=10**9, new_targets=4096, loss=loss,
                learning_rate=1e-3, gradient_norm=norm, rate=rate, eta_seconds=1e9 / rate,
                peak_memory_bytes=123_456_789, utilisation=rate / 2e5, input_wait_share=0.01,
                pass_number=1,
            ),
        )  # fmt: skip
        sample(log, n)
        if n % 2000 == 0:
            log.emit("final", Checkpoint(model=model, step=n))
            log.emit("final", Evaluation(model=model, targets=n * 4096, bits_per_byte=loss))


def score(log: EventLog, clock: Clock, steps: int, draw: np.random.Generator) -> None:
    log.emit("score", StageStart(why="was not done before"))
    domains = draw.integers(0, 24, 1_000_000)
    tally = LossHistogram(domains, [f"domain {n}" for n in range(24)], np.full(1_000_000, 3000))
    log.emit("score", tally.event(), force=True)
    for n in range(steps):
        clock.now += 0.5
        rate = float(draw.random() * 1e5)
        log.emit(
            "score",
            Progress(
                done=n, total=steps, unit="tokens", what="main", rate=rate,
                eta_seconds=steps / rate,
                padding_share=0.05, input_wait_share=0.01, utilisation=0.4,
                peak_memory_bytes=10**9,
            ),
        )  # fmt: skip
        sample(log, n)
        if n % 4 == 0:  # a unit of some documents is done
            rows = np.zeros(60, PART_DTYPE)
            rows["num_tokens"] = draw.integers(50, 900, 60)
            rows["nll_sum"] = rows["num_tokens"] * draw.normal(4, 1, 60).clip(0.5)
            tally.add(draw.integers(0, 1_000_000, 60), rows)
            added = tally.added()
            if added is not None:
                log.emit("score", added, force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=7)
    days = parser.parse_args().days
    clock, draw = Clock(), np.random.default_rng(0)
    events.time = SimpleNamespace(time=clock.time, monotonic=clock.time)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "events"
        log = EventLog(folder)
        log.emit(None, RunStart(run="week", device="simulated"))
        began = time.monotonic()
        steps = round(days / 2 * DAY / 0.5)
        score(log, clock, steps, draw)
        half = memory()
        train(log, clock, steps, draw)
        log.close()
        size = sum(p.stat().st_size for p in log_segments(folder))
        print(f"{days:g} days, written in {time.monotonic() - began:.0f} s")
        print(
            f"on the disk {size / 1e6:.0f} MB in {len(log_segments(folder))} segments, of "
            f"{log_bytes(folder) / 1e6:.0f} MB"
        )
        print(f"memory of the writer {half:.0f} MB at half of it, {memory():.0f} MB at the end")
        times = []
        for command in (OPEN, NOTHING) * 3:
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", command, str(folder)], check=True)
            times.append(time.monotonic() - began)
        whole, empty = np.median(times[0::2]), np.median(times[1::2])
        print(f"to open it: {whole - empty:.2f} s, beside {empty:.2f} s of imports")
        assert fold_log(folder).as_json() == log.state.as_json()


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )


if __name__ == "__main__":
    main()
