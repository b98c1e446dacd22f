"""Segments: damage costs one record, compression none; nothing that is written ends a reader."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from mlxprune.commands.console import event_line
from mlxprune.commands.options import escaped, told_as_json
from mlxprune.run import events, segments
from mlxprune.run.event_kinds import (
    DomainAdded,
    DomainHistogram,
    Histogram,
    HistogramAdded,
    TrainStep,
    Warned,
)
from mlxprune.run.events import EventLog, EventReader, fold_log, last_records, read_events
from mlxprune.run.fold import fold_event
from mlxprune.run.segments import (
    checked,
    compress_segment,
    damaged_records,
    log_segments,
    packed,
    read_segment,
)
from mlxprune.run.state import RunState
from mlxprune.run.wire import event_of


def warned(folder: Path) -> list[str]:
    return [e.message for e in read_events(folder) if isinstance(e, Warned)]


def test_a_flipped_bit_costs_a_record_and_is_seen(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for n in range(30):
        log.emit("corpus", Warned(message=f"message {n}"))
    log.close()
    (path,) = log_segments(tmp_path)
    data, draw = path.read_bytes(), random.Random()
    assert damaged_records(path) == 0
    for _ in range(60):
        at = draw.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
        found = warned(tmp_path)
        assert set(found) <= {f"message {n}" for n in range(30)}, "no other word is told"
        if damaged_records(path) == 0:  # the rest looks like the torn tail that a kill leaves
            assert found == [f"message {n}" for n in range(len(found))]
            continue
        reader = EventReader(tmp_path)
        reader.to_end()
        assert reader.trouble


def test_records_of_old_have_no_checksum(tmp_path: Path) -> None:
    wire = {"v": 1, "kind": "warning", "message": "x"}
    assert checked(dict(wire)) == wire
    assert checked(msgpack.unpackb(packed(wire))) == wire
    assert checked({**wire, "sum": 5}) is None
    assert checked({**wire, "v": 2}) is None, "but every newer one has"
    assert checked([1]) is None


def test_what_is_compressed_is_read_alike_while_somebody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 3000)
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    for n in range(300):
        log.emit("corpus", Warned(message=f"m{n}"))
        if n % 7 == 0:
            reader.read(1.0)
    reader.to_end()
    log.close()
    assert reader.trouble is None
    assert reader.state == log.state == fold_log(tmp_path)
    paths = log_segments(tmp_path)
    assert len(paths) > 5
    assert [p.suffix for p in paths] == [".zst"] * (len(paths) - 1) + [".msgpack"]
    assert warned(tmp_path) == [f"m{n}" for n in range(300)]
    assert sum(p.stat().st_size for p in paths) < events.log_bytes(tmp_path) / 2
    late = EventReader(tmp_path)
    late.to_end()
    assert late.state == log.state


def test_a_kill_while_a_segment_is_compressed_loses_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit("corpus", Warned(message="before"))
    log.close()
    (path,) = log_segments(tmp_path)
    data = path.read_bytes()
    compress_segment(path)
    path.write_bytes(data)  # it was killed before the plain one was removed
    assert len(log_segments(tmp_path)) == 1
    assert warned(tmp_path) == ["before"]
    later = EventLog(tmp_path)
    later.close()
    assert not path.exists()
    assert warned(tmp_path) == ["before"]


def test_the_last_records_need_only_the_last_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 2000)
    log = EventLog(tmp_path)
    for n in range(200):
        log.emit("corpus", Warned(message=f"m{n}"))
    log.close()
    read: list[Path] = []
    usual = segments.read_bytes

    def counting(path: Path, *more: int) -> bytes:
        read.append(path)
        return usual(path, *more)

    monkeypatch.setattr(segments, "read_bytes", counting)
    assert [r["message"] for r in last_records(tmp_path, 20)] == [f"m{n}" for n in range(180, 200)]
    assert len(read) < len(log_segments(tmp_path)) / 3
    assert last_records(tmp_path, 0) == []


def test_a_write_that_is_cut_short_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk takes a part of a record, and then nothing."""
    log, real, room = EventLog(tmp_path), os.write, [20]

    def short(fd: int, data: Any) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "no space")
        written = real(fd, bytes(data)[: room[0]])
        room[0] -= written
        return written

    log.emit("corpus", Warned(message="before"))
    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError):
        log.emit("corpus", Warned(message="lost"))
    monkeypatch.setattr(os, "write", real)
    log.emit("corpus", Warned(message="after"))
    log.close()
    assert warned(tmp_path) == ["before", "after"]


