"""Prompts: against a second reading of the protocol, written from its description alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.config.schema import TrainTokenizer
from mlxprune.evaluation import prompts
from mlxprune.evaluation.prompts import chosen_items, needs_space, prompt_texts, prompts_of
from mlxprune.evaluation.tasks import FIELDS, OWN, Task, TaskItems, find_tasks, read_task
from mlxprune.testing.task_files import Rows, by_the_book
from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
from mlxprune.tokenization.tokenizer import Tokenizer, load_tokenizer

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def random_rows(draw: random.Random, kind: str, count: int) -> Rows:
    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))

    rows: Rows = []
    for _ in range(count):
        row: dict[str, Any] = {"category": draw.choice("xyz")}
        if kind == "language_modeling":
            row |= {"context": f" {text()}", "continuation": f"{text()} "}
        elif kind == "multiple_choice":
            row |= {
                "query": text(),
                "choices": [text() for _ in range(3)],
                "gold": draw.randrange(3),
            }
        else:
            row |= {"context_options": [text(), text()], "continuation": text()}
            row["gold"] = draw.randrange(2)
        rows.append(row)
    return rows


def items_of(
    folder: Path, rows: Rows, kind: str, shots: int, delimiter: str, by_category: bool
) -> TaskItems:
    path = folder / "task.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_task(Task("task", OWN, path, kind, shots, delimiter, by_category=by_category))


@pytest.mark.parametrize("kind", list(FIELDS))
@pytest.mark.parametrize(
    ("shots", "by_category"), [(0, False), (3, False), (10, True), (90, False)]
)
@pytest.mark.parametrize("delimiter", [" ", "\nAnswer: "])
def test_the_same_texts_as_by_the_book(
    kind: str, shots: int, by_category: bool, delimiter: str, tmp_path: Path,
    generator: np.random.Generator,
) -> None:  # fmt: skip
    draw = random.Random(int(generator.integers(2**31)))
    rows = random_rows(draw, kind, draw.randint(1, 60))
    found = items_of(tmp_path, rows, kind, shots, delimiter, by_category)
    every = list(range(len(found.items)))
    expected = list(by_the_book(rows, kind, shots, delimiter, by_category))
    got = list(prompt_texts(found, every, 1234))
    assert len(got) == len(expected)
    for (said, contexts, answers), (_, examples, full, choices) in zip(got, expected, strict=True):
        if kind == "schema" and not examples:
            full = [c.removesuffix(delimiter.rstrip()) for c in full]  # so it is in the original
        assert said == examples
        assert list(dict.fromkeys(contexts)) == list(dict.fromkeys(full))
        assert list(dict.fromkeys(answers)) == list(dict.fromkeys(choices))
    some = sorted(draw.sample(every, len(every) // 2))
    assert list(prompt_texts(found, some, 1234)) == [got[n] for n in some]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Our own kind: SentencePiece, which puts a space before every text."""
    folder = tmp_path_factory.mktemp("own")
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=40)) + "\nAnswer: no\n" for _ in range(300))
    train_tokenizer(TrainTokenizer(vocab_size=320), texts, 1, folder)
    return load_tokenizer(folder)


