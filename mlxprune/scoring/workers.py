"""Workers: score many documents in child processes, unit by unit, so that a kill loses little.

On the CPU every worker has one thread.
"""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.execution.context import Execution
from mlxprune.execution.crew import share_out
from mlxprune.execution.messages import unpack
from mlxprune.execution.stage import tell_of_damage
from mlxprune.execution.supervision import supervised
from mlxprune.model.architecture import flops_per_token, read_model_config
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.model.weights import load_model
from mlxprune.run.event_kinds import Progress
from mlxprune.run.events import EventLog
from mlxprune.scoring.histogram import HISTOGRAM_EDGES, LossHistogram, bins_of
from mlxprune.scoring.nll import Scorer
from mlxprune.scoring.units import (
    note_smaller_batches,
    part_path,
    part_rows,
    smaller_batches,
    write_part,
)
from mlxprune.scoring.windows import WindowPolicy, windows_of
from mlxprune.tokenization.token_file import open_tokens

SCORE = "mlxprune.scoring.workers:score"  # what a worker does
HISTOGRAM_SECONDS = 2.0  # between two of them, once a stage has run for a minute
FIRST_SECONDS = 0.5  # the same at its beginning
RATE_SECONDS = 20.0  # that a rate is a mean over


@dataclass(frozen=True)
class ScoringOrder:
    """What a worker needs to score units. ``documents`` are in the order of scoring."""

    model: Path
    tokens: Path
    parts: Path
    documents: Path  # .npy of document numbers
    policy: WindowPolicy
    units: list[tuple[int, int]]


@dataclass(frozen=True)
class BatchDone:
    """What a worker tells after every batch. ``in_hand``: its documents under way, by bin."""

    worker: int  # number of its process
    scored: int
    slots: int
    waited: float
    memory: int
    in_hand: np.ndarray


@dataclass(frozen=True)
class UnitDone:
    """What it tells when a unit is safe: the number, and PART rows of its documents."""

    unit: int
    rows: np.ndarray


@dataclass(frozen=True)
class News:
    """One of the two: what a worker tells."""

    batch: BatchDone | None = None
    unit: UnitDone | None = None


def score(link: Any, order: ScoringOrder) -> None:
    """In the child: score units as they are given out. A thread writes what is done, so that the
    device never waits for the disk."""
    from mlxprune.engine import backend

    policy = order.policy
    plan = memory_plan(read_model_config(order.model), policy.context)
    backend.limit_memory(plan.scoring_bytes(policy.batch_tokens))
    model, _ = load_model(order.model)
    documents = np.load(order.documents, mmap_mode="r")

    def between(scored: int, slots: int, waited: float) -> None:
        link.edge()
        counts = np.bincount(bins_of(scorer.in_hand()), minlength=len(HISTOGRAM_EDGES) - 1)
        told = BatchDone(os.getpid(), scored, slots, waited, backend.peak_memory(), counts)
        link.tell(News(batch=told))

    def keep(number: int, rows: np.ndarray, positions: np.ndarray) -> None:
        write_part(order.parts, number, rows, positions)
        link.tell(News(unit=UnitDone(number, rows)))

    scorer, tokens = Scorer(model, policy, between), open_tokens(order.tokens)
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as writer:
        for number in link.items(scorer.drain):
            first, stop = order.units[number]

            def finish(rows: np.ndarray, positions: np.ndarray, number: int = number) -> None:
                writing.append(writer.submit(keep, number, rows, positions))

            scorer.submit(tokens, np.asarray(documents[first:stop]), finish)
            while writing and writing[0].done():
                writing.popleft().result()
        scorer.drain()
        while writing:
            writing.popleft().result()


