"""Training: one loop for the reference and for every final model.

The data are one endless stream: the documents of the part or arm, each closed by end-of-text,
reshuffled by (seed, pass) and cut into sequences of the context length, which are shuffled once
more, so that a batch is not a few long documents. Attention crosses documents within a sequence,
as in the paper's stack. A batch is a pure function of its step, so a checkpoint is weights,
optimizer state and a step number, and resuming is exact.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import memory, runs
from mlxprune import model as models
from mlxprune.control import Control
from mlxprune.errors import NonFiniteLoss, RunError
from mlxprune.events import EventLog
from mlxprune.keys import mix
from mlxprune.meter import Meter, Place
from mlxprune.scores import spearman
from mlxprune.tokens import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

VERSION = 2
CHECKPOINTS_KEPT = 2
CHECKPOINTS_PER_RUN = 20
VALIDATIONS_PER_RUN = 10
HISTORY_POINTS = 500
READY_SECONDS = 1e-3


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights besides the documents. ``steps`` are optimizer steps."""

    config: dict[str, Any]
    context: int
    batch_size: int
    accumulate: int | None  # micro-batches a step; None: as few as memory allows
    steps: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup: float
    decay: float
    clip: float
    seed: int
    checkpoint_every: int  # steps
    validate_every: int  # steps

    @property
    def targets_per_step(self) -> int:
        return self.batch_size * self.context

    @property
    def targets(self) -> int:
        return self.steps * self.targets_per_step


