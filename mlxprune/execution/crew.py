"""Crew: several children on the numbered units of one piece of work.

Units are given out a few at a time: a child always has the next one before it has finished the
last, and a run that ends leaves no queue behind.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

from mlxprune.execution.children import WAIT_SECONDS, WENT_ON, Child, Received, raise_failure
from mlxprune.execution.context import Execution
from mlxprune.execution.messages import Done, Emitted, Ended, Failed, Go, Hold, Item, Told
from mlxprune.run.event_kinds import Warned
from mlxprune.run.wire import event_of

AHEAD = 3  # units that a child has been given and not finished


def share_out(
    execution: Execution,
    function: str,
    order: Any,
    units: Iterator[int],
    workers: int,
    hear: Callable[[bytes], bool],
) -> None:
    """Let children do ``function`` with ``order`` on all units, which are made as they are given
    out; one thread each on a CPU. ``hear`` takes what a child tells, packed, and returns whether it
    has finished a unit.

    Raises ChildEnded where a fresh crew may do better, and what a child or ``units`` raised.
    """
    crew = _Crew(execution, units, hear)
    children = execution.children.take(workers)
    try:
        crew.run(children, function, order)
        execution.children.give_back(children)
        children = []
    finally:
        for child in children:
            child.close()


class _Crew:
    def __init__(
        self, execution: Execution, units: Iterator[int], hear: Callable[[bytes], bool]
    ) -> None:
        self.execution, self.units, self.hear = execution, units, hear
        self.at_end: set[Child] = set()  # those that know that there are no more units

    def run(self, children: list[Child], function: str, order: Any) -> None:
        inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        busy = set(children)
        for child in children:
            child.report_to(inbox)
            child.start(function, order, threads=1)
        for _ in range(AHEAD):
            for child in children:
                self._give(child)
        while busy:
            self._answer(children)
            if sum(child.went_on() for child in busy):
                self.execution.log.emit(None, Warned(message=WENT_ON))
            try:
                received = inbox.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                continue
            self._take(received, busy)

    def _give(self, child: Child) -> None:
        if child in self.at_end:
            return
        unit = next(self.units, None)
        if unit is None:
            self.at_end.add(child)
        child.send(Item(unit))

    def _answer(self, children: list[Child]) -> None:
        """Signals, a stop, a pause: what is done is whole as it is, so nothing is waited for."""
        control = self.execution.control
        if control.pending():
            for child in children:
                child.send(Hold())
            control.check()
            for child in children:
                child.send(Go())

    def _take(self, received: Received, busy: set[Child]) -> None:
        match received.message:
            case Told(value):
                if self.hear(value):
                    self._give(received.child)
            case Emitted(stage, event):
                self.execution.log.emit(stage, event_of(event), force=True)
            case Done(_, peak):
                children = self.execution.children
                children.peak_bytes = max(children.peak_bytes, peak)
                busy.discard(received.child)
            case Failed():
                raise_failure(received.message)
            case Ended():
                if received.child in busy:
                    raise received.child.ended()
            case _:
                pass
