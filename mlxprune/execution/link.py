"""Link: a child's side of its work for a run. Started as ``python -m mlxprune.execution.link``.

A thread reads what the run says, so that a hold is heard in the middle of a batch, and so that a
child ends at once when its run is gone: the pipe is then closed, however the run ended.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import queue
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mlxprune.errors import MlxpruneError, one_line
from mlxprune.execution.messages import (
    Begin,
    Call,
    Done,
    Emitted,
    Failed,
    Go,
    Hold,
    Item,
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
from mlxprune.run.event_kinds import Event
from mlxprune.run.events import SECONDS_BETWEEN

OURS = "mlxprune."  # where functions that can be called live


class Link:
    """What work in a child sees of its run: a log to emit to, and a control to obey."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._writing = threading.Lock()
        self._go = threading.Event()
        self._go.set()
        self._save_asked = threading.Event()
        self._calls: queue.SimpleQueue[Begin | Call] = queue.SimpleQueue()
        self._items: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._last: dict[tuple[str | None, type[Event]], float] = {}
        threading.Thread(target=self._listen, daemon=True, name="link").start()

    def _listen(self) -> None:
        while True:
            message = None
            with contextlib.suppress(OSError, msgspec.DecodeError):
                message = read_message(self._incoming, ToChild)
            match message:
                case None:
                    os._exit(1)  # the run is gone; what is written is whole as it is
                case Hold():
                    self._go.clear()
                case Go():
                    self._go.set()
                case Save():
                    self._save_asked.set()
                case Item():
                    self._items.put(message.value)
                case _:
                    self._calls.put(message)

    def write(self, message: ToParent) -> None:
        try:
            with self._writing:
                write_message(self._outgoing, message)
        except OSError:
            os._exit(1)

    # As an event log.

    def due(self, stage: str | None, kind: type[Event]) -> bool:
        """Whether a frequent kind may be sent again."""
        last = self._last.get((stage, kind), 0.0)
        return not kind.frequent or time.monotonic() - last >= SECONDS_BETWEEN

    def emit(self, stage: str | None, event: Event, force: bool = False) -> None:
        """Send one event; the same rule as the log's about frequent kinds."""
        if not force and not self.due(stage, type(event)):
            return
        self._last[(stage, type(event))] = time.monotonic()
        self.write(Emitted(stage, msgspec.structs.replace(event, stage=stage).wire()))

    # As a control.

    def pending(self) -> bool:
        return self._save_asked.is_set() or not self._go.is_set()

    def obey(self, save: Callable[[], None]) -> None:
        """Save when asked to, and wait while held."""
        while self.pending():
            if self._save_asked.is_set():
                save()
                self._save_asked.clear()
                self.write(Saved())
            else:
                self._go.wait(timeout=0.2)

    def edge(self) -> None:
        """Between two batches, where results so far are safe as they are."""
        if self.pending():
            self.obey(lambda: None)

    def tell(self, value: Any) -> None:
        """Something for the caller of the work."""
        self.write(Told(pack(value)))

    def items(self, idle: Callable[[], None]) -> Iterator[int]:
        """The pieces of the work as they are given out, until there are no more; ``idle`` is called
        before it has to wait for one."""
        while True:
            if self._items.empty():
                idle()
            value = self._items.get()
            if value is None:
                break
            yield value

    def serve(self) -> None:
        """Do calls until the run is gone."""
        while True:
            message = self._calls.get()
            if isinstance(message, Begin):
                _begin(message)
                continue
            try:
                self.write(_call(self, message))
            except MlxpruneError as error:
                kind = type(error).__name__
                self.write(Failed(kind, error.problem, error.where, error.fix))
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                kind, where = "no space" if full else "OSError", str(error.filename or "")
                self.write(Failed(kind, one_line(error.strerror or error), where, "", error.errno))
            except Exception as error:
                told = f"{type(error).__name__}: {one_line(error)}"
                self.write(Failed("", told, "", ""))


def _begin(message: Begin) -> None:
    from mlxprune.engine import backend

    if message.train_dtype and message.score_dtype:
        backend.settle(
            message.train_dtype, message.score_dtype, message.part_flops, message.peak_flops
        )


def _call(link: Link, message: Call) -> Done:
    from mlxprune import machine
    from mlxprune.engine import backend

    module, _, name = message.function.partition(":")
    if not module.startswith(OURS):
        raise ValueError(f"{message.function} is none of ours")
    function = getattr(importlib.import_module(module), name)
    kind = typing.get_type_hints(function)["order"]
    backend.use_threads(message.threads or machine.cores())
    backend.reset_peak_memory()
    backend.limit_memory()
    result = pack(function(link, unpack(message.argument, kind)))
    peak = backend.peak_memory()
    backend.release()
    return Done(result, peak)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run decides, and closes the pipe
    Link(int(sys.argv[1]), int(sys.argv[2])).serve()


if __name__ == "__main__":
    from mlxprune.execution.link import main as main_of_the_module  # one class of every name

    main_of_the_module()
