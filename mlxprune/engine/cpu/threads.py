"""Lanes: one thread a core for NumPy work that releases the interpreter, and buffers that stay."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np


class CpuThreads:
    """One thread a core, each with buffers that stay from call to call."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="mlxprune") if count > 1 else None
        self._buffers = [Buffers() for _ in range(count)]

    def map(self, work: Callable[[Buffers, Any], Any], items: list[list[Any]]) -> list[Any]:
        """Give thread n the list n of items; the results, in the order of threads and items."""

        def on_thread(number: int) -> list[Any]:
            # What overflows ends as an infinite loss, which whoever trains looks at.
            with np.errstate(all="ignore"):
                return [work(self._buffers[number], item) for item in items[number]]

        numbers = range(len(items))
        if self._pool is None:
            return [result for n in numbers for result in on_thread(n)]
        started = [self._pool.submit(on_thread, number) for number in numbers]
        wait(started)  # all of them: what one raises must not leave others at work in their buffers
        return [result for thread in started for result in thread.result()]

    def __len__(self) -> int:
        return len(self._buffers)

    def deal(self, items: list[Any]) -> list[list[Any]]:
        """Items in neighbouring runs of nearly equal length, one run a thread."""
        cuts = [len(items) * n // len(self) for n in range(len(self) + 1)]
        return [items[a:b] for a, b in itertools.pairwise(cuts)]


class Buffers:
    """Named float32 arrays that grow to the largest size asked for and are never given back."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def take(self, name: str, *shape: int) -> np.ndarray:
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, np.float32)
        return held[:size].reshape(shape)
