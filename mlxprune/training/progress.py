"""Progress: one training as events."""

from __future__ import annotations

import time

from mlxprune.model.architecture import flops_per_token
from mlxprune.run.event_kinds import Progress, TrainStep
from mlxprune.run.events import EventLog
from mlxprune.training.job import StageShare, TrainingJob


class TrainingProgress:
    """Means since the last event, rate, time left."""

    def __init__(self, job: TrainingJob, log: EventLog, first: int) -> None:
        self.job, self.recipe, self.log = job, job.recipe, log
        self.losses: list[float] = []
        self.rate: float | None = None
        self.waited = 0.0
        self.flops = 3 * flops_per_token(job.recipe.config, job.recipe.context)
        self.share = job.share or StageShare(1, 1, 0, job.recipe.targets)
        self.reported = first
        self.last = (0, 0.0, 0.0, 0)
        self.restart()

    def begin(self, compiles: bool) -> None:
        """Where the first step compiles, which takes a GPU some seconds or more, say so."""
        if compiles:
            at = self.share.before + self.reported * self.recipe.targets_per_step
            what = f"{self.job.name}: compiling the first step"
            event = Progress(done=at, total=self.share.total, unit="tokens", what=what)
            self.log.emit(self.job.stage, event)

    def restart(self) -> None:
        """Leave out of the rate what was no training."""
        self.since = (time.monotonic(), self.reported + len(self.losses))
        self.waited = 0.0

    def step(self, step: int, loss: float, norm: float, rate: float, memory: int) -> None:
        self.losses.append(loss)
        self.last = (step, norm, rate, memory)
        if self.log.due(self.job.stage, TrainStep):
            self._report()

    def finish(self) -> None:
        if self.losses:
            self._report()

    def _report(self) -> None:
        from mlxprune.engine import backend

        step, norm, rate, memory = self.last
        waited = 0.0
        done, size = step + 1, self.recipe.targets_per_step
        elapsed = time.monotonic() - self.since[0]
        if elapsed > 0 and done > self.since[1]:
            now = (done - self.since[1]) * size / elapsed
            self.rate = now if self.rate is None else 0.7 * self.rate + 0.3 * now
            waited = min(1.0, self.waited / elapsed)
        share = self.share
        at = share.before + done * size
        left = (share.total - at) / self.rate if self.rate else None
        what = self.job.name
        what += f", {share.number} of {share.count}" if share.count > 1 else ""
        self.log.emit(
            self.job.stage,
            TrainStep(
                model=self.job.name,
                what=what,
                step=done,
                targets=done * size,
                done=at,
                total=share.total,
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
                input_wait_share=waited,
                pass_number=(done * size - 1) // self.job.stream.unique + 1,
            ),
            force=True,
        )
        self.losses.clear()
        self.reported = done
        self.since = (time.monotonic(), done)
        self.waited = 0.0
