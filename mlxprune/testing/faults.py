"""For tests: the work of child processes with faults in it, as often as a file says.

A test lets the run start these in place of the real work. They do the real work, and fail at an
edge between two batches in the way that is wanted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.evaluation import model_answers
from mlxprune.evaluation.model_answers import AnswerOrder, LossOrder, Rows
from mlxprune.execution.messages import Begin, Told
from mlxprune.experiment import training_order
from mlxprune.experiment.training_order import TrainingOrder
from mlxprune.scoring import workers
from mlxprune.scoring.workers import ScoringOrder
from mlxprune.tokenization.sentencepiece_bpe import TokenizerSummary
from mlxprune.tokenization.tokenizer_training import TokenizerOrder
from mlxprune.training.summary import TrainingSummary

FILE = "MLXPRUNE_TEST_FAULTS"  # the environment variable that names the file
HERE = "mlxprune.testing.faults"


def plan_faults(path: Path, how: str, said: str, times: int, after: int) -> None:
    """``times`` children in all fail ``after`` so many edges: they ``raise`` or ``abort`` with what
    is ``said``, or are ``kill``ed, or ``exit``, or ``hang``, or ``wait`` so many seconds and go on,
    or die that ``late``."""
    told = {"how": how, "said": said, "left": times, "after": after}
    path.write_text(json.dumps(told))
    os.environ[FILE] = str(path)


def faults_left(path: Path) -> int:
    return int(json.loads(path.read_text())["left"])


def _armed(link: Any) -> Any:
    """The same link, which fails when its turn comes."""
    path = Path(os.environ[FILE])
    plan = json.loads(path.read_text())
    if plan["left"] <= 0:
        return link
    edges, usual = 0, type(link).pending

    def pending() -> bool:
        nonlocal edges
        edges += 1
        if edges == plan["after"]:
            path.write_text(json.dumps({**plan, "left": plan["left"] - 1}))
            _fail(plan["how"], plan["said"])
        return bool(usual(link))

    link.pending = pending
    return link


def _fail(how: str, said: str) -> None:
    if how == "raise":
        raise RuntimeError(said)
    if how in ("hang", "wait", "late"):
        time.sleep(3600 if how == "hang" else float(said))
        if how != "late":
            return
    print(said, file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGABRT)


def train(link: Any, order: TrainingOrder) -> TrainingSummary:
    return training_order.train(_armed(link), order)


def score(link: Any, order: ScoringOrder) -> None:
    workers.score(_armed(link), order)


def losses(link: Any, order: LossOrder) -> Rows:
    return model_answers.losses(_armed(link), order)


def answers(link: Any, order: AnswerOrder) -> Rows:
    return model_answers.answers(_armed(link), order)


def echo(link: Any, order: np.ndarray) -> np.ndarray:
    """Nothing but edges, and what it was given back."""
    armed = _armed(link) if os.environ.get(FILE) else link
    for _ in range(5):
        armed.edge()
    return order * 2


def settled(link: Any, order: str) -> list[str]:
    """The dtypes of training and scoring that this process computes in."""
    from mlxprune.engine import backend

    device = backend.detect()
    return [str(dtype) for dtype in (device.train_dtype, device.score_dtype)]


def sleep(link: Any, order: TokenizerOrder) -> TokenizerSummary:
    """As a library that hears nothing before it is done."""
    time.sleep(3600)
    raise RuntimeError("nobody ended it")


def garble(link: Any, order: str) -> None:
    """A message of no kind, as another version might send."""
    link.write(Told(b"\x00"))
    link.write(Begin())  # it is for children
