"""The stream of targets: every document once a pass, any stretch by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.testing.training import END, stream_of


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    start=st.integers(0, 200),
    count=st.integers(1, 100),
)
@settings(deadline=None)
def test_the_stream_is_the_shuffled_documents_each_closed(
    lengths: list[int], start: int, count: int
) -> None:
    """Any stretch equals the one read from the start; a pass holds every document once."""
    stream = stream_of(lengths)
    whole = stream_of(lengths).targets(0, start + count)
    assert np.array_equal(stream.targets(start, count), whole[start:])
    one = stream.targets(0, stream.unique)
    pieces = np.split(one, np.flatnonzero(one == END) + 1)
    expected = [[*stream.tokens.document(i).tolist(), END] for i in range(len(lengths))]
    assert sorted(p.tolist() for p in pieces[:-1]) == sorted(expected)


def test_passes_are_reshuffled_and_seeded() -> None:
    lengths = [3] * 40
    stream = stream_of(lengths)
    first, second = (stream.targets(p * stream.unique, stream.unique) for p in (0, 1))
    assert sorted(first) == sorted(second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, stream_of(lengths, seed=1).targets(0, stream.unique))


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    context=st.integers(1, 20),
    seed=st.integers(0, 3),
)
@settings(deadline=None)
def test_every_window_of_a_pass_is_read_once(lengths: list[int], context: int, seed: int) -> None:
    """In any number of passes, no part of the stream is skipped or doubled."""
    stream = stream_of(lengths, seed)
    passes = 3
    count = -(-passes * stream.unique // context)
    assert sorted(stream.window(n, context) for n in range(count)) == list(range(count))


def test_a_row_is_a_window_of_the_stream_and_its_inputs_lead_by_one() -> None:
    stream = stream_of([9, 20, 3, 40])
    for step in range(12):
        inputs, targets = stream.batch(step, 2, 10)
        for row in range(2):
            start = stream.window(2 * step + row, 10) * 10
            assert np.array_equal(targets[row], stream.targets(start, 10))
            assert np.array_equal(inputs[row, 1:], targets[row, :-1])
            before = stream.targets(start - 1, 1)[0] if start else END
            assert inputs[row, 0] == before
