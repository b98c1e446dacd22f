"""Training: one loop for the reference and for every final model.

The data are one endless stream: the documents of the part or arm, each closed by end-of-text,
reshuffled by (seed, pass) and cut into sequences of the context length, which are shuffled once
more, so that a batch is not a few long documents. Attention crosses documents within a sequence,
as in the paper's stack. A batch is a pure function of its step, so a checkpoint is weights,
optimizer state and a step number, and resuming is exact.
"""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np

from mlxprune.errors import NonFiniteLoss
from mlxprune.execution.control import Control
from mlxprune.files import write_atomic
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.model.weights import initialise_model, save_model
from mlxprune.records import write_record
from mlxprune.run.event_kinds import (
    Checkpoint,
    Diverged,
    Evaluation,
    Memorising,
    RolledBack,
    Warned,
)
from mlxprune.run.events import EventLog
from mlxprune.run.markers import claim, mark_done
from mlxprune.run.memorising import LOOKS, memorised_since
from mlxprune.stats import spearman
from mlxprune.training.checkpoints import (
    prune_checkpoints,
    remove_later,
    restore_checkpoint,
    save_checkpoint,
    store_rollbacks,
    stored_rollbacks,
)
from mlxprune.training.job import TrainingJob
from mlxprune.training.model_card import model_card
from mlxprune.training.progress import TrainingProgress
from mlxprune.training.recipe import learning_rate_at
from mlxprune.training.shapes import StepShape, shape_at, stored_shapes, usual_parts
from mlxprune.training.summary import (
    HISTORY_POINTS,
    CheckpointHistory,
    LossPoint,
    RollBack,
    TrainingHistory,
    TrainingSummary,
    ValidationPoint,
    divergence_of,
)

READY_SECONDS = 1e-3
CHECKPOINT_SECONDS = 600.0
MOST_ROLLBACKS = 3


def train_model(job: TrainingJob, log: EventLog, control: Control) -> TrainingSummary:
    """Train into the job's folder, going on from its last checkpoint.

    Where the loss is not finite, it goes back to the last good checkpoint and past the batches
    since. Returns the summary that also stands in ``training.json``. Raises NonFiniteLoss after
    MOST_ROLLBACKS of that; Stopped and Interrupted leave a checkpoint behind.
    """
    from mlxprune.engine import backend

    claim(job.folder, job.fingerprint)
    training = _trained(job, log, control)
    save_model(training.model, job.recipe.config, job.tokenizer_folder, job.folder)
    summary = _summary(job, training.history, training.shapes)
    del training
    backend.release()
    write_record(job.folder / "training.json", summary)
    write_atomic(job.folder / "README.md", model_card(summary))
    prune_checkpoints(job.folder, job.recipe, [job.last, *([job.stem] if job.stem else [])])
    if why := divergence_of(summary):
        _tell_of_divergence(job, log, why)
    # What it was for and its shapes stay: weights that are damaged later are made again from the
    # last checkpoint, with equal bytes.
    mark_done(job.folder, job.stage, job.fingerprint)
    return summary


def _trained(job: TrainingJob, log: EventLog, control: Control) -> _Training:
    """At its end, over all roll-backs."""
    from mlxprune.engine import backend

    while True:
        training = _Training(job, log)
        try:
            training.run(control)
            return training
        except _WentBack:
            del training
            backend.release()


def _tell_of_divergence(job: TrainingJob, log: EventLog, why: str) -> None:
    log.emit(job.stage, Diverged(model=job.name, why=why))
    log.emit(job.stage, Warned(message=f"{job.name} {why}; lower learning_rate"))


class _WentBack(Exception):
    """The training goes on from an earlier checkpoint, with other batches."""


