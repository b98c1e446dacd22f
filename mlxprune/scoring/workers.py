"""Workers: score many documents in spawned processes, unit by unit, so that a kill loses little.

A unit is near 2 MB of text in canonical order, a function of the data alone; batches never cross
one. On the CPU every worker has one thread, so any number of workers gives the same bytes.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import queue
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.errors import RunError, WorkerDied
from mlxprune.execution.control import Control
from mlxprune.files import PARTIAL, finish_file
from mlxprune.model.architecture import flops_per_token, read_model_config
from mlxprune.model.weights import load_model
from mlxprune.run.event_kinds import Progress
from mlxprune.run.events import EventLog
from mlxprune.scoring.histogram import LossHistogram
from mlxprune.scoring.nll import score_documents
from mlxprune.scoring.windows import WindowPolicy, windows_of
from mlxprune.tokenization.token_file import open_tokens

UNIT_BYTES = 2_000_000
HISTOGRAM_SECONDS = 2.0  # between two of them: they are larger than other events


def work_units(sizes: np.ndarray) -> list[tuple[int, int]]:
    """Work units [first, stop) over documents of these byte sizes: a function of the data alone."""
    ends = np.cumsum(sizes, dtype=np.int64)
    result = []
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        stop = int(np.searchsorted(ends, before + UNIT_BYTES, side="left")) + 1
        result.append((first, min(stop, len(sizes))))
        first = result[-1][1]
    return result


@dataclass(frozen=True)
class ScoringTask:
    """What a worker needs to score units: paths and numbers, so that it can be sent to it."""

    model: str
    tokens: str
    parts: str
    documents: str  # .npy of document numbers
    policy: WindowPolicy
    units: list[tuple[int, int]]


# Over 60 lines: one loop over processes and units, whose order is what keeps a kill cheap.
def score_units(
    task: ScoringTask,
    corpus: Corpus,
    workers: int,
    log: EventLog,
    control: Control,
    what: str | None = None,
) -> None:
    """Score every unit that has no part yet, in spawned processes, reporting as they come.

    ``corpus`` holds the documents' domains and sizes, ``what`` names the model in the events. A
    worker that dies without a word (MLX aborts the process when memory runs out) is a WorkerDied.
    """
    from mlxprune.engine import backend

    parts = Path(task.parts)
    parts.mkdir(parents=True, exist_ok=True)
    todo = [n for n in range(len(task.units)) if not part_path(parts, n).exists()]
    documents = np.load(task.documents, mmap_mode="r")
    lengths = open_tokens(Path(task.tokens)).lengths(documents)
    sizes = [int(lengths[a:b].sum()) for a, b in task.units]
    done = sum(sizes) - sum(sizes[n] for n in todo)
    index = corpus.index[documents]
    tally = LossHistogram(index["domain"].astype(np.int64), corpus.domains, index["bytes"])
    progress = _Progress(log, "score", what, sum(sizes), done, tally)
    for number in sorted(set(range(len(task.units))) - set(todo)):
        tally.add(np.arange(*task.units[number]), np.load(part_path(parts, number)))
    if not todo:
        return
    rows, _ = windows_of(lengths[:: 1 + len(lengths) // 1000], task.policy)
    typical = float((rows.stop - rows.first).mean()) if len(rows) else task.policy.context
    model_config = read_model_config(Path(task.model))
    progress.flops = flops_per_token(model_config, round(typical))
    progress.peak = backend.peak_flops()  # before the workers take the machine
    context = multiprocessing.get_context("spawn")
    go = context.Event()  # cleared while the run is paused
    go.set()
    inbox: Any = context.Queue()
    outbox: Any = context.Queue()
    for number in todo:
        inbox.put(number)
    count = progress.processes = min(workers, len(todo))
    for _ in range(count):
        inbox.put(None)
    pool = [
        context.Process(target=_worker, args=(task, inbox, outbox, go, os.getpid()), daemon=True)
        for _ in range(count)
    ]
    for process in pool:
        process.start()
    try:
        left = len(todo)
        while left:
            if control.pending():
                go.clear()
                control.check()
                go.set()
            try:
                kind, number, value = outbox.get(timeout=0.2)
            except queue.Empty:
                control.check()  # a signal to the whole group ends the workers too
                _refuse_dead(pool, left)
                continue
            if kind == "no space":
                raise OSError(errno.ENOSPC, str(value))
            if kind == "error":
                raise RunError(f"scoring failed: {value}", f"unit {number}", "see the message")
            if kind == "slots":
                progress.slots(number, *value)
            elif kind == "rows":
                progress.rows(task.units[number][0], *value)
            else:
                left -= 1
                progress.unit(sizes[number])
        progress.histogram(force=True)
        for process in pool:
            process.join(timeout=10)
    finally:
        for process in pool:
            if process.is_alive():
                process.terminate()
        for process in pool:
            process.join(timeout=10)


def usual_workers() -> int:
    """Processes that score where the configuration names no number."""
    from mlxprune.engine import backend

    return backend.detect().score_workers


def _refuse_dead(pool: list[Any], left: int) -> None:
    dead = [p.exitcode for p in pool if p.exitcode not in (None, 0)]
    if dead or (left and all(p.exitcode is not None for p in pool)):
        raise WorkerDied(
            f"a scoring process died (exit code {dead[0] if dead else 0})",
            "score; most often the memory ran out",
            "set score.batch_tokens lower and run again: what is scored stays",
        )


class _Progress:
    """Tokens done, rate, time left, padding and the histogram, as events."""

    def __init__(
        self,
        log: EventLog,
        stage: str,
        what: str | None,
        total: int,
        done: int,
        tally: LossHistogram,
    ) -> None:
        self.log, self.stage, self.what = log, stage, what
        self.total, self.done = total, done
        self.began, self.before = time.monotonic(), done
        self.running = 0.0  # tokens of units under way
        self.all_slots, self.real = 0, 0
        self.waited, self.memory, self.processes = 0.0, 0, 1
        self.flops, self.peak = 0.0, 1.0
        self.tally, self.drawn = tally, 0.0

    def slots(self, real: int, slots: int, waited: float, memory: int) -> None:
        self.running += real
        self.waited += waited
        self.memory = max(self.memory, memory)
        self.real += real
        self.all_slots += slots
        self._emit()

    def rows(self, first: int, slots: np.ndarray, rows: np.ndarray) -> None:
        """Documents of a unit that are complete."""
        self.tally.add(first + slots, rows)
        self.histogram()

    def unit(self, size: int) -> None:
        self.done += size
        self.running = max(0.0, self.running - size)
        self._emit()

    def histogram(self, force: bool = False) -> None:
        if force or time.monotonic() - self.drawn >= HISTOGRAM_SECONDS:
            self.drawn = time.monotonic()
            self.log.emit(self.stage, self.tally.event(), force=True)

    def _emit(self) -> None:
        done = min(self.total, self.done + int(self.running))
        elapsed = time.monotonic() - self.began
        rate = (done - self.before) / elapsed if elapsed > 0 else 0.0
        self.log.emit(
            self.stage,
            Progress(
                done=done,
                total=self.total,
                unit="tokens",
                what=self.what,
                rate=rate,
                eta_seconds=(self.total - done) / rate if rate else None,
                padding_share=1 - self.real / self.all_slots if self.all_slots else None,
                input_wait_share=self.waited / (elapsed * self.processes) if elapsed > 0 else None,
                utilisation=rate * self.flops / self.peak,
                peak_memory_bytes=self.memory,
            ),
        )


def part_path(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npy"


def _worker(task: ScoringTask, inbox: Any, outbox: Any, go: Any, parent: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    number = -1
    try:
        from mlxprune.engine import backend

        device = backend.detect()
        if device.name == "cpu":
            backend.set_threads(1)  # the processes share the cores
        backend.limit_cache()
        model, _ = load_model(Path(task.model))
        tokens = open_tokens(Path(task.tokens))
        documents = np.load(task.documents, mmap_mode="r")
        while (number := inbox.get()) is not None:
            first, stop = task.units[number]
            positions = np.zeros((2, task.policy.context))

            def between(scored: int, slots: int, waited: float) -> None:
                while True:
                    if os.getppid() != parent:
                        os._exit(1)  # the run died; its parts are complete as they are
                    if go.wait(timeout=0.5):
                        break
                outbox.put(("slots", scored, (slots, waited, backend.peak_memory())))

            def finished(slots: np.ndarray, rows: np.ndarray) -> None:
                outbox.put(("rows", number, (slots, rows)))

            chosen = np.asarray(documents[first:stop])
            part = score_documents(model, tokens, chosen, task.policy, between, positions, finished)
            path = part_path(Path(task.parts), number)
            partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
            for target, array in ((path.with_suffix(".positions.npy"), positions), (path, part)):
                with partial.open("wb") as file:
                    np.save(file, array)
                finish_file(partial, target)
            outbox.put(("unit", number, None))
    except OSError as error:
        kind = "no space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "error"
        outbox.put((kind, number, f"{type(error).__name__}: {error}"))
    except Exception as error:
        outbox.put(("error", number, f"{type(error).__name__}: {error}"))


def joined_parts(parts: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of all units as one: PART rows, and float64 [2, context] sums by position."""
    paths = [part_path(parts, number) for number in range(count)]
    rows = np.concatenate([np.load(path) for path in paths])
    positions: np.ndarray = sum(np.load(path.with_suffix(".positions.npy")) for path in paths)
    return rows, positions
