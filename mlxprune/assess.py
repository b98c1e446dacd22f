"""Assess: the stage ``evaluation``. Every arm and seed on the same test documents, the same target
text and the same items of the tasks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import (
    arms,
    contamination,
    evaluate,
    exam,
    examine,
    finals,
    marks,
    papers,
    runs,
    split,
    study,
    target,
    tasks,
)
from mlxprune import model as models
from mlxprune import tokenizer as tokenizers
from mlxprune import tokens as tokens_module
from mlxprune.arms import Arm
from mlxprune.corpus import Corpus
from mlxprune.errors import DataError
from mlxprune.tokens import Tokens
from mlxprune.work import Piece, Work, progress, run_stage


@dataclass(frozen=True)
class Hall:
    """What all arms of a run are assessed on; made when the first of them needs it."""

    work: Work
    names: Corpus
    tokens: Tokens
    documents: np.ndarray  # of the test part
    context: int
    found: tasks.Found | None

    @cached_property
    def questions(self) -> exam.Exam:
        assert self.found is not None
        config = self.work.config
        made = exam.prepare(
            self.found,
            tokenizers.load(self.work.run.tokenizer),
            self.context,
            config.evaluation.limit,
            config.seed,
            progress(self.work, "evaluation", "items"),
        )
        papers.tell_of_bad_lines(self.work, made)
        papers.write_bad_lines(made, self.work.run.path / "eval" / "bad-lines.jsonl")
        return made

    @cached_property
    def target(self) -> tuple[Corpus, Tokens, np.ndarray]:
        found = target.prepare(self.work.run, self.work.config)
        for reason, count in found[0].summary["skipped"].items():
            self.work.warn("evaluation", f"target: {count:,} rows skipped: {reason}")
        return found

    @cached_property
    def decile(self) -> np.ndarray:
        """Of every test document, by its mean NLL under the first reference (or fold's)."""
        scorer = next(s for s in study.scorers_of(self.work.config) if s.snapshot is None)
        folder = study.model_folder(self.work.run, scorer.name)
        tokens = tokens_module.open_tokens(self.work.run.tokens(scorer.tokenizer))
        window, memory = _window(self.work), self.work.config.memory
        part = evaluate.losses_of(folder, tokens, self.documents, window, memory_bytes=memory)
        return evaluate.deciles_of(part["nll_sum"] / np.maximum(part["num_tokens"], 1))


def _window(work: Work) -> int:
    return int(work.config.score.context or work.config.scorers[0].context or 512)


def evaluate_arms(work: Work) -> None:
    """The stage ``evaluation``: figures of every arm and seed, and what of the tasks is in their
    training documents."""
    run, config = work.run, work.config
    names, tokens = study.open_corpus(run, config), study.open_tokens(run)
    members = split.open_split(run.split).members(split.TEST)
    documents = evaluate.test_documents(names, tokens, members, config.seed)
    if not len(documents):
        fix = "give more documents or raise split.test"
        raise DataError("the test part has no token", str(run.split), fix)
    shape = models.shape_of(config.final.model)
    context = models.training_defaults(config.final, shape)["context"]
    asked = config.evaluation
    found = tasks.find(asked.tasks, asked.gauntlet) if asked.tasks else None
    hall = Hall(work, names, tokens, documents, context, found)
    shared: dict[str, Any] = {
        "version": [evaluate.VERSION, evaluate.METRIC_VERSION, marks.METRIC_VERSION],
        "reference": [work.fingerprint("reference"), _window(work)],  # of the deciles
        "tasks": exam.identity(found, asked.limit, config.seed) if found else None,
        "target": target.identity(config),
    }
    described: dict[str, Any] = {}
    pieces = []
    whole = [a for a in arms.arms_of(config) if a.name in work.inputs["final"]]
    trained = [a for arm in whole for a in (arm, *arms.branches_of(arm, config))]
    for number, arm in enumerate(trained):
        own = {"arm": runs.fingerprint(work.inputs["final"][arm.name])}
        described[arm.name] = {**shared, **own}
        pieces.append(_piece(hall, arm, runs.fingerprint(described[arm.name]), number, trained))
    if found is not None and asked.contamination != "off":
        described["contamination"] = {
            "version": contamination.VERSION,
            "tasks": shared["tasks"],
            "arms": {a.name: work.inputs["final"][a.name]["documents"] for a in whole},
        }
        pieces.append(_contamination(hall, whole, runs.fingerprint(described["contamination"])))
    work.inputs["evaluation"] = described
    run_stage(work, "evaluation", pieces)
    for arm in trained:
        if arm.name not in work.log.state["assessed"]:  # it was there before
            _tell(work, arm.name)


def _piece(hall: Hall, arm: Arm, fingerprint: str, number: int, trained: list[Arm]) -> Piece:
    work = hall.work
    folder, place = work.run.final(arm.name), work.run.evaluation(arm.name)
    short = fingerprint[:8]

    # Arrays are named by what they belong to: they stay right when the figures are set aside.
    def beside(what: str) -> Path:
        return place.with_name(f"{place.stem}.{short}.{what}")

    parts = beside("parts")

    def build() -> dict[str, Any]:
        size = int(hall.tokens.lengths(hall.documents).sum())
        report = progress(work, "evaluation", "tokens")
        told = study.progress_over(report, size, number, len(trained))
        memory = work.config.memory
        array = beside("npy")
        result = evaluate.score_model(
            folder, hall.names, hall.tokens, hall.documents, hall.context, array, told, memory
        )
        index = hall.names.index[hall.documents]
        result["deciles"] = evaluate.by_decile(np.load(array), index["bytes"], hall.decile)
        result["nll_file"] = array.name
        if work.config.evaluation.target:
            names, tokens, documents = hall.target
            array = beside("target.npy")
            result["target"] = evaluate.score_model(
                folder, names, tokens, documents, hall.context, array, lambda *_: None, memory
            )
            result["target"]["nll_file"] = array.name
        if hall.found is not None:
            what = f"{arm.name}, {number + 1} of {len(trained)}"
            answers = examine.ask(work, folder, hall.questions, hall.context, parts, what)
            items = beside("items.parquet")
            papers.write_items(hall.questions, answers, items)
            result["tasks"] = marks.marks(hall.questions, answers)
            result["tasks"]["items_file"] = items.name
        runs.write_json(place, result)
        runs.mark(place, "evaluation", fingerprint)
        shutil.rmtree(parts, ignore_errors=True)
        _tell(work, arm.name)
        return result

    return Piece(place, fingerprint, build)


def _tell(work: Work, name: str) -> None:
    """The figures of one arm as an event, also of those that are reused."""
    told = runs.read_json(work.run.evaluation(name))
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


def _contamination(hall: Hall, trained: list[Arm], fingerprint: str) -> Piece:
    """Which items stand in the documents of which arm."""
    work = hall.work
    place = work.run.evaluation("contamination")

    def build() -> dict[str, Any]:
        wanted = np.zeros(len(hall.names), bool)
        pool = finals.open_pool(work)
        wanted[pool.documents] = wanted[pool.spare] = True
        found = papers.contaminated(work, hall.questions, hall.names, wanted)
        targets = runs.read_json(work.run.arms)["targets"]
        result = {
            "metric_version": contamination.VERSION,
            "documents": int(wanted.sum()),
            "phrases": found.phrases,
            "common": papers.by_task(hall.questions, found.common),
            "arms": {
                arm.name: papers.by_task(
                    hall.questions,
                    found.item[np.isin(found.document, arms.documents_of(arm, pool, targets))],
                )
                for arm in trained
            },
        }
        runs.write_json(place, result)
        return {"documents": result["documents"]}

    return Piece(place, fingerprint, build)
