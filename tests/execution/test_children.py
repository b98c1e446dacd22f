"""Children: what they are given and give back, how they answer, and how their endings are told."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlxprune.errors import DeviceError
from mlxprune.execution.children import ChildEnded, Children, Received, do_in_child
from mlxprune.execution.endings import Ending, ending_of
from mlxprune.execution.messages import Begin, Done, Ended, Told, pack, unpack
from mlxprune.execution.supervision import supervised
from mlxprune.run.event_kinds import Restarted, Warned
from mlxprune.testing import faults
from mlxprune.testing.forced import forced_graph
from mlxprune.testing.quiet import QuietControl, QuietLog

ECHO = "mlxprune.testing.faults:echo"
SETTLED = "mlxprune.testing.faults:settled"
TEXTS = {
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory).": Ending.MEMORY,
    "[METAL] Command buffer execution failed: Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity).": Ending.INTERACTIVITY,
    "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout).": Ending.TIMEOUT,
    "[METAL] Command buffer execution failed: Discarded (victim of GPU error/recovery) "
    "(00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim).": Ending.DEVICE,
    "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum "
    "allowed buffer size of 30150672384 bytes.": Ending.MEMORY,
    "[metal::malloc] Resource limit (499000) exceeded.": Ending.MEMORY,
    "[malloc] Unable to allocate 134217728 bytes.": Ending.MEMORY,
    "cudaMallocAsync(&data, size, stream) failed: out of memory": Ending.MEMORY,
    "cudaMallocManaged failed: an illegal memory access was encountered.": Ending.DEVICE,
    "MemoryError: Unable to allocate 3.1 GiB for an array": Ending.MEMORY,
}


@pytest.fixture
def children() -> Iterator[Children]:
    held = Children()
    yield held
    held.close()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(faults.FILE, "")
    return tmp_path / "faults.json"


def echo(children: Children, value: np.ndarray) -> np.ndarray:
    return do_in_child(children, QuietControl(), QuietLog(), ECHO, value, np.ndarray)


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t[:40])
def test_every_known_text_is_understood(text: str) -> None:
    assert ending_of(text) == TEXTS[text]
    assert ending_of(f"libc++abi: terminating due to uncaught exception: {text}", -6) == TEXTS[text]


def test_other_endings() -> None:
    assert ending_of("ValueError: shapes (3,) and (4,) do not match") is None
    assert ending_of("", -signal.SIGKILL) == Ending.MEMORY
    assert ending_of("", -signal.SIGSEGV) == Ending.DIED


def test_arrays_paths_and_records_go_there_and_back(generator: np.random.Generator) -> None:
    rows = np.zeros(3, [("nll_sum", "<f8"), ("truncated", "?")])
    rows["nll_sum"] = generator.standard_normal(3)
    assert np.array_equal(unpack(pack(rows), np.ndarray), rows)
    table = generator.standard_normal((0, 4)).astype(np.float32)
    assert unpack(pack(table), np.ndarray).shape == (0, 4)
    assert unpack(pack({"a": Path("b/c")}), dict[str, Path]) == {"a": Path("b/c")}


def test_one_process_does_many_calls(children: Children, generator: np.random.Generator) -> None:
    value = generator.standard_normal((5, 3))
    assert np.array_equal(echo(children, value), 2 * value)
    (child,) = children.take()
    children.give_back([child])
    assert np.array_equal(echo(children, value), 2 * value)
    assert children.take() == [child]
    child.close()


def test_an_idle_child_that_died_is_not_given_out(children: Children) -> None:
    """Memory may end one between two stages: the next work neither waits for it nor is lighter."""
    echo(children, np.arange(2))
    (idle,) = children.take()
    children.give_back([idle])
    idle.process.kill()
    idle.process.wait()
    assert np.array_equal(echo(children, np.arange(3)), [0, 2, 4])


def test_the_end_of_a_child_is_told_to_whoever_listens_then(children: Children) -> None:
    """It says so once; an inbox that is taken up later hears it, too."""
    (child,) = children.take()
    child.process.kill()
    assert isinstance(child.inbox.get(timeout=30).message, Ended)
    later: queue.SimpleQueue[Received] = queue.SimpleQueue()
    child.report_to(later)
    assert isinstance(later.get(timeout=1).message, Ended)
    child.close()


def test_what_was_decided_reaches_a_child_that_was_started_before(children: Children) -> None:
    """As the one that has run the trial of dtypes."""

    def dtypes() -> list[str]:
        return do_in_child(children, QuietControl(), QuietLog(), SETTLED, "", list[str])

    with forced_graph("bfloat16"):
        assert dtypes() == ["mlx.core.bfloat16"] * 2
        children.begin = Begin("float32", "float16", None, 1.0)
        assert dtypes() == ["mlx.core.float32", "mlx.core.float16"]


def test_a_message_that_cannot_be_read_is_an_end_and_no_wait(children: Children) -> None:
    (child,) = children.take()
    child.start("mlxprune.testing.faults:garble", "")
    try:
        assert isinstance(child.inbox.get(timeout=30).message, Told)
        assert isinstance(child.inbox.get(timeout=30).message, Ended)
    finally:
        child.close()


def test_a_child_that_worked_with_others_hears_nothing_of_their_end(children: Children) -> None:
    """Several share an inbox while they work together; the end of one is not the other's."""
    together = children.take(2)
    inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
    for child in together:
        child.report_to(inbox)
        child.start(ECHO, np.arange(2))
    ended = 0
    while ended < 2:
        ended += isinstance(inbox.get(timeout=60).message, Done)
    children.give_back(together)
    together[1].process.wait(timeout=10)
    time.sleep(0.2)  # until its reader has said so
    assert np.array_equal(echo(children, np.arange(3)), [0, 2, 4])
    assert children.take() == [together[0]]
    together[0].close()


