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
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune.errors import NonFiniteLoss
from mlxprune.files import write_json
from mlxprune.model.memory_bounds import fewest_micro_batches
from mlxprune.model.weights import initialise_model, save_model
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.markers import claim, mark_done
from mlxprune.stats import spearman
from mlxprune.training.checkpoints import prune_checkpoints, restore_checkpoint, save_checkpoint
from mlxprune.training.progress import StageShare, TrainingProgress
from mlxprune.training.recipe import Recipe, learning_rate_at
from mlxprune.training.stream import TrainingStream

if TYPE_CHECKING:
    import mlx.nn as nn

HISTORY_POINTS = 500
READY_SECONDS = 1e-3


def train_model(
    recipe: Recipe,
    stream: TrainingStream,
    folder: Path,
    fingerprint: str,
    tokenizer_folder: Path,
    validate: Callable[[nn.Module], np.ndarray] | None,
    stage: str,
    log: EventLog,
    control: Control,
    gradient_checkpointing: bool = False,
    memory_bytes: int | None = None,
    stop: int | None = None,
    earlier: tuple[Path, ...] = (),
    place: StageShare | None = None,
    stem: int | None = None,
) -> dict[str, Any]:
    """Train into ``folder`` (Hugging Face layout), resuming from its last checkpoint.

    ``validate`` gives the bits per byte of held-out text, and then each document's mean NLL.
    ``stop`` ends after so many steps with a checkpoint there, from which the same recipe goes on
    in another folder that names this one among its ``earlier``. A checkpoint at ``stem`` is kept,
    from which a longer training goes on in the same way, where both are still at the constant rate
    of wsd. ``place``: for the progress of the whole stage.
    Returns the summary that also stands in ``training.json``. Raises NonFiniteLoss; Stopped and
    Interrupted leave a checkpoint behind.
    """

    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer

    claim(folder, fingerprint)
    device = backend.detect()
    backend.limit_cache()
    name = folder.relative_to(folder.parents[1]).as_posix()
    model = initialise_model(recipe.config, recipe.seed)
    if gradient_checkpointing:
        from mlx_lm.tuner.trainer import grad_checkpoint

        grad_checkpoint(model.layers[0])
    optimizer = make_optimizer(recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
    optimizer.init(model.trainable_parameters())
    history: dict[str, list[Any]] = {"train": [], "validation": [], "window": [], "probe": []}
    last = stop or recipe.steps
    first, stored = restore_checkpoint((folder, *earlier), recipe, last, model, optimizer, history)
    micro_batches = (
        recipe.accumulate
        or stored
        or fewest_micro_batches(
            recipe.config,
            recipe.context,
            recipe.batch_size,
            memory_bytes or device.memory_bytes,
            device.name,
            device.score_workers,
            recipe.optimizer,
            gradient_checkpointing,
        )
    )
    take_step = backend.step_function(model, optimizer, micro_batches, recipe.clip)
    backend.reset_peak_memory()
    meter = TrainingProgress(recipe, stream, name, stage, log, first, place)

    def save(done: int) -> None:
        kept = [step for step in (stem, stop) if step]
        save_checkpoint(folder, done, recipe, micro_batches, model, optimizer, history, kept)
        log.emit(stage, "checkpoint", model=name, step=done)

    batch = stream.batch(first, recipe.batch_size, recipe.context)
    for step in range(first, last):
        if control.pending():
            control.obey(partial(save, step))
            meter.restart()
        rate = learning_rate_at(recipe, step)
        optimizer.learning_rate = rate
        finish = take_step(*batch)
        began = time.perf_counter()
        if step + 1 < last:  # while a GPU works
            batch = stream.batch(step + 1, recipe.batch_size, recipe.context)
        prepared = time.perf_counter()
        loss, norm = finish()
        if time.perf_counter() - prepared < READY_SECONDS:  # it was waiting for us
            meter.waited += prepared - began
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLoss(
                f"the loss is {loss} and the gradient norm {norm} at step {step + 1}",
                f"{name}, learning rate {rate:.3g}",
                "lower learning_rate or raise warmup, and run again with --force " + stage,
            )
        done = step + 1
        history["window"].append(loss)
        if done % max(1, recipe.steps // HISTORY_POINTS) == 0 or done == recipe.steps:
            window = history["window"]
            history["train"].append([done, sum(window) / len(window), rate])
            window.clear()
        meter.step(step, loss, norm, rate, backend.peak_memory())
        due = done % recipe.validate_every == 0 or done == recipe.steps
        if validate is not None and due:
            bits, settled = _validated(validate(model), history)
            history["validation"].append([done, bits, settled])
            at = done * recipe.targets_per_step
            log.emit(
                stage,
                "evaluation",
                model=name,
                targets=at,
                bits_per_byte=bits,
                rank_correlation=settled,
            )
            meter.restart()
        regular = done % recipe.checkpoint_every == 0 and done < recipe.steps
        if regular or done in (stop, stem):
            save(done)
    meter.finish()
    save_model(model, recipe.config, tokenizer_folder, folder)
    summary = {
        "recipe": {**asdict(recipe)},
        "targets": last * recipe.targets_per_step,
        "unique_tokens": stream.unique,
        "documents": len(stream.documents),
        "passes": last * recipe.targets_per_step / stream.unique,
        "final_loss": history["train"][-1][1] if history["train"] else None,
        "validation_bpb": history["validation"][-1][1] if history["validation"] else None,
        "history": {name: history[name] for name in ("train", "validation")},
    }
    write_json(folder / "training.json", summary)
    prune_checkpoints(folder, recipe, [last, *([stem] if stem else [])])
    mark_done(folder, stage, fingerprint)
    (folder / "towards").unlink(missing_ok=True)
    return summary


def _validated(found: np.ndarray, history: dict[str, list[Any]]) -> tuple[float, float | None]:
    """Bits per byte, and the rank correlation of the documents with the time before: near 1, the
    ranks have settled."""
    now = np.round(found[1:].astype(np.float64), 4)  # kept in checkpoints, as text
    before = np.array(history["probe"], np.float64)
    history["probe"] = now.tolist()
    return float(found[0]), spearman(before, now) if len(before) == len(now) > 1 else None
