"""Order: documents as they stand in the corpus, or shuffled by a seed, in constant memory.

A shuffle puts every row into one of a few files by its place, then sorts one file after the other;
what fits into one needs no file. The places depend on keys and seed alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlxprune.data.hashing import mix

BUCKET_BYTES = 256 << 20  # of text that is sorted at once
MOST_BUCKETS = 200  # files that are open at once
ROWS_TOGETHER = 256
PLACE = "mlxprune.place.of.the.row"  # no column of anybody's


def shuffled_places(keys: np.ndarray, seed: int) -> np.ndarray:
    """Where each of the documents with these keys goes, int64."""
    places = np.empty(len(keys), np.int64)
    places[np.argsort(mix(keys, f"export {seed}"), kind="stable")] = np.arange(len(keys))
    return places


def in_order(
    batches: Iterator[tuple[np.ndarray, pa.RecordBatch]], count: int, size: int, folder: Path
) -> Iterator[pa.RecordBatch]:
    """Batches of ``count`` rows in all, about ``size`` bytes, in the order of their places, which
    stand beside each batch."""
    buckets = min(MOST_BUCKETS, max(1, -(-size // BUCKET_BYTES)))
    edges = np.arange(1, buckets) * count // buckets
    with tempfile.TemporaryDirectory(dir=folder, prefix="order-") as spool, ExitStack() as stack:
        paths = [Path(spool) / f"{number}.arrow" for number in range(buckets)]
        writers: list[pa.RecordBatchStreamWriter | None] = [None] * buckets
        held: list[pa.RecordBatch] = []
        for places, batch in batches:
            placed = batch.append_column(PLACE, pa.array(places))
            if buckets == 1:
                held.append(placed)
                continue
            bucket_of = np.searchsorted(edges, places, side="right")
            for number in np.unique(bucket_of).tolist():
                mine = placed.take(pa.array(np.flatnonzero(bucket_of == number)))
                writer = writers[number]
                if writer is None:
                    writer = pa.ipc.new_stream(str(paths[number]), placed.schema)
                    writers[number] = stack.enter_context(writer)
                writer.write_batch(mine)
        stack.close()
        if held:
            yield from _sorted(pa.Table.from_batches(held))
        for path in paths:
            if path.exists():
                with pa.ipc.open_stream(str(path)) as stored:
                    yield from _sorted(stored.read_all())
                path.unlink()


def _sorted(table: pa.Table) -> Iterator[pa.RecordBatch]:
    order = np.argsort(table.column(PLACE).to_numpy())
    plain = table.drop_columns([PLACE])
    for first in range(0, len(order), ROWS_TOGETHER):
        chosen = plain.take(pa.array(order[first : first + ROWS_TOGETHER]))
        yield pa.RecordBatch.from_struct_array(chosen.to_struct_array().combine_chunks())