@pytest.mark.parametrize("how", ["abort", pytest.param("raise", marks=pytest.mark.slow)])
@pytest.mark.parametrize("text", list(TEXTS)[:1], ids=lambda t: t[-40:])
def test_how_a_child_ended_is_told_apart(
    how: str, text: str, children: Children, plan: Path
) -> None:
    faults.plan_faults(plan, how, text, times=1, after=3)
    with pytest.raises(ChildEnded) as caught:
        echo(children, np.arange(3))
    assert caught.value.ending == TEXTS[text]
    assert text.split(":")[0] in caught.value.said
    assert np.array_equal(echo(children, np.arange(3)), [0, 2, 4])  # a fresh one


@pytest.mark.parametrize(("how", "ending"), [("kill", Ending.MEMORY), ("exit", Ending.DIED)])
def test_a_child_that_dies_without_a_word(
    how: str, ending: Ending, children: Children, plan: Path
) -> None:
    faults.plan_faults(plan, how, "", times=1, after=1)
    with pytest.raises(ChildEnded) as caught:
        echo(children, np.arange(3))
    assert caught.value.ending == ending


def test_work_goes_on_while_it_gets_somewhere_and_is_given_up_when_not() -> None:
    log, made, shapes = QuietLog(), 0, iter(["half", "a quarter", None, None, None, None])

    def attempt() -> str:
        nonlocal made
        made += 1
        if made < 6:
            raise ChildEnded(Ending.MEMORY, "no memory")
        return "done"

    found = supervised(log, "final", "a model", attempt, lambda: made // 2, lambda: next(shapes))
    assert found == "done"
    restarts = [event for event in log.events if isinstance(event, Restarted)]
    assert [r.count for r in restarts] == [1, 2, 3, 4, 5]
    assert [r.shape for r in restarts] == ["half", "a quarter", None, None, None]
    assert len([e for e in log.events if isinstance(e, Warned)]) == 5
    made = 0
    with pytest.raises(DeviceError) as caught:
        supervised(log, "final", "a model", attempt, lambda: 0, lambda: None)
    assert made == 3
    assert caught.value.exit_code == 3
    assert "3 times" in caught.value.problem
    assert "memory" in caught.value.fix


def test_the_watchdog_is_named_with_what_helps() -> None:
    def attempt() -> None:
        raise ChildEnded(Ending.INTERACTIVITY, "[METAL] Impacting Interactivity")

    with pytest.raises(DeviceError) as caught:
        supervised(QuietLog(), "final", "a model", attempt, lambda: 0, lambda: None)
    assert "AGX_RELAX_CDM_CTXSTORE_TIMEOUT" in caught.value.fix
    assert "display" in caught.value.fix


@pytest.mark.slow
def test_a_child_ends_when_its_run_is_killed(plan: Path) -> None:
    """Also one that hangs in the middle of its work."""
    faults.plan_faults(plan, "hang", "", times=1, after=1)
    program = f"""
        import numpy as np, sys
        from mlxprune.execution.children import Children
        children = Children()
        (child,) = children.take()
        child.start({ECHO!r}, np.arange(3))
        print(child.process.pid, flush=True)
        import time; time.sleep(100)
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    child = psutil.Process(pid)
    deadline = time.monotonic() + 20
    while faults.faults_left(plan) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.is_running()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_a_script_without_a_main_guard_can_start_children(tmp_path: Path) -> None:
    """As a notebook does: nothing of the caller is imported in a child."""
    script = tmp_path / "plain.py"
    script.write_text(
        textwrap.dedent(f"""
        import numpy as np
        from mlxprune.execution.children import Children, do_in_child
        from mlxprune.testing.quiet import QuietControl, QuietLog
        children = Children()
        print(do_in_child(children, QuietControl(), QuietLog(), {ECHO!r}, np.arange(3), np.ndarray))
        children.close()
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0 2 4]\n", done.stderr


def test_a_child_that_somebody_stops_goes_on(children: Children, plan: Path) -> None:
    """Found within seconds: a run would wait for it for ever."""
    faults.plan_faults(plan, "wait", "1.0", 1, 2)
    log = QuietLog()
    began = time.monotonic()
    stopped: list[bool] = []

    class Stops(QuietControl):
        def pending(self) -> bool:
            me = psutil.Process()
            if not stopped and time.monotonic() - began > 0.8:
                for child in me.children():
                    child.send_signal(signal.SIGSTOP)
                stopped.append(True)
            return False

    order = np.arange(3)
    found = do_in_child(children, Stops(), log, ECHO, order, np.ndarray)
    assert np.array_equal(found, order * 2)
    assert stopped
    told = [e.message for e in log.events if isinstance(e, Warned)]
    assert told and all("told to go on" in str(message) for message in told)
