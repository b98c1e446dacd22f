"""Study: what a run holds, opened: corpus, tokens, pool, the models that score, their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import corpus, evaluate, runs, split, train
from mlxprune import scores as score_files
from mlxprune import tokens as tokens_module
from mlxprune.config import Config, Reference, Training
from mlxprune.errors import DataError
from mlxprune.meter import Place
from mlxprune.runs import RunFolder
from mlxprune.slices import FREE_SCORES, Slice
from mlxprune.work import Work


def open_corpus(run: RunFolder, config: Config) -> corpus.Corpus:
    return corpus.open_corpus(run.corpus, config.data)


def open_tokens(run: RunFolder, tokenizer: str = "main") -> tokens_module.Tokens:
    return tokens_module.open_tokens(run.tokens(tokenizer))


@dataclass(frozen=True)
class Scorer:
    """One model that scores: a reference, an early copy of it, or one fold's reference."""

    name: str  # of its folder and its scores
    reference: Reference
    snapshot: float | None = None
    fold: int | None = None

    @property
    def tokenizer(self) -> str:
        """Whose tokens it reads: a pretrained model brings its own tokenizer."""
        if not self.reference.pretrained:
            return "main"
        name = self.reference.name
        return "reference" if name == "main" else f"reference-{name}"


def scorers_of(config: Config) -> list[Scorer]:
    """Every model that scores; a snapshot stands before the reference that goes on from it."""
    found = []
    for reference in config.scorers:
        if config.split.cross:
            folds = range(config.split.cross)
            found += [Scorer(f"fold-{n}", reference, fold=n) for n in folds]
            continue
        for share in sorted(reference.snapshots):
            found.append(Scorer(snapshot_name(reference.name, share), reference, snapshot=share))
        found.append(Scorer(reference.name, reference))
    return found


def snapshot_name(reference: str, share: float) -> str:
    return f"{reference}.at-{100 * share:g}"


def free_scores(config: Config) -> list[str]:
    """The scores that need no model. Unigram frequency always: ranks must be more than that."""
    wanted = {choice.reference for choice in config.slices} | {*config.final.arms}
    for choice in config.slices:
        if not isinstance(choice.metric, str):
            wanted |= {*choice.metric.difference}
    return [name for name in FREE_SCORES if name in wanted or name == "unigram"]


def pool_documents(run: RunFolder, config: Config) -> np.ndarray:
    """The scorable documents of the train part: at least one token in every tokenizer in use."""
    members = split.open_split(run.split).members(split.TRAIN)
    for name in sorted({"main", *(s.tokenizer for s in scorers_of(config))}):
        members = members[open_tokens(run, name).lengths(members) > 0]
    members = without_cleaned(run, config, members)
    if not len(members):
        raise DataError("the pool has no token", str(run.split), "give more documents")
    return members


def cleaned(run: RunFolder) -> Path:
    """Where the documents are listed that hold items of the tasks."""
    return run.path / "cleaned"


def cleans(config: Config) -> bool:
    """Whether documents that hold items of the tasks are left out."""
    return config.evaluation.contamination == "remove" and bool(config.evaluation.tasks)


def without_cleaned(run: RunFolder, config: Config, documents: np.ndarray) -> np.ndarray:
    """Without documents that hold items of the tasks, where the configuration says so."""
    if not cleans(config):
        return documents
    return np.setdiff1d(documents, np.load(cleaned(run) / "documents.npy"))


def validation_documents(run: RunFolder, config: Config) -> np.ndarray:
    members = split.open_split(run.split).members(split.VALIDATION)
    return members[open_tokens(run).lengths(members) > 0]


def folds_of(run: RunFolder, config: Config, documents: np.ndarray) -> np.ndarray:
    index = open_corpus(run, config).index
    return split.folds(index[documents], config.seed, config.split.cross or 1)


def model_folder(run: RunFolder, name: str) -> Path:
    """Where the weights of a scorer lie."""
    pointer = run.reference(name) / "pretrained.json"
    return Path(runs.read_json(pointer)["folder"]) if pointer.exists() else run.reference(name)


def slice_scores(run: RunFolder, config: Config, choice: Slice) -> score_files.Scores:
    """What a slice ranks by; the pool's documents in canonical order."""
    first = config.scorers[0]
    reference = next((r for r in config.scorers if r.name == choice.reference), first)
    early = snapshot_name(reference.name, reference.snapshots[0]) if reference.snapshots else ""
    return score_files.of_slice(run.scores, choice, first.name, early)


def train_model(
    work: Work,
    stage: str,
    settings: Training,
    recipe: train.Recipe,
    documents: np.ndarray,
    folder: Path,
    fingerprint: str,
    stop: int | None = None,
    earlier: tuple[Path, ...] = (),
    place: Place | None = None,
    stem: int | None = None,
) -> dict[str, Any]:
    """Train on some documents of the run; ``stop``, ``earlier``, ``place`` and ``stem`` as in
    ``train.train``."""
    names, tokens = open_corpus(work.run, work.config), open_tokens(work.run)
    stream = train.Stream(tokens, documents, names.index["key"][documents], recipe.seed)
    members = split.open_split(work.run.split).members(split.VALIDATION)
    # A forward pass costs a third of a step: all validations together stay near 5 % of the work.
    budget = min(1_000_000, max(20_000, int(0.15 * recipe.targets) // train.VALIDATIONS_PER_RUN))
    held_out = evaluate.validation_documents(names, tokens, members, work.config.seed, budget)
    return train.train(
        recipe,
        stream,
        folder,
        fingerprint,
        work.run.tokenizer,
        evaluate.validator(
            names, tokens, held_out, recipe.config, recipe.context, work.config.memory
        ),
        stage,
        work.log,
        work.control,
        settings.gradient_checkpointing,
        work.config.memory,
        stop,
        earlier,
        place,
        stem,
    )


def progress_over(
    report: Callable[[int, int], None], size: int, number: int, count: int
) -> Callable[[int, int, float], None]:
    """Progress of the ``number``-th of ``count`` equal pieces of work, called between batches."""
    done = number * size

    def between(scored: int, slots: int, waited: float) -> None:
        nonlocal done
        done += scored
        report(done, count * size)

    return between
