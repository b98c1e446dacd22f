"""Scoring: the negative log-likelihood of every document of the pool under the reference.

For x = t_1..t_n every t_i is a target exactly once; the first input is the prefix token. Documents
longer than the context are cut into windows (lm-eval's rolling windows). Rows are sorted into
length buckets, so nearly every slot of a batch is a real token. Work units of near 2 MB of text, in
canonical order, are the grain of resuming; batches never cross one.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import blas, runs
from mlxprune.control import Control
from mlxprune.corpus import Corpus
from mlxprune.errors import RunError, WorkerDied
from mlxprune.events import EventLog
from mlxprune.tokens import Tokens, open_tokens

if TYPE_CHECKING:
    import mlx.nn as nn

VERSION = 1
METRIC_VERSION = 1
UNIT_BYTES = 2_000_000
IN_FLIGHT = 2
LOGITS_SHARE = 4  # the logits of a batch take at most memory / LOGITS_SHARE
PART = np.dtype([("nll_sum", "<f8"), ("num_tokens", "<i8"), ("truncated", "?")])
HISTOGRAM_EDGES = np.linspace(0.0, 16.0, 161)  # mean negative log-likelihood in nats


@dataclass(frozen=True)
class Policy:
    """How documents become rows, and rows batches. Stored before the first batch."""

    context: int
    overlap: int
    long_documents: str
    max_tokens_per_document: int | None
    batch_tokens: int

    def edges(self) -> list[int]:
        """Row lengths that batches are padded to: ten, closer together where texts are short."""
        sixteenths = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
        return sorted({max(1, math.ceil(self.context * s / 16)) for s in sixteenths})


@dataclass(frozen=True)
class Windows:
    """Rows to score: ids[first : stop] of a document are targets, the leading ``skip`` unscored."""

    slot: np.ndarray  # which of the given documents
    first: np.ndarray
    stop: np.ndarray
    skip: np.ndarray

    def __len__(self) -> int:
        return len(self.slot)


def windows(lengths: np.ndarray, policy: Policy) -> tuple[Windows, np.ndarray]:
    """The windows of documents of these lengths, and which documents are scored in part."""
    context, lead = policy.context, policy.overlap
    if lead >= context:
        raise RunError("score.overlap leaves no room for targets", f"context {context}", "lower it")
    slots: list[int] = []
    firsts: list[int] = []
    stops: list[int] = []
    skips: list[int] = []
    truncated = np.zeros(len(lengths), bool)
    limit = policy.max_tokens_per_document
    for slot, length in enumerate(lengths.tolist()):
        cuts = [(0, min(length, context), 0)] if length else []
        if policy.long_documents == "windows":
            for start in range(context, length, context - lead):
                cuts.append((start - lead, min(start + context - lead, length), lead))
        if limit is not None and length > limit:
            allowed = max(1, limit // context)
            if len(cuts) > allowed:
                spaced = np.round(np.linspace(0, len(cuts) - 1, allowed)).astype(int)
                cuts = [cuts[i] for i in spaced]
            if limit < context:
                cuts = [(first, first + limit, skip) for first, _, skip in cuts]
        truncated[slot] = sum(stop - first - skip for first, stop, skip in cuts) < length
        for first, stop, skip in cuts:
            slots.append(slot)
            firsts.append(first)
            stops.append(stop)
            skips.append(skip)
    arrays = (np.array(values, np.int64) for values in (slots, firsts, stops, skips))
    return Windows(*arrays), truncated


def batches(found: Windows, policy: Policy) -> Iterator[tuple[int, np.ndarray]]:
    """(padded length, rows) with rows of one bucket, shortest bucket first."""
    lengths = found.stop - found.first
    edges = np.array(policy.edges())
    bucket = np.searchsorted(edges, lengths, side="left")
    for number, edge in enumerate(edges.tolist()):
        members = np.flatnonzero(bucket == number)
        size = max(1, policy.batch_tokens // edge)
        for start in range(0, len(members), size):
            yield edge, members[start : start + size]


def score_documents(
    model: nn.Module,
    tokens: Tokens,
    documents: np.ndarray,
    policy: Policy,
    between: Callable[[int], None] = lambda slots: None,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """PART rows for the documents, in their order.

    nll_sum is the float64 sum of float32 losses in nats over num_tokens targets. ``between`` is
    called after every batch with its number of slots; ``positions`` float64 [2, context] collects
    the sum of losses and the count at each position of a window.
    """
    import mlx.core as mx

    from mlxprune import backend

    found, truncated = windows(tokens.lengths(documents), policy)
    result = np.zeros(len(documents), PART)
    result["truncated"] = truncated
    waiting: list[tuple[np.ndarray, np.ndarray, mx.array]] = []

    def collect() -> None:
        rows, mask, losses = waiting.pop(0)
        values = np.where(mask, np.array(losses), 0).astype(np.float64)
        slots = found.slot[rows]
        np.add.at(result["nll_sum"], slots, values.sum(axis=1))
        np.add.at(result["num_tokens"], slots, mask.sum(axis=1))
        if positions is not None:
            positions[0, : values.shape[1]] += values.sum(axis=0)
            positions[1, : values.shape[1]] += mask.sum(axis=0)
        between(mask.size)

    for edge, rows in batches(found, policy):
        inputs, targets, mask = _fill(tokens, documents, found, rows, edge)
        losses = backend.cross_entropy(model(mx.array(inputs)), mx.array(targets))
        mx.async_eval(losses)  # type: ignore[no-untyped-call]
        waiting.append((rows, mask, losses))
        if len(waiting) > IN_FLIGHT:
            collect()
    while waiting:
        collect()
    return result


def _fill(
    tokens: Tokens, documents: np.ndarray, found: Windows, rows: np.ndarray, edge: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets int32 [rows, edge], and which targets are scored."""
    inputs = np.full((len(rows), edge), tokens.end, np.int32)
    targets = np.full((len(rows), edge), tokens.end, np.int32)
    mask = np.zeros((len(rows), edge), bool)
    for i, row in enumerate(rows.tolist()):
        ids = tokens.document(int(documents[found.slot[row]]))
        first, stop, skip = int(found.first[row]), int(found.stop[row]), int(found.skip[row])
        length = stop - first
        inputs[i, 0] = ids[first - 1] if first else tokens.prefix
        inputs[i, 1:length] = ids[first : stop - 1]
        targets[i, :length] = ids[first:stop]
        mask[i, skip:length] = True
    return inputs, targets, mask


