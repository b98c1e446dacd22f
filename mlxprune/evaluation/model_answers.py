"""Model answers: what one saved model says of documents and of requests, in a child process.

The functions at the top run in the child, those below start it and look after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.engine.shared_prefix import SharedPrefix
from mlxprune.evaluation import requests
from mlxprune.evaluation.requests import TaskRequests
from mlxprune.execution.children import do_in_child
from mlxprune.execution.context import Execution
from mlxprune.execution.messages import unpack
from mlxprune.execution.supervision import supervised
from mlxprune.model.architecture import read_model_config
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.model.weights import load_model
from mlxprune.scoring.nll import score_documents
from mlxprune.scoring.windows import WindowPolicy, resolve_policy, within_flops
from mlxprune.tokenization.token_file import Tokens, open_tokens

HERE = "mlxprune.evaluation.model_answers"
LOSSES, ANSWERS, ESTIMATE = f"{HERE}:losses", f"{HERE}:answers", f"{HERE}:estimate"


@dataclass(frozen=True)
class LossOrder:
    """Score these documents with this model."""

    model: Path
    tokens: Path
    documents: np.ndarray
    policy: WindowPolicy


@dataclass(frozen=True)
class AnswerOrder:
    """Answer these requests with this model; units that are done lie in ``parts``."""

    model: Path
    prefixes: list[SharedPrefix]
    units: list[tuple[int, int]]
    offsets: np.ndarray
    batch_tokens: int
    parts: Path


@dataclass(frozen=True)
class EstimateOrder:
    """Time a batch of these shared prefixes."""

    model: Path
    prefixes: list[SharedPrefix]


@dataclass(frozen=True)
class Rows:
    """A structured array: PART rows or ANSWER rows."""

    rows: np.ndarray


Scored = tuple[int, int, float]  # tokens, slots, seconds that the device waited for the batch


def losses(link: Any, order: LossOrder) -> Rows:
    """In the child."""
    from mlxprune.engine import backend

    plan = memory_plan(read_model_config(order.model), order.policy.context)
    backend.limit_memory(plan.scoring_bytes(order.policy.batch_tokens))
    model, _ = load_model(order.model)

    def between(scored: int, slots: int, waited: float) -> None:
        link.edge()
        link.tell((scored, slots, waited))

    tokens = open_tokens(order.tokens)
    return Rows(score_documents(model, tokens, order.documents, order.policy, between))


def answers(link: Any, order: AnswerOrder) -> Rows:
    """In the child."""
    from mlxprune.engine import backend

    def load() -> requests.Answering:
        return backend.answer_function(load_model(order.model)[0])

    def between(inputs: int) -> None:
        link.edge()
        link.tell(inputs)

    found = requests.answer_units(
        order.prefixes, order.units, order.offsets, load, order.batch_tokens, order.parts, between
    )
    return Rows(found)


def estimate(link: Any, order: EstimateOrder) -> float:
    """In the child: seconds that the prefixes take after a warm-up."""
    from mlxprune.engine import backend

    asking = backend.answer_function(load_model(order.model)[0])
    asking(order.prefixes[:1])
    began = time.monotonic()
    asking(order.prefixes)
    return time.monotonic() - began


def losses_in_child(
    execution: Execution,
    model: Path,
    tokens: Tokens,
    documents: np.ndarray,
    context: int,
    between: Callable[[int, int, float], None] = lambda tokens, slots, waited: None,
) -> np.ndarray:
    """PART rows of documents under a saved model."""
    assert tokens.folder is not None
    config, memory = read_model_config(model), execution.config.memory
    policy = resolve_policy(tokens.lengths(documents), config, context, memory_bytes=memory)
    order = LossOrder(model, tokens.folder, documents, policy)

    def attempt() -> np.ndarray:
        return do_in_child(
            execution.children, execution.control, execution.log, LOSSES, order, Rows,
            lambda value: between(*unpack(value, Scored)),
        ).rows  # fmt: skip

    def smaller() -> str | None:
        nonlocal order
        halved = max(order.policy.context, order.policy.batch_tokens // 2)
        if halved == order.policy.batch_tokens:
            return None
        order = replace(order, policy=replace(order.policy, batch_tokens=halved))
        return f"{halved:,} tokens a batch"

    what = f"the losses of {model.name}"
    return supervised(execution.log, "evaluation", what, attempt, lambda: 0, smaller)


def answers_in_child(
    execution: Execution,
    model: Path,
    asked: TaskRequests,
    window: int,
    parts: Path,
    between: Callable[[int], None],
) -> np.ndarray:
    """ANSWER rows of one model; what stands in ``parts``, a folder of this model and these
    requests, is not asked again."""
    from mlxprune.engine import backend

    device, stated = backend.detect(), read_model_config(model)
    plan = memory_plan(stated, window, execution.config.memory)
    most = within_flops(device.answer_tokens_per_batch, stated, window, device.part_flops)
    tokens = max(plan.scoring_batch(most, 1), window)
    parts.mkdir(parents=True, exist_ok=True)
    order = AnswerOrder(model, asked.prefixes, asked.units, asked.offsets, tokens, parts)

    def attempt() -> np.ndarray:
        return do_in_child(
            execution.children, execution.control, execution.log, ANSWERS, order, Rows,
            lambda value: between(unpack(value, int)),
        ).rows  # fmt: skip

    def smaller() -> str | None:
        nonlocal order
        halved = max(window, order.batch_tokens // 2)
        if halved == order.batch_tokens:
            return None
        order = replace(order, batch_tokens=halved)
        return f"{halved:,} tokens a batch"

    def done() -> int:
        return len(list(parts.glob("*.npy")))

    return supervised(
        execution.log, "evaluation", f"the tasks of {model.name}", attempt, done, smaller
    )


def estimated_seconds(execution: Execution, model: Path, asked: TaskRequests) -> float:
    """Seconds that the requests will take: one batch from their middle, timed."""
    by_length = sorted(asked.prefixes, key=lambda shared: len(shared.ids))
    middle = len(by_length) // 2
    some = by_length[max(0, middle - 8) : middle + 8]
    order = EstimateOrder(model, some)

    def attempt() -> float:
        return do_in_child(
            execution.children, execution.control, execution.log, ESTIMATE, order, float
        )

    taken = supervised(
        execution.log, "evaluation", "a first batch", attempt, lambda: 0, lambda: None
    )
    return taken * asked.inputs / max(1, sum(len(shared.ids) for shared in some))