def test_a_histogram_grows_by_what_is_added() -> None:
    state = RunState()
    first = DomainHistogram(first=1, counts=[2], nll=1.0, tokens=4.0, bytes=9.0)
    whole = Histogram(edges=[0.0, 1.0, 2.0, 3.0], documents=[0, 2, 0], tokens=[0, 4, 0],
                      bytes=[0, 9, 0], domains={"web": first})  # fmt: skip
    fold_event(state, whole)
    held = state.histogram
    added = DomainAdded(bins=[0, 2], counts=[1, 5], nll=2.0, tokens=6.0, bytes=7.0)
    fold_event(
        state,
        HistogramAdded(bins=[0, 2, 77], documents=[1, 5, 9], tokens=[2, 4, 9], bytes=[3, 4, 9],
                       domains={"web": added, "code": added}),
    )  # fmt: skip
    now = state.histogram
    assert now is not None and now.domains is not None
    assert (now.documents, now.tokens, now.bytes) == ([1, 2, 5], [2, 4, 4], [3, 9, 4])
    web = now.domains["web"]
    assert (web.first, web.counts, web.nll, web.tokens) == (0, [1, 2, 5], 3.0, 10.0)
    assert now.domains["code"].counts == [1, 0, 5]
    assert held is whole and held.documents == [0, 2, 0], "who draws may hold the one before"
    fold_event(RunState(), HistogramAdded(bins=[0], documents=[1]))


HOSTILE: list[Any] = [
    None, 5, -1, 1.5, float("nan"), float("inf"), 10**30, "", "x" * 10_000, "\x1b]0;title\x07",
    "\u202eforged\nline", [], [[]], {}, {"a": {"b": []}}, b"\xff\x00", True, ["a", 1], -(2**63),
]  # fmt: skip
KINDS = ["warning", "progress", "train.step", "run.start", "run.end", "stage.end", "snapshot",
         "histogram", "histogram.added", "device", "evaluation", "assessed", "no.such.kind",
         "damaged", "rolled_back"]  # fmt: skip


def test_nothing_that_anyone_writes_ends_a_reader(tmp_path: Path) -> None:
    draw = random.Random()
    wires = []
    for _ in range(3000):
        kind = draw.choice([*KINDS, *HOSTILE[:12]])
        names = ["t", "v", "stage", "seconds", "state", "loss", "model", "error", "edges", "bins",
                 "documents", "domains", "done", "total", "rate", "config", "result", "files",
                 "memory_total", "memory_used", "new_targets", "message", "step", "targets", "pass",
                 "summary", "spent", "stages", "curves", "\x1b[2J"]  # fmt: skip
        wire = {name: draw.choice(HOSTILE) for name in draw.sample(names, 8)}
        wires.append({"kind": kind, **wire})
    data = b"".join(map(_packed_anyway, wires))
    (tmp_path / "000001-x.msgpack").write_bytes(data)
    fold_log(tmp_path)
    reader = EventReader(tmp_path)
    reader.to_end()
    for record in last_records(tmp_path, 3000):
        line = event_line(record)
        assert line.isprintable(), line
        told_as_json(record)
    fold_event(reader.state, TrainStep(model="m", loss=1.0, step=1, targets=8))


def _packed_anyway(wire: dict[str, Any]) -> bytes:
    try:
        return bytes(msgpack.packb(wire))
    except (OverflowError, ValueError):
        return bytes(msgpack.packb({k: str(v) for k, v in wire.items()}))


def test_a_compressed_segment_that_unpacks_to_gigabytes_is_no_segment(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(segments.MOST_BYTES + 1))
    (tmp_path / "000001-x.msgpack.zst").write_bytes(bomb)
    assert list(read_segment(tmp_path / "000001-x.msgpack.zst")) == []
    assert fold_log(tmp_path).events == 0
    fifo = tmp_path / "000002-x.msgpack"
    os.mkfifo(fifo)
    assert fold_log(tmp_path).events == 0, "and a fifo is none either"


def test_json_on_a_terminal_holds_no_control_character() -> None:
    told = escaped('{"a": "\x9b31m \u202e x", "b": "é 語"}\n')
    assert "\x9b" not in told and "\u202e" not in told
    assert "é 語" in told and told.endswith("\n")


def test_numbers_that_are_none_are_left_out() -> None:
    event = event_of({"kind": "stage.end", "seconds": float("inf"), "v": float("inf"), "t": 1.0})
    assert event.v is None and event.seconds is None and event.t == 1.0
