"""Slices of any scores, without a study: no text is read, but to name domains from data."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mlxprune.config.loading import load_config, validate_config
from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.data.hashing import hash_text
from mlxprune.data.index import Corpus, open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.sources import find_sources
from mlxprune.errors import DataError, UsageError, one_line
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.controls import draw_random
from mlxprune.files import folder_in_the_making, refuse_taken
from mlxprune.records import write_record
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import Scores, has_column, places_of, read_scores
from mlxprune.scoring.score_parts import gather_scores, is_one_file, score_files
from mlxprune.selection.absolute import resolved
from mlxprune.selection.composition import (
    CompositionColumns,
    composition_columns,
    domain_table,
    length_table,
)
from mlxprune.selection.manifest import SliceManifest, slice_manifest
from mlxprune.selection.metric import metric_values, refuse_impossible
from mlxprune.selection.ranking import Kept, Ranked, kept_ranks, rank_documents
from mlxprune.selection.selector import select_slice, write_kept
from mlxprune.tokenization.token_file import open_tokens

NAMED = 3  # documents that an error names
GATHERED = "gathered.parquet"
SHARED = 3  # slices of one rank order for which it pays to sort everything


@dataclass(frozen=True)
class Table:
    """The rows that slices are chosen from: their file, and which of its rows are scored."""

    path: Path
    rows: np.ndarray | None  # None: all of them
    missing: dict[str, int]


@dataclass(frozen=True)
class LoadedScores:
    """Scores, and what all slices of them share; ``tokens`` of the final model's tokenizer."""

    scores: Scores
    tokens: np.ndarray
    table: Table
    of: CompositionColumns | None
    ranked: Ranked | None


def select_scores(
    source: str | Path,
    config: Config,
    out: Path,
    column: str | None = None,
    id_column: str = "id",
    data: bool = False,
    max_missing: float = 0.01,
    random: bool = False,
) -> list[SliceManifest]:
    """Slice scores, or those of a run, into ``out``: one folder a slice where there are several.
    Scores are a file, a folder or a pattern of files. ``column`` and ``id_column`` name the figure
    and the id of scores made elsewhere; with ``data`` their documents are joined by id to those of
    ``config.data``.

    ``random`` writes a control of the size of every share beside the slices. Returns the manifests.
    Raises DataError: more documents than ``max_missing`` on one side only.
    """
    place = Path(source)
    run = RunFolder(place) if (place / "run.json").exists() else None
    if not 0 <= max_missing <= 1:
        raise UsageError(f"{max_missing} is no share", "--max-missing", "give 0 to 1")
    if run is not None and (column is not None or data):
        fix = "leave --score and --data away, or give the scores file itself"
        raise UsageError("a run knows its scores and its data", str(source), fix)
    if run is not None:
        tree = load_config(run.config).model_dump(mode="json")
        tree |= {"selection": config.selection.model_dump(mode="json")}
        config = validate_config({**tree, "seed": config.seed}, str(source))
    out = out.absolute()
    refuse_taken(out)
    with (
        tempfile.TemporaryDirectory(prefix="mlxprune-select-") as folder,
        _named_as_given(str(source)),
    ):
        path = _scores_path(str(source), run, config, column, id_column, Path(folder))
        index = _indexed(config, Path(folder)) if data else None
        several = len(config.slices) > 1 or random
        manifests = []
        with folder_in_the_making(out) as partial:
            what, loaded = None, None
            for choice in config.slices:
                wanted = choice.scores_by
                if loaded is None or wanted != what:  # slices of one score share what is read
                    scores, tokens, known = _read(run, config, choice, path, column)
                    table = _table_of(path if known is None else known, scores, run is not None)
                    if index is not None:
                        scores, tokens, table = _joined(index, scores, tokens, path, max_missing)
                    columns = _columns(scores, tokens, choice)
                    ranked = _ranked(scores, tokens, config, choice)
                    what, loaded = wanted, LoadedScores(scores, tokens, table, columns, ranked)
                chosen = resolved(choice, loaded.scores, loaded.tokens)
                place = partial / chosen.label if several else partial
                manifests += _write_slice(place, loaded, chosen, config.seed, random)
        return manifests