def bpe(folder: Path, **post: Any) -> Tokenizer:
    """A byte-level BPE as of GPT-2, opened as any pretrained tokenizer is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator([f"{w} a {w}" for w in WORDS] * 20, trainer)
    if post:
        made.post_processor = processors.TemplateProcessing(
            special_tokens=[("<s>", 0), ("</s>", 1)], **post
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(str(folder))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("template", "opening", "empty"),
    [
        ({}, (), ()),
        ({"single": "<s> $A"}, (0,), (0,)),
        ({"single": "<s> $A </s>"}, (0,), (0,)),
        ({"single": "$A </s>"}, (), (1,)),  # a lone end stays, as in the original
    ],
    ids=["nothing", "bos", "bos and eos", "eos"],
)
def test_a_tokenizer_opens_a_text_as_it_is_made_to(
    template: dict[str, str], opening: tuple[int, ...], empty: tuple[int, ...], tmp_path: Path
) -> None:
    found = bpe(tmp_path, **template)
    assert (found.opening, found.empty) == (opening, empty)
    assert 0 not in found.encode(["<s> a </s>"])[0]
    assert needs_space(found)
    rows = [{"context": "alpha", "continuation": "beta"}, {"context": "a", "continuation": "a"}]
    for shots in (0, 1):
        items = items_of(tmp_path, rows, "language_modeling", shots, " ", False)
        prompt = next(prompts_of(items, [0], found, 100, 1234))
        examples, ask = ("a a", "\nalpha") if shots else ("", "alpha")
        start = [*opening, *found.encode([examples])[0]] if shots else list(empty)
        assert prompt.contexts[0].tolist() == start + found.encode([ask])[0]
        assert prompt.continuations[0].tolist() == found.encode([" beta"])[0]


def test_sentencepiece_brings_its_own_space(own: Tokenizer, tmp_path: Path) -> None:
    assert not needs_space(own)
    rows = [{"query": "alpha", "choices": ["beta gamma", " beta"], "gold": 0}]
    items = items_of(tmp_path, rows, "multiple_choice", 0, "\nAnswer: ", False)
    prompt = next(prompts_of(items, [0], own, 100, 1234))
    assert own.decode(np.concatenate([prompt.contexts[0], prompt.continuations[0]]).tolist()) == (
        "alpha\nAnswer: beta gamma"
    )
    assert prompt.contexts[0].tolist() == own.encode(["alpha\nAnswer:"])[0]


def test_a_context_is_cut_from_the_left_for_each_choice(own: Tokenizer, tmp_path: Path) -> None:
    query = " ".join(WORDS * 3)
    rows = [{"query": query, "choices": ["alpha", " ".join(WORDS)], "gold": 0}]
    items = items_of(tmp_path, rows, "multiple_choice", 0, " ", False)
    whole = next(prompts_of(items, [0], own, 1000, 1234))
    length, longest = len(whole.contexts[0]), len(whole.continuations[1])
    assert not whole.cut
    for context in (length + longest, length + longest - 1, longest + 1):
        prompt = next(prompts_of(items, [0], own, context, 1234))
        assert prompt.cut == (context < length + longest)
        for ids, answer, full in zip(
            prompt.contexts, prompt.continuations, whole.contexts, strict=True
        ):
            assert len(ids) + len(answer) == min(context, len(full) + len(answer))
            assert ids.tolist() == full.tolist()[-len(ids) :]
    assert next(prompts_of(items, [0], own, longest, 1234)).contexts == []  # does not fit


def test_batches_of_encoding_lose_no_item(
    own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"context": "alpha " * n, "continuation": "beta"} for n in range(1, 40)]
    items = items_of(tmp_path, rows, "language_modeling", 0, " ", False)
    every = list(range(len(rows)))
    whole = [p.contexts[0].tolist() for p in prompts_of(items, every, own, 500, 1234)]
    assert len(whole) == len(rows)
    for size in (1, 7, 39):
        monkeypatch.setattr(prompts, "AT_ONCE", size)
        again = [p.contexts[0].tolist() for p in prompts_of(items, every, own, 500, 1234)]
        assert again == whole


def test_an_empty_context_begins_with_the_prefix(own: Tokenizer, tmp_path: Path) -> None:
    items = items_of(
        tmp_path, [{"context": "", "continuation": "alpha"}], "language_modeling", 0, " ", False
    )
    prompt = next(prompts_of(items, [0], own, 100, 1234))
    assert prompt.contexts[0].tolist() == [own.prefix]


def test_a_limit_draws_the_same_items_for_everyone(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    draw = random.Random(int(generator.integers(2**31)))
    rows = random_rows(draw, "schema", 200)
    plain = items_of(tmp_path, rows, "schema", 5, " ", False)
    assert chosen_items(plain, None, 0) == list(range(200))
    assert chosen_items(plain, 200, 0) == list(range(200))
    few = chosen_items(plain, 50, 0)
    assert few == chosen_items(plain, 50, 0) == sorted(set(few))
    assert few != chosen_items(plain, 50, 1)
    assert set(few) < set(chosen_items(plain, 51, 0))
    grouped = items_of(tmp_path, rows, "schema", 5, " ", True)
    some = [grouped.items[n].group for n in chosen_items(grouped, 50, 0)]
    counts = [some.count(name) for name in "xyz"]
    assert sum(counts) == 50 and max(counts) - min(counts) <= 1


@pytest.mark.shared
@pytest.mark.parametrize("label", ["jeopardy", "arc_easy", "winogrande", "mmlu", "copa", "squad"])
def test_the_gauntlet_by_the_book(label: str, shared_data: Path) -> None:
    task = find_tasks([label], str(shared_data / "gauntlet")).tasks[0]
    rows = [json.loads(line) for line in task.path.read_text().splitlines()]
    found = read_task(task)
    assert task.kind is not None
    expected = list(by_the_book(rows, task.kind, task.shots, task.delimiter, task.by_category))
    for got, (row, examples, contexts, answers) in zip(
        prompt_texts(found, list(range(len(rows))), 1234), expected, strict=True
    ):
        assert (got[0], got[1][0], got[2][0]) == (examples, contexts[0], answers[0]), row
