"""Examine: a model before the tasks, in a study or alone, and its bits per byte on any text."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import (
    evaluate,
    exam,
    harness,
    jobs,
    lock,
    marks,
    memory,
    papers,
    runs,
    study,
    tasks,
    work,
)
from mlxprune import model as models
from mlxprune import tokenizer as tokenizers
from mlxprune.config import Config
from mlxprune.control import Control
from mlxprune.errors import UsageError
from mlxprune.events import EventLog
from mlxprune.exam import Exam
from mlxprune.runs import RunFolder

LARGEST_CONTEXT = 2048  # where nobody says: that of the paper's models


def ask(
    under_way: work.Work,
    folder: Path,
    questions: Exam,
    window: int,
    parts: Path,
    what: str | None = None,
) -> np.ndarray:
    """ANSWER rows of one model; what stands in ``parts``, a folder of this model and these
    questions, is not asked again."""
    from mlxprune import backend

    device = backend.detect()
    allowed = under_way.config.memory or device.memory_bytes
    stated = runs.read_json(folder / "config.json")
    most = device.answer_tokens_per_batch
    tokens = memory.score_batch_tokens(stated, window, most, allowed, device.name, 1)

    def load() -> exam.Answering:
        return backend.answer_function(models.load(folder)[0])

    parts.mkdir(parents=True, exist_ok=True)
    between = work.adding(work.progress(under_way, "evaluation", "tokens", what), questions.inputs)
    return exam.answer(questions, load, max(tokens, window), parts, between)


def window_of(stated: dict[str, Any], asked: int | None, model: str) -> int:
    """The context: what is asked for, up to the model's; by default its own, up to 2,048."""
    longest = models.longest_context(stated)
    if asked is not None and not 1 <= asked <= (longest or asked):
        fix = f"up to {longest}, or leave it out" if longest else "give a count of tokens"
        raise UsageError(
            f"a context of {asked} is none of this model's", f"--context, {model}", fix
        )
    return asked or min(longest or LARGEST_CONTEXT, LARGEST_CONTEXT)


def estimate(folder: Path, questions: Exam) -> float:
    """Seconds that the questions will take: one batch from their middle, timed."""
    from mlxprune import backend

    asking = backend.answer_function(models.load(folder)[0])
    order = sorted(questions.trees, key=lambda tree: len(tree.ids))
    middle = len(order) // 2
    some = order[max(0, middle - 8) : middle + 8]
    asking(some[:1])
    began = time.monotonic()
    asking(some)
    taken = time.monotonic() - began
    return taken * questions.inputs / max(1, sum(len(tree.ids) for tree in some))


@dataclass(frozen=True)
class Outside:
    """What lm-eval is asked for: its tasks, folders of task YAML, examples."""

    tasks: list[str]
    include: list[str]
    shots: int | None


def evaluate_model(
    model: str,
    config: Config,
    with_text: bool,
    outside: Outside | None,
    out: Path,
    context: int | None,
    listeners: list[Any],
) -> dict[str, Any]:
    """Ask a model the tasks of ``config.evaluation``, score the text of ``config.data``, into
    ``out/eval.json``; return what stands there."""
    source = models.fetch(model)
    stated = models.stated(source)
    window = window_of(stated, context, model)
    asked = config.evaluation
    found = tasks.find(asked.tasks, asked.gauntlet) if asked.tasks else None
    run, target = RunFolder(out), out / "eval.json"
    if (out / "run.json").exists():
        raise UsageError("this folder holds a run", str(out), "choose another --out")
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, runs.no_space_is_an_error(out):
            under_way = work.Work(config, run, log, control)
            described: dict[str, Any] = {
                "version": [exam.VERSION, marks.METRIC_VERSION, evaluate.METRIC_VERSION],
                "model": [
                    [path.name, runs.full_hash(path)]
                    for pattern in models.MODEL_FILES
                    for path in sorted(source.glob(pattern))
                ],
                "tokenizer": runs.files_identity(source, tokenizers.TOKENIZER_FILES),
                "context": window,
                "tasks": exam.identity(found, asked.limit, config.seed) if found else None,
                "lm_eval": None if outside is None else [*asdict(outside).values(), asked.limit],
            }
            corpus = None
            if with_text:
                corpus = jobs.prepare(config, out, source, log, control)
                described["text"] = runs.marker(run.tokens())
            wanted = runs.fingerprint(described)

            def build() -> dict[str, Any]:
                result: dict[str, Any] = {"model": model, "context": window, "seed": config.seed}
                result |= {"limit": asked.limit, "versions": work.versions()}
                if found is not None:
                    result |= _answers(under_way, source, found, window, wanted[:8])
                if corpus is not None:
                    result["text"] = _text(under_way, source, corpus, window)
                if outside is not None:
                    log.emit("evaluation", "stage.start", why="lm-eval " + ", ".join(outside.tasks))
                    result["lm_eval"] = harness.evaluate(
                        source, outside.tasks, outside.include, outside.shots, asked.limit
                    )
                runs.write_json(target, result)
                return {"documents": result["text"]["documents"]} if corpus else {}

            under_way.inputs["evaluation"] = described
            work.run_stage(under_way, "evaluation", [work.Piece(target, wanted, build)])
            shutil.rmtree(out / f"parts-{wanted[:8]}", ignore_errors=True)
        log.close()
    result: dict[str, Any] = runs.read_json(target)
    return result


def _answers(
    under_way: work.Work, source: Path, found: tasks.Found, window: int, short: str
) -> dict[str, Any]:
    config, out = under_way.config, under_way.run.path
    limit, seed = config.evaluation.limit, config.seed
    said = work.progress(under_way, "evaluation", "items")
    questions = exam.prepare(found, tokenizers.load(source), window, limit, seed, said)
    papers.tell_of_bad_lines(under_way, questions)
    seconds = estimate(source, questions)
    under_way.log.emit("evaluation", "stage.start", why=papers.size(questions, seconds))
    answers = ask(under_way, source, questions, window, out / f"parts-{short}")
    items = out / f"items-{short}.parquet"  # it stays right when these figures are set aside
    papers.write_items(questions, answers, items)
    papers.write_bad_lines(questions, out / "bad-lines.jsonl")
    return marks.marks(questions, answers) | {"items_file": items.name}


def _text(under_way: work.Work, source: Path, corpus: Any, window: int) -> dict[str, Any]:
    """Bits per byte of every domain of a text, all of it."""
    names, tokens = corpus
    documents = np.arange(len(names))
    documents = documents[tokens.lengths(documents) > 0]
    total = int(tokens.lengths(documents).sum())
    report = work.progress(under_way, "evaluation", "tokens")
    between, memory_bytes = study.progress_over(report, total, 0, 1), under_way.config.memory
    part = evaluate.losses_of(source, tokens, documents, window, between, memory_bytes)
    index = names.index[documents]
    told = evaluate.figures(part["nll_sum"], index["bytes"], index["domain"], names.domains)
    return {**told, "documents": len(documents), "tokens": total}
