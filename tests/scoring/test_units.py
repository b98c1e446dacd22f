"""Units: every document once, a fair sample at any moment, and half a part is no part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxprune.scoring.nll import PART_DTYPE
from mlxprune.scoring.units import (
    SmallerBatches,
    joined_parts,
    keep_rows,
    kept_rows,
    note_smaller_batches,
    part_path,
    part_rows,
    scoring_order,
    smaller_batches,
    unit_bytes,
    work_units,
    write_part,
)
from mlxprune.scoring.windows import WindowPolicy


@given(st.lists(st.integers(0, 3_000_000), max_size=60), st.integers(1, 2_000_000))
def test_units_cover_every_document_once(sizes: list[int], wanted: int) -> None:
    found = work_units(np.array(sizes, np.int64), wanted)
    assert [d for first, stop in found for d in range(first, stop)] == list(range(len(sizes)))
    # Without its last document no unit has as much as wanted.
    assert all(sum(sizes[a : b - 1]) < wanted for a, b in found)


def test_the_first_units_are_small_and_grow_slowly() -> None:
    """A hundredth of the work shows something, and no step of a picture is large."""
    sizes = np.full(30_000, 1000, np.int64)
    found = work_units(sizes, 262_144)
    counts = np.array([stop - first for first, stop in found])
    before = np.cumsum(counts) - counts
    assert counts[0] == 33
    assert (counts <= np.maximum(34, before / 8 + 1)).all()
    assert counts[-2] == 263


def test_a_unit_is_about_a_quarter_of_a_megabyte_on_a_cpu() -> None:
    assert unit_bytes(WindowPolicy(512, 0, "windows", None, 2048)) == 262_144
    assert unit_bytes(WindowPolicy(512, 0, "windows", None, 512)) == 256_000


def test_what_has_been_scored_is_a_fair_sample_at_any_moment(
    generator: np.random.Generator,
) -> None:
    """Documents sorted by domain and by length, as a corpus comes: after a twentieth of the units
    both domains have their share, and mean length is that of all."""
    keys = generator.integers(0, 2**63, 40_000).astype(np.uint64)
    domain = np.arange(40_000) < 4_000
    lengths = np.sort(np.exp(generator.normal(6, 1, 40_000))).astype(np.int64) + 1
    order = scoring_order(keys, 0)
    assert sorted(order.tolist()) == list(range(40_000))
    units = work_units(lengths[order], 256_000)
    scored = order[: units[len(units) // 20][1]]
    share = domain[scored].mean()
    assert abs(share - 0.1) < 5 * np.sqrt(0.1 * 0.9 / len(scored))
    error = lengths.std() / np.sqrt(len(scored))
    assert abs(lengths[scored].mean() - lengths.mean()) < 5 * error


def test_the_order_follows_from_key_and_seed_alone(generator: np.random.Generator) -> None:
    keys = generator.integers(0, 2**63, 500).astype(np.uint64)
    first = keys[scoring_order(keys, 3)]
    shuffled = generator.permutation(keys)
    assert np.array_equal(shuffled[scoring_order(shuffled, 3)], first)
    assert not np.array_equal(keys[scoring_order(keys, 4)], first)


def test_half_a_part_is_scored_again(tmp_path: Path, generator: np.random.Generator) -> None:
    rows = np.zeros(7, PART_DTYPE)
    rows["nll_sum"] = generator.standard_normal(7)
    positions = np.zeros((2, 64))
    positions[:, :9] = generator.random((2, 9))
    assert part_rows(tmp_path, 0, 7) is None
    write_part(tmp_path, 0, rows, positions)
    assert np.array_equal(part_rows(tmp_path, 0, 7), rows)
    assert part_rows(tmp_path, 0, 8) is None
    joined, sums = joined_parts(tmp_path, 1, 64)
    assert np.array_equal(joined, rows)
    assert np.array_equal(sums, positions)
    whole = part_path(tmp_path, 0).read_bytes()
    for kept in (0, 5, len(whole) // 2, len(whole) - 1):
        part_path(tmp_path, 0).write_bytes(whole[:kept])
        assert part_rows(tmp_path, 0, 7) is None, kept
    for at in (generator.integers(len(whole)) for _ in range(20)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(generator.integers(8))
        part_path(tmp_path, 0).write_bytes(flipped)
        assert part_rows(tmp_path, 0, 7) is None, f"a bit of byte {at}"
    part_path(tmp_path, 0).write_bytes(whole)
    keep_rows(tmp_path, joined, sums)
    assert not part_path(tmp_path, 0).exists()
    kept = kept_rows(tmp_path, 7)
    assert kept is not None
    assert np.array_equal(kept[0], rows)
    assert np.array_equal(kept[1], positions)
    assert kept_rows(tmp_path, 8) is None
    write_part(tmp_path, 0, rows, positions)
    part_path(tmp_path, 0).with_suffix(".positions.npy").unlink()
    assert part_rows(tmp_path, 0, 7) is None


def test_changes_of_the_batch_are_kept_in_their_order(tmp_path: Path) -> None:
    assert smaller_batches(tmp_path) == []
    note_smaller_batches(tmp_path, 1024, [3, 4, 5])
    note_smaller_batches(tmp_path, 512, [5])
    assert smaller_batches(tmp_path) == [SmallerBatches(1024, [3, 4, 5]), SmallerBatches(512, [5])]
