"""The stage ``evaluation``: every arm and seed on the same test documents, the same target text and
the same items of the tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.errors import DataError
from mlxprune.evaluation import requests
from mlxprune.evaluation.asking import ask
from mlxprune.evaluation.bits_per_byte import (
    EVALUATION_VERSION,
    LEAST_OF_TARGET,
    LOSSES_VERSION,
    by_decile,
    score_model,
)
from mlxprune.evaluation.contamination import (
    CONTAMINATION_VERSION,
    find_contaminated,
    rows_by_task,
)
from mlxprune.evaluation.items_file import warn_of_bad_lines, write_bad_lines, write_items
from mlxprune.evaluation.model_answers import losses_in_child
from mlxprune.evaluation.target_text import prepare_target, target_identity
from mlxprune.evaluation.task_metrics import TASK_METRIC_VERSION, SuiteResult, suite_result
from mlxprune.evaluation.tasks import FoundTasks, find_tasks
from mlxprune.execution.progress import progress_between, stage_progress
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.arms import Arm, arm_documents, arms_of, branches_of, ranks_slices
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.experiment.records import (
    ArmEvaluation,
    ContaminationRecord,
    note_test_read,
    read_evaluation,
)
from mlxprune.experiment.scorers import scorers_of, scoring_context
from mlxprune.files import fingerprint_of
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.records import Json, write_record
from mlxprune.run.event_kinds import Assessed
from mlxprune.run.markers import mark_done
from mlxprune.stats import deciles_of
from mlxprune.tokenization.token_file import Tokens
from mlxprune.tokenization.tokenizer import load_tokenizer

Beside = Callable[[str], Path]


@dataclass(frozen=True)
class EvaluationInputs:
    """What all arms of a run are assessed on; made when the first of them needs it."""

    study: StudyExecution
    documents: np.ndarray  # of the test part
    context: int
    tasks: FoundTasks | None

    def tokens_of(self, arm: Arm) -> int:
        """That a model of this arm reads."""
        held = self.study.held
        read = int(held.tokens().lengths(self.documents).sum())
        if ranks_slices(arm):
            read += int(held.tokens().lengths(held.validation_documents()).sum())
        return read

    @cached_property
    def requests(self) -> requests.TaskRequests:
        assert self.tasks is not None
        config = self.study.config
        made = requests.prepare_requests(
            self.tasks,
            load_tokenizer(self.study.run.tokenizer),
            self.context,
            config.evaluation.limit,
            config.seed,
            stage_progress(self.study, "evaluation", "items"),
        )
        warn_of_bad_lines(self.study, made)
        write_bad_lines(made, self.study.run.path / "eval" / "bad-lines.jsonl")
        return made

    @cached_property
    def target(self) -> tuple[Corpus, Tokens, np.ndarray]:
        target = prepare_target(self.study)
        for reason, count in target[0].summary.skipped.items():
            self.study.warn("evaluation", f"target: {count:,} rows skipped: {reason}")
        return target

    @cached_property
    def decile(self) -> np.ndarray:
        """Of every test document, by its mean NLL under the first reference (or fold's)."""
        scorer = next(s for s in scorers_of(self.study.config) if s.snapshot is None)
        folder = self.study.held.model_folder(scorer.name)
        tokens = self.study.held.tokens(scorer.tokenizer)
        part = losses_in_child(self.study, folder, tokens, self.documents, _window(self.study))
        return deciles_of(part["nll_sum"] / np.maximum(part["num_tokens"], 1))


@dataclass(frozen=True)
class Place:
    """An arm among those that are evaluated: the ``number``-th of ``count``, with so many tokens
    ``before`` it of the ``total``."""

    number: int
    count: int
    before: int
    total: int


def _window(study: StudyExecution) -> int:
    """Of the losses that sort the test documents into tenths: that of the scores."""
    return scoring_context(study.config, study.config.primary_reference)


def evaluate_arms(study: StudyExecution) -> None:
    """Figures of every arm and seed, and what of the tasks is in their training documents."""
    config, documents = study.config, study.held.test_documents()
    if not len(documents):
        fix = "give more documents or raise split.test"
        raise DataError("the test part has no token", str(study.run.split), fix)
    context = training_defaults(config.final, preset_of(config.final.model)).context
    asked = config.evaluation
    tasks = find_tasks(asked.tasks, asked.gauntlet) if asked.tasks else None
    inputs = EvaluationInputs(study, documents, context, tasks)
    if asked.target:
        _ = inputs.target  # also where no arm is read: what is damaged of it is made again
    shared: Json = {
        "version": [EVALUATION_VERSION, LOSSES_VERSION, TASK_METRIC_VERSION],
        "reference": [study.fingerprint("reference"), _window(study)],  # of the deciles
        "tasks": requests.requests_identity(tasks, asked.limit, config.seed) if tasks else None,
        "target": target_identity(config),
        **config.dtype_identity,
    }
    trainings = study.inputs["final"]
    whole = [a for a in arms_of(config) if a.name in trainings and not a.screens]
    trained = [a for arm in whole for a in (arm, *branches_of(arm, config))]
    artifacts: dict[str, Artifact] = {}
    sizes = [inputs.tokens_of(arm) for arm in trained]
    for number, arm in enumerate(trained):
        own = {"arm": fingerprint_of(trainings[arm.name])}
        place = Place(number, len(trained), sum(sizes[:number]), sum(sizes))
        artifacts[arm.name] = _evaluated(inputs, arm, {**shared, **own}, place)
    if tasks is not None and asked.contamination != "off":
        searched = {
            "version": CONTAMINATION_VERSION,
            "tasks": shared["tasks"],
            "arms": {a.name: trainings[a.name]["documents"] for a in whole},
        }
        artifacts["contamination"] = _contamination(inputs, whole, searched)
    named = {name: artifact.inputs[0] for name, artifact in artifacts.items()}
    note_test_read(
        study.run,
        {a.arm: str(trainings[a.name]["documents"]) for a in whole if a.kind == "pruned"},
    )
    run_stage(study, "evaluation", list(artifacts.values()), named)
    for parts in study.run.evaluation("x").parent.glob("*.parts"):  # a kill may leave them
        shutil.rmtree(parts)
    for arm in trained:
        if arm.name not in study.log.state.assessed:  # it was there before
            _tell(study, arm.name)


def _evaluated(inputs: EvaluationInputs, arm: Arm, described: Json, at: Place) -> Artifact:
    """One arm, or a shorter end of one."""
    study, held = inputs.study, inputs.study.held
    folder, place = study.run.final(arm.name), study.run.evaluation(arm.name)

    # Arrays are named by what they belong to: they stay right when the figures are set aside.
    def beside(what: str) -> Path:
        return place.with_name(f"{place.stem}.{artifact.fingerprint[:8]}.{what}")

    def build() -> ArmEvaluation:
        report = stage_progress(study, "evaluation", "tokens", obeys=False, before=at.before)
        between = progress_between(report, at.before, at.total)
        array = beside("npy")
        scored = score_model(
            study, folder, held.corpus, held.tokens(), inputs.documents, inputs.context, array,
            between, held.pool_mix,
        )  # fmt: skip
        sizes = held.corpus.index["bytes"][inputs.documents]
        deciles = by_decile(np.load(array), sizes, inputs.decile)
        target, validation, suite = None, None, None
        if ranks_slices(arm) and len(held.validation_documents()):
            validation = score_model(
                study, folder, held.corpus, held.tokens(), held.validation_documents(),
                inputs.context, beside("validation.npy"), between, held.pool_mix,
            )  # fmt: skip
        if study.config.evaluation.target:
            target = score_model(
                study, folder, *inputs.target, inputs.context, beside("target.npy"),
                least=LEAST_OF_TARGET,
            )  # fmt: skip
        if inputs.tasks is not None:
            suite = _asked(inputs, folder, beside, f"{arm.name}, {at.number + 1} of {at.count}")
        evaluation = ArmEvaluation(
            **msgspec.structs.asdict(scored),
            deciles=deciles,
            target=target,
            validation=validation,
            tasks=suite,
        )
        write_record(place, evaluation)
        names = ("npy", "validation.npy", "target.npy", "items.parquet")
        made = tuple(path for path in map(beside, names) if path.exists())
        mark_done(place, "evaluation", artifact.fingerprint, besides=made)
        shutil.rmtree(beside("parts"), ignore_errors=True)
        _tell(study, arm.name)
        return evaluation

    artifact = Artifact(place, (described,), build)
    return artifact


def _asked(inputs: EvaluationInputs, folder: Path, beside: Beside, what: str) -> SuiteResult:
    """The answers of one model go to the items file."""
    answers = ask(inputs.study, folder, inputs.requests, inputs.context, beside("parts"), what)
    items = beside("items.parquet")
    write_items(inputs.requests, answers, items)
    result = suite_result(inputs.requests, answers)
    return msgspec.structs.replace(result, items_file=items.name)


def _tell(study: StudyExecution, name: str) -> None:
    """The figures of one arm as an event, also of those that are reused."""
    evaluation = read_evaluation(study.run, name)
    target, suite = evaluation.target, evaluation.tasks
    categories = suite.categories if suite else {}
    assessed = Assessed(
        model=name,
        macro=evaluation.macro,
        original_mix=evaluation.original_mix,
        target=target.macro if target else None,
        gold_bpb=suite.gold_bpb if suite else None,
        accuracy=suite.average.normalised_accuracy if suite else None,
        categories={k: v.normalised_accuracy for k, v in categories.items()},
    )
    study.log.emit("evaluation", assessed)


def _contamination(inputs: EvaluationInputs, trained: list[Arm], described: Json) -> Artifact:
    """Which items stand in the documents of which arm."""
    study = inputs.study
    place = study.run.evaluation("contamination")

    def build() -> Json:
        wanted = np.zeros(len(study.held.corpus), bool)
        pool = study.held.arm_pool()
        wanted[pool.documents] = wanted[pool.spare] = True
        traces = find_contaminated(study, inputs.requests, study.held.corpus, wanted)
        targets = study.held.arms.targets

        def rows_of(arm: Arm) -> dict[str, list[int]]:
            inside = np.isin(traces.document, arm_documents(arm, pool, targets))
            return rows_by_task(inputs.requests, traces.item[inside])

        record = ContaminationRecord(
            metric_version=CONTAMINATION_VERSION,
            documents=int(wanted.sum()),
            phrases=traces.phrases,
            common=rows_by_task(inputs.requests, traces.common),
            arms={arm.name: rows_of(arm) for arm in trained},
        )
        write_record(place, record)
        return {"documents": record.documents}

    return Artifact(place, (described,), build)
