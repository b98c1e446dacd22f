"""What a training leaves behind in words and figures: its history and its summary."""

from __future__ import annotations

import msgspec

from mlxprune.records import Record
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


class TrainingHistory(msgspec.Struct, kw_only=True):
    train: list[LossPoint] = msgspec.field(default_factory=list)
    validation: list[ValidationPoint] = msgspec.field(default_factory=list)


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
    def totals(self) -> TrainingTotals:
        return TrainingTotals(
            tokens=self.targets,
            unique_tokens=self.unique_tokens,
            documents=self.documents,
            passes=self.passes,
            validation_bpb=self.validation_bpb,
        )


class TrainingTotals(Record):
    """A training in five figures. ``tokens`` are the targets that it was trained on."""

    tokens: int
    unique_tokens: int
    documents: int
    passes: float
    validation_bpb: float | None
