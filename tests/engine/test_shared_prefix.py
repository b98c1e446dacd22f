"""Trees: every choice's losses are those of the choice computed alone, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine import backend
from mlxprune.engine.cpu import head, layers, llama
from mlxprune.engine.cpu.shared_prefix import numpy_answers
from mlxprune.engine.cpu.threads import Buffers, CpuThreads
from mlxprune.engine.gpu import loss_graph
from mlxprune.engine.gpu.shared_prefix import (
    Answers,
    graph_answers,
    remembers_plainly,
    shared_answers,
    whole_answers,
)
from mlxprune.engine.shared_prefix import SharedPrefix, batch_shared_prefixes, shared_prefixes_of
from mlxprune.errors import RunError
from mlxprune.model.weights import initialise_model
from mlxprune.testing import float64_llama
from mlxprune.testing.models import SHAPES, config_of, model_and_weights

VOCABULARY = 97
Item = tuple[list[np.ndarray], list[np.ndarray]]


def random_items(generator: np.random.Generator, count: int) -> list[Item]:
    """Contexts and continuations of items of every kind that a task can hold."""

    def ids(low: int, high: int) -> np.ndarray:
        return generator.integers(0, VOCABULARY, generator.integers(low, high))

    found: list[Item] = []
    for number in range(count):
        choices = int(generator.integers(1, 6))
        contexts = [ids(1, 40)] * choices
        if number % 5 == 0:  # multiple choice of sentences
            found.append((contexts, [ids(1, 12) for _ in range(choices)]))
        elif number % 5 == 1:  # of letters
            found.append((contexts, [ids(1, 2) for _ in range(choices)]))
        elif number % 5 == 2:  # a schema
            lead = ids(0, 20)
            options = [np.concatenate([lead, ids(1, 6)]) for _ in range(choices)]
            found.append((options, [ids(1, 8)] * choices))
        elif number % 5 == 3:  # language modelling
            found.append((contexts[:1], [ids(1, 12)]))
        else:  # contexts that were cut differently, and two equal choices
            cut = [ids(1, 30) for _ in range(choices)]
            said = [ids(1, 4) for _ in range(choices)]
            found.append(([*cut, cut[0]], [*said, said[0]]))
    return found


def alone(weights: Any, config: dict[str, Any], item: Item) -> list[tuple[np.ndarray, np.ndarray]]:
    """-ln p of every continuation's tokens, and whether each is the most likely, in float64."""
    result = []
    for context, continuation in zip(*item, strict=True):
        row = np.concatenate([context, continuation])
        table = float64_llama.llama_log_probabilities(weights, config, row[:-1])[
            -len(continuation) :
        ]
        picked = table[np.arange(len(continuation)), continuation]
        result.append((-picked, table.max(axis=1) <= picked + 1e-12))
    return result


def by_choice(
    item: int, prefixes: list[SharedPrefix], found: Answers, choice: int
) -> tuple[np.ndarray, np.ndarray]:
    parts = [
        (loss[shared.choice == choice], hit[shared.choice == choice])
        for shared, (loss, hit) in zip(prefixes, found, strict=True)
        if shared.item == item and (shared.choice == choice).any()
    ]
    assert len(parts) == 1
    return parts[0]


@pytest.fixture(params=["engine", "shared", "whole"])
def engine(request: pytest.FixtureRequest) -> Any:
    """The engine of this machine, and both ways of the graph's."""
    if request.param == "engine":
        return backend.answer_function
    inner = {"shared": shared_answers, "whole": whole_answers}[request.param]
    return lambda model: lambda batch: inner(model, batch)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_answers_are_those_of_each_choice_alone(
    engine: Any, changes: dict[str, Any], tmp_path: Path, generator: np.random.Generator
) -> None:
    config = config_of(**changes)
    model, weights = model_and_weights(config, tmp_path, generator)
    context = generator.integers(0, VOCABULARY, 10)
    said = np.zeros(0, int)
    for _ in range(3):  # what the model itself would say
        so_far = np.concatenate([context, said])
        table = float64_llama.llama_log_probabilities(weights, config, so_far)
        said = np.append(said, table[-1].argmax())
    items: list[Item] = [*random_items(generator, 30), ([context], [said])]
    prefixes = [shared for n, item in enumerate(items) for shared in shared_prefixes_of(n, *item)]
    assert {len(shared.suffix_lengths) > 1 for shared in prefixes} == {True, False}
    ask = engine(model)
    found: list[Any] = [None] * len(prefixes)
    for batch in batch_shared_prefixes(prefixes, 300):
        for n, answer in zip(batch, ask([prefixes[n] for n in batch]), strict=True):
            found[n] = answer
    margin = 2e-5 if backend.detect().name == "cpu" else 5e-2  # bfloat16
    for number, item in enumerate(items):
        for choice, (loss, best) in enumerate(alone(weights, config, item)):
            got, hit = by_choice(number, prefixes, found, choice)
            np.testing.assert_allclose(got, loss, rtol=margin, atol=margin)
            assert (hit == best).all() or margin > 1e-3
    assert hit.all() or margin > 1e-3, "what the model would say is not the most likely"


