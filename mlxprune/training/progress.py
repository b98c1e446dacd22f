"""Meter: the progress of one training as events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlxprune.model.architecture import flops_per_token
from mlxprune.run.events import EventLog

if TYPE_CHECKING:
    from mlxprune.training.recipe import Recipe
    from mlxprune.training.stream import TrainingStream


@dataclass(frozen=True)
class StageShare:
    """Where a training stands among those of its stage: the how many-th, and in targets what lies
    before its first step, and all."""

    number: int
    count: int
    before: int
    total: int


class TrainingProgress:
    """Means since the last event, rate, time left."""

    def __init__(
        self,
        recipe: Recipe,
        stream: TrainingStream,
        name: str,
        stage: str,
        log: EventLog,
        first: int,
        place: StageShare | None = None,
    ) -> None:
        self.recipe, self.stream, self.name, self.stage, self.log = recipe, stream, name, stage, log
        self.losses: list[float] = []
        self.rate: float | None = None
        self.waited = 0.0
        self.flops = 3 * flops_per_token(recipe.config, recipe.context)
        self.place = place or StageShare(1, 1, 0, recipe.targets)
        self.reported = first
        self.last = (0, 0.0, 0.0, 0)
        self.restart()

    def restart(self) -> None:
        """Leave out of the rate what was no training."""
        self.since = (time.monotonic(), self.reported + len(self.losses))
        self.waited = 0.0

    def step(self, step: int, loss: float, norm: float, rate: float, memory: int) -> None:
        self.losses.append(loss)
        self.last = (step, norm, rate, memory)
        if self.log.due(self.stage, "train.step"):
            self._report()

    def finish(self) -> None:
        if self.losses:
            self._report()

    def _report(self) -> None:
        from mlxprune.engine import backend

        step, norm, rate, memory = self.last
        share = 0.0
        done, size = step + 1, self.recipe.targets_per_step
        elapsed = time.monotonic() - self.since[0]
        if elapsed > 0 and done > self.since[1]:
            now = (done - self.since[1]) * size / elapsed
            self.rate = now if self.rate is None else 0.7 * self.rate + 0.3 * now
            share = min(1.0, self.waited / elapsed)
        place = self.place
        at = place.before + done * size
        left = (place.total - at) / self.rate if self.rate else None
        what = f"{self.name}, {place.number} of {place.count}" if place.count > 1 else self.name
        self.log.emit(
            self.stage,
            "train.step",
            force=True,
            model=self.name,
            what=what,
            step=done,
            targets=done * size,
            done=at,
            total=place.total,
            unit="tokens",
            model_targets=self.recipe.targets,
            new_targets=len(self.losses) * size,
            loss=sum(self.losses) / len(self.losses),
            learning_rate=rate,
            gradient_norm=norm,
            rate=self.rate,
            eta_seconds=left,
            peak_memory_bytes=memory,
            utilisation=(self.rate or 0.0) * self.flops / backend.peak_flops(),
            input_wait_share=share,
            **{"pass": (done * size - 1) // self.stream.unique + 1},
        )
        self.losses.clear()
        self.reported = done
        self.since = (time.monotonic(), done)
        self.waited = 0.0
