"""Study: what a run holds, opened: corpus, tokens, pool, the models that score, their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.data.index import Corpus, open_corpus
from mlxprune.errors import DataError
from mlxprune.experiment.arms import ArmPool
from mlxprune.experiment.scorers import scorers_of, snapshot_name
from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current
from mlxprune.run.stage import RunContext
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import scores_of_slice
from mlxprune.tokenization.token_file import Tokens, open_tokens


def open_run_corpus(run: RunFolder, config: Config) -> Corpus:
    return open_corpus(run.corpus, config.data)


def open_run_tokens(run: RunFolder, tokenizer: str = "main") -> Tokens:
    return open_tokens(run.tokens(tokenizer))


def pool_documents(run: RunFolder, config: Config) -> np.ndarray:
    """The scorable documents of the train part: at least one token in every tokenizer in use."""
    members = split.open_split(run.split).members(split.TRAIN)
    for name in sorted({"main", *(s.tokenizer for s in scorers_of(config))}):
        members = members[open_run_tokens(run, name).lengths(members) > 0]
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


def validation_part(run: RunFolder, config: Config) -> np.ndarray:
    members = split.open_split(run.split).members(split.VALIDATION)
    return members[open_run_tokens(run).lengths(members) > 0]


def folds_of(run: RunFolder, config: Config, documents: np.ndarray) -> np.ndarray:
    index = open_run_corpus(run, config).index
    return split.folds(index[documents], config.seed, config.split.cross or 1)


def model_folder(run: RunFolder, name: str) -> Path:
    """Where the weights of a scorer lie."""
    pointer = run.reference(name) / "pretrained.json"
    return Path(read_json(pointer)["folder"]) if pointer.exists() else run.reference(name)


def slice_scores(run: RunFolder, config: Config, choice: Slice) -> Scores:
    """What a slice ranks by; the pool's documents in canonical order."""
    first = config.scorers[0]
    reference = next((r for r in config.scorers if r.name == choice.reference), first)
    early = snapshot_name(reference.name, reference.snapshots[0]) if reference.snapshots else ""
    return scores_of_slice(run.scores, choice, first.name, early)


def planned_arms(run: RunFolder) -> dict[str, Any]:
    """arms.json of a run; empty before the stage ``final``."""
    try:
        found: dict[str, Any] = read_json(run.arms)
    except (OSError, ValueError):
        return {"targets": 0, "arms": {}, "left_out": {}}
    found["arms"] = {name: found["arms"][name] for name in found["order"]}
    return found


def assessed_arms(run: RunFolder) -> dict[str, dict[int, str]]:
    """The names of the evaluations of each arm, by seed."""
    found: dict[str, dict[int, str]] = {}
    for name, facts in planned_arms(run)["arms"].items():
        if is_current(run, run.evaluation(name)):
            found.setdefault(facts["arm"], {})[facts["seed"]] = name
    return found


def open_pool(work: RunContext) -> ArmPool:
    """The pool and its slices, as arms draw from them."""
    run, config = work.run, work.config
    documents = pool_documents(run, config)
    names, tokens = open_run_corpus(run, config), open_run_tokens(run)
    spare = split.open_split(run.split).members(split.REFERENCE)
    spare = without_cleaned(run, config, spare)
    index = names.index[documents]
    read: dict[str, Scores] = {}  # the last, since arms of one slice ask in a row

    def scores_of(choice: Slice) -> Scores:
        what = repr((choice.reference, choice.metric))
        if what not in read:
            read.clear()
            read[what] = slice_scores(run, config, choice)
        return read[what]

    return ArmPool(
        documents,
        np.array(index["key"]),
        index["domain"].astype(np.int64),
        tokens.lengths(documents) + 1,
        spare[tokens.lengths(spare) > 0],
        {c.label: np.load(run.selection(c.label) / "kept.npy") for c in config.slices},
        {c.label: c for c in config.slices},
        scores_of,
        config.seed,
    )
