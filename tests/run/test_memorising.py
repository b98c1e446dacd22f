"""Memorising: told once text repeats and validation has risen, and not for a waver."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.run.event_kinds import Evaluation, Memorising
from mlxprune.run.events import EventLog, fold_log
from mlxprune.run.memorising import MemorisedSince, memorised_since


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ([5.0, 4.0, 3.9, 3.8], None),
        ([5.0, 4.0, 3.9, 4.0], None),  # one look may be a waver
        ([5.0, 4.0, 3.9, 4.0, 4.1], MemorisedSince(2, 3)),
        ([5.0, 4.0, 3.9, 4.0, 3.901, 4.1], None),  # it came back in between
        ([5.0, 4.0, 3.9, 3.9001, 3.9002, 3.9003], None),  # too little to tell
        ([5.0, 3.9, 4.0, 3.8, 3.9, 4.0, 4.1], MemorisedSince(3, 4)),
        ([], None),
    ],
)
def test_it_takes_two_looks_above_the_best(
    bits: list[float], expected: MemorisedSince | None
) -> None:
    targets = [100.0 * (n + 1) for n in range(len(bits))]
    assert memorised_since(targets, bits, 150) == expected


def test_text_that_is_seen_once_is_not_memorised() -> None:
    bits = [5.0, 4.0, 4.1, 4.2, 4.3]
    assert memorised_since([1, 2, 3, 4, 5], bits, 5) is None
    assert memorised_since([1, 2, 3, 4, 5], bits, 3) == MemorisedSince(1, 3)


def test_a_training_that_only_wavers_is_hardly_ever_called_so(
    generator: np.random.Generator,
) -> None:
    """Falling as a power law with noise far below RISE: never, at any look of 200 trainings."""
    targets = np.arange(1, 60) * 1000.0
    for _ in range(200):
        bits = 3 + (targets / 1000) ** -0.5 + generator.normal(0, 2e-4, len(targets))
        for stop in range(1, len(bits)):
            assert memorised_since(targets[:stop].tolist(), bits[:stop].tolist(), 5000) is None


def test_the_state_keeps_it_until_a_validation_that_is_none(tmp_path) -> None:
    log = EventLog(tmp_path)
    told = Memorising(model="final/a-s0", targets=500, pass_number=5, bits_per_byte=4.1, best=3.9,
                      best_pass=3, since=400)  # fmt: skip
    log.emit("final", Evaluation(model="final/a-s0", targets=500, bits_per_byte=4.1))
    log.emit("final", told)
    log.emit("final", Evaluation(model="final/b-s0", targets=500, bits_per_byte=4.1))
    held = fold_log(tmp_path).memorising
    assert held["final/a-s0"].best_pass == 3
    log.emit("final", Evaluation(model="final/a-s0", targets=600, bits_per_byte=3.8))
    assert fold_log(tmp_path).memorising == {}
    log.close()
