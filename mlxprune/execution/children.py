"""Children: processes that train, score and evaluate for a run, which stays free to answer.

A child is started as a module, so that a notebook can start a run. It is kept for the next work of
the run; after a failure the next one is fresh, because a device that failed once fails again in the
same process.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import psutil

from mlxprune import errors, machine
from mlxprune.errors import MlxpruneError, RunError
from mlxprune.execution.endings import TAIL_BYTES, Ending, ending_of
from mlxprune.execution.messages import (
    Begin,
    Call,
    Done,
    Emitted,
    Ended,
    Failed,
    Go,
    Hold,
    Save,
    Saved,
    ToChild,
    Told,
    ToParent,
    pack,
    read_message,
    unpack,
    write_message,
)
from mlxprune.run.event_kinds import Warned
from mlxprune.run.wire import event_of

T = TypeVar("T")
# -P: no module of the folder that somebody works in.
COMMAND = (sys.executable, "-P", "-m", "mlxprune.execution.link")
WAIT_SECONDS = 0.2
CHILD_SETTINGS = {"VECLIB_MAXIMUM_THREADS": "1"}  # Accelerate's: on a CPU the threads are our own
LOOK_SECONDS = 2.0
WENT_ON = "a process of the run was stopped by somebody else: it was told to go on"
SAVE_SECONDS = 600.0  # a child that has not saved by then has hung


class ChildEnded(Exception):
    """A child failed or died in a way that a fresh one may not."""

    def __init__(self, ending: Ending, said: str) -> None:
        super().__init__(f"{ending}: {said}")
        self.ending, self.said = ending, said


@dataclass(frozen=True)
class Received:
    """A message and the child that sent it."""

    child: Child
    message: ToParent


class Child:
    """One process. What it says comes into ``inbox``, which several children may share."""

    def __init__(self, begin: Begin) -> None:
        ours, theirs_out = os.pipe()
        theirs_in, self._to = os.pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the child)
        self.process = subprocess.Popen(
            [*COMMAND, str(theirs_in), str(theirs_out)],
            pass_fds=(theirs_in, theirs_out),
            env=os.environ | CHILD_SETTINGS | {"PYTHONPATH": machine.import_path()},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,  # a Ctrl-C is for the run, which decides
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._changing = threading.Lock()  # of the inbox, against the last message
        self._gone = self._hung = False
        self._looked = time.monotonic()
        threading.Thread(target=self._listen, args=(ours,), daemon=True, name="child").start()
        self.send(begin)

    def _listen(self, fd: int) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            while (message := read_message(fd, ToParent)) is not None:
                self.inbox.put(Received(self, message))
        os.close(fd)
        with self._changing:
            self._gone = True
            self.inbox.put(Received(self, Ended()))

    def report_to(self, inbox: queue.SimpleQueue[Received]) -> None:
        """What it says goes to ``inbox`` from here on, also that it is gone already."""
        with self._changing:
            self.inbox = inbox
            if self._gone:
                inbox.put(Received(self, Ended()))

    def is_gone(self) -> bool:
        return self._gone or self.process.poll() is not None

    def give_up(self) -> None:
        """It has not answered for long: end it, and say so when its end is seen."""
        self._hung = True
        self.process.kill()

    def halt(self) -> None:
        """Stop it where it is, until ``go_on``."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGCONT)

    def went_on(self) -> bool:
        """Whether somebody else had stopped it: it is told to go on, and is looked at every
        LOOK_SECONDS. A run would wait for it for ever."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        try:
            stopped = psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False
        if stopped:
            self.go_on()
        return stopped

    def send(self, message: ToChild) -> None:
        """A child that is gone is noticed by what it says: Ended."""
        with contextlib.suppress(OSError):
            write_message(self._to, message)

    def start(self, function: str, order: Any, threads: int = 0) -> None:
        self.send(Call(function, pack(order), threads))

    def last_words(self) -> str:
        """The end of what it wrote on its standard streams."""
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - TAIL_BYTES))
        return self._said.read().decode(errors="replace").strip()

    def ended(self) -> ChildEnded:
        """Why it is gone, for whoever has seen Ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()  # nothing is heard from it any more
        code = self.process.wait(timeout=30)
        said = self.last_words()
        if self._hung:
            return ChildEnded(Ending.HUNG, f"no answer for {SAVE_SECONDS:.0f} seconds")
        ending = ending_of(said, code) or Ending.DIED
        lines = said.splitlines()
        return ChildEnded(ending, lines[-1] if lines else f"exit code {code}")

    def close(self) -> None:
        """End it now, whatever it does."""
        with contextlib.suppress(OSError):
            os.close(self._to)
        self.process.kill()
        self.process.wait(timeout=30)
        self._said.close()


