"""Measure: a figure of an evaluation, unit by unit: the primary figure, and the original mix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlxprune.data.held_out import LEAST_DOCUMENTS
from mlxprune.evaluation.bits_per_byte import LEAST_OF_TARGET, SMALL_DOMAINS, macro_domains
from mlxprune.evaluation.target_text import open_target
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.records import read_evaluation
from mlxprune.experiment.task_results import ItemAnswers, gold_bits_parts, read_answers
from mlxprune.inference.verdict import ArmPair
from mlxprune.records import SparseRecord
from mlxprune.run.folder import RunFolder
from mlxprune.stats import GroupedMean
from mlxprune.units import LN2


class DomainShare(SparseRecord):
    """What a domain adds to a difference of two arms in macro, which is the sum of these."""

    domain: str
    documents: int
    arm: float  # bits per byte, as the next
    control: float
    adds: float


@dataclass(frozen=True)
class Measure:
    """Bits of every unit (document or item) of an evaluation, and how they make a mean; the name of
    each group of units."""

    of: Callable[[str], np.ndarray]
    parts: GroupedMean
    names: list[str]

    def domains(self, both: ArmPair) -> list[DomainShare]:
        """What each group adds to the difference of two arms."""
        parts, count = self.parts, len(self.parts.weights)
        size = np.bincount(parts.groups, weights=parts.sizes, minlength=count)
        units = np.bincount(parts.groups, minlength=count)
        arm, control = (
            np.bincount(parts.groups, weights=np.mean(side, axis=0), minlength=count)
            / np.maximum(size, 1)
            for side in (both.arm, both.control)
        )
        return [
            DomainShare(
                domain=name,
                documents=int(units[n]),
                arm=float(arm[n]),
                control=float(control[n]),
                adds=float(parts.weights[n] * (arm[n] - control[n])),
            )
            for n, name in enumerate(self.names)
            if units[n]
        ]


def primary_measure(held: RunArtifacts, assessed: dict[str, dict[int, str]]) -> Measure:
    run, primary = held.run, held.config.evaluation.primary
    if primary == "tasks":
        first = answers_of(run, next(iter(next(iter(assessed.values())).values())))
        return Measure(
            lambda name: gold_bits_parts(answers_of(run, name))[0],
            gold_bits_parts(first)[1],
            first.labels,
        )
    if primary == "target":
        corpus, _, documents = open_target(run, held.config)
        least = LEAST_OF_TARGET
    else:
        corpus, documents, least = held.corpus, held.test_documents(), LEAST_DOCUMENTS
    index = corpus.index[documents]
    domains = macro_domains(index["domain"].astype(np.int64), corpus.domains, least)
    inside, parts = domains.mean_of(index["bytes"])

    def of(name: str) -> np.ndarray:
        evaluation = read_evaluation(run, name)
        text = evaluation.target if primary == "target" else evaluation
        assert text is not None
        nll: np.ndarray = np.load(run.evaluation(name).with_name(text.nll_file))
        return nll[inside] / LN2

    return Measure(of, parts, [*domains.alone, *([SMALL_DOMAINS] if domains.pooled else [])])


def original_mix_measure(held: RunArtifacts) -> Measure:
    """Bits per byte of the test part, its domains weighed by the bytes of the pool: the held-out
    loss of the text as it was before pruning."""
    corpus, documents = held.corpus, held.test_documents()
    index = corpus.index[documents]
    groups = index["domain"].astype(np.int64)
    size = np.bincount(groups, weights=index["bytes"], minlength=len(corpus.domains))
    weights = np.where(size > 0, held.pool_mix, 0.0)
    if not weights.any():
        weights = size
    parts = GroupedMean(index["bytes"], groups, weights / weights.sum())

    def of(name: str) -> np.ndarray:
        nll: np.ndarray = np.load(
            held.run.evaluation(name).with_name(read_evaluation(held.run, name).nll_file)
        )
        return nll / LN2

    return Measure(of, parts, corpus.domains)


def answers_of(run: RunFolder, name: str) -> ItemAnswers:
    """What a model that was asked the tasks answered."""
    answers = read_answers(run, name)
    assert answers is not None
    return answers
