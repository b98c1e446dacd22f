"""Export: one part of a run in one format, into one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlxprune.config.data import Data
from mlxprune.config.field_types import parse_count
from mlxprune.data.hashing import mix
from mlxprune.data.original_rows import ahead, document_rows
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.arms import documents_identity
from mlxprune.exporting.bundle import write_bundle
from mlxprune.exporting.card import write_card
from mlxprune.exporting.documents import ExportSource, open_source
from mlxprune.exporting.formats import Format, format_for, usual_part
from mlxprune.exporting.order import in_order, shuffled_places
from mlxprune.exporting.shards import ExportRecord, ShardFolder
from mlxprune.files import fingerprint_of, no_space_is_an_error, refuse_taken

EXPORT_VERSION = 1
SHARD_BYTES = 256_000_000
LEAST_HELD_OUT = 4  # a batch of mlx-lm
HELD_OUT = 20  # of the documents of a source without a split, one in so many is for validation
Report = Callable[[int, int], None]  # bytes of text that are written, and all


@dataclass(frozen=True)
class Portion:
    """Documents that go into files of their own."""

    name: str
    documents: np.ndarray


# Over 60 lines: every option is a parameter.
def export(
    place: Path | str,
    out: Path | str,
    to: str = "jsonl",
    slice_name: str | None = None,
    part: str | None = None,
    compress: str | None = None,
    shard_size: int | str = SHARD_BYTES,
    columns: list[str] | None = None,
    shuffle: int | None = None,
    data: Data | None = None,
    report: Report = lambda done, total: None,
) -> ExportRecord:
    """Write documents of a run, of scores, or of ``data`` with a slice, into the folder ``out``.

    ``to`` and ``part`` as on the command line (docs/export.md); ``shuffle`` is a seed, None the
    order of the corpus; ``shard_size`` in bytes of rows. Killed and called again, it goes on behind
    the last finished shard. Raises UsageError: nothing of that name, a folder that is taken;
    DataError: files that are not what they were.
    """
    place, out = Path(place), Path(out).absolute()
    if to == "bundle" and any(x is not None for x in (part, columns, compress, shuffle)):
        fix = "leave --part, --columns, --compress and --shuffle away"
        raise UsageError("a bundle is of the whole run", "--to bundle", fix)
    part = usual_part(to) if part is None else part
    _refuse_impossible(place, to, part, columns, data)
    size = _bytes(shard_size)
    refuse_taken(out)
    source = open_source(place, slice_name, data)
    with source.stack, no_space_is_an_error(out):
        if to == "bundle":
            return write_bundle(source, place, out)
        documents = source.documents(part)
        if not len(documents):
            fix = "choose another --part"
            raise UsageError(f"the part {part} holds no document", source.name, fix)
        what = {
            "run": source.name,
            "slice": None if source.manifest is None else source.manifest.name,
            "part": part,
            "format": to,
            "compress": compress,
            "columns": columns,
            "shard_size": size,
            "order": "as in the corpus" if shuffle is None else f"shuffled by seed {shuffle}",
        }
        identity = fingerprint_of(
            EXPORT_VERSION, what, documents_identity(documents, source.corpus.index["key"])
        )
        folder = ShardFolder(out, identity, what)
        portions = _portions(source, to, documents)
        made = format_for(to, source, np.unique(_all_of(portions)), compress, columns)
        done = [0, int(source.corpus.index["bytes"][_all_of(portions)].sum())]
        for portion in portions:
            _write(source, folder, made, portion, size, shuffle, done, report)
        if to == "hf":
            write_card(source, folder, part, documents, made.columns)
        return folder.finish(len(documents), made.columns, made.notes)


def _refuse_impossible(
    place: Path, to: str, part: str, columns: list[str] | None, data: Data | None
) -> None:
    if columns is not None and (not all(columns) or len({*columns}) < len(columns)):
        fix = "write every name once, as in --columns id,text"
        raise UsageError("a column without a name, or one that is named twice", "--columns", fix)
    if to == "mlx-lm" and part in ("validation", "test"):
        fix = "export kept, dropped, pool, reference or an arm: it is validated and tested on these"
        raise UsageError(f"{part} is no part to train on", "--part", fix)
    if data is not None and (place / "run.json").exists():
        fix = "leave --data and its keys away: a run knows its data"
        raise UsageError("this is a run", str(place), fix)


def _bytes(given: int | str) -> int:
    try:
        size = parse_count(given)
    except ValueError:
        size = None
    if not isinstance(size, int) or size <= 0:
        fix = "give bytes, as in 256M"
        raise UsageError(f"{one_line(given)} is no size of a shard", "--shard-size", fix)
    return size


def _all_of(portions: list[Portion]) -> np.ndarray:
    return np.concatenate([portion.documents for portion in portions])


def _portions(source: ExportSource, to: str, documents: np.ndarray) -> list[Portion]:
    """All in one; for mlx-lm beside what is trained on the validation and the test part of the run,
    or of what has no such parts some that are held out, by a hash of their text."""
    if to != "mlx-lm":
        return [Portion("", documents)]
    beside = []
    if source.held is not None:
        beside = [Portion("valid", source.documents("validation"))]
        beside += [Portion("test", source.documents("test"))]
    rest = documents
    if not beside or not len(beside[0].documents):
        texts = source.corpus.index["text"][documents]
        count = max(len(documents) // HELD_OUT, min(LEAST_HELD_OUT, len(documents) // 2))
        order = np.argsort(mix(texts, "held out"), kind="stable")
        held_out, rest = np.sort(documents[order[:count]]), np.sort(documents[order[count:]])
        beside = [Portion("valid", held_out), *beside[1:]]
    if not len(rest):
        fix = "choose another --part"
        raise UsageError("nothing is left to train on", source.name, fix)
    return [Portion("train", rest), *(p for p in beside if len(p.documents))]


def _write(
    source: ExportSource,
    folder: ShardFolder,
    made: Format,
    portion: Portion,
    shard_bytes: int,
    shuffle: int | None,
    done: list[int],
    report: Report,
) -> None:
    """The documents of a portion that no shard holds yet; ``done`` counts bytes of text."""
    documents, corpus = portion.documents, source.corpus
    begun = folder.begun(portion.name)
    places = None
    if shuffle is not None:
        places = shuffled_places(corpus.index["key"][documents], shuffle)
    left = documents[begun:] if places is None else documents
    done[0] += int(corpus.index["bytes"][documents].sum() - corpus.index["bytes"][left].sum())
    if begun == len(documents):
        return

    def batches() -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        for rows in document_rows(corpus, left, made.rows_together):
            at = np.searchsorted(documents, rows.documents)
            yield at if places is None else places[at], made.make(rows)
            done[0] += int(corpus.index["bytes"][rows.documents].sum())
            report(done[0], done[1])

    ordered: Iterator[pa.RecordBatch]
    if places is None:
        ordered = (batch for _, batch in ahead(batches()))
    else:
        size = int(corpus.index["bytes"][documents].sum())
        ordered = _behind(in_order(batches(), len(documents), size, folder.out.parent), begun)
    one_file = portion.name != ""  # which other programs read as one
    folder.write(
        ordered,
        tuple(name.replace("{portion}", portion.name) for name in made.names),
        made.opened,
        (1 << 62) if one_file else shard_bytes,
        portion.name,
    )


def _behind(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Without the first so many rows."""
    for batch in batches:
        if rows < batch.num_rows:
            yield batch.slice(max(rows, 0))
        rows -= batch.num_rows
