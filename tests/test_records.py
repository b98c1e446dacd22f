"""Records: what is written is read back, and what is left out is told apart from null."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import UNSET, UnsetType

from mlxprune.files import read_json
from mlxprune.records import Record, SparseRecord, plain, read_record, record_of, write_record


class Whole(Record):
    name: str
    share: float | None


class Sparse(SparseRecord):
    name: str
    share: float | None = None
    told: float | UnsetType | None = UNSET


def test_a_record_writes_every_field_and_a_sparse_one_what_it_has(tmp_path: Path) -> None:
    assert plain(Whole(name="a", share=None)) == {"name": "a", "share": None}
    assert plain(Sparse(name="a")) == {"name": "a"}
    assert plain(Sparse(name="a", told=None)) == {"name": "a", "told": None}
    write_record(tmp_path / "a.json", {"one": Sparse(name="b", share=0.5)})
    assert read_json(tmp_path / "a.json") == {"one": {"name": "b", "share": 0.5}}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record = Sparse(name="\u202e", share=float(np.float64(0.1)))
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json", Sparse) == record


def test_scalars_of_numpy_are_written_as_python_s() -> None:
    told = plain({"n": np.int64(3), "x": np.float32(0.5), "b": np.bool_(True)})
    assert told == {"n": 3, "x": 0.5, "b": True}
    assert [type(value) for value in told.values()] == [int, float, bool]


def test_unknown_fields_are_ignored_and_missing_ones_are_an_error() -> None:
    assert record_of({"name": "a", "share": 1, "of": "tomorrow"}, Whole).share == 1.0
    for broken in ({"name": "a"}, {"name": 3, "share": None}, [], None):
        with pytest.raises(ValueError, match=r"."):
            record_of(broken, Whole)


def test_a_field_that_may_be_left_out_is_not_null() -> None:
    assert record_of({"name": "a"}, Sparse).told is UNSET
    assert record_of({"name": "a", "told": None}, Sparse).told is None
    assert msgspec.structs.replace(Sparse(name="a"), told=2.0).told == 2.0


class Nested(Record):
    rows: list[Whole]
    by_name: dict[str, float]
    pair: tuple[float, float]
    either: Whole | None


def test_null_is_nan_where_a_number_must_be(tmp_path: Path) -> None:
    """A broken model's figures: written as null, since JSON has no word for them."""
    nan = math.nan
    record = Nested(rows=[], by_name={"a": nan, "b": 1.0}, pair=(nan, 2.0), either=None)
    write_record(tmp_path / "a.json", record)
    assert read_json(tmp_path / "a.json")["by_name"] == {"a": None, "b": 1.0}
    read = read_record(tmp_path / "a.json", Nested)
    assert math.isnan(read.by_name["a"]) and math.isnan(read.pair[0])
    assert (read.by_name["b"], read.pair[1], read.either) == (1.0, 2.0, None)
    whole = record_of({"name": "a", "share": None}, Whole)
    assert whole.share is None, "where null may be, it stays"


def test_numbers_of_another_writer_are_taken() -> None:
    class Counted(Record):
        count: int
        text: str | None

    assert record_of({"count": 5.0, "text": "null"}, Counted).count == 5
    assert record_of({"count": 5, "text": "null"}, Counted).text == "null"
