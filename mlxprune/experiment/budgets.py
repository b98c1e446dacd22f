"""Budgets: how many targets an arm trains on, what repeats are worth, how large a pool is."""

from __future__ import annotations

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.model.architecture import Preset, parameter_counts, preset_of

UNKNOWN_VOCABULARY = 50_000  # of a pretrained tokenizer, before it is opened
POOL_MARGIN = 1.1
POOL_LEAST = 5_000_000  # tokens; a pool of fewer is never cut short


def pool_need(config: Config) -> float | None:
    """Tokens of the pool that the budgets can use (split.pool: auto); None: all of it.

    Every slice should fill T targets once; so should the ladder's largest base.
    """
    final = config.final
    if config.split.pool == "all" or final.passes is not None:
        return None
    if any(choice.absolute for choice in config.slices):  # what share they are is not known yet
        return None
    targets = float(final.tokens or 0)
    if final.per_parameter is not None:
        trained = config.tokenizer.train
        vocab_size = trained.vocab_size if trained else UNKNOWN_VOCABULARY
        shape = {**preset_of(final.model).config, "vocab_size": vocab_size}
        targets = final.per_parameter * parameter_counts(shape)[0]
    shares = [choice.kept_share for choice in config.slices]
    return max(POOL_LEAST, POOL_MARGIN * targets / min([*shares, *config.final.ladder, 1.0]))


def pool_tokens(config: Config, available: float) -> float:
    """Tokens of the pool that are taken of ``found``."""
    return split.tokens_taken(available, pool_need(config))


def final_targets(config: Config, preset: Preset, vocab_size: int, unique: int) -> int:
    """T, from whichever budget the configuration names; ``unique`` is U of the slice."""
    final = config.final
    if final.passes is not None:
        return max(1, round(final.passes * unique))
    if final.per_parameter is not None:
        body, _ = parameter_counts({**preset.config, "vocab_size": vocab_size})
        return max(1, round(final.per_parameter * body))
    return int(final.tokens or 0)


def effective_data(unique: float, targets: float) -> float:
    """D_eff = U + U Rstar (1 - exp(-R / Rstar)), R repeats (Muennighoff et al. 2023)."""
    rstar = 15.387756
    repeats = max(0.0, targets / unique - 1)
    seen_once = min(unique, targets)
    return float(seen_once + seen_once * rstar * (1 - np.exp(-repeats / rstar)))