class Children:
    """The processes of one run, started when they are needed."""

    def __init__(self) -> None:
        self.begin = Begin()
        self.peak_bytes = 0  # of any call so far
        self._idle: list[Child] = []

    def take(self, count: int = 1) -> list[Child]:
        """So many children that do nothing; whoever takes them gives them back or closes them."""
        for child in [child for child in self._idle if child.is_gone()]:
            self._idle.remove(child)
            child.close()
        taken, self._idle = self._idle[:count], self._idle[count:]
        for child in taken:
            child.send(self.begin)  # what has been decided since it was started
        taken += [Child(self.begin) for _ in range(count - len(taken))]
        return taken

    def give_back(self, children: list[Child]) -> None:
        """One is kept; the others would hold memory for nothing."""
        for child in children:
            child.report_to(queue.SimpleQueue())  # what others say in a shared one is not for it
            if self._idle or child.is_gone():
                child.close()
            else:
                self._idle.append(child)

    def close(self) -> None:
        for child in self._idle:
            child.close()
        self._idle.clear()


def raise_failure(failed: Failed) -> None:
    """What a child raised, again."""
    if failed.kind == "no space" or failed.kind == "OSError":
        raise OSError(failed.errno or 0, failed.problem, failed.where or None)
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, MlxpruneError):
        raise kind(failed.problem, failed.where, failed.fix)
    ending = ending_of(failed.problem)
    if ending is not None:
        raise ChildEnded(ending, failed.problem)
    raise RunError(failed.problem, "a child process", "run again with --debug and report it")


def save_and_hold(child: Child, control: Any, later: list[Received]) -> None:
    """The child writes a checkpoint at its next edge and then waits; the run beats meanwhile.

    What else it says goes to ``later``, its end, too: a stop stops whatever becomes of the child.
    """
    child.send(Hold())
    child.send(Save())
    until = time.monotonic() + SAVE_SECONDS
    while time.monotonic() < until:
        control.pending()  # heartbeats, and commands that come meanwhile
        try:
            received = child.inbox.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            continue
        match received.message:
            case Saved():
                return
            case Done() | Failed() | Ended():
                later.append(received)  # it was at its end: nothing is left to save
                return
            case _:
                later.append(received)
    child.give_up()  # its last checkpoint is whole


def do_in_child(
    children: Children,
    control: Any,
    log: Any,
    function: str,
    order: Any,
    result: type[T],
    told: Callable[[bytes], None] = lambda value: None,
    saves: bool = True,
) -> T:
    """The result of ``function`` in a child, which runs while this process answers its control.

    Events of the child go to the ``log``; what else it tells to ``told``, packed. A stop or a
    signal waits for the checkpoint of the child and ends it; a pause holds it. Raises ChildEnded
    where a fresh child may do better, and what the child raised. With ``saves`` false the work has
    no edges to save at: a stop ends it at once, and a pause halts the process.
    """
    (child,) = children.take()
    child.start(function, order)
    kept = False
    later: list[Received] = []
    try:
        while True:
            if control.pending():
                if saves:
                    control.obey(lambda: save_and_hold(child, control, later))
                    child.send(Go())
                else:
                    child.halt()
                    control.check()
                    child.go_on()
            try:
                received = later.pop(0) if later else child.inbox.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                if child.went_on():
                    log.emit(None, Warned(message=WENT_ON))
                continue
            match received.message:
                case Emitted(stage, event):
                    log.emit(stage, event_of(event), force=True)
                case Told(value):
                    told(value)
                case Done(value, peak):
                    kept = True
                    children.peak_bytes = max(children.peak_bytes, peak)
                    made: T = unpack(value, result)
                    return made
                case Failed():
                    raise_failure(received.message)
                case Ended():
                    raise child.ended()
                case _:
                    pass
    finally:
        if kept:
            children.give_back([child])
        else:
            child.close()
