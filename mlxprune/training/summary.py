"""What a training leaves behind in words and figures: its history and its summary."""

from __future__ import annotations

import math

import msgspec

from mlxprune.checksums import FileSum
from mlxprune.records import Record
from mlxprune.run.memorising import memorised_since
from mlxprune.training.recipe import Recipe
from mlxprune.training.shapes import StepShape

HISTORY_POINTS = 500


class LossPoint(msgspec.Struct, array_like=True):
    """The mean loss in nats since the point before, after ``step`` steps."""

    step: int
    loss: float
    learning_rate: float


class ValidationPoint(msgspec.Struct, array_like=True):
    """Bits per byte of the validation documents, and the rank correlation of their losses with
    those of the point before: near 1, the ranks have settled."""

    step: int
    bits_per_byte: float
    rank_correlation: float | None = None


class RollBack(msgspec.Struct, array_like=True):
    """At ``step`` the loss or the gradient was not finite: the training went back to the checkpoint
    after ``back_to`` steps, and the ``skipped`` batches since then are never read again."""

    step: int
    back_to: int
    skipped: int
    loss: str


class TrainingHistory(msgspec.Struct, kw_only=True):
    train: list[LossPoint] = msgspec.field(default_factory=list)
    validation: list[ValidationPoint] = msgspec.field(default_factory=list)
    rollbacks: list[RollBack] = msgspec.field(default_factory=list)


class CheckpointHistory(TrainingHistory, kw_only=True):
    """The same while it goes on: losses of steps since the last point, and the mean negative
    log-likelihood of every validation document at the last one."""

    window: list[float] = msgspec.field(default_factory=list)
    probe: list[float] = msgspec.field(default_factory=list)


class CheckpointState(Record, kw_only=True):
    """state.json of a checkpoint: all that is not an array."""

    step: int
    recipe: Recipe
    micro_batches: int | None = None
    history: CheckpointHistory
    files: dict[str, FileSum] | None = None  # None: of before there were checksums


class TrainingSummary(Record):
    """training.json of a model."""

    recipe: Recipe
    targets: int
    unique_tokens: int
    documents: int
    passes: float
    final_loss: float | None
    validation_bpb: float | None
    history: TrainingHistory
    shapes: list[StepShape] = msgspec.field(default_factory=list)

    @property
    def marks(self) -> list[str]:
        """What a reader of its figures must know: steps that were skipped, and divergence."""
        found = []
        if self.history.rollbacks:
            count, skipped = (
                len(self.history.rollbacks),
                sum(one.skipped for one in self.history.rollbacks),
            )
            times = "once" if count == 1 else f"{count} times"
            found.append(
                f"went back {times} from a loss that was not finite, {skipped} batches skipped"
            )
        if why := divergence_of(self):
            found.append(why)
        if why := memorising_of(self):
            found.append(why)
        return found

    @property
    def totals(self) -> TrainingTotals:
        return TrainingTotals(
            tokens=self.targets,
            unique_tokens=self.unique_tokens,
            documents=self.documents,
            passes=self.passes,
            validation_bpb=self.validation_bpb,
        )


def divergence_of(summary: TrainingSummary) -> str | None:
    """Why a training has to be called diverged, though its loss is finite; None where it has not.

    Guessing each token of a vocabulary V alike has the loss ln V.
    """
    points, last = summary.history.train, summary.final_loss
    if last is None:
        return None
    uniform = math.log(summary.recipe.config["vocab_size"])
    if last > uniform:
        return f"diverged: its loss of {last:.2f} is above that of guessing, {uniform:.2f}"
    if len(points) > 1 and last > points[0].loss:
        return f"diverged: its loss of {last:.2f} is above its first, {points[0].loss:.2f}"
    return None


def memorising_of(summary: TrainingSummary) -> str | None:
    """What is said of a training that ended memorising; None of any other."""
    points, recipe = summary.history.validation, summary.recipe
    targets = [point.step * recipe.targets_per_step for point in points]
    bits = [point.bits_per_byte for point in points]
    found = memorised_since(targets, bits, summary.unique_tokens)
    if found is None:
        return None
    at = (targets[found.best] - 1) // max(1, summary.unique_tokens) + 1
    return (
        f"memorised: validation was best in pass {at} ({bits[found.best]:.3f} bits per byte) and "
        f"rose to {bits[-1]:.3f}"
    )


class TrainingTotals(Record):
    """A training in five figures. ``tokens`` are the targets that it was trained on."""

    tokens: int
    unique_tokens: int
    documents: int
    passes: float
    validation_bpb: float | None
