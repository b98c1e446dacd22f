"""Requests: the items of all tasks as batches for one model, answered unit by unit.

A unit is near UNIT_TOKENS inputs, whole items in the order of the tasks, and batches never cross
one: what is interrupted goes on with the next unit and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.checksums import read_sealed_array, write_sealed_array
from mlxprune.config.task_suite import suite_facts
from mlxprune.engine.shared_prefix import SharedPrefix, batch_shared_prefixes, shared_prefixes_of
from mlxprune.errors import DataError
from mlxprune.evaluation.prompts import chosen_items, prompts_of
from mlxprune.evaluation.tasks import FoundTasks, Task, TaskItems, choices_of, read_task
from mlxprune.files import full_hash
from mlxprune.tokenization.tokenizer import Tokenizer

REQUESTS_VERSION = 1
UNIT_TOKENS = 100_000
ANSWER_DTYPE = np.dtype([("nll", "<f8"), ("hit", "?")])
Answering = Callable[[list[SharedPrefix]], list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class AskedTask:
    """A task and what of it is asked: the items ``first`` to ``stop`` of all requests."""

    found: TaskItems
    rows: list[int]  # of the file, in order
    first: int
    stop: int
    cut: int  # items whose context lost its beginning
    left_out: list[int]  # rows whose answer does not fit the model's context

    @property
    def task(self) -> Task:
        return self.found.task


@dataclass(frozen=True)
class TaskRequests:
    """Every question of the tasks. Choices of item i are ``offsets[i] : offsets[i + 1]``."""

    asked: list[AskedTask]
    absent: dict[str, str]
    gold: np.ndarray  # int64 [items], which choice
    group: np.ndarray  # int64 [items], its category inside the task
    offsets: np.ndarray  # int64 [items + 1]
    bytes: np.ndarray  # int64 [choices], UTF-8 bytes of the answer, without a joining space
    tokens: np.ndarray  # int64 [choices], of the answer
    prefixes: list[SharedPrefix] = field(repr=False)
    units: list[tuple[int, int]] = field(repr=False)  # of shared prefixes
    inputs: int = 0  # tokens that go through the model
    whole: int = 0  # tokens that would without a shared prefix context


# Over 60 lines: one pass fills a dozen columns of equal length side by side.
def prepare_requests(
    tasks: FoundTasks,
    tokenizer: Tokenizer,
    context: int,
    limit: int | None,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TaskRequests:
    """Read the tasks, draw their items and examples, and encode all of them."""
    asked: list[AskedTask] = []
    prefixes: list[SharedPrefix] = []
    gold: list[int] = []
    groups: list[int] = []
    counts: list[int] = []
    sizes: list[int] = []
    lengths: list[int] = []
    unfit: dict[str, str] = {}
    whole = 0
    read = [read_task(task) for task in tasks.tasks]
    drawn = [chosen_items(items, limit, seed) for items in read]
    total, done = sum(map(len, drawn)), 0
    shots_seed = int(suite_facts()["seed"])
    for items, chosen in zip(read, drawn, strict=True):
        first, cut = len(gold), 0
        rows: list[int] = []
        left_out: list[int] = []
        names = sorted({item.group for item in items.items})
        place = {name: n for n, name in enumerate(names)}
        made = prompts_of(items, chosen, tokenizer, context, shots_seed)
        for number, prompt in zip(chosen, made, strict=True):
            item = items.items[number]
            done += 1
            if done % 256 == 0:
                progress(done, total)
            if not prompt.contexts:
                left_out.append(item.row)
                continue
            prefixes += shared_prefixes_of(len(gold), prompt.contexts, prompt.continuations)
            cut += prompt.cut
            rows.append(item.row)
            gold.append(item.gold)
            groups.append(place[item.group])
            counts.append(len(prompt.contexts))
            sizes += [len(said.strip().encode()) for _, said in choices_of(item)]
            lengths += [len(ids) for ids in prompt.continuations]
            whole += sum(map(len, prompt.contexts)) + sum(map(len, prompt.continuations))
        if rows:
            asked.append(AskedTask(items, rows, first, len(gold), cut, left_out))
        else:
            unfit[items.task.label] = f"no item fits a context of {context}"
    progress(total, total)
    if not asked:
        fix = "take a model with a longer context"
        where = f"{', '.join(unfit)}, context {context}"
        raise DataError("no item fits the model", where, fix)
    inputs = sum(len(shared.ids) for shared in prefixes)
    return TaskRequests(
        asked,
        {**tasks.absent, **unfit},
        np.array(gold, np.int64),
        np.array(groups, np.int64),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array(sizes, np.int64),
        np.array(lengths, np.int64),
        prefixes,
        _units(prefixes),
        inputs,
        whole - sum(counts),  # the last token of a choice is no input
    )


def _units(prefixes: list[SharedPrefix]) -> list[tuple[int, int]]:
    """[first, stop) over shared prefixes; all shared prefixes of an item in one."""
    result: list[tuple[int, int]] = []
    first, size = 0, 0
    for number, shared in enumerate(prefixes):
        begins = number == 0 or prefixes[number - 1].item != shared.item
        if begins and size >= UNIT_TOKENS:
            result.append((first, number))
            first, size = number, 0
        size += len(shared.ids)
    if prefixes:
        result.append((first, len(prefixes)))
    return result


def answer_requests(
    asked: TaskRequests,
    answering: Callable[[], Answering],
    batch_tokens: int,
    parts: Path | None = None,
    between: Callable[[int], None] = lambda tokens: None,
) -> np.ndarray:
    """ANSWER rows [choices] of all requests, as ``answer_units`` gives them."""
    return answer_units(
        asked.prefixes, asked.units, asked.offsets, answering, batch_tokens, parts, between
    )


def answer_units(
    prefixes: list[SharedPrefix],
    units: list[tuple[int, int]],
    offsets: np.ndarray,
    answering: Callable[[], Answering],
    batch_tokens: int,
    parts: Path | None = None,
    between: Callable[[int], None] = lambda tokens: None,
) -> np.ndarray:
    """ANSWER rows [choices]: the NLL in nats of every answer, the float64 sum of float32 losses,
    and whether each of its tokens is the most likely one.

    ``answering`` makes the function that asks the model; it is called when there is something to
    ask. With ``parts`` every unit is kept there as it is done, and what is there is not done again;
    ``between`` is called with the inputs of every batch.
    """
    result = np.zeros(int(offsets[-1]), ANSWER_DTYPE)
    ask: Answering | None = None
    for number, (first, stop) in enumerate(units):
        choices = _choices(prefixes, offsets, first, stop)
        path = None if parts is None else parts / f"{number:06d}.npy"
        size = sum(len(shared.ids) for shared in prefixes[first:stop])
        kept = _kept_answers(path)
        if kept is not None and len(kept) == len(result[choices]):
            result[choices] = kept
            between(size)
            continue
        ask = ask or answering()
        for batch in batch_shared_prefixes(prefixes[first:stop], batch_tokens):
            some = [prefixes[first + n] for n in batch]
            for shared, (losses, hits) in zip(some, ask(some), strict=True):
                _note(result[offsets[shared.item] :], shared, losses, hits)
            between(sum(len(shared.ids) for shared in some))
        if path is not None:
            write_sealed_array(path, result[choices])
    return result


def _kept_answers(path: Path | None) -> np.ndarray | None:
    """None where there are none, or damaged ones."""
    try:
        return None if path is None else read_sealed_array(path)
    except (OSError, ValueError):
        return None


def _choices(prefixes: list[SharedPrefix], offsets: np.ndarray, first: int, stop: int) -> slice:
    """The answers that the shared prefixes of a unit are about."""
    last = prefixes[stop - 1].item
    return slice(int(offsets[prefixes[first].item]), int(offsets[last + 1]))


def _note(answers: np.ndarray, shared: SharedPrefix, losses: np.ndarray, hits: np.ndarray) -> None:
    for choice in np.unique(shared.choice).tolist():
        mine = shared.choice == choice
        answers["nll"][choice] = losses[mine].astype(np.float64).sum()
        answers["hit"][choice] = hits[mine].all()


def requests_identity(tasks: FoundTasks, limit: int | None, seed: int) -> dict[str, Any]:
    """What the questions depend on, apart from tokenizer and context: for a fingerprint."""
    return {
        "version": REQUESTS_VERSION,
        "tasks": [
            [
                task.label, task.category, task.kind, task.shots, task.delimiter, task.between,
                task.baseline, task.by_category, full_hash(task.path),
            ]
            for task in tasks.tasks
        ],
        "absent": sorted(tasks.absent),
        "limit": limit,
        "seed": seed if limit is not None else None,
        "shots_seed": suite_facts()["seed"],
    }  # fmt: skip
