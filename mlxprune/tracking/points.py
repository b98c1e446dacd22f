"""Points: what trackers are told, made from events: a series a model, and one of the study.

Names are those of the Trainer of Hugging Face where it has them: train/loss, train/grad_norm,
train/learning_rate, train/epoch, train/num_input_tokens_seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlxprune.run.event_kinds import (
    Assessed,
    Device,
    Evaluation,
    Event,
    Number,
    Progress,
    TrainStep,
)

STUDY = "study"


@dataclass(frozen=True)
class Point:
    """Figures of one series after ``step`` steps, at ``time`` seconds since 1970."""

    series: str
    step: int
    time: float
    figures: dict[str, float]


class PointMaker:
    """Makes points of the events of a run, in the order of the log.

    A run that went on from a checkpoint trains some steps twice: of those only the first are told.
    ``last`` is the last step of every series and group of figures, also of earlier times.
    """

    def __init__(self, last: dict[str, int]) -> None:
        self.last = last
        self.step_size: dict[str, float] = {}  # targets a step, by model
        self.began: float | None = None

    def of(self, event: Event) -> Point | None:
        """The point that an event gives, if it gives a new one."""
        t = event.t or 0.0
        if isinstance(event, TrainStep) and event.model and event.step:
            if event.targets:
                self.step_size[event.model] = event.targets / event.step
            return self._new(event.model, "train", int(event.step), t, _of_training(event))
        if isinstance(event, Evaluation) and event.model and event.targets is not None:
            size = self.step_size.get(event.model)
            step = round(event.targets / size) if size else int(event.targets)
            figures = {
                "eval/bits_per_byte": event.bits_per_byte,
                "eval/rank_correlation": event.rank_correlation,
            }
            return self._new(event.model, "eval", step, t, figures)
        if isinstance(event, Assessed) and event.model:
            figures = {
                "test/macro_bits_per_byte": event.macro,
                "test/original_mix_bits_per_byte": event.original_mix,
                "test/target_bits_per_byte": event.target,
                "test/gold_bits_per_byte": event.gold_bpb,
                "test/normalised_accuracy": event.accuracy,
            }
            series = f"final/{event.model}"
            step = self.last.get(f"{series} train", 0)
            return self._new(series, "test", step, t, figures)
        return self._of_study(event, t)

    def _of_study(self, event: Event, t: float) -> Point | None:
        """By the seconds since the first event: the study has no steps."""
        self.began = t if self.began is None else self.began
        at = round(t - self.began)
        if isinstance(event, Progress) and event.stage is not None:
            figures = {
                f"{event.stage}/done": event.done,
                f"{event.stage}/per_second": event.rate,
                f"{event.stage}/utilisation": event.utilisation,
            }
            return self._new(STUDY, str(event.stage), at, t, figures)
        if isinstance(event, Device):
            figures = {
                "system/memory_gb": None
                if event.memory_bytes is None
                else event.memory_bytes / 1e9,
                "system/cpu": event.cpu_share,
                "system/disk_free_gb": None if event.disk_free is None else event.disk_free / 1e9,
            }
            return self._new(STUDY, "system", at, t, figures)
        return None

    def _new(
        self, series: str, group: str, step: int, t: float, figures: dict[str, Number | None]
    ) -> Point | None:
        name = f"{series} {group}"
        known = {key: float(value) for key, value in figures.items() if value is not None}
        if not known or step <= self.last.get(name, -1):
            return None
        self.last[name] = step
        return Point(series, step, t, known)


def _of_training(event: TrainStep) -> dict[str, Number | None]:
    return {
        "train/loss": event.loss,
        "train/learning_rate": event.learning_rate,
        "train/grad_norm": event.gradient_norm,
        "train/epoch": event.pass_number,
        "train/num_input_tokens_seen": event.targets,
        "train/tokens_per_second": event.rate,
        "train/utilisation": event.utilisation,
    }
