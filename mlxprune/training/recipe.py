"""Recipe: all that decides the weights besides the documents, and how it follows from settings."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from mlxprune.config.schema import Training
from mlxprune.model.architecture import Preset, full_config, training_defaults
from mlxprune.records import Json

TRAINING_VERSION = 2
CHECKPOINTS_PER_RUN = 20
VALIDATIONS_PER_RUN = 10


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights besides the documents. ``steps`` are optimizer steps."""

    config: Json
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


def recipe_of(
    settings: Training,
    preset: Preset,
    vocab: tuple[int, int, int],
    targets: int,
    seed: int,
) -> Recipe:
    """Settings, preset and budget as the values that decide the weights.

    ``vocab`` is (size, prefix id, end id).
    """
    chosen = training_defaults(settings, preset)
    context, batch = chosen.context, chosen.batch_size
    steps = steps_for(targets, context, batch)

    def every(asked: int | None, per_run: int) -> int:
        return max(1, asked // (context * batch) if asked else steps // per_run)

    return Recipe(
        config=full_config(preset, vocab[0], context, vocab[1], vocab[2]),
        context=context,
        batch_size=batch,
        accumulate=settings.accumulate,
        steps=steps,
        optimizer=chosen.optimizer,
        learning_rate=chosen.learning_rate,
        weight_decay=chosen.weight_decay,
        schedule=settings.schedule,
        warmup=settings.warmup,
        decay=settings.decay,
        clip=settings.clip,
        seed=seed,
        checkpoint_every=every(settings.checkpoint_every, CHECKPOINTS_PER_RUN),
        validate_every=every(settings.validate_every, VALIDATIONS_PER_RUN),
    )


def recipe_identity(recipe: Recipe) -> Json:
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
    plain = [
        {k: v for k, v in recipe_identity(r).items() if k not in lengths} for r in (one, other)
    ]
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


def learning_rate_at(recipe: Recipe, step: int) -> float:
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
