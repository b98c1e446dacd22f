"""The log and its fold: torn tails, snapshots, unknown kinds, thinning."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import pytest

from mlxprune.run import events
from mlxprune.run.event_kinds import (
    KINDS,
    Event,
    Progress,
    RunEnd,
    RunStart,
    StageEnd,
    StageStart,
    TrainStep,
    Warned,
)
from mlxprune.run.events import (
    CHUNK_BYTES,
    EventLog,
    EventReader,
    fold_log,
    log_segments,
    read_events,
    read_segment,
)
from mlxprune.run.fold import CURVE_POINTS, fold_event
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState, state_of
from mlxprune.run.wire import event_of


def test_a_log_is_folded_alike_by_writer_and_reader(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit(None, RunStart(run="a", device="cpu"))
    log.emit("corpus", StageStart(why="was not done before"))
    log.emit("corpus", StageEnd(state="done", seconds=1.0))
    log.close()
    assert fold_log(tmp_path) == log.state
    assert log.state.stages["corpus"].state == "done"


def test_a_torn_tail_loses_only_itself(tmp_path: Path) -> None:
    """Cut at every byte, the reader gets the whole records before the cut and never raises."""
    log = EventLog(tmp_path)
    for n in range(5):
        log.emit(None, Warned(message=f"w{n}"))
    log.close()
    (path,) = log_segments(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found = list(read_events(tmp_path))
        assert [e.message for e in found] == [f"w{n}" for n in range(len(found))]
        fold_log(tmp_path)


def test_a_new_process_opens_a_new_segment_that_begins_with_a_snapshot(tmp_path: Path) -> None:
    first = EventLog(tmp_path)
    first.emit(None, RunStart(run="a"))
    first.emit(None, Warned(message="once"))
    first.close()
    second = EventLog(tmp_path)
    second.emit(None, RunStart(run="a"))
    second.close()
    assert len(log_segments(tmp_path)) == 2
    (snapshot, *_) = read_segment(log_segments(tmp_path)[1])
    assert snapshot["kind"] == "snapshot"
    assert second.state.attempts == 2
    assert fold_log(tmp_path) == second.state


def test_a_full_segment_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 2000)
    log = EventLog(tmp_path)
    for n in range(100):
        log.emit(None, Warned(message=f"warning number {n}"))
    log.close()
    assert len(log_segments(tmp_path)) > 2
    assert len(list(read_events(tmp_path))) == 100
    assert fold_log(tmp_path) == log.state


def test_frequent_kinds_come_at_most_twice_a_second(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for n in range(50):
        log.emit("score", Progress(done=n, total=50))
    log.close()
    assert len(list(read_events(tmp_path))) == 1


def test_unknown_kinds_and_fields_never_break_the_fold() -> None:
    held = RunState()
    fold_event(held, event_of({"kind": "from.the.future", "t": 1.0, "x": [1]}))
    fold_event(held, event_of({"kind": "stage.start", "stage": "unheard-of", "t": 2.0, "why": "x"}))
    fold_event(held, event_of({"t": 3.0}))
    assert held.events == 3


def test_a_foreign_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "000001-x.msgpack").write_bytes(b"\xc1\xff not msgpack")
    (tmp_path / "notes.txt").write_text("hello")
    assert list(read_events(tmp_path)) == []
    assert fold_log(tmp_path).state == "pending"


def test_losing_a_reader_never_touches_a_run(tmp_path: Path) -> None:
    log = EventLog(tmp_path)

    def broken(event: Event, held: RunState) -> None:
        raise BrokenPipeError

    log.listeners.append(broken)
    log.emit(None, Warned(message="first"))
    log.emit(None, Warned(message="second"))
    log.close()
    assert log.listeners == []
    assert len(list(read_events(tmp_path))) == 2


def test_a_reader_that_follows_reads_everything_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    reader = EventReader(tmp_path)
    seen: list[Event] = []
    for n in range(10):
        log.emit(None, Warned(message=str(n)))
        if n % 3 == 0:
            seen += reader.read(1.0)
    seen += reader.read(1.0)
    log.close()
    assert [e.message for e in seen if e.kind != "snapshot"] == [str(n) for n in range(10)]


def test_a_resumed_curve_overwrites_what_it_repeats() -> None:
    held = RunState()
    for targets in (100, 200, 300, 200, 250):
        step = TrainStep(stage="final", model="m", targets=targets, new_targets=100)
        step.loss = float(targets)
        fold_event(held, step)
    assert held.curves["m"].train["targets"] == [100, 200, 250]
    assert held.targets_trained == 500


def test_long_curves_are_thinned() -> None:
    held = RunState()
    for targets in range(1, 10_000):
        fold_event(held, TrainStep(stage="final", model="m", targets=targets))
    points = held.curves["m"].train["targets"]
    assert len(points) <= CURVE_POINTS
    assert (points[0], points[-1]) == (1, 9999)


def test_a_state_survives_msgpack(tiny_run: RunFolder) -> None:
    """So that it can stand in a snapshot."""
    held = fold_log(tiny_run.events)
    read = state_of(msgpack.unpackb(msgpack.packb(held.as_json()), strict_map_key=False))
    assert read.as_json() == held.as_json()
    assert held.state == "done"
    assert set(held.curves) == {"references/main", "final/high-50-s0", "final/random-50-s0"}


def test_every_kind_of_a_run_is_documented(tiny_run: RunFolder) -> None:
    kinds = {e.kind for e in read_events(tiny_run.events)}
    assert kinds <= set(KINDS)
    assert {"run.start", "stage.start", "progress", "train.step", "run.end"} <= kinds
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    for kind in KINDS:
        assert f"`{kind}`" in text


# --- the reader that works in slices


def whole(reader: EventReader) -> list[Event]:
    found: list[Event] = []
    while True:
        new = reader.read(0.001)
        found += new
        if not new:
            return found


def test_a_reader_sees_what_the_fold_of_a_folder_does(tiny_run: RunFolder) -> None:
    reader = EventReader(tiny_run.events)
    whole(reader)
    assert reader.state == fold_log(tiny_run.events)
    assert (reader.behind, reader.trouble) == (0, None)


def test_a_log_cut_anywhere_in_its_last_records(tiny_run: RunFolder, tmp_path: Path) -> None:
    """What is torn is not there yet; what then comes whole is read once."""
    source = log_segments(tiny_run.events)[-1]
    data = source.read_bytes()
    records = list(read_segment(source))[-3:]
    tail = sum(len(msgpack.packb(r)) for r in records)
    path = tmp_path / source.name
    for cut in range(len(data) - tail, len(data) + 1, max(1, tail // 150)):
        path.write_bytes(data[:cut])
        reader = EventReader(tmp_path)
        whole(reader)
        before = reader.state.events
        assert reader.state == fold_log(tmp_path)
        path.write_bytes(data)
        later = whole(reader)
        assert reader.state == fold_log(tmp_path)
        assert reader.state.events == before + len(later)
        assert reader.trouble is None


def test_a_reader_follows_new_writers(tmp_path: Path) -> None:
    """Every segment begins with a snapshot, which replaces what was folded and loses nothing."""
    reader = EventReader(tmp_path)
    for n in range(5):
        log = EventLog(tmp_path)
        log.emit(None, RunStart(run="x", device="d", pid=1))
        for k in range(n + 1):
            log.emit("corpus", Warned(message=f"{n} {k}"))
            reader.read(0.01)
        log.close()
    whole(reader)
    assert reader.state == fold_log(tmp_path)
    assert reader.state.events == 5 + 15
    assert reader.state.attempts == 5


def test_a_log_that_was_cut_short_is_read_anew(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for n in range(20):
        log.emit("corpus", Warned(message=str(n)))
    log.close()
    reader = EventReader(tmp_path)
    whole(reader)
    path = log_segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-100])
    whole(reader)
    assert reader.state == fold_log(tmp_path)
    assert "cut short" in str(reader.trouble)
    path.unlink()
    whole(reader)
    assert reader.state.events == 0


def test_garbage_is_named_and_passed_over(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit("corpus", Warned(message="before"))
    log.close()
    path = log_segments(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b"\xc1" + os.urandom(300))
    reader = EventReader(tmp_path)
    whole(reader)
    assert path.name in str(reader.trouble)
    assert [w.message for w in reader.state.warnings] == ["before"]
    later = EventLog(tmp_path)  # another process goes on with a segment of its own
    later.emit("corpus", Warned(message="after"))
    later.close()
    whole(reader)
    assert [w.message for w in reader.state.warnings] == ["before", "after"]


def test_a_record_larger_than_a_chunk_is_read(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit(None, RunEnd(status="done", result={"large": "x" * (3 * CHUNK_BYTES)}))
    log.emit("corpus", Warned(message="after"))
    log.close()
    reader = EventReader(tmp_path)
    whole(reader)
    assert reader.state.result["large"][-1] == "x"
    assert reader.state.warnings


def test_a_slow_reader_takes_segments_in_order(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)  # there from the beginning: it begins with no newest segment
    for n in range(3):
        log = EventLog(tmp_path)
        for k in range(300):
            log.emit("corpus", Warned(message=f"{n} {k}" + 2000 * "x"))
        log.close()
    seen: list[int] = []
    while True:
        new = reader.read(0.002)
        if not new:
            break
        seen += [int(e.message.split()[0]) for e in new if e.kind == "warning"]
    assert seen == sorted(seen)
    assert len(seen) == 900
    assert reader.state == fold_log(tmp_path)


def test_old_segments_are_not_read_again(tmp_path: Path) -> None:
    for n in range(2):
        log = EventLog(tmp_path)
        log.emit("corpus", Warned(message=str(n)))
        log.close()
    reader = EventReader(tmp_path)
    assert [e.message for e in reader.read(1.0) if e.kind == "warning"] == ["1"]
