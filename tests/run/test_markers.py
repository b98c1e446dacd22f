"""Markers: what is finished is set aside, never overwritten; what is half done is cleared."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxprune.checksums import read_sealed, write_sealed
from mlxprune.run.markers import (
    claim,
    damaged_files,
    discard,
    is_done,
    mark_done,
    marker_path,
    read_marker,
    set_aside,
)


def test_setting_aside_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "high-50"
    for fingerprint in ("aaaaaaaaaa", "bbbbbbbbbb"):
        assert not set_aside(place, fingerprint)
        place.mkdir()
        (place / "data").write_text(fingerprint)
        mark_done(place, "selection", fingerprint)
    assert set_aside(place, "aaaaaaaaaa")
    assert (place / "data").read_text() == "aaaaaaaaaa"
    assert set_aside(place, "bbbbbbbbbb")
    assert (place / "data").read_text() == "bbbbbbbbbb"


def test_a_file_is_marked_beside_itself_and_set_aside_with_its_mark(tmp_path: Path) -> None:
    place = tmp_path / "main.parquet"
    for fingerprint in ("aaaaaaaaaa", "bbbbbbbbbb"):
        assert not set_aside(place, fingerprint)
        place.write_text(fingerprint)
        assert read_marker(place) is None
        mark_done(place, "score", fingerprint, summary={"n": fingerprint})
    assert set_aside(place, "aaaaaaaaaa")
    assert place.read_text() == "aaaaaaaaaa"
    assert read_marker(place).summary == {"n": "aaaaaaaaaa"}
    place.unlink()
    assert not is_done(place, "aaaaaaaaaa"), "a mark without its file is nothing"


def test_unfinished_work_towards_something_else_is_cleared(tmp_path: Path) -> None:
    place = tmp_path / "model"
    claim(place, "aaaa")
    (place / "half").write_text("x")
    assert not set_aside(place, "aaaa")
    assert (place / "half").exists()
    assert not set_aside(place, "bbbb")
    assert not place.exists()


def test_a_mark_of_another_version_still_says_what_it_answers_to(tmp_path: Path) -> None:
    """Finished work must never be cleared because its mark says something odd beside."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "weights").write_text("x")
    mark_done(place, "final", "aaaa")
    told = read_sealed(marker_path(place))
    write_sealed(marker_path(place), {**told, "documents": "many", "of": "tomorrow"})
    assert is_done(place, "aaaa")
    assert set_aside(place, "aaaa")
    assert (place / "weights").exists()


@pytest.mark.parametrize("name", ["towards", ".towards"])
@pytest.mark.parametrize("left", [b"", b"x", b"\xff\xfe"])
def test_one_damaged_byte_costs_no_unfinished_work(name: str, left: bytes, tmp_path: Path) -> None:
    place = tmp_path / "model"
    claim(place, "aaaa")
    (place / "half").write_text("x")
    (place / name).write_bytes(left)
    assert not set_aside(place, "aaaa")
    assert (place / "half").exists()
    claim(place, "aaaa")
    assert {(place / n).read_text() for n in ("towards", ".towards")} == {"aaaa"}


def test_what_is_damaged_is_told_by_name_and_what_work_can_go_on_from_stays(
    tmp_path: Path,
) -> None:
    place = tmp_path / "model"
    claim(place, "aaaa")
    (place / "checkpoints").mkdir()
    for name in ("weights", "config", "checkpoints/step"):
        (place / name).write_text(name)
    mark_done(place, "final", "aaaa")
    assert damaged_files(place) == []
    (place / "checkpoints" / "step").write_text("other")
    (place / "README.md").write_text("a person may write here")
    assert damaged_files(place) == []
    (place / "weights").write_text("WEIGHTS")
    (place / "config").unlink()
    damaged = damaged_files(place)
    assert sorted(p.name for p in damaged) == ["config", "weights"]
    discard(place, damaged)
    assert read_marker(place) is None
    assert not (place / "weights").exists()
    assert (place / "checkpoints" / "step").exists()
    assert not set_aside(place, "aaaa")
    assert (place / "checkpoints" / "step").exists()