class _Training:
    """A job under way: model, optimizer, history, and the step that it is at."""

    def __init__(self, job: TrainingJob, log: EventLog) -> None:
        from mlxprune.engine import backend
        from mlxprune.engine.optimizer import make_optimizer

        self.job, self.log = job, log
        recipe = job.recipe
        self.model = initialise_model(recipe.config, recipe.seed)
        self.optimizer = make_optimizer(recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
        self.optimizer.init(self.model.trainable_parameters())
        restored = restore_checkpoint(
            (job.folder, *job.earlier), recipe, job.last, self.model, self.optimizer
        )
        self.first, self.history = restored.step, restored.history
        self.history.rollbacks = max(stored_rollbacks(job.folder), self.history.rollbacks, key=len)
        self.warned = False  # of a loss above that of guessing
        usual = usual_parts(
            recipe, job.memory_bytes, job.gradient_checkpointing, backend.detect().part_flops
        )
        self.shapes = stored_shapes(job.folder, usual)
        self.parts = shape_at(self.shapes, self.first)
        plan = memory_plan(recipe.config, recipe.context, job.memory_bytes)
        rows = recipe.batch_size // self.parts
        backend.limit_memory(
            plan.training_bytes(rows, recipe.optimizer, job.gradient_checkpointing)
        )
        self.take_step = backend.step_function(
            self.model, self.optimizer, self.parts, recipe.clip, job.gradient_checkpointing
        )
        self.peak_memory = backend.peak_memory
        self.compiles = backend.detect().compiled_steps
        backend.reset_peak_memory()
        self.progress = TrainingProgress(job, log, self.first)
        self.saved = time.monotonic()

    def run(self, control: Control) -> None:
        """Every step that is left. Between the parts of a step the control is obeyed; a checkpoint
        that is written there is the one of the step's beginning."""
        job, recipe, progress = self.job, self.job.recipe, self.progress
        progress.begin(self.compiles)
        batch = self.batch(self.first)
        for step in range(self.first, job.last):

            def between(step: int = step) -> None:
                if control.pending():
                    control.obey(partial(self.save, step))
                    progress.restart()

            rate = learning_rate_at(recipe, step)
            finish = self.take_step(*batch, rate, between)
            began = time.perf_counter()
            if step + 1 < job.last:  # while a GPU works
                batch = self.batch(step + 1)
            prepared = time.perf_counter()
            loss, norm = finish()
            if time.perf_counter() - prepared < READY_SECONDS:  # it was waiting for us
                progress.waited += prepared - began
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.go_back(step, loss, norm, rate)
            self.note(step + 1, loss, rate)
            progress.step(step, loss, norm, rate, self.peak_memory())
            self.validate_when_due(step + 1)
            self.save_when_due(step + 1)
        progress.finish()

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a step: the next that no roll-back has skipped."""
        recipe = self.job.recipe
        passed = sum(one.skipped for one in self.history.rollbacks if one.back_to <= step)
        return self.job.stream.batch(step + passed, recipe.batch_size, recipe.context)

    def go_back(self, step: int, loss: float, norm: float, rate: float) -> None:
        """To the last checkpoint with finite weights, past the batches since it: raises _WentBack;
        and NonFiniteLoss where that has been done MOST_ROLLBACKS times."""
        job, known = self.job, self.history.rollbacks
        said = f"the loss is {loss} and the gradient norm {norm} at step {step + 1}"
        if len(known) >= MOST_ROLLBACKS:
            raise NonFiniteLoss(
                f"{said}, after {len(known)} roll-backs",
                f"{job.name}, learning rate {rate:.3g}",
                f"lower learning_rate or raise warmup, and run again with --force {job.stage}",
            )
        restored = restore_checkpoint(
            (job.folder, *job.earlier), job.recipe, job.last, self.model, self.optimizer, True
        )
        remove_later(job.folder, restored.step)
        back = RollBack(step + 1, restored.step, step + 1 - restored.step, f"{loss}, {norm}")
        store_rollbacks(job.folder, [*known, back])
        told = RolledBack(
            model=job.name, step=step + 1, back_to=restored.step, skipped=back.skipped, said=said
        )
        self.log.emit(job.stage, told)
        message = f"{job.name}: {said}: back to step {restored.step:,}, past {back.skipped} batches"
        self.log.emit(job.stage, Warned(message=message))
        raise _WentBack

    def save_when_due(self, done: int) -> None:
        """Every so many steps, where others go on from, and after CHECKPOINT_SECONDS without: what
        ends a process in the middle must not cost more."""
        job, recipe = self.job, self.job.recipe
        regular = done % recipe.checkpoint_every == 0 and done < recipe.steps
        late = time.monotonic() - self.saved > CHECKPOINT_SECONDS and done < job.last
        if regular or late or done in (job.stop, job.stem):
            self.save(done)

    def note(self, done: int, loss: float, rate: float) -> None:
        """A loss of the history is the mean of a window of steps."""
        history, steps = self.history, self.job.recipe.steps
        history.window.append(loss)
        if done % max(1, steps // HISTORY_POINTS) == 0 or done == steps:
            mean = sum(history.window) / len(history.window)
            history.train.append(LossPoint(done, mean, rate))
            history.window.clear()
            uniform = math.log(self.job.recipe.config["vocab_size"])
            if done >= steps // 10 and mean > uniform and not self.warned and done < self.job.last:
                self.warned = True
                why = f"has a loss of {mean:.2f} at step {done:,}, above that of guessing"
                _tell_of_divergence(self.job, self.log, why)

    def validate_when_due(self, done: int) -> None:
        job, recipe = self.job, self.job.recipe
        due = done % recipe.validate_every == 0 or done == recipe.steps
        if job.validate is None or not due:
            return
        measured = job.validate(self.model)
        bits, settled = float(measured[0]), self.settled(measured[1:])
        self.history.validation.append(ValidationPoint(done, bits, settled))
        told = Evaluation(
            model=job.name,
            targets=done * recipe.targets_per_step,
            bits_per_byte=bits,
            rank_correlation=settled,
        )
        self.log.emit(job.stage, told)
        self.tell_of_memorising()
        self.progress.restart()

    def tell_of_memorising(self) -> None:
        job, points = self.job, self.history.validation
        targets = [point.step * job.recipe.targets_per_step for point in points]
        bits = [point.bits_per_byte for point in points]
        found = memorised_since(targets, bits, job.stream.unique)
        if found is None:
            return
        unique = job.stream.unique
        told = Memorising(
            model=job.name,
            targets=targets[-1],
            pass_number=(targets[-1] - 1) // unique + 1,
            bits_per_byte=bits[-1],
            best=bits[found.best],
            best_targets=targets[found.best],
            best_pass=(targets[found.best] - 1) // unique + 1,
            since=targets[found.since + LOOKS - 1],
        )
        self.log.emit(job.stage, told)

    def settled(self, losses: np.ndarray) -> float | None:
        """The rank correlation of the documents with the time before: near 1, the ranks have
        settled."""
        now = np.round(losses.astype(np.float64), 4)  # kept in checkpoints, as text
        before = np.array(self.history.probe, np.float64)
        self.history.probe = now.tolist()
        return spearman(before, now) if len(before) == len(now) > 1 else None

    def save(self, done: int) -> None:
        """A checkpoint after so many steps; none after none, which a start makes again as well."""
        job = self.job
        if done == 0:
            return
        self.saved = time.monotonic()
        kept = [step for step in (job.stem, job.stop) if step]
        save_checkpoint(
            job.folder, done, job.recipe, self.parts, self.model, self.optimizer,
            self.history, kept,
        )  # fmt: skip
        self.log.emit(job.stage, Checkpoint(model=job.name, step=done))


def _summary(
    job: TrainingJob, history: CheckpointHistory, shapes: list[StepShape]
) -> TrainingSummary:
    targets = job.last * job.recipe.targets_per_step
    return TrainingSummary(
        recipe=job.recipe,
        targets=targets,
        unique_tokens=job.stream.unique,
        documents=len(job.stream.documents),
        passes=targets / job.stream.unique,
        final_loss=history.train[-1].loss if history.train else None,
        validation_bpb=history.validation[-1].bits_per_byte if history.validation else None,
        shapes=shapes,
        history=TrainingHistory(
            train=history.train, validation=history.validation, rollbacks=history.rollbacks
        ),
    )