def _write_slice(
    place: Path, loaded: LoadedScores, choice: Slice, seed: int, random: bool
) -> list[SliceManifest]:
    """A slice, and with ``random`` beside it the control of its share where there is none yet."""
    place.mkdir(exist_ok=True)
    kept = select_slice(loaded.scores, choice, seed, loaded.tokens, loaded.ranked)
    manifests = [_write(place, loaded, choice, kept, seed)]
    beside = place.with_name(f"random-{choice.share}")
    if random and not beside.exists():
        beside.mkdir()
        control = choice.model_copy(update={"name": beside.name})
        drawn = _random_of_size(loaded, kept, seed)
        manifests.append(_write(beside, loaded, control, drawn, seed))
    return manifests


@contextlib.contextmanager
def _named_as_given(source: str) -> Iterator[None]:
    """An error about what was gathered names what it was gathered from."""
    try:
        yield
    except DataError as error:
        if not error.where.endswith(GATHERED):
            raise
        raise DataError(error.problem, source, error.fix) from None


def _table_of(path: Path, scores: Scores, of_run: bool) -> Table:
    """A scores file; of a run its rows that every model has scored."""
    rows = None
    if of_run and pq.read_metadata(path).num_rows != len(scores):
        keys = pq.read_table(path, columns=["key"]).column("key").to_numpy()
        rows = places_of(keys, scores.key)
    return Table(path, rows, {})


def _random_of_size(loaded: LoadedScores, kept: Kept, seed: int) -> Kept:
    """Documents in seeded hash order, as many tokens as the slice keeps; as many documents where
    tokens are not known."""
    scores = loaded.scores
    sizes = loaded.tokens if scores.has_tokens else np.ones(len(scores), np.int64)
    budget = int(sizes[kept.mask].sum())
    mask = np.zeros(len(scores), bool)
    mask[draw_random(scores.key, sizes, budget, f"random arm {seed}")] = True
    return Kept(mask, None)


def _scores_path(
    source: str, run: RunFolder | None, config: Config, column: str | None, ids: str, folder: Path
) -> Path:
    """One file of scores, gathered into ``folder`` where there are several or in another form."""
    if run is not None:
        path = run.scores(config.primary_reference.name)
        if not path.exists():
            raise DataError("no scores here", source, "run it up to the stage score first")
        return path
    files = score_files(source)
    if is_one_file(files, ids):
        return files[0]
    return gather_scores(files, folder / GATHERED, column, ids)


def _read(
    run: RunFolder | None, config: Config, choice: Slice, path: Path, column: str | None
) -> tuple[Scores, np.ndarray, Path | None]:
    """(scores, tokens of the final model's tokenizer where it is known, the file of the rows)."""
    if run is None:
        if choice.reference is not None:
            fix = "leave `reference` away, or give a run folder"
            raise DataError("one file has one reference", f"slice {choice.label}", fix)
        scores = read_scores(path, column)
        tokens = None
        known = None
    else:
        scores = RunArtifacts(run, config).scores(choice)
        known = run.scores(choice.reference or config.primary_reference.name)
        tokens = _final_tokens(run, scores)
    if tokens is None and choice.unit == "tokens":
        if np.any(scores.truncated):
            fix = "give the run folder, or use --unit documents"
            problem = "documents were scored in part: their tokens are not known"
            raise DataError(problem, str(path), fix)
        if scores.given is not None and not has_column(path, "num_tokens"):
            fix = "use --unit documents, or add the column"
            raise DataError("these scores have no num_tokens", str(path), fix)
    return scores, scores.num_tokens if tokens is None else tokens, known


def _final_tokens(run: RunFolder, scores: Scores) -> np.ndarray | None:
    """Tokens of the scored documents in the final model's tokenizer, when a run has them."""
    if not (run.tokens() / "tokens.json").exists() or not (run.corpus / "index.npy").exists():
        return None
    keys = np.load(run.corpus / "index.npy", mmap_mode="r")["key"]
    at = places_of(keys, scores.key)
    if (at < 0).any():
        return None
    return open_tokens(run.tokens()).lengths(at)


def _indexed(config: Config, folder: Path) -> Corpus:
    build_index(config.data, find_sources(config.data), folder)
    return open_corpus(folder, config.data)


