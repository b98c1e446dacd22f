"""The recipe: learning rates by step, and what identifies a training."""

from __future__ import annotations

import pytest

from mlxprune.config.schema import Training
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.testing.training import recipe
from mlxprune.training.recipe import learning_rate_at, recipe_identity, steps_for


def test_wsd_warms_up_stays_and_decays_to_nearly_zero() -> None:
    chosen = recipe(steps=100, warmup=0.1, decay=0.2, schedule="wsd", learning_rate=1.0)
    rates = [learning_rate_at(chosen, s) for s in range(100)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80] == pytest.approx(20 / 21)
    assert rates[99] == pytest.approx(1 / 21)


def test_cosine_ends_at_a_tenth() -> None:
    chosen = recipe(steps=1000, warmup=0.0, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate_at(chosen, s) for s in range(1000)]
    assert rates[0] == 1.0
    assert rates[500] == pytest.approx(0.55)
    assert rates[999] == pytest.approx(0.1, abs=1e-4)


def test_how_often_it_is_saved_does_not_change_what_it_is() -> None:
    assert recipe_identity(recipe()) == recipe_identity(recipe(checkpoint_every=1))
    assert recipe_identity(recipe()) != recipe_identity(recipe(steps=3))


def test_budgets_round_up_to_whole_steps() -> None:
    assert steps_for(1, 16, 8) == 1
    assert steps_for(129, 16, 8) == 2
    assert recipe().targets >= 2000


def test_decoupled_weight_decay_is_that_of_the_papers_stack() -> None:
    """llm-foundry's optimizers take off decay x rate / first rate, ours decay x rate: the paper's
    pair of 2e-4 and 2e-4 takes the same part off the weights at every step."""
    settings = Training(learning_rate=2e-4, weight_decay=2e-4, decoupled_weight_decay=True)
    ours = training_defaults(settings, preset_of("125m"))
    assert ours.weight_decay == pytest.approx(1.0)
    for rate in (2e-4, 1e-4, 3e-5):
        assert rate * ours.weight_decay == pytest.approx(2e-4 * rate / 2e-4)
    plain = training_defaults(settings.model_copy(update={"decoupled_weight_decay": False}),
                              preset_of("125m"))  # fmt: skip
    assert plain.weight_decay == 2e-4
