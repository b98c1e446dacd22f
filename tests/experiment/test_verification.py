"""Verification: every file of a run is held against its checksum, or named as one that has none."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlxprune.checksums import Share
from mlxprune.experiment.verification import verify_run
from mlxprune.run.folder import RunFolder

# What every start writes anew, or a person may.
WITHOUT = (
    "config.yaml",
    "sources.json",
    "README.md",
    "towards",
    "shapes.json",
    "lock",
    "console.log",
)


@pytest.fixture
def copied(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def test_a_finished_run_is_whole_and_every_file_is_told(copied: RunFolder) -> None:
    said: list[tuple[int, int]] = []
    found = verify_run(copied, said=lambda done, total: said.append((done, total)))
    assert found.ok and found.damaged == []
    assert found.share == "1/1"
    everything = [p for p in copied.path.rglob("*") if p.is_file()]
    assert found.files + len(found.without) == len(everything)
    odd = [n for n in found.without if not n.endswith(WITHOUT)]
    assert odd == []
    assert said == sorted(said)
    assert said[-1][0] == found.bytes <= said[-1][1]


def test_every_flipped_bit_is_named(copied: RunFolder) -> None:
    """Of every file that has a checksum, one at a time, at a place drawn at random."""
    draw = random.Random()
    without = set(verify_run(copied).without)
    for path in sorted(p for p in copied.path.rglob("*") if p.is_file() and p.stat().st_size):
        name = path.relative_to(copied.path).as_posix()
        if name in without or name.startswith("events/"):
            continue
        data = path.read_bytes()
        at = draw.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
        found = verify_run(copied)
        changed = json.loads(data) != _parsed(path) if path.suffix == ".json" else True
        if changed:
            assert not found.ok, name
            named = {one.file for one in found.damaged}
            checkpoint = name.rpartition("/")[0] + "/state.json"
            assert name in named or checkpoint in named, (name, named)
        path.write_bytes(data)
    assert verify_run(copied).ok


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_shares_divide_the_work(copied: RunFolder) -> None:
    path = copied.tokens() / "tokens.bin"
    data = path.read_bytes()
    path.write_bytes(b"\xff" * len(data))
    found = [verify_run(copied, Share(n, 3)).ok for n in (1, 2, 3)]
    assert found.count(False) == 1, "a small file has one piece, which is in one share"


def test_a_missing_file_is_damage_and_the_command_says_what_to_do(
    copied: RunFolder, command: Any
) -> None:
    (copied.path / "split" / "part.npy").unlink()
    done = command("verify", str(copied.path))
    assert done.returncode == 1
    assert "damaged: split/part.npy; the next start makes it again" in done.stdout
    assert f"next: mlxprune run {copied.config} --dir {copied.path}" in done.stdout
    told = json.loads(command("verify", str(copied.path), "--json").stdout)
    assert [one["file"] for one in told["damaged"]] == ["split/part.npy"]
    refused = command("verify", str(copied.path), "--subset", "5/4")
    assert refused.returncode == 2 and "no share" in refused.stderr
