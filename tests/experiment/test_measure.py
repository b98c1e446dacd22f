"""Bits of every test document, and the means that are made of them."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.measure import original_mix_measure, primary_measure
from mlxprune.experiment.records import read_evaluation
from mlxprune.run.folder import RunFolder


@pytest.fixture(scope="module")
def held(tiny_run: RunFolder) -> RunArtifacts:
    return RunArtifacts(tiny_run, load_config(tiny_run.config))


def test_the_original_mix_is_weighed_by_the_bytes_of_the_pool(held: RunArtifacts) -> None:
    """Against a sum over domains, and against what each evaluation told by itself."""
    assessed = held.assessed_arms()
    measure = original_mix_measure(held)
    index, documents = held.corpus.index, held.test_documents()
    pool = index[held.pool]
    for seeds in assessed.values():
        for name in seeds.values():
            bits = measure.of(name)
            assert bits.shape == documents.shape
            by_hand = 0.0
            for code in range(len(held.corpus.domains)):
                mine = index["domain"][documents] == code
                share = pool["bytes"][pool["domain"] == code].sum() / pool["bytes"].sum()
                by_hand += share * bits[mine].sum() / index["bytes"][documents][mine].sum()
            assert measure.parts.mean(bits) == pytest.approx(by_hand)
            told = read_evaluation(held.run, name).original_mix
            assert measure.parts.mean(bits) == pytest.approx(told)


def test_the_primary_figure_is_the_macro_of_the_evaluation(held: RunArtifacts) -> None:
    assessed = held.assessed_arms()
    measure = primary_measure(held, assessed)
    for seeds in assessed.values():
        for name in seeds.values():
            told = read_evaluation(held.run, name)
            assert measure.parts.mean(measure.of(name)) == pytest.approx(told.macro)
            assert np.mean([told.domains[d] for d in measure.names]) == pytest.approx(told.macro)
