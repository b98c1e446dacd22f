"""Screening: all slices with one seed, ranked on the validation part; the best are confirmed."""

from __future__ import annotations

import numpy as np

from mlxprune.evaluation.bits_per_byte import BITS_METRIC_VERSION, bits_by_domain
from mlxprune.evaluation.model_answers import losses_in_child
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.arms import Arm
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.experiment.records import ScreenedSlice, Screening
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.records import read_record, write_record

SCREENING_VERSION = 1


def screen_slices(study: StudyExecution, screening: list[Arm]) -> list[str]:
    """The slices to confirm, the best first, by macro on the validation part against the random arm
    of their size; the trained models of ``screening`` are there."""
    config, held, place = study.config, study.held, study.run.screening
    context = training_defaults(config.final, preset_of(config.final.model)).context
    trainings = dict(study.inputs["final"])
    inputs = {
        "version": [SCREENING_VERSION, BITS_METRIC_VERSION],
        "arms": trainings,
        "confirm": config.final.confirm,
    }

    def figure(arm: Arm, documents: np.ndarray) -> float:
        folder = study.run.final(arm.name)
        losses = losses_in_child(study, folder, held.tokens(), documents, context)
        index = held.corpus.index[documents]
        return bits_by_domain(
            losses["nll_sum"], index["bytes"], index["domain"], held.corpus.domains
        ).macro

    def build() -> Screening:
        documents = held.validation_documents()
        control = {a.share: figure(a, documents) for a in screening if a.kind == "random"}
        slices = {
            str(arm.slice): ScreenedSlice(figure=figure(arm, documents), control=control[arm.share])
            for arm in screening
            if arm.kind == "pruned"
        }
        best = sorted(slices, key=lambda label: slices[label].difference)
        found = Screening(
            seed=config.final.screen_seed,
            slices=slices,
            confirmed=best[: config.final.confirm],
        )
        write_record(place, found)
        return found

    run_stage(study, "final", [Artifact(place, (inputs,), build)], trainings)
    return read_record(place, Screening).confirmed