def test_the_cpu_engine_gives_the_same_bytes_for_any_number_of_lanes(
    tmp_path: Path, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    shape = backend.llama_shape(model)
    if shape is None:
        pytest.skip("the CPU backend's engine")
    monkeypatch.setattr(layers, "CHUNK_POSITIONS", 200)
    weights = llama.Weights(shape, backend.arrays_of(model.parameters()), for_losses=True)
    items = random_items(generator, 40)
    prefixes = [shared for n, item in enumerate(items) for shared in shared_prefixes_of(n, *item)]
    found = [
        b"".join(
            a.tobytes() for pair in numpy_answers(CpuThreads(n), weights, prefixes) for a in pair
        )
        for n in (1, 2, 3, 9)
    ]
    assert len(set(found)) == 1


def test_the_first_of_equal_logits_is_the_most_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "VOCABULARY_COLUMNS", 3)
    hidden = np.ones((2, 4), np.float32)
    losses, best = head.answers(Buffers(), hidden, np.ones((10, 4), np.float32), np.array([0, 7]))
    assert best.tolist() == [0, 0]
    np.testing.assert_allclose(losses, np.log(10), rtol=1e-6)


def test_a_trunk_is_shared_where_it_is_worth_it() -> None:
    letters = shared_prefixes_of(0, [np.arange(30)] * 4, [np.array([n]) for n in range(4)])
    assert [(len(t.ids), t.prefix_length, t.suffix_lengths) for t in letters] == [(30, 30, ())]
    assert letters[0].at.tolist() == [29] * 4
    apart = shared_prefixes_of(0, [np.arange(9), 5 + np.arange(9)], [np.array([1]), np.array([2])])
    assert [len(t.ids) for t in apart] == [9, 9]
    assert [t.choice.tolist() for t in apart] == [[0], [1]]


def test_batches_hold_every_tree_once_within_the_budget(generator: np.random.Generator) -> None:
    items = random_items(generator, 60)
    prefixes = [shared for n, item in enumerate(items) for shared in shared_prefixes_of(n, *item)]
    found = list(batch_shared_prefixes(prefixes, 100))
    assert sorted(n for batch in found for n in batch) == list(range(len(prefixes)))
    for batch in found:
        longest = max(len(prefixes[n].ids) for n in batch)
        assert len(batch) == 1 or longest * len(batch) <= 100


def test_ids_outside_the_vocabulary_are_refused(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    prefixes = shared_prefixes_of(0, [np.array([1, 2])], [np.array([97])])
    with pytest.raises(RunError, match="vocabulary"):
        backend.answer_function(model)(prefixes)


def test_learned_positions_are_computed_whole(generator: np.random.Generator) -> None:
    """GPT-2: what pads a suffix would have no position. Answers at its very context are numbers."""
    config = {
        "model_type": "gpt2", "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2,
        "n_positions": 32, "layer_norm_epsilon": 1e-5, "vocab_size": VOCABULARY,
    }  # fmt: skip
    model = initialise_model(config, 0)
    assert not remembers_plainly(model)
    context = generator.integers(0, VOCABULARY, 24)
    said = [generator.integers(0, VOCABULARY, n) for n in (8, 3, 1)]
    prefixes = shared_prefixes_of(0, [context] * 3, said)
    (losses, _), *others = graph_answers(model, prefixes)
    assert not others
    for choice, answer in enumerate(said):
        ids = np.concatenate([context, answer])
        logits = model(mx.array(ids[None, :-1]))[0, -len(answer) :]
        expected = np.array(loss_graph.cross_entropy(logits, mx.array(answer)))
        np.testing.assert_allclose(losses[prefixes[0].choice == choice], expected, rtol=1e-4)


def test_many_branches_go_a_few_rows_at_a_time(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    """Every row holds its prefix's keys once more: never more rows than the prefixes are long."""
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    context = generator.integers(0, VOCABULARY, 40)
    said = [generator.integers(0, VOCABULARY, 4) for _ in range(24)]
    prefixes = shared_prefixes_of(0, [context] * 24, said)
    (shared, _), *_ = shared_answers(model, prefixes)
    (whole, _), *_ = whole_answers(model, prefixes)
    np.testing.assert_allclose(shared, whole, rtol=1e-4, atol=1e-4)
