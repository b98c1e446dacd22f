"""Absolute slices: a count of tokens, or a range of perplexity, as the share or band that it is.

A range of figures is an interval of the rank order, and a count of tokens is a share of the pool's,
so both become slices of shares once there are scores; everything after that is the same.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.records import Json
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values

DIGITS = 60  # so many that a count divided by a count, times it again, is rounded to itself


def resolved(choice: Slice, scores: Scores, tokens: np.ndarray) -> Slice:
    """The slice of shares that an absolute one is over these scores; ``tokens`` int64 [documents]
    in the final model's tokenizer. Others come back as they are.

    Raises DataError: more tokens than there are, a range with no document in it.
    """
    if not choice.absolute or choice.rate is not None or choice.band is not None:
        return choice
    able = scores.num_tokens >= choice.min_tokens
    with localcontext() as context:
        context.prec = DIGITS
        if choice.tokens is not None:
            total = int(tokens[able].sum(dtype=np.int64))
            if choice.tokens > total:
                problem = f"{choice.label} asks for {choice.tokens:,} of {total:,} tokens"
                fix = "ask for fewer, or give the pool more documents"
                raise DataError(problem, "selection", fix)
            return choice.model_copy(update={"rate": Decimal(choice.tokens) / total})
        figures = range_values(scores, choice)[able]
        count = len(figures)
        low = 0 if choice.min is None else int((figures < float(choice.min)).sum())
        high = count if choice.max is None else int((figures <= float(choice.max)).sum())
        if low >= high:
            problem = f"{choice.label}: no document is in this range"
            there = f"figures run from {figures.min():.4g} to {figures.max():.4g}"
            raise DataError(problem, "selection", f"choose another range: {there}")
        ends = (Decimal(low) / count, Decimal(high) / count)
        return choice.model_copy(update={"band": ends, "unit": "documents"})


def range_values(scores: Scores, choice: Slice) -> np.ndarray:
    """What a range is stated in, float64: perplexity, bits per byte, or the figure of scores that
    were made elsewhere."""
    values = metric_values(scores, choice)
    if scores.given is not None or choice.metric == "bpb":
        return values
    with np.errstate(over="ignore"):
        result: np.ndarray = np.exp(values)
    return result


def as_resolved(choice: Slice, written: Json) -> Slice:
    """The same slice with the share or band that stands in its manifest."""
    rate, band = written.get("rate"), written.get("band")
    update: Json = {"unit": written.get("unit", choice.unit)}
    update["rate"] = None if rate is None else Decimal(str(rate))
    update["band"] = None if band is None else tuple(Decimal(str(end)) for end in band)
    return choice.model_copy(update=update)


def with_resolved(config: Config, found: dict[str, Slice]) -> Config:
    """The configuration with its absolute slices as what they are, by label."""
    slices = [found.get(choice.label, choice) for choice in config.slices]
    return config.model_copy(
        update={"selection": config.selection.model_copy(update={"slices": slices})}
    )
