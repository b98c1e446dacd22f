"""Run contestants in turns: each in a process of its own that waits, silent, until it is asked.

A contestant is a program that prints one line when it is ready, then answers every line of JSON on
its standard input with a line of JSON. Only one works at a time, so each has all cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any


class Contestant:
    """A process that is ready, and the end of a pipe to it."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def send(self, question: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self.send(question)
        return self._answer()

    def wait(self) -> dict[str, Any]:
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], **facts: Any) -> None:
    """The other end: say that it is ready, then answer until the pipe closes."""
    print(json.dumps({"ready": True, **facts}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def summary(rates: dict[str, list[float]], ours: str) -> list[dict[str, Any]]:
    """By contestant: its median rate, and the median over rounds of ours over its."""
    result = []
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(rates[ours], values, strict=True)]
        result.append(
            {
                "name": name,
                "median": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "ours_over_it": statistics.median(rates[ours]) / statistics.median(values),
                "by_round": [round(r, 3) for r in ratios],
            }
        )
    return result
