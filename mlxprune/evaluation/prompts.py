"""Prompts: an item with its examples as token ids, built as llm-foundry's evaluator builds them.

Read in composer 0.17.2, datasets/in_context_learning_evaluation.py, which llm-foundry 0.4.0 pins.
Examples are drawn from the same file by one ``random.Random(1234)`` that goes through it in order;
each is context + delimiter + answer. Examples, query and answer are encoded apart and joined.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlxprune.evaluation.tasks import Item, TaskItems, choices_of
from mlxprune.tokenization.tokenizer import Tokenizer

AT_ONCE = 512  # items that are encoded together


@dataclass(frozen=True)
class Prompt:
    """Token ids of one item, int32: a context and a continuation a choice; none where an answer
    has no token, or alone fills the model's context."""

    contexts: list[np.ndarray]
    continuations: list[np.ndarray]
    cut: bool  # whether a context lost its beginning


def drawn_shots(count: int, shots: int, number: int, generator: random.Random) -> set[int]:
    """Which of ``count`` items stand before item ``number``; in the order of the set.

    The order in which a set of small integers is gone through is part of the protocol.
    """
    shots = min(count - 1, shots)
    chosen = set(generator.sample(range(count), shots))
    if number in chosen:
        chosen.remove(number)
        if len(chosen) >= count - 1:
            return chosen
        other = generator.choice(range(count))
        while other in chosen or other == number:
            other = generator.choice(range(count))
        chosen.add(other)
    return chosen


def shots_before(task_items: TaskItems, seed: int) -> Iterator[list[Item]]:
    """The examples of every item, in the items' order."""
    for first, stop in _groups(task_items.items):
        generator = random.Random(seed)
        group = task_items.items[first:stop]
        for number in range(len(group)):
            if task_items.task.shots == 0:
                yield []
            else:
                chosen = drawn_shots(len(group), task_items.task.shots, number, generator)
                yield [group[n] for n in chosen]


def _groups(items: list[Item]) -> Iterator[tuple[int, int]]:
    first = 0
    for number in range(1, len(items) + 1):
        if number == len(items) or items[number].group != items[first].group:
            yield first, number
            first = number


def chosen_items(task_items: TaskItems, limit: int | None, seed: int) -> list[int]:
    """Which items are asked, in order: all, or ``limit`` by a seeded draw.

    Of a task whose categories count alike, as many of each as there are places.
    """
    count = len(task_items.items)
    if limit is None or count <= limit:
        return list(range(count))
    generator = random.Random(f"{seed} {task_items.task.label}")
    ranks: list[tuple[int, float, int]] = []
    for first, stop in _groups(task_items.items):
        shuffled = generator.sample(range(first, stop), stop - first)
        lot = [generator.random() for _ in shuffled]
        ranks += [(turn, lot[turn], n) for turn, n in enumerate(shuffled)]
    return sorted(n for _, _, n in sorted(ranks)[:limit])


def prompt_texts(
    task_items: TaskItems, chosen: list[int], seed: int
) -> Iterator[tuple[str, list[str], list[str]]]:
    """(examples, contexts, continuations) of the chosen items, before a space joins anything."""
    task = task_items.task
    wanted = set(chosen)
    for number, examples in enumerate(shots_before(task_items, seed)):
        if number not in wanted:
            continue
        parts = []
        for example in examples:
            context, answer = choices_of(example)[example.gold]
            parts.append(f"{context}{task.delimiter}{answer}")
        preamble = task.between.join(parts)
        lead = task.between if preamble else ""
        # A prompt that ends in a space leaves a model nothing good to say.
        tail = task.delimiter.rstrip()
        item = task_items.items[number]
        contexts = [
            # A schema without examples has no delimiter either: so it is in the original.
            f"{lead}{c}{tail if preamble or task.kind != 'schema' else ''}"
            for c in item.contexts
        ]
        yield preamble, contexts, list(item.continuations)


def needs_space(tokenizer: Tokenizer) -> bool:
    """Whether a space goes before an answer: so where " a" is one token (byte-level BPE).

    A tokenizer that puts a space before every text by itself (SentencePiece's dummy prefix) would
    say it twice.
    """
    return len(tokenizer.encode([" a"])[0]) == 1


def prompts_of(
    task_items: TaskItems, chosen: list[int], tokenizer: Tokenizer, context: int, seed: int
) -> Iterator[Prompt]:
    """The chosen items as ids. A context is cut from the left, for each choice by itself, where
    context and continuation are longer than ``context``."""
    spaced = needs_space(tokenizer)
    waiting = prompt_texts(task_items, chosen, seed)
    while True:
        batch = list(itertools.islice(waiting, AT_ONCE))
        if not batch:
            return
        flat: list[str] = []
        for preamble, contexts, said in batch:
            if spaced:
                said[:] = [s if s.startswith(" ") else f" {s}" for s in said]
            flat += [preamble, *contexts, *said]
        ids = iter(tokenizer.encode(flat))
        for preamble, contexts, said in batch:
            examples = next(ids)
            # An empty text of examples is still a text to a tokenizer that adds tokens of its own.
            opening = [*tokenizer.opening, *examples] if preamble else [*tokenizer.empty]
            asked = [opening + next(ids) for _ in contexts]
            answers = [next(ids) for _ in said]
            yield _prompt(asked, answers, tokenizer.prefix, context)


def _prompt(asked: list[list[int]], answers: list[list[int]], prefix: int, context: int) -> Prompt:
    count = max(len(asked), len(answers))
    asked = asked if len(asked) == count else asked * count
    answers = answers if len(answers) == count else answers * count
    contexts, cut = [], False
    for ids, answer in zip(asked, answers, strict=True):
        room = context - len(answer)
        if not answer or room < 1:
            return Prompt([], [], False)
        cut |= len(ids) > room
        contexts.append(np.array(ids[-room:] or [prefix], np.int32))
    return Prompt(contexts, [np.array(a, np.int32) for a in answers], cut)