def _joined(
    index: Corpus, scores: Scores, tokens: np.ndarray, path: Path, limit: float
) -> tuple[Scores, np.ndarray, Table]:
    """The scores in the order of the data, with its domains and sizes."""
    table = index.folder / "documents.parquet"
    ids = pq.read_table(table, columns=["id"]).column("id").to_pylist()
    hashes = np.fromiter((hash_text(i) for i in ids), np.uint64, len(ids))
    theirs = scores.key
    if scores.given is None and has_column(path, "id"):
        texts = pq.read_table(path, columns=["id"]).column("id").to_pylist()
        theirs = np.fromiter((hash_text(str(t)) for t in texts), np.uint64, len(texts))
    at = places_of(theirs, hashes)
    unscored = np.flatnonzero(at < 0)
    unknown = np.setdiff1d(np.arange(len(theirs)), at[at >= 0])
    missing = {"in_data_only": len(unscored), "in_scores_only": len(unknown)}
    if len(unscored) == len(ids):
        fix = "check --id-key: ids must be the same on both sides"
        raise DataError("no document of the data is scored", str(path), fix)
    if len(unscored) > limit * len(ids) or len(unknown) > limit * len(theirs):
        names = [ids[i] for i in unscored[:NAMED].tolist()]
        if not names:
            ids_of_scores = pq.read_table(path, columns=["id"]).column("id")
            names = [str(ids_of_scores[i].as_py()) for i in unknown[:NAMED].tolist()]
        raise DataError(
            f"{len(unscored):,} of {len(ids):,} documents have no score and "
            f"{len(unknown):,} of {len(theirs):,} scores no document, such as "
            + ", ".join(map(one_line, names)),
            str(path),
            f"give the data that was scored, or raise --max-missing (now {limit:g})",
        )
    rows = np.flatnonzero(at >= 0)
    entries = index.index[rows]
    joined = replace(
        scores.take(at[rows]),
        key=np.array(entries["key"]),
        domain=entries["domain"].astype(np.int64),
        domains=tuple(index.domains),
        num_bytes=entries["bytes"].astype(np.int64),
        has_bytes=True,
    )
    return joined, tokens[at[rows]], Table(table, rows, missing)


def _columns(scores: Scores, tokens: np.ndarray, choice: Slice) -> CompositionColumns | None:
    """What the tables of domains and lengths add up, once for all slices of one score."""
    if scores.domain is None:
        return None
    refuse_impossible(scores, choice)
    values = metric_values(scores, choice)
    domains = len(scores.domains)
    return composition_columns(
        scores.domain, domains, scores.num_tokens, tokens, scores.num_bytes, values
    )


def _ranked(scores: Scores, tokens: np.ndarray, config: Config, choice: Slice) -> Ranked | None:
    """All ranks at once, where several slices use them: sorting once beats cutting often."""
    alike = [other for other in config.slices if other.scores_by == choice.scores_by]
    if len(alike) < SHARED:
        return None
    refuse_impossible(scores, choice)
    return rank_documents(scores, choice, config.seed, tokens)


def _write(
    place: Path, loaded: LoadedScores, choice: Slice, kept: Kept, seed: int
) -> SliceManifest:
    scores, tokens, ranked, table = loaded.scores, loaded.tokens, loaded.ranked, loaded.table
    domains = lengths = None
    if loaded.of is not None and scores.domain is not None:
        domains = domain_table(scores.domain, list(scores.domains), loaded.of, kept.mask)
        lengths = length_table(scores.num_tokens, loaded.of, kept.mask)
    manifest = slice_manifest(
        scores, choice, kept, tokens, seed, domains, lengths, missing=table.missing
    )
    ranks = ranked.rank[kept.mask] if ranked is not None else kept_ranks(scores, choice, kept, seed)
    if table.rows is not None:
        mask = np.zeros(pq.read_metadata(table.path).num_rows, bool)
        mask[table.rows[kept.mask]] = True
        kept = replace(kept, mask=mask)
    write_kept(table.path, kept, ranks, place / "kept.parquet")
    write_record(place / "manifest.json", manifest)
    return manifest