def resolve_policy(
    context: int,
    overlap: int,
    long_documents: str,
    max_tokens: int | None,
    batch_tokens: int | None,
    vocab_size: int,
) -> Policy:
    """Batch shapes from device, vocabulary and memory: a fixed function, resolved once."""
    from mlxprune import backend

    device = backend.detect()
    most = device.memory_bytes // (LOGITS_SHARE * 4 * vocab_size)
    slots = batch_tokens or min(device.score_tokens_per_batch, most)
    return Policy(context, overlap, long_documents, max_tokens, max(slots, context))


def units(sizes: np.ndarray) -> list[tuple[int, int]]:
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
class Task:
    """What a worker needs to score units: paths and numbers, so that it can be sent to it."""

    model: str
    tokens: str
    parts: str
    documents: str  # .npy of document numbers
    policy: Policy
    units: list[tuple[int, int]]


def score_pool(
    task: Task, workers: int, log: EventLog, control: Control, stage: str = "score"
) -> None:
    """Score every unit that has no part yet, in spawned processes, reporting as they come.

    A worker that dies without a word (MLX aborts the process when memory runs out) is a WorkerDied.
    """
    parts = Path(task.parts)
    parts.mkdir(parents=True, exist_ok=True)
    todo = [n for n in range(len(task.units)) if not part_path(parts, n).exists()]
    documents = np.load(task.documents, mmap_mode="r")
    lengths = open_tokens(Path(task.tokens)).lengths(documents)
    sizes = [int(lengths[a:b].sum()) for a, b in task.units]
    progress = _Progress(log, stage, sum(sizes), sum(sizes) - sum(sizes[n] for n in todo))
    for number in set(range(len(task.units))) - set(todo):
        progress.add_histogram(np.load(part_path(parts, number)))
    if not todo:
        return
    context = multiprocessing.get_context("spawn")
    inbox: Any = context.Queue()
    outbox: Any = context.Queue()
    for number in todo:
        inbox.put(number)
    count = min(workers, len(todo))
    for _ in range(count):
        inbox.put(None)
    pool = [
        context.Process(target=_worker, args=(task, inbox, outbox, os.getpid()), daemon=True)
        for _ in range(count)
    ]
    for process in pool:
        process.start()
    try:
        left = len(todo)
        while left:
            control.check()
            try:
                kind, number, value = outbox.get(timeout=0.2)
            except queue.Empty:
                _refuse_dead(pool, left)
                continue
            if kind == "error":
                raise RunError(f"scoring failed: {value}", f"unit {number}", "see the message")
            if kind == "slots":
                progress.slots(number, value)
            else:
                left -= 1
                progress.unit(sizes[number], np.load(part_path(parts, number)))
        for process in pool:
            process.join(timeout=10)
    finally:
        for process in pool:
            if process.is_alive():
                process.terminate()
        for process in pool:
            process.join(timeout=10)


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

    def __init__(self, log: EventLog, stage: str, total: int, done: int) -> None:
        self.log, self.stage, self.total, self.done = log, stage, total, done
        self.began, self.before = time.monotonic(), done
        self.running = 0.0  # tokens of units under way
        self.all_slots, self.real = 0, 0
        self.documents = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        self.tokens = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)

    def slots(self, real: int, slots: int) -> None:
        self.running += real
        self.real += real
        self.all_slots += slots
        self._emit()

    def unit(self, size: int, part: np.ndarray) -> None:
        self.done += size
        self.running = max(0.0, self.running - size)
        self.add_histogram(part)
        self._emit()
        shown = {"edges": HISTOGRAM_EDGES.tolist(), "documents": self.documents.tolist()}
        self.log.emit(self.stage, "histogram", tokens=self.tokens.tolist(), **shown)

    def add_histogram(self, part: np.ndarray) -> None:
        scored = part[part["num_tokens"] > 0]
        mean = scored["nll_sum"] / scored["num_tokens"]
        clipped = np.clip(mean, HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
        self.documents += np.histogram(clipped, HISTOGRAM_EDGES)[0]
        self.tokens += np.histogram(clipped, HISTOGRAM_EDGES, weights=scored["num_tokens"])[
            0
        ].astype(np.int64)

    def _emit(self) -> None:
        done = min(self.total, self.done + int(self.running))
        elapsed = time.monotonic() - self.began
        rate = (done - self.before) / elapsed if elapsed > 0 else 0.0
        self.log.emit(
            self.stage,
            "progress",
            done=done,
            total=self.total,
            unit="tokens",
            rate=rate,
            eta_seconds=(self.total - done) / rate if rate else None,
            padding_share=1 - self.real / self.all_slots if self.all_slots else None,
        )


def part_path(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npy"


def _worker(task: Task, inbox: Any, outbox: Any, parent: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    number = -1
    try:
        from mlxprune import backend
        from mlxprune import model as models

        device = backend.detect()
        if device.name == "cpu":
            blas.set_num_threads(1)  # one thread a worker: the same bytes for any number of them
        backend.limit_cache()
        model, _ = models.load(Path(task.model))
        tokens = open_tokens(Path(task.tokens))
        documents = np.load(task.documents, mmap_mode="r")
        while (number := inbox.get()) is not None:
            first, stop = task.units[number]
            positions = np.zeros((2, task.policy.context))
            seen = 0

            def between(slots: int) -> None:
                nonlocal seen
                if os.getppid() != parent:
                    os._exit(1)  # the run died; its parts are complete as they are
                real = int(positions[1].sum())  # noqa: B023
                outbox.put(("slots", real - seen, slots))
                seen = real

            chosen = np.asarray(documents[first:stop])
            part = score_documents(model, tokens, chosen, task.policy, between, positions)
            path = part_path(Path(task.parts), number)
            partial = path.with_name(f"{path.name}.{os.getpid()}{runs.PARTIAL}")
            for target, array in ((path.with_suffix(".positions.npy"), positions), (path, part)):
                with partial.open("wb") as file:
                    np.save(file, array)
                runs.finish_file(partial, target)
            outbox.put(("unit", number, None))
    except Exception as error:
        outbox.put(("error", number, f"{type(error).__name__}: {error}"))


def write_scores(
    path: Path,
    corpus: Corpus,
    documents: np.ndarray,
    parts: Path,
    unit_list: list[tuple[int, int]],
    metadata: dict[str, str],
) -> dict[str, Any]:
    """Join the parts into one Parquet, exactly the scorable documents in canonical order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = np.concatenate(
        [np.load(part_path(parts, n)) for n in range(len(unit_list))] or [np.zeros(0, PART)]
    )
    positions = sum(
        (np.load(part_path(parts, n).with_suffix(".positions.npy")) for n in range(len(unit_list))),
        np.zeros((2, 1)),
    )
    schema = pa.schema(
        [
            ("key", pa.uint64()),
            ("id", pa.string()),
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("row", pa.int64()),
            ("domain", pa.dictionary(pa.int32(), pa.string())),
            ("nll_sum", pa.float64()),
            ("num_tokens", pa.int64()),
            ("num_bytes", pa.int64()),
            ("perplexity", pa.float64()),
            ("truncated", pa.bool_()),
        ],
        metadata={**metadata, "metric_version": str(METRIC_VERSION)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + runs.PARTIAL)
    at = 0
    with pq.ParquetWriter(partial, schema) as out:
        first = 0
        for batch in corpus.documents():
            stop = int(np.searchsorted(documents, first + batch.num_rows))
            rows = scores[at:stop]
            chosen = batch.take(pa.array(documents[at:stop] - first))
            with np.errstate(over="ignore"):
                perplexity = np.exp(rows["nll_sum"] / rows["num_tokens"])
            out.write_batch(
                pa.record_batch(
                    [
                        *(chosen.column(n) for n in ("key", "id", "source", "row", "domain")),
                        pa.array(rows["nll_sum"]),
                        pa.array(rows["num_tokens"]),
                        chosen.column("num_bytes"),
                        pa.array(perplexity),
                        pa.array(rows["truncated"]),
                    ],
                    schema=schema,
                )
            )
            at = stop
            first += batch.num_rows
    runs.finish_file(partial, path)
    counts = positions[1]
    mean_by_position = np.divide(positions[0], counts, out=np.zeros_like(counts), where=counts > 0)
    total = int(scores["num_tokens"].sum())
    return {
        "documents": len(scores),
        "tokens": total,
        "mean_nll": float(scores["nll_sum"].sum() / max(total, 1)),
        "truncated": int(scores["truncated"].sum()),
        "mean_nll_by_position": [round(float(v), 6) for v in mean_by_position],
    }


def policy_metadata(policy: Policy) -> dict[str, str]:
    return {f"policy.{k}": str(v) for k, v in asdict(policy).items()}
