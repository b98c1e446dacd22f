"""Costs: what a study took, and from which length of training on a slice pays for it."""

from __future__ import annotations

from pathlib import Path

from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.data_efficiency import MOST_TARGETS
from mlxprune.experiment.scorers import scorers_of
from mlxprune.inference.verdict import Verdict
from mlxprune.model.architecture import flops_per_token, read_model_config
from mlxprune.records import Record, SparseRecord, read_record
from mlxprune.run.markers import is_current, read_marker
from mlxprune.run.state import RunState
from mlxprune.training.summary import TrainingSummary


class StudyCosts(SparseRecord):
    """FLOPs by what they were for, counted from what was trained and scored (a forward pass F a
    token, three a target: docs/method.md, Costs); seconds of every stage over all attempts."""

    reference_flops: float
    score_flops: float
    final_flops: float  # of every arm, seed and shorter end
    model_flops: float  # of one final model at full length
    models: int
    seconds: float
    stage_seconds: dict[str, float]

    @property
    def overhead(self) -> float:
        """What choosing costs before any final model: the reference and its scores."""
        return self.reference_flops + self.score_flops


class NetSaving(Record):
    """What training on a slice saves of one control model's FLOPs; shares of them.

    ``gross`` is 1 - rho. ``net`` counts the reference and its scores, ``of_study`` all else that
    the study trained, too: controls, other slices, other seeds. ``break_even`` is the length of
    training, in targets, from which ``net`` is above zero if rho stays what it is; ``reuses`` how
    many trainings of this length pay for the whole study. None: never.
    """

    gross: float
    interval: tuple[float | None, float | None]  # of gross
    net: float
    of_study: float
    break_even: float | None
    reuses: float | None


def study_costs(held: RunArtifacts, state: RunState) -> StudyCosts | None:
    """None before anything is trained."""
    run = held.run
    reference = score = 0.0
    for scorer in scorers_of(held.config):
        folder = held.model_folder(scorer.name)
        trained = _training(run.reference(scorer.name))
        marker = read_marker(run.scores(scorer.name))
        if trained is not None and scorer.snapshot is None:
            reference += _training_flops(trained)
        scored = (marker.summary or {}).get("tokens") if marker is not None else None
        if scored and (folder / "config.json").exists():
            window = held.config.score.context or (trained.recipe.context if trained else 2048)
            score += flops_per_token(read_model_config(folder), window) * float(scored)
    final, models, model = 0.0, 0, 0.0
    for name, record in held.arms.arms.items():
        summary = _training(run.final(name)) if is_current(run, run.final(name)) else None
        if summary is None:
            continue
        own = _training_flops(summary)
        decays = sum(record.branches.values()) * held.config.final.decay / max(record.targets, 1)
        marker = read_marker(run.final(name))
        if marker is None or marker.same_as is None:
            final, models = final + own * (1 + decays), models + 1
        model = own
    if not models:
        return None
    spent = {name: float(stage.spent) for name, stage in state.stages.items() if stage.spent}
    return StudyCosts(
        reference_flops=reference,
        score_flops=score,
        final_flops=final,
        model_flops=model,
        models=models,
        seconds=sum(spent.values()),
        stage_seconds=spent,
    )


def net_saving(compared: Comparison, costs: StudyCosts, targets: int) -> NetSaving | None:
    """Of a slice whose verdict is decided; None without branches, which rho needs."""
    rho = compared.rho
    if rho is None or compared.verdict not in (Verdict.BETTER, Verdict.WORSE):
        return None
    share = MOST_TARGETS if rho.share is None else rho.share
    gross = 1 - share
    overhead = costs.overhead / costs.model_flops
    # Of the study's models the one on the slice would have been trained anyway.
    others = max(0.0, costs.final_flops / costs.model_flops - share)
    low, high = rho.interval
    return NetSaving(
        gross=gross,
        interval=(None if high is None else 1 - high, None if low is None else 1 - low),
        net=gross - overhead,
        of_study=gross - overhead - others,
        break_even=overhead / gross * targets if gross > 0 else None,
        reuses=(overhead + others) / gross if gross > 0 else None,
    )


def _training(folder: Path) -> TrainingSummary | None:
    path = folder / "training.json"
    return read_record(path, TrainingSummary) if path.exists() else None


def _training_flops(summary: TrainingSummary) -> float:
    recipe = summary.recipe
    return 3 * flops_per_token(recipe.config, recipe.context) * summary.targets
