"""Units: small samples of the pool that are scored one by one, and what is kept of each.

The documents are put into seeded hash order and cut into units, so that what has been scored is a
fair sample of the pool at any moment. A unit is a function of the data, the seed and the batch
size; batches never cross one, so any number of workers gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from mlxprune.checksums import (
    read_sealed_array,
    read_sealed_list,
    write_sealed_array,
    write_sealed_list,
)
from mlxprune.data.hashing import mix
from mlxprune.records import record_of
from mlxprune.run.markers import TOWARDS
from mlxprune.scoring.nll import PART_DTYPE
from mlxprune.scoring.windows import WindowPolicy

UNITS_VERSION = 3  # of their order and of what a part holds
BYTES_PER_TOKEN = 4  # of text, about
LEAST_UNIT_BYTES = 256_000
JOINED = ("rows.npy", "positions.npy")
BATCHES, COMPILED_BATCHES = 32, 64  # of a unit: enough that its rows fill them well
FIRST_SHARE = 8  # the first units are this many times smaller, so that something is seen at once
GROWTH = 8  # a unit is at most this share of what is before it: no step of a picture is large


def scoring_order(keys: np.ndarray, seed: int) -> np.ndarray:
    """The order in which documents with these keys are scored: places among them, int64."""
    return np.argsort(mix(keys, f"score {seed}"), kind="stable")


def unit_bytes(policy: WindowPolicy) -> int:
    """About how many bytes of text a unit has. Padded to few edges, rows need more company."""
    batches = COMPILED_BATCHES if policy.edges else BATCHES
    return max(LEAST_UNIT_BYTES, BYTES_PER_TOKEN * batches * policy.batch_tokens)


def work_units(sizes: np.ndarray, wanted: int) -> list[tuple[int, int]]:
    """Units [first, stop) over documents of these byte sizes, of about ``wanted`` bytes each but
    for the first ones: those begin with an eighth of that and grow with what is before them."""
    ends = np.cumsum(sizes, dtype=np.int64)
    result = []
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        size = min(wanted, max(wanted // FIRST_SHARE, before // GROWTH, 1))
        stop = int(np.searchsorted(ends, before + size, side="left")) + 1
        result.append((first, min(stop, len(sizes))))
        first = result[-1][1]
    return result


def part_path(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npy"


def write_part(parts: Path, number: int, rows: np.ndarray, positions: np.ndarray) -> None:
    """What is kept of a unit: PART rows, and float64 [2, used] sums by position beside them."""
    path = part_path(parts, number)
    used = int(np.flatnonzero(positions[1])[-1]) + 1 if positions[1].any() else 0
    write_sealed_array(_positions_path(path), positions[:, :used])
    write_sealed_array(path, rows)


def _positions_path(part: Path) -> Path:
    return part.with_suffix(".positions.npy")


def part_rows(parts: Path, number: int, documents: int) -> np.ndarray | None:
    """PART rows of a unit of so many documents; None where its part is not there whole."""
    path = part_path(parts, number)
    try:
        rows = read_sealed_array(path)
        read_sealed_array(_positions_path(path))
    except (OSError, ValueError):
        return None
    return rows if rows.dtype == PART_DTYPE and rows.shape == (documents,) else None


def joined_parts(parts: Path, count: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of all units as one: PART rows in the order of scoring, and float64 [2, context]
    sums by position."""
    paths = [part_path(parts, number) for number in range(count)]
    rows = np.concatenate([read_sealed_array(path) for path in paths])
    positions = np.zeros((2, context))
    for path in paths:
        found = read_sealed_array(_positions_path(path))
        positions[:, : found.shape[1]] += found
    return rows, positions


def kept_rows(parts: Path, documents: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What ``keep_rows`` has kept of so many documents; None where it is not there whole."""
    try:
        rows, positions = (read_sealed_array(parts / name) for name in JOINED)
    except (OSError, ValueError):
        return None
    return (rows, positions) if rows.dtype == PART_DTYPE and len(rows) == documents else None


def keep_rows(parts: Path, rows: np.ndarray, positions: np.ndarray) -> None:
    """In place of the parts: a scores file that is damaged later is written again from these."""
    for name, array in zip(JOINED, (rows, positions), strict=True):
        write_sealed_array(parts / name, array)
    for path in parts.iterdir():
        if path.suffix != ".json" and path.name not in JOINED and not path.name.endswith(TOWARDS):
            path.unlink()


class SmallerBatches(msgspec.Struct, array_like=True):
    """From a restart on, batches of ``batch_tokens`` for these units."""

    batch_tokens: int
    units: list[int]


def smaller_batches(parts: Path) -> list[SmallerBatches]:
    """Every change of the batch size since these units were begun."""
    path = parts / "smaller-batches.json"
    try:
        return record_of(read_sealed_list(path), list[SmallerBatches])
    except (OSError, ValueError):
        return []


def note_smaller_batches(parts: Path, batch_tokens: int, units: list[int]) -> None:
    changes = [*smaller_batches(parts), SmallerBatches(batch_tokens, units)]
    write_sealed_list(parts / "smaller-batches.json", changes)
