"""Model card: the README.md of a trained model, for whoever finds the folder later."""

from __future__ import annotations

from mlxprune.model.architecture import parameter_counts
from mlxprune.training.summary import TrainingSummary

CARD = """---
library_name: mlx
pipeline_tag: text-generation
tags:
- mlxprune
---
# A {kind} of {parameters:,} parameters

With {tables:,} more in its embedding; trained from scratch by
[mlxprune](https://arxiv.org/abs/2405.20541) on {unique:,} tokens of {documents:,} documents:
{targets:,} targets, {passes:.2f} passes.

| | |
|---|---|
{rows}

It opens in `mlx_lm.load` and in `transformers.AutoModelForCausalLM`:

    mlxprune eval FOLDER --text held-out.jsonl
    mlxprune score --model FOLDER --data corpus.jsonl --out scores
    mlx_lm.generate --model FOLDER --prompt "The"

The texts that it was trained on decide what it may be used for; this card does not know their
licence. `training.json` has the whole recipe and every loss.
"""


def model_card(summary: TrainingSummary) -> str:
    """It names no folder: equal trainings share their files."""
    recipe = summary.recipe
    parameters, tables = parameter_counts(recipe.config)
    figures = {
        "context": f"{recipe.context:,} tokens",
        "vocabulary": f"{recipe.config['vocab_size']:,}",
        "batch": f"{recipe.batch_size:,} sequences, {recipe.steps:,} steps",
        "optimizer": f"{recipe.optimizer}, rate {recipe.learning_rate:g}, weight decay "
        f"{recipe.weight_decay:g}",
        "schedule": recipe.schedule,
        "seed": str(recipe.seed),
        "last loss": _figure(summary.final_loss, "nats a token"),
        "validation": _figure(summary.validation_bpb, "bits per byte"),
    }
    return CARD.format(
        kind=str(recipe.config.get("model_type", "model")),
        parameters=parameters,
        tables=tables,
        unique=summary.unique_tokens,
        documents=summary.documents,
        targets=summary.targets,
        passes=summary.passes,
        rows="\n".join(f"| {key} | {value} |" for key, value in figures.items()),
    )


def _figure(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.4f} {unit}"