def score_units(
    execution: Execution,
    order: ScoringOrder,
    corpus: Corpus,
    workers: int,
    what: str | None = None,
) -> None:
    """Score every unit that has no part yet, in child processes, reporting as they come.

    ``corpus`` holds the documents' domains and sizes, ``what`` names the model in the events.
    Workers that die are begun again with smaller batches. Raises DeviceError where that gets
    nowhere, and what a worker raised.
    """
    order.parts.mkdir(parents=True, exist_ok=True)
    changes = smaller_batches(order.parts)
    if changes:
        policy = replace(order.policy, batch_tokens=changes[-1].batch_tokens)
        order = replace(order, policy=policy)
    pool = _Pool(execution, order, corpus, workers, what)

    def smaller() -> str | None:
        policy = pool.order.policy
        halved = max(policy.context, policy.batch_tokens // 2)
        if halved == policy.batch_tokens:
            return None
        note_smaller_batches(order.parts, halved, pool.todo())
        pool.order = replace(pool.order, policy=replace(policy, batch_tokens=halved))
        return f"{halved:,} tokens a batch"

    name = what or order.model.name
    supervised(
        execution.log, "score", f"scoring with {name}", pool.run, lambda: len(pool.todo()), smaller
    )
    pool.progress.histogram(force=True)


def usual_workers() -> int:
    """Processes that score where the configuration names no number."""
    from mlxprune.engine import backend

    return backend.detect().score_workers


class _Pool:
    """Workers on the units of one order, and what is known of its documents."""

    def __init__(
        self,
        execution: Execution,
        order: ScoringOrder,
        corpus: Corpus,
        workers: int,
        what: str | None,
    ) -> None:
        from mlxprune.engine import backend

        self.execution, self.order, self.workers = execution, order, workers
        documents = np.load(order.documents, mmap_mode="r")
        lengths = open_tokens(order.tokens).lengths(documents)
        self.sizes = [int(lengths[a:b].sum()) for a, b in order.units]
        ready = {n: rows for n in range(len(order.units)) if (rows := self._rows(n)) is not None}
        self.done = {*ready}
        damaged = [path for n in self.todo() if (path := part_path(order.parts, n)).exists()]
        if damaged:
            tell_of_damage(execution, "score", damaged, "scored again")
        index = corpus.index[documents]
        tally = LossHistogram(index["domain"].astype(np.int64), corpus.domains, index["bytes"])
        before = sum(self.sizes[n] for n in self.done)
        self.progress = _Progress(execution.log, "score", what, sum(self.sizes), before, tally)
        for number, rows in ready.items():
            tally.add(np.arange(*order.units[number]), rows)
        windows, _ = windows_of(lengths[:: 1 + len(lengths) // 1000], order.policy)
        widths = windows.stop - windows.first
        typical = float(widths.mean()) if len(widths) else order.policy.context
        self.progress.flops = flops_per_token(read_model_config(order.model), round(typical))
        self.progress.peak = backend.peak_flops()

    def _rows(self, number: int) -> np.ndarray | None:
        first, stop = self.order.units[number]
        return part_rows(self.order.parts, number, stop - first)

    def todo(self) -> list[int]:
        return [n for n in range(len(self.order.units)) if n not in self.done]

    def run(self) -> None:
        """Until every unit is done. Raises ChildEnded."""
        left = self.todo()
        if not left:
            return
        self.progress.begun_again()
        self.progress.processes = min(self.workers, len(left))
        share_out(
            self.execution, SCORE, self.order, iter(left), self.progress.processes, self._hear
        )

    def _hear(self, value: bytes) -> bool:
        """Whether a unit is done."""
        news = unpack(value, News)
        if news.batch is not None:
            self.progress.batch(news.batch)
        if news.unit is None:
            return False
        number = news.unit.unit
        self.done.add(number)
        places = np.arange(*self.order.units[number])
        self.progress.unit(self.sizes[number], places, news.unit.rows)
        return True


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
        self.marks: deque[tuple[float, int]] = deque()  # (when, tokens done), of late
        self.first: tuple[float, int] | None = None  # of this attempt: loading is no rate
        self.began = time.monotonic()
        self.running = 0.0  # tokens of units under way
        self.all_slots, self.real = 0, 0
        self.waited, self.memory, self.processes = 0.0, 0, 1
        self.flops, self.peak = 0.0, 1.0
        self.tally, self.drawn = tally, float("-inf")

    def batch(self, done: BatchDone) -> None:
        self.running += done.scored
        self.waited += done.waited
        self.memory = max(self.memory, done.memory)
        self.real += done.scored
        self.all_slots += done.slots
        self.tally.take_in_hand(done.worker, done.in_hand)
        self.histogram()
        self._emit()

    def unit(self, size: int, places: np.ndarray, rows: np.ndarray) -> None:
        """A unit of so many tokens is done; ``places`` of its documents, and their rows."""
        self.tally.add(places, rows)
        self.histogram()
        self.done += size
        self.running = max(0.0, self.running - size)
        self._emit()

    def begun_again(self) -> None:
        """What was under way is lost."""
        self.running = 0.0
        self.tally.hands.clear()
        self.marks.clear()

    def histogram(self, force: bool = False) -> None:
        """All of it at first and at the end, and what is new in between."""
        now = time.monotonic()
        if force:
            self.tally.hands.clear()
        every = min(HISTOGRAM_SECONDS, max(FIRST_SECONDS, (now - self.began) / 30))
        if not force and now - self.drawn < every:
            return
        event = self.tally.event() if force or self.drawn < 0 else self.tally.added()
        self.drawn = now
        if event is not None:
            self.log.emit(self.stage, event, force=True)

    def _emit(self) -> None:
        done = min(self.total, self.done + int(self.running))
        now = time.monotonic()
        elapsed = now - self.began
        self.first = self.first or (now, done)
        self.marks.append((now, done))
        while len(self.marks) > 2 and self.marks[1][0] < now - RATE_SECONDS:
            self.marks.popleft()
        rate = _rate(self.marks[0], (now, done))
        mean = _rate(self.first, (now, done))
        self.log.emit(
            self.stage,
            Progress(
                done=done,
                total=self.total,
                unit="tokens",
                what=self.what,
                rate=rate,
                eta_seconds=(self.total - done) / mean if mean else None,
                padding_share=1 - self.real / self.all_slots if self.all_slots else None,
                input_wait_share=self.waited / (elapsed * self.processes) if elapsed > 0 else None,
                utilisation=(rate or 0.0) * self.flops / self.peak,
                peak_memory_bytes=self.memory,
            ),
        )


def _rate(since: tuple[float, int], now: tuple[float, int]) -> float | None:
    """Tokens a second between two marks; None where they are one."""
    seconds = now[0] - since[0]
    return max(0, now[1] - since[1]) / seconds if seconds > 0 else None
