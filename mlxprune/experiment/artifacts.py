"""Artifacts: one handle on what a run holds: corpus, tokens, split, pool, scores, arms."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from mlxprune.config.loading import load_config
from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.data.index import Corpus, InputFile, open_corpus
from mlxprune.data.sources import FoundFiles
from mlxprune.data.split import CorpusSplit
from mlxprune.errors import DataError
from mlxprune.evaluation.bits_per_byte import documents_to_test
from mlxprune.execution.context import Execution
from mlxprune.experiment.arms import ArmPool, keys_identity
from mlxprune.experiment.records import StudyArms, read_arms
from mlxprune.experiment.scorers import scorers_of, snapshot_name
from mlxprune.files import read_array, read_json
from mlxprune.records import read_record
from mlxprune.run.events import fold_log
from mlxprune.run.folder import RunFolder, existing_run
from mlxprune.run.markers import is_current, refuse_damaged, refuse_damaged_records
from mlxprune.run.state import RunState
from mlxprune.scoring.score_file import Scores, places_of
from mlxprune.scoring.unscored_file import unscored_keys
from mlxprune.selection.absolute import as_resolved, with_resolved
from mlxprune.selection.manifest import SliceManifest
from mlxprune.selection.metric import scores_of_slice
from mlxprune.tokenization.token_file import Tokens, open_tokens


@dataclass
class RunArtifacts:
    """What the stages of a run have made, opened once each, when it is first asked for;
    ``arms`` and ``state`` are read anew, since they grow while a run works.

    held = open_run(Path("runs/mine"))
    held.scores(held.config.slices[0]).nll_sum
    """

    run: RunFolder
    config: Config
    _tokens: dict[str, Tokens] = field(default_factory=dict)

    def whole(self, place: Path) -> Path:
        """The same place, every byte as it was written (of a start or a reader, each file is read
        for that once). Raises DataError with what is damaged."""
        refuse_damaged(self.run, place)
        return place

    def resolve_slices(self) -> None:
        """Take slices of a count of tokens or a range for the shares that they are, of which the
        stage ``selection`` has written which."""
        found = {}
        for choice in self.config.slices:
            path = self.run.selection(choice.label) / "manifest.json"
            if choice.absolute and path.exists():
                written = read_record(path, SliceManifest).slice
                update = {key: written.get(key) for key in ("rate", "band", "unit")}
                found[choice.label] = as_resolved(choice, update)
        if found:
            self.config = with_resolved(self.config, found)

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.whole(self.run.corpus), self.config.data)

    @cached_property
    def split(self) -> CorpusSplit:
        return split.open_split(self.whole(self.run.split))

    def tokens(self, tokenizer: str = "main") -> Tokens:
        """By the name of a tokenizer; ``main`` is that of the final models."""
        if tokenizer not in self._tokens:
            self._tokens[tokenizer] = open_tokens(self.whole(self.run.tokens(tokenizer)))
        return self._tokens[tokenizer]

    @cached_property
    def pool(self) -> np.ndarray:
        """The candidates to which every model gave a score; there is none before the stage
        ``score``."""
        lost = self.unscored
        if not len(lost):
            return self.candidates
        return self.candidates[~np.isin(self.corpus.index["key"][self.candidates], lost)]

    @property
    def unscored(self) -> np.ndarray:
        """Keys of documents to which some model gave no finite score."""
        files = [self.run.scores(s.name) for s in scorers_of(self.config)]
        return np.concatenate([unscored_keys(path) for path in files])

    @cached_property
    def candidates(self) -> np.ndarray:
        """The documents of the train part that can be scored: at least one token in every tokenizer
        in use, and none that holds items of the tasks, where the configuration says so."""
        members = self.split.members(split.TRAIN)
        for name in sorted({"main", *(s.tokenizer for s in scorers_of(self.config))}):
            members = members[self.tokens(name).lengths(members) > 0]
        members = self.without_cleaned(members)
        if not len(members):
            raise DataError("the pool has no token", str(self.run.split), "give more documents")
        return members

    @property
    def cleaned(self) -> Path:
        """Where the documents are listed that hold items of the tasks."""
        return self.run.path / "cleaned"

    def without_cleaned(self, documents: np.ndarray) -> np.ndarray:
        """Without documents that hold items of the tasks, where the configuration says so."""
        if not leaves_out_items(self.config):
            return documents
        return np.setdiff1d(documents, np.load(self.whole(self.cleaned) / "documents.npy"))

    @cached_property
    def validation(self) -> np.ndarray:
        """The documents of the validation part that have a token."""
        members = self.split.members(split.VALIDATION)
        return members[self.tokens().lengths(members) > 0]

    def test_documents(self) -> np.ndarray:
        """The documents of the test part that are read."""
        members = self.split.members(split.TEST)
        return documents_to_test(self.corpus, self.tokens(), members, self.config.seed)

    @cached_property
    def pool_mix(self) -> np.ndarray:
        """float64 [domains]: bytes of the pool, which weigh the original mix."""
        index = self.corpus.index[self.pool]
        count = len(self.corpus.domains)
        return np.bincount(index["domain"], weights=index["bytes"], minlength=count)

    def validation_documents(self) -> np.ndarray:
        """The documents of the validation part by which slices are ranked, drawn as those of the
        test part are."""
        members = self.split.members(split.VALIDATION)
        return documents_to_test(self.corpus, self.tokens(), members, self.config.seed)

    def folds(self, documents: np.ndarray) -> np.ndarray:
        """Of cross-scoring, the fold of each document, uint8."""
        count = self.config.split.cross or 1
        return split.folds(self.corpus.index[documents], self.config.seed, count)

    def model_folder(self, name: str) -> Path:
        """Where the weights of a scorer lie."""
        folder = self.whole(self.run.reference(name))
        pointer = folder / "pretrained.json"
        return Path(str(read_json(pointer)["folder"])) if pointer.exists() else folder

    def scores(self, choice: Slice) -> Scores:
        """What a slice ranks by; the pool's documents in canonical order."""
        first = self.config.primary_reference
        reference = next((r for r in self.config.scorers if r.name == choice.reference), first)
        early = ""
        if reference.snapshots:
            early = snapshot_name(reference.name, reference.snapshots[0])
        scores = scores_of_slice(
            lambda name: self.whole(self.run.scores(name)), choice, first.name, early
        )
        lost = np.isin(scores.key, self.unscored)
        return scores.take(~lost) if lost.any() else scores

    @property
    def state(self) -> RunState:
        """What the log tells of the run so far, read anew."""
        return fold_log(self.run.events)

    def manifest(self, choice: Slice) -> SliceManifest:
        """What a slice is and keeps. Raises OSError before it is taken."""
        place = self.whole(self.run.selection(choice.label))
        return read_record(place / "manifest.json", SliceManifest)

    def kept(self, choice: Slice) -> np.ndarray:
        """bool [pool]: the documents that a slice keeps, in the order of ``pool`` and of the
        scores. Raises OSError before it is taken."""
        place = self.whole(self.run.selection(choice.label))
        mask: np.ndarray = np.load(place / "kept.npy")
        return mask

    @property
    def arms(self) -> StudyArms:
        """What every arm is; none before the stage ``final``."""
        return read_arms(self.run)

    def arm_documents(self, name: str) -> np.ndarray:
        """The documents of an arm with its seed, as numbers in the corpus, ascending. Raises
        DataError where the run was made before they were stored."""
        path = self.run.arm_documents(name)
        fix = f"mlxprune run {self.run.config} --dir {self.run.path} stores them, and trains none"
        if not path.exists():
            raise DataError(f"the documents of {name} are not stored", str(path), fix)
        wanted = self.arms.arms[name].documents_sum
        try:
            keys = read_array(path)
        except (OSError, ValueError):
            keys = None
        if keys is None or (wanted is not None and keys_identity(keys) != wanted):
            raise DataError("the file is damaged: its checksum differs", str(path), fix)
        return np.sort(places_of(self.corpus.index["key"], keys))

    def assessed_arms(self) -> dict[str, dict[int, str]]:
        """The names of the evaluations of each arm, by seed."""
        evaluations: dict[str, dict[int, str]] = {}
        for name, record in self.arms.arms.items():
            if is_current(self.run, self.run.evaluation(name)):
                evaluations.setdefault(record.arm, {})[record.seed] = name
        return evaluations

    def arm_pool(self) -> ArmPool:
        """The pool and its slices, as arms draw from them."""
        tokens = self.tokens()
        spare = self.without_cleaned(self.split.members(split.REFERENCE))
        index = self.corpus.index[self.pool]
        newest: dict[str, Scores] = {}  # one, since arms of one slice ask in a row

        def scores_of(choice: Slice) -> Scores:
            what = repr((choice.reference, choice.metric))
            if what not in newest:
                newest.clear()
                newest[what] = self.scores(choice)
            return newest[what]

        slices = self.config.slices
        return ArmPool(
            self.pool,
            np.array(index["key"]),
            index["domain"].astype(np.int64),
            tokens.lengths(self.pool) + 1,
            spare[tokens.lengths(spare) > 0],
            {c.label: self.kept(c) for c in slices},
            {c.label: c for c in slices},
            scores_of,
            self.config.seed,
        )


def open_run(folder: Path | str) -> RunArtifacts:
    """A run by its folder, finished or not. Raises UsageError where there is none, ConfigError
    where its configuration cannot be read, DataError where what it says of its results is
    damaged."""
    run = existing_run(Path(folder))
    held = RunArtifacts(run, load_config(run.config))
    refuse_damaged_records(run)
    held.resolve_slices()
    return held


def leaves_out_items(config: Config) -> bool:
    """Whether documents that hold items of the tasks are left out."""
    return config.evaluation.contamination == "remove" and bool(config.evaluation.tasks)


@dataclass(frozen=True)
class InputFiles:
    """The files that the configuration names: what is read, what is left out, what they are."""

    found: FoundFiles
    files: list[InputFile]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.size for file in self.files)


@dataclass
class StudyExecution(Execution):
    """A study under way: an execution, its input, and a handle on what it has made so far."""

    input: InputFiles = field(default_factory=lambda: InputFiles(FoundFiles(), []))

    @cached_property
    def held(self) -> RunArtifacts:
        return RunArtifacts(self.run, self.config)
