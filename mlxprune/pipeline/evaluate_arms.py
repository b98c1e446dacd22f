"""Assess: the stage ``evaluation``. Every arm and seed on the same test documents, the same target
text and the same items of the tasks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.data import split
from mlxprune.data.index import Corpus
from mlxprune.errors import DataError
from mlxprune.evaluation import requests
from mlxprune.evaluation.asking import ask
from mlxprune.evaluation.bits_per_byte import (
    BITS_METRIC_VERSION,
    EVALUATION_VERSION,
    by_decile,
    documents_to_test,
    losses_of,
    score_model,
)
from mlxprune.evaluation.contamination import CONTAMINATION_VERSION, find_contaminated, rows_by_task
from mlxprune.evaluation.items_file import warn_of_bad_lines, write_bad_lines, write_items
from mlxprune.evaluation.target_text import prepare_target, target_identity
from mlxprune.evaluation.task_metrics import TASK_METRIC_VERSION, suite_result
from mlxprune.evaluation.tasks import FoundTasks, find_tasks
from mlxprune.experiment.arms import Arm, arm_documents, arms_of, branches_of
from mlxprune.experiment.artifacts import model_folder, open_pool, open_run_corpus, open_run_tokens
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import fingerprint_of, read_json, write_json
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.run.markers import mark_done
from mlxprune.run.stage import Artifact, RunContext, progress_between, run_stage, stage_progress
from mlxprune.stats import deciles_of
from mlxprune.tokenization.token_file import Tokens, open_tokens
from mlxprune.tokenization.tokenizer import load_tokenizer


@dataclass(frozen=True)
class EvaluationInputs:
    """What all arms of a run are assessed on; made when the first of them needs it."""

    work: RunContext
    names: Corpus
    tokens: Tokens
    documents: np.ndarray  # of the test part
    context: int
    found: FoundTasks | None

    @cached_property
    def questions(self) -> requests.TaskRequests:
        assert self.found is not None
        config = self.work.config
        made = requests.prepare_requests(
            self.found,
            load_tokenizer(self.work.run.tokenizer),
            self.context,
            config.evaluation.limit,
            config.seed,
            stage_progress(self.work, "evaluation", "items"),
        )
        warn_of_bad_lines(self.work, made)
        write_bad_lines(made, self.work.run.path / "eval" / "bad-lines.jsonl")
        return made

    @cached_property
    def target(self) -> tuple[Corpus, Tokens, np.ndarray]:
        found = prepare_target(self.work.run, self.work.config)
        for reason, count in found[0].summary["skipped"].items():
            self.work.warn("evaluation", f"target: {count:,} rows skipped: {reason}")
        return found

    @cached_property
    def decile(self) -> np.ndarray:
        """Of every test document, by its mean NLL under the first reference (or fold's)."""
        scorer = next(s for s in scorers_of(self.work.config) if s.snapshot is None)
        folder = model_folder(self.work.run, scorer.name)
        tokens = open_tokens(self.work.run.tokens(scorer.tokenizer))
        window, memory = _window(self.work), self.work.config.memory
        part = losses_of(folder, tokens, self.documents, window, memory_bytes=memory)
        return deciles_of(part["nll_sum"] / np.maximum(part["num_tokens"], 1))


def _window(work: RunContext) -> int:
    return int(work.config.score.context or work.config.scorers[0].context or 512)


def evaluate_arms(work: RunContext) -> None:
    """The stage ``evaluation``: figures of every arm and seed, and what of the tasks is in their
    training documents."""
    run, config = work.run, work.config
    names, tokens = open_run_corpus(run, config), open_run_tokens(run)
    members = split.open_split(run.split).members(split.TEST)
    documents = documents_to_test(names, tokens, members, config.seed)
    if not len(documents):
        fix = "give more documents or raise split.test"
        raise DataError("the test part has no token", str(run.split), fix)
    shape = preset_of(config.final.model)
    context = training_defaults(config.final, shape)["context"]
    asked = config.evaluation
    found = find_tasks(asked.tasks, asked.gauntlet) if asked.tasks else None
    hall = EvaluationInputs(work, names, tokens, documents, context, found)
    shared: dict[str, Any] = {
        "version": [EVALUATION_VERSION, BITS_METRIC_VERSION, TASK_METRIC_VERSION],
        "reference": [work.fingerprint("reference"), _window(work)],  # of the deciles
        "tasks": requests.requests_identity(found, asked.limit, config.seed) if found else None,
        "target": target_identity(config),
    }
    described: dict[str, Any] = {}
    pieces = []
    whole = [a for a in arms_of(config) if a.name in work.inputs["final"]]
    trained = [a for arm in whole for a in (arm, *branches_of(arm, config))]
    for number, arm in enumerate(trained):
        own = {"arm": fingerprint_of(work.inputs["final"][arm.name])}
        described[arm.name] = {**shared, **own}
        pieces.append(_piece(hall, arm, fingerprint_of(described[arm.name]), number, trained))
    if found is not None and asked.contamination != "off":
        described["contamination"] = {
            "version": CONTAMINATION_VERSION,
            "tasks": shared["tasks"],
            "arms": {a.name: work.inputs["final"][a.name]["documents"] for a in whole},
        }
        pieces.append(_contamination(hall, whole, fingerprint_of(described["contamination"])))
    work.inputs["evaluation"] = described
    run_stage(work, "evaluation", pieces)
    for arm in trained:
        if arm.name not in work.log.state["assessed"]:  # it was there before
            _tell(work, arm.name)


def _piece(
    hall: EvaluationInputs, arm: Arm, fingerprint: str, number: int, trained: list[Arm]
) -> Artifact:
    work = hall.work
    folder, place = work.run.final(arm.name), work.run.evaluation(arm.name)
    short = fingerprint[:8]

    # Arrays are named by what they belong to: they stay right when the figures are set aside.
    def beside(what: str) -> Path:
        return place.with_name(f"{place.stem}.{short}.{what}")

    parts = beside("parts")

    def build() -> dict[str, Any]:
        size = int(hall.tokens.lengths(hall.documents).sum())
        report = stage_progress(work, "evaluation", "tokens")
        told = progress_between(report, size, number, len(trained))
        memory = work.config.memory
        array = beside("npy")
        result = score_model(
            folder, hall.names, hall.tokens, hall.documents, hall.context, array, told, memory
        )
        index = hall.names.index[hall.documents]
        result["deciles"] = by_decile(np.load(array), index["bytes"], hall.decile)
        result["nll_file"] = array.name
        if work.config.evaluation.target:
            names, tokens, documents = hall.target
            array = beside("target.npy")
            result["target"] = score_model(
                folder, names, tokens, documents, hall.context, array, lambda *_: None, memory
            )
            result["target"]["nll_file"] = array.name
        if hall.found is not None:
            what = f"{arm.name}, {number + 1} of {len(trained)}"
            answers = ask(work, folder, hall.questions, hall.context, parts, what)
            items = beside("items.parquet")
            write_items(hall.questions, answers, items)
            result["tasks"] = suite_result(hall.questions, answers)
            result["tasks"]["items_file"] = items.name
        write_json(place, result)
        mark_done(place, "evaluation", fingerprint)
        shutil.rmtree(parts, ignore_errors=True)
        _tell(work, arm.name)
        return result

    return Artifact(place, fingerprint, build)


def _tell(work: RunContext, name: str) -> None:
    """The figures of one arm as an event, also of those that are reused."""
    told = read_json(work.run.evaluation(name))
    asked = told.get("tasks") or {}
    categories = asked.get("categories") or {}
    work.log.emit(
        "evaluation",
        "assessed",
        model=name,
        macro=told["macro"],
        original_mix=told["original_mix"],
        target=(told.get("target") or {}).get("macro"),
        gold_bpb=asked.get("gold_bpb"),
        accuracy=(asked.get("average") or {}).get("normalised_accuracy"),
        categories={k: v["normalised_accuracy"] for k, v in categories.items()},
    )


def _contamination(hall: EvaluationInputs, trained: list[Arm], fingerprint: str) -> Artifact:
    """Which items stand in the documents of which arm."""
    work = hall.work
    place = work.run.evaluation("contamination")

    def build() -> dict[str, Any]:
        wanted = np.zeros(len(hall.names), bool)
        pool = open_pool(work)
        wanted[pool.documents] = wanted[pool.spare] = True
        found = find_contaminated(work, hall.questions, hall.names, wanted)
        targets = read_json(work.run.arms)["targets"]
        result = {
            "metric_version": CONTAMINATION_VERSION,
            "documents": int(wanted.sum()),
            "phrases": found.phrases,
            "common": rows_by_task(hall.questions, found.common),
            "arms": {
                arm.name: rows_by_task(
                    hall.questions,
                    found.item[np.isin(found.document, arm_documents(arm, pool, targets))],
                )
                for arm in trained
            },
        }
        write_json(place, result)
        return {"documents": result["documents"]}

    return Artifact(place, fingerprint, build)
