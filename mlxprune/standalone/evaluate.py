"""Examine: a model before the tasks, in a study or alone, and its bits per byte on any text."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import machine
from mlxprune.config.schema import Config
from mlxprune.errors import UsageError
from mlxprune.evaluation import requests
from mlxprune.evaluation.asking import answer_context, ask, estimate_seconds
from mlxprune.evaluation.bits_per_byte import BITS_METRIC_VERSION, bits_by_domain, losses_of
from mlxprune.evaluation.items_file import (
    requests_sentence,
    warn_of_bad_lines,
    write_bad_lines,
    write_items,
)
from mlxprune.evaluation.lm_eval_bridge import evaluate_with_lm_eval
from mlxprune.evaluation.task_metrics import TASK_METRIC_VERSION, suite_result
from mlxprune.evaluation.tasks import FoundTasks, find_tasks
from mlxprune.files import (
    files_identity,
    fingerprint_of,
    full_hash,
    no_space_is_an_error,
    read_json,
    write_json,
)
from mlxprune.model.architecture import read_model_config
from mlxprune.model.weights import MODEL_FILES, fetch_model
from mlxprune.run import lock
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import read_marker
from mlxprune.run.stage import Artifact, RunContext, progress_between, run_stage, stage_progress
from mlxprune.tokenization.prepare import prepare_text
from mlxprune.tokenization.tokenizer import TOKENIZER_FILES, load_tokenizer


@dataclass(frozen=True)
class LmEvalRequest:
    """What lm-eval is asked for: its tasks, folders of task YAML, examples."""

    tasks: list[str]
    include: list[str]
    shots: int | None


def evaluate_model(
    model: str,
    config: Config,
    with_text: bool,
    outside: LmEvalRequest | None,
    out: Path,
    context: int | None,
    listeners: list[Any],
) -> dict[str, Any]:
    """Ask a model the tasks of ``config.evaluation``, score the text of ``config.data``, into
    ``out/eval.json``; return what stands there."""
    source = fetch_model(model)
    stated = read_model_config(source)
    window = answer_context(stated, context, model)
    asked = config.evaluation
    found = find_tasks(asked.tasks, asked.gauntlet) if asked.tasks else None
    run, target = RunFolder(out), out / "eval.json"
    if (out / "run.json").exists():
        raise UsageError("this folder holds a run", str(out), "choose another --out")
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, no_space_is_an_error(out):
            under_way = RunContext(config, run, log, control)
            described: dict[str, Any] = {
                "version": [requests.REQUESTS_VERSION, TASK_METRIC_VERSION, BITS_METRIC_VERSION],
                "model": [
                    [path.name, full_hash(path)]
                    for pattern in MODEL_FILES
                    for path in sorted(source.glob(pattern))
                ],
                "tokenizer": files_identity(source, TOKENIZER_FILES),
                "context": window,
                "tasks": requests.requests_identity(found, asked.limit, config.seed)
                if found
                else None,
                "lm_eval": None if outside is None else [*asdict(outside).values(), asked.limit],
            }
            corpus = None
            if with_text:
                corpus = prepare_text(config, out, source, log, control)
                described["text"] = read_marker(run.tokens())
            wanted = fingerprint_of(described)

            def build() -> dict[str, Any]:
                result: dict[str, Any] = {"model": model, "context": window, "seed": config.seed}
                result |= {"limit": asked.limit, "versions": machine.package_versions()}
                if found is not None:
                    result |= _answers(under_way, source, found, window, wanted[:8])
                if corpus is not None:
                    result["text"] = _text(under_way, source, corpus, window)
                if outside is not None:
                    log.emit("evaluation", "stage.start", why="lm-eval " + ", ".join(outside.tasks))
                    result["lm_eval"] = evaluate_with_lm_eval(
                        source, outside.tasks, outside.include, outside.shots, asked.limit
                    )
                write_json(target, result)
                return {"documents": result["text"]["documents"]} if corpus else {}

            under_way.inputs["evaluation"] = described
            run_stage(under_way, "evaluation", [Artifact(target, wanted, build)])
            shutil.rmtree(out / f"parts-{wanted[:8]}", ignore_errors=True)
        log.close()
    result: dict[str, Any] = read_json(target)
    return result


def _answers(
    under_way: RunContext, source: Path, found: FoundTasks, window: int, short: str
) -> dict[str, Any]:
    config, out = under_way.config, under_way.run.path
    limit, seed = config.evaluation.limit, config.seed
    said = stage_progress(under_way, "evaluation", "items")
    questions = requests.prepare_requests(found, load_tokenizer(source), window, limit, seed, said)
    warn_of_bad_lines(under_way, questions)
    seconds = estimate_seconds(source, questions)
    under_way.log.emit("evaluation", "stage.start", why=requests_sentence(questions, seconds))
    answers = ask(under_way, source, questions, window, out / f"parts-{short}")
    items = out / f"items-{short}.parquet"  # it stays right when these figures are set aside
    write_items(questions, answers, items)
    write_bad_lines(questions, out / "bad-lines.jsonl")
    return suite_result(questions, answers) | {"items_file": items.name}


def _text(under_way: RunContext, source: Path, corpus: Any, window: int) -> dict[str, Any]:
    """Bits per byte of every domain of a text, all of it."""
    names, tokens = corpus
    documents = np.arange(len(names))
    documents = documents[tokens.lengths(documents) > 0]
    total = int(tokens.lengths(documents).sum())
    report = stage_progress(under_way, "evaluation", "tokens")
    between, memory_bytes = progress_between(report, total, 0, 1), under_way.config.memory
    part = losses_of(source, tokens, documents, window, between, memory_bytes)
    index = names.index[documents]
    told = bits_by_domain(part["nll_sum"], index["bytes"], index["domain"], names.domains)
    return {**told, "documents": len(documents), "tokens": total}
