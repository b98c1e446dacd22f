"""Documents: which ones an export takes out of a run, of scores, or of any data by a slice."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mlxprune.config.data import Data
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.data.hashing import hash_text
from mlxprune.data.index import Corpus, open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.sources import find_sources
from mlxprune.errors import DataError, UsageError, closest, one_line
from mlxprune.experiment.artifacts import RunArtifacts, open_run
from mlxprune.experiment.chosen_slice import chosen_slice, slice_in, slice_of
from mlxprune.run.markers import is_current
from mlxprune.scoring.score_file import Scores, places_of, read_scores
from mlxprune.selection.manifest import SliceManifest

KEPT, DROPPED, POOL = "kept", "dropped", "pool"
SPLIT_PARTS = {
    "reference": split.REFERENCE, "validation": split.VALIDATION, "test": split.TEST,
}  # fmt: skip
ARM = "arm:"
PARTS = (KEPT, DROPPED, POOL, *SPLIT_PARTS)


@dataclass
class ExportSource:
    """Where documents come from: a corpus, the scores of some of them, and a slice of those.

    ``scored`` int64: the numbers of the documents that ``scores`` has rows for, in their order;
    ``kept``: the numbers of those that the slice keeps, ascending.
    """

    name: str
    corpus: Corpus
    scores: Scores | None = None
    scored: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    manifest: SliceManifest | None = None
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    held: RunArtifacts | None = None
    stack: ExitStack = field(default_factory=ExitStack)  # what goes when the source is closed

    @property
    def choice(self) -> Slice | None:
        """The slice as it was asked for."""
        return None if self.manifest is None else slice_of(self.manifest.slice)

    def documents(self, part: str) -> np.ndarray:
        """The numbers of the documents of a part, ascending.

        Raises UsageError: an unknown part, or one that this source does not have.
        """
        if part == POOL and len(self.scored):
            return np.sort(self.scored)
        if part in (KEPT, DROPPED) and self.manifest is not None:
            return self.kept if part == KEPT else np.setdiff1d(self.scored, self.kept)
        if self.held is not None and part in SPLIT_PARTS:
            members = self.held.split.members(SPLIT_PARTS[part])
            return members[self.held.tokens().lengths(members) > 0]
        if self.held is not None and part.startswith(ARM):
            return _of_arm(self.held, part.removeprefix(ARM))
        if part in PARTS or part.startswith(ARM):
            fix = "give a run that has been selected from, or another --part"
            raise UsageError(f"there is no part {one_line(part)!r} here", self.name, fix)
        fix = closest(part, [*PARTS, f"{ARM}NAME"])
        raise UsageError(f"unknown part {one_line(part)!r}", "--part", fix)


def open_source(place: Path, slice_name: str | None, data: Data | None = None) -> ExportSource:
    """What can be exported from a run, from a folder of ``mlxprune score``, or, with ``data``, from
    any files by a slice that was chosen from scores made elsewhere.

    ``slice_name`` is that of a slice of the run, or a folder that ``mlxprune select`` wrote; the
    run's first by default. Raises UsageError and DataError with what is missing.
    """
    if data is not None:
        return _of_data(place, data)
    if (place / "run.json").exists():
        return _of_run(open_run(place), slice_name)
    if (place / "corpus" / "index.npy").exists() and (place / "scores.parquet").exists():
        corpus = open_corpus(place / "corpus", Data.model_validate({"paths": ["-"]}))
        scores = read_scores(place / "scores.parquet")
        source = ExportSource(place.name, corpus, scores, _numbers(corpus, scores.key, place))
        if slice_name is not None:
            _take_slice(source, Path(slice_name))
        return source
    fix = "give a run, a folder of `mlxprune score`, or a slice with --data"
    raise UsageError("there is nothing to export here", str(place), fix)


def _of_run(held: RunArtifacts, slice_name: str | None) -> ExportSource:
    run = held.run
    if not is_current(run, run.corpus):
        fix = f"run it first: mlxprune run {run.config} --dir {run.path}"
        raise UsageError("the run has no corpus index yet", str(run.path), fix)
    source = ExportSource(held.config.name, held.corpus, held=held)
    chosen = chosen_slice(held, slice_name)
    if chosen is None:
        return source
    source.scores = held.scores(chosen.choice)
    source.scored = _numbers(held.corpus, source.scores.key, run.path)
    _take_slice(source, chosen.folder)
    return source


def _take_slice(source: ExportSource, folder: Path) -> None:
    """The slice in a folder: its manifest, and which of the documents it keeps."""
    source.manifest = slice_in(folder).manifest
    try:
        names = pq.read_schema(folder / "kept.parquet").names
        column = "key" if "key" in names else "id"
        kept = pq.read_table(folder / "kept.parquet", columns=[column]).column(0)
    except (OSError, ValueError) as error:
        fix = "give a folder that `mlxprune select` wrote, with manifest.json and kept.parquet"
        raise UsageError(f"this is no slice: {one_line(error)}", str(folder), fix) from None
    if column == "key":
        source.kept = np.sort(_numbers(source.corpus, kept.to_numpy(), folder))
        return
    table = source.corpus.folder / "documents.parquet"
    ids = pq.read_table(table, columns=["id"]).column("id").to_pylist()
    hashes = np.fromiter(map(hash_text, ids), np.uint64, len(ids))
    wanted = [str(one) for one in kept.to_pylist()]
    at = places_of(hashes, np.fromiter(map(hash_text, wanted), np.uint64, len(wanted)))
    source.kept = np.sort(_all_found(at, folder))


def _numbers(corpus: Corpus, keys: np.ndarray, where: Path) -> np.ndarray:
    return _all_found(places_of(corpus.index["key"], keys), where)


def _all_found(at: np.ndarray, where: Path) -> np.ndarray:
    if lost := int((at < 0).sum()):
        problem = f"{lost:,} of its {len(at):,} documents are not in this data"
        raise DataError(problem, str(where), "give the data that was scored")
    return at


def _of_data(folder: Path, data: Data) -> ExportSource:
    stack = ExitStack()
    index = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlxprune-export-")))
    try:
        build_index(data, find_sources(data), index)
        source = ExportSource(folder.name, open_corpus(index, data), stack=stack)
        _take_slice(source, folder)
    except BaseException:
        stack.close()
        raise
    source.scored = np.arange(len(source.corpus))
    return source


def _of_arm(held: RunArtifacts, name: str) -> np.ndarray:
    """The documents of an arm; without a seed those of its first."""
    records = held.arms.arms
    full = name if name in records else next((n for n, r in records.items() if r.arm == name), None)
    if full is None:
        names = {f"{ARM}{n}" for n in (*records, *(r.arm for r in records.values()))}
        known = closest(f"{ARM}{name}", names) if names else ""
        fix = known or "run the stage final first"
        raise UsageError(f"no arm is called {one_line(name)!r}", str(held.run.path), fix)
    return held.arm_documents(full)
