"""Files: whole or not at all, and what identifies them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mlxprune.errors import DataError, SpaceError
from mlxprune.files import (
    files_identity,
    fingerprint_of,
    folder_in_the_making,
    no_space_is_an_error,
    read_array,
    read_json,
    refuse_odd_file,
    write_array,
    write_json,
)


def test_a_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SpaceError), no_space_is_an_error(tmp_path):
        write_json(path, {"n": 2})
    assert read_json(path) == {"n": 1}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError), folder_in_the_making(tmp_path / "x") as partial:
        (partial / "half").write_text("x")
        raise ValueError
    assert not (tmp_path / "x").exists()
    with folder_in_the_making(tmp_path / "x") as partial:
        assert not (partial / "half").exists()
    assert (tmp_path / "x").is_dir()


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})


@pytest.mark.parametrize("refusal", ["EINVAL", "ENOTSUP"])
def test_a_folder_that_cannot_be_flushed_is_left_at_that(
    refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exFAT and some disks of networks refuse; what is wrong with a disk is still raised."""
    import errno
    import os
    import stat

    from mlxprune.files import write_atomic

    usual = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(getattr(errno, refusal), "refused")
        usual(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        write_atomic(tmp_path / "b.json", "{}")


def test_what_identifies_a_model_is_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    data = bytearray(os.urandom(5 << 20))
    path.write_bytes(data)
    before = files_identity(tmp_path, ("model*.safetensors",))
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert files_identity(tmp_path, ("model*.safetensors",)) != before


def test_odd_files_are_refused_by_their_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError) as caught:
            read_json(path)
        assert caught.value.filename == str(path)
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(DataError, match="no file of its kind"):
        refuse_odd_file(tmp_path / "large", 99)


def test_a_failure_of_a_descriptor_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "a.json", {})
    assert str(caught.value.filename).endswith("a.json")


@pytest.mark.parametrize(
    "error", [OSError(errno.EFBIG, "File too large"), OSError("100 requested and 7 written")]
)
def test_a_limit_on_the_size_of_files_is_told(error: OSError, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="could not be written whole") as caught, \
            no_space_is_an_error(tmp_path):  # fmt: skip
        raise error
    assert "ulimit -f" in caught.value.fix


def test_a_damaged_header_of_an_array_is_a_value_error(tmp_path: Path) -> None:
    """Every bit of the first 128 bytes, one at a time."""
    path = tmp_path / "a.npy"
    write_array(path, np.arange(9, dtype="<u8"))
    data = path.read_bytes()
    refused = 0
    for bit in range(8 * 128):
        path.write_bytes(
            data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]
        )
        try:
            read_array(path)
        except ValueError:
            refused += 1
    assert refused > 100