def identity(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights and the figures: how often it is saved does not, and
    micro-batches only to the last bit."""
    return {k: v for k, v in asdict(recipe).items() if k not in ("checkpoint_every", "accumulate")}


def begins_alike(one: Recipe, other: Recipe, step: int) -> bool:
    """Whether two recipes of unequal length are the same up to this step."""
    if not one.schedule == other.schedule == "wsd":
        return False
    least = min(r.steps - round(r.decay * r.steps) for r in (one, other))
    warm = {round(r.warmup * r.steps) for r in (one, other)}
    lengths = ("steps", "warmup", "decay")
    plain = [{k: v for k, v in identity(r).items() if k not in lengths} for r in (one, other)]
    return len(warm) == 1 and step <= least and plain[0] == plain[1]


def branch_of(recipe: Recipe, share: float) -> tuple[Recipe, int]:
    """The same training at a share of its length, decayed there, and its stem: the step at which
    it leaves the longer one."""
    steps = max(1, round(share * recipe.steps))
    warm = round(recipe.warmup * recipe.steps)
    branch = replace(recipe, steps=steps, warmup=min(1.0, warm / steps))
    return branch, steps - round(branch.decay * steps)


def steps_for(targets: int, context: int, batch_size: int) -> int:
    return max(1, math.ceil(targets / (context * batch_size)))


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of step 0, 1, ... ``steps - 1``.

    wsd: linear warm-up, constant, linear decay to zero over the last ``decay`` of the steps
    (Hu et al. 2024). cosine: down to a tenth, as in llm-foundry (alpha_f 0.1).
    """
    warm = round(recipe.warmup * recipe.steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    if recipe.schedule == "cosine":
        share = (step - warm) / max(1, recipe.steps - warm)
        return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
    cooling = round(recipe.decay * recipe.steps)
    if cooling and step >= recipe.steps - cooling:
        return recipe.learning_rate * (recipe.steps - step) / (cooling + 1)
    return recipe.learning_rate


class Stream:
    """The endless target stream over some documents; ``unique`` targets make one pass."""

    def __init__(self, tokens: Tokens, documents: np.ndarray, keys: np.ndarray, seed: int) -> None:
        self.tokens, self.documents, self.keys, self.seed = tokens, documents, keys, seed
        self.unique = int(tokens.lengths(documents).sum()) + len(documents)
        if self.unique == 0:
            raise RunError("no token to train on", "the training documents", "check the selection")
        self._passes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._windows: tuple[int, int, np.ndarray] = (-1, 0, np.zeros(0, np.int64))

    def _shuffled(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents of a pass in their order, and where in the pass each ends."""
        if number not in self._passes:
            order = np.argsort(mix(self.keys, f"pass {self.seed} {number}"), kind="stable")
            documents = self.documents[order]
            ends = np.cumsum(self.tokens.lengths(documents) + 1)
            while len(self._passes) > 1:  # a sequence can reach from one pass into the next
                del self._passes[min(self._passes)]
            self._passes[number] = (documents, ends)
        return self._passes[number]

    def window(self, number: int, context: int) -> int:
        """Which window of the stream is read as the n-th: a shuffle inside every pass."""
        at_pass = number * context // self.unique
        if self._windows[0] != at_pass:
            first = -(-at_pass * self.unique // context)
            stop = -(-(at_pass + 1) * self.unique // context)
            places = np.arange(stop - first, dtype=np.uint64)
            order = np.argsort(mix(places, f"windows {self.seed} {at_pass}"), kind="stable")
            self._windows = (at_pass, first, order)
        _, first, order = self._windows
        return first + int(order[number - first])

    def targets(self, start: int, count: int) -> np.ndarray:
        """Targets [start, start + count) of the stream, int32."""
        out = np.empty(count, np.int32)
        filled = 0
        while filled < count:
            number, at = divmod(start + filled, self.unique)
            documents, ends = self._shuffled(number)
            place = int(np.searchsorted(ends, at, side="right"))
            while filled < count and place < len(documents):
                ids = self.tokens.document(int(documents[place]))
                first = at - (int(ends[place]) - len(ids) - 1)
                piece = ids[first : first + count - filled]
                out[filled : filled + len(piece)] = piece
                filled += len(piece)
                if filled < count:  # the document is through: close it
                    out[filled] = self.tokens.end
                    filled += 1
                at = int(ends[place])
                place += 1
        return out

    def batch(self, step: int, batch_size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of an optimizer step, each int32 [batch, context]."""
        inputs, targets = (np.empty((batch_size, context), np.int32) for _ in range(2))
        for row in range(batch_size):
            start = self.window(step * batch_size + row, context) * context
            lead = 1 if start else 0
            piece = self.targets(start - lead, context + lead)
            targets[row] = piece[lead:]
            inputs[row, 0] = piece[0] if lead else self.tokens.end
            inputs[row, 1:] = targets[row, :-1]
        return inputs, targets


def train(
    recipe: Recipe,
    stream: Stream,
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
    place: Place | None = None,
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

    from mlxprune import backend
    from mlxprune import optimizer as optimizers

    runs.claim(folder, fingerprint)
    device = backend.detect()
    backend.limit_cache()
    name = folder.relative_to(folder.parents[1]).as_posix()
    model = models.initialise(recipe.config, recipe.seed)
    if gradient_checkpointing:
        from mlx_lm.tuner.trainer import grad_checkpoint

        grad_checkpoint(model.layers[0])
    optimizer = optimizers.make(recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
    optimizer.init(model.trainable_parameters())
    history: dict[str, list[Any]] = {"train": [], "validation": [], "window": [], "probe": []}
    last = stop or recipe.steps
    first, stored = _restore((folder, *earlier), recipe, last, model, optimizer, history)
    micro_batches = (
        recipe.accumulate
        or stored
        or memory.micro_batches(
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
    meter = Meter(recipe, stream, name, stage, log, first, place)

    def save(done: int) -> None:
        kept = [step for step in (stem, stop) if step]
        _save_checkpoint(folder, done, recipe, micro_batches, model, optimizer, history, kept)
        log.emit(stage, "checkpoint", model=name, step=done)

    batch = stream.batch(first, recipe.batch_size, recipe.context)
    for step in range(first, last):
        if control.pending():
            control.obey(partial(save, step))
            meter.restart()
        rate = learning_rate(recipe, step)
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
    models.save(model, recipe.config, tokenizer_folder, folder)
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
    runs.write_json(folder / "training.json", summary)
    _prune_checkpoints(folder, recipe, [last, *([stem] if stem else [])])
    runs.mark(folder, stage, fingerprint)
    (folder / "towards").unlink(missing_ok=True)
    return summary


def _validated(found: np.ndarray, history: dict[str, list[Any]]) -> tuple[float, float | None]:
    """Bits per byte, and the rank correlation of the documents with the time before: near 1, the
    ranks have settled."""
    now = np.round(found[1:].astype(np.float64), 4)  # kept in checkpoints, as text
    before = np.array(history["probe"], np.float64)
    history["probe"] = now.tolist()
    return float(found[0]), spearman(before, now) if len(before) == len(now) > 1 else None


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first: the state file is written last."""
    found = (folder / "checkpoints").glob("step-*")
    whole = (p for p in found if not p.name.endswith(runs.PARTIAL))
    return sorted(p for p in whole if (p / "state.json").exists())


def _save_checkpoint(
    folder: Path,
    step: int,
    recipe: Recipe,
    micro_batches: int,
    model: nn.Module,
    optimizer: Any,
    history: dict[str, list[Any]],
    kept: list[int],
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    target = _checkpoint(folder, step)
    if (target / "state.json").exists():
        return
    with (
        runs.folder_in_the_making(target) as partial,
        runs.no_space_behind_runtime_errors(folder),
    ):
        mx.save_safetensors(
            str(partial / "weights.safetensors"), dict(sorted(tree_flatten(model.parameters())))
        )
        mx.save_safetensors(
            str(partial / "optimizer.safetensors"), dict(sorted(tree_flatten(optimizer.state)))
        )
        runs.write_json(
            partial / "state.json",
            {
                "step": step,
                "recipe": asdict(recipe),
                "micro_batches": micro_batches,
                "history": history,
            },
        )
    _prune_checkpoints(folder, recipe, [*kept, step])


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}"


def _restore(
    folders: tuple[Path, ...],
    recipe: Recipe,
    last: int,
    model: nn.Module,
    optimizer: Any,
    history: dict[str, list[Any]],
) -> tuple[int, int | None]:
    """Load the newest whole checkpoint of these folders that is not past ``last``; return the step
    to go on with, and its micro-batches."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    found = sorted((p for f in folders for p in _checkpoints(f)), key=lambda p: p.name)
    for path in reversed(found):
        state = runs.read_json(path / "state.json")
        other = Recipe(**state["recipe"])
        same = identity(other) == identity(recipe) or begins_alike(other, recipe, state["step"])
        if not same or state["step"] > last:
            continue
        model.load_weights(str(path / "weights.safetensors"))
        saved: Any = mx.load(str(path / "optimizer.safetensors"))
        optimizer.state = tree_unflatten(list(saved.items()))
        mx.eval(model.parameters(), optimizer.state)
        history.update(state["history"])
        return int(state["step"]), state.get("micro_batches")
    return 0, None


def _prune_checkpoints(folder: Path, recipe: Recipe, besides: list[int]) -> None:
    """Keep the last regular ones, so that a stop in between leaves no trace in what is finished,
    and those at the steps ``besides``."""
    spared = [_checkpoint(folder, step) for step in besides]
    regular = [p for p in _checkpoints(folder) if int(p.name[5:]) % recipe.checkpoint_every == 0]
    for path in (folder / "checkpoints").glob("*"):
        if path not in regular[-CHECKPOINTS_KEPT:] and path not in spared:
            shutil.rmtree(path)
