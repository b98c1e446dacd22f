"""Evaluate a model without a study: ask it tasks, score a text with it, or hand it to lm-eval."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from mlxprune import machine
from mlxprune.config.schema import Config
from mlxprune.data.index import Corpus
from mlxprune.errors import RunError
from mlxprune.evaluation import requests
from mlxprune.evaluation.asking import answer_context, ask
from mlxprune.evaluation.bits_per_byte import (
    BITS_METRIC_VERSION,
    LEAST_OF_TARGET,
    TextBits,
    bits_by_domain,
)
from mlxprune.evaluation.items_file import (
    requests_sentence,
    warn_of_bad_lines,
    write_bad_lines,
    write_items,
)
from mlxprune.evaluation.lm_eval_bridge import LmEvalResult, evaluate_with_lm_eval
from mlxprune.evaluation.model_answers import estimated_seconds, losses_in_child
from mlxprune.evaluation.task_metrics import (
    TASK_METRIC_VERSION,
    CategoryResult,
    MeanResult,
    SuiteResult,
    TaskResult,
    suite_result,
)
from mlxprune.evaluation.tasks import FoundTasks, find_tasks
from mlxprune.execution.context import Execution
from mlxprune.execution.lifecycle import alone
from mlxprune.execution.progress import progress_between, stage_progress
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.files import files_identity, full_hash
from mlxprune.model.architecture import read_model_config
from mlxprune.model.device_choice import settle_device
from mlxprune.model.model_checks import check_scoring_model
from mlxprune.model.weights import MODEL_FILES, fetch_model
from mlxprune.records import Json, SparseRecord, read_record, write_record
from mlxprune.run.event_kinds import StageStart
from mlxprune.run.events import Listener
from mlxprune.run.markers import marker_identity
from mlxprune.tokenization.prepare import prepare_text
from mlxprune.tokenization.token_file import Tokens
from mlxprune.tokenization.tokenizer import TOKENIZER_FILES, load_tokenizer


@dataclass(frozen=True)
class LmEvalRequest:
    """What lm-eval is asked for: its tasks, folders of task YAML, examples."""

    tasks: list[str]
    include: list[str]
    shots: int | None


class WholeText(TextBits, kw_only=True):
    """Bits per byte of a text, all of it."""

    documents: int
    tokens: int


class ModelEvaluation(SparseRecord):
    """eval.json: what a model was asked, and what it came to. The fields from ``metric_version`` to
    ``items_file`` are those of a ``SuiteResult``; None where it was asked no task."""

    model: str
    context: int
    seed: int
    limit: int | None
    versions: dict[str, str]
    metric_version: int | None = None
    suite: str | None = None
    tasks: dict[str, TaskResult] | None = None
    categories: dict[str, CategoryResult] | None = None
    average: MeanResult | None = None
    average_over: int | None = None
    gold_bpb: float | UnsetType | None = UNSET
    absent: dict[str, str] | None = None
    items_file: str | None = None
    text: WholeText | None = None
    lm_eval: LmEvalResult | None = None

    @property
    def answers(self) -> SuiteResult | None:
        """What it answered; None where it was asked no task."""
        if self.tasks is None:
            return None
        return SuiteResult(**{n: getattr(self, n) for n in SuiteResult.__struct_fields__})


def evaluate_model(
    model: str,
    config: Config,
    with_text: bool,
    lm_eval: LmEvalRequest | None,
    out: Path,
    context: int | None,
    listeners: list[Listener],
) -> ModelEvaluation:
    """Ask a model the tasks of ``config.evaluation``, score the text of ``config.data``, into
    ``out/eval.json``; return what stands there."""
    source = fetch_model(model)
    window = answer_context(read_model_config(source), context, model)
    checks = check_scoring_model(source, window, "--context")
    asked, target = config.evaluation, out / "eval.json"
    tasks = find_tasks(asked.tasks, asked.gauntlet) if asked.tasks else None
    with alone(config, out, listeners) as execution:
        for warning in checks.warnings:
            execution.warn("evaluation", warning)
        settle_device(execution)
        text = prepare_text(execution, source) if with_text else None
        inputs = _inputs(execution, source, window, tasks, lm_eval)
        if text is not None:
            inputs["text"] = marker_identity(execution.run.tokens())

        def build() -> Json:
            answers, whole, outside = None, None, None
            if tasks is not None:
                answers = _answers(execution, source, tasks, window, artifact.fingerprint[:8])
            if text is not None:
                whole = _text(execution, source, *text, window)
            if lm_eval is not None:
                why = "lm-eval " + ", ".join(lm_eval.tasks)
                execution.log.emit("evaluation", StageStart(why=why))
                outside = evaluate_with_lm_eval(
                    source, lm_eval.tasks, lm_eval.include, lm_eval.shots, asked.limit
                )
            evaluation = ModelEvaluation(
                model=model,
                context=window,
                seed=config.seed,
                limit=asked.limit,
                versions=machine.package_versions(),
                **({} if answers is None else msgspec.structs.asdict(answers)),
                text=whole,
                lm_eval=outside,
            )
            write_record(target, evaluation)
            return {} if whole is None else {"documents": whole.documents}

        artifact = Artifact(target, (inputs,), build)
        run_stage(execution, "evaluation", [artifact])
        shutil.rmtree(out / f"parts-{artifact.fingerprint[:8]}", ignore_errors=True)
    return read_record(target, ModelEvaluation)


def _inputs(
    execution: Execution,
    source: Path,
    window: int,
    tasks: FoundTasks | None,
    lm_eval: LmEvalRequest | None,
) -> Json:
    limit, seed = execution.config.evaluation.limit, execution.config.seed
    return {
        "version": [requests.REQUESTS_VERSION, TASK_METRIC_VERSION, BITS_METRIC_VERSION],
        "model": [
            [path.name, full_hash(path)]
            for pattern in MODEL_FILES
            for path in sorted(source.glob(pattern))
        ],
        "tokenizer": files_identity(source, TOKENIZER_FILES),
        "context": window,
        **execution.config.dtype_identity,
        "tasks": requests.requests_identity(tasks, limit, seed) if tasks else None,
        "lm_eval": None if lm_eval is None else [*asdict(lm_eval).values(), limit],
    }


def _answers(
    execution: Execution, source: Path, tasks: FoundTasks, window: int, short: str
) -> SuiteResult:
    config, out = execution.config, execution.run.path
    report = stage_progress(execution, "evaluation", "items")
    asked = requests.prepare_requests(
        tasks, load_tokenizer(source), window, config.evaluation.limit, config.seed, report
    )
    warn_of_bad_lines(execution, asked)
    sentence = requests_sentence(asked, estimated_seconds(execution, source, asked))
    execution.log.emit("evaluation", StageStart(why=sentence))
    answers = ask(execution, source, asked, window, out / f"parts-{short}")
    items = out / f"items-{short}.parquet"  # it stays right when these figures are set aside
    write_items(asked, answers, items)
    write_bad_lines(asked, out / "bad-lines.jsonl")
    return msgspec.structs.replace(suite_result(asked, answers), items_file=items.name)


def _text(
    execution: Execution, source: Path, corpus: Corpus, tokens: Tokens, window: int
) -> WholeText:
    documents = np.arange(len(corpus))
    documents = documents[tokens.lengths(documents) > 0]
    total = int(tokens.lengths(documents).sum())
    report = stage_progress(execution, "evaluation", "tokens", obeys=False)
    between = progress_between(report, 0, total)
    part = losses_in_child(execution, source, tokens, documents, window, between)
    finite = np.isfinite(part["nll_sum"])
    if not finite.any():
        fix = "check the model: its weights or its positions are broken"
        raise RunError("no document of the text has a finite loss", str(source), fix)
    if not finite.all():
        lost = int((~finite).sum())
        what = f"{lost:,} of {len(documents):,} documents have no finite loss and are left out"
        execution.warn("evaluation", what)
        part, documents = part[finite], documents[finite]
        total = int(tokens.lengths(documents).sum())
    index = corpus.index[documents]
    bits: TextBits = bits_by_domain(
        part["nll_sum"], index["bytes"], index["domain"], corpus.domains, least=LEAST_OF_TARGET
    )
    return WholeText(**msgspec.structs.asdict(bits), documents=len(documents), tokens=total)
