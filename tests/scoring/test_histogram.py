from __future__ import annotations

import numpy as np
import pytest

from mlxprune.run.event_kinds import Histogram, HistogramAdded
from mlxprune.run.events import fold_log, read_events
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.histogram import DOMAINS_SHOWN, HISTOGRAM_EDGES, LossHistogram, bins_of
from mlxprune.scoring.nll import PART_DTYPE
from mlxprune.scoring.score_file import read_scores


def rows_of(generator: np.random.Generator, count: int) -> np.ndarray:
    rows = np.zeros(count, PART_DTYPE)
    rows["num_tokens"] = generator.integers(0, 900, count)
    rows["nll_sum"] = rows["num_tokens"] * generator.uniform(0, 18, count)
    return rows


@pytest.mark.parametrize("trial", range(5))
def test_it_counts_what_a_histogram_counts(trial: int, generator: np.random.Generator) -> None:
    count, names = 4000, [f"d{n}" for n in range(40)]
    domain = generator.integers(0, len(names), count)
    sizes = generator.integers(1, 9000, count)
    rows = rows_of(generator, count)
    found = LossHistogram(domain, names, sizes)
    order = generator.permutation(count)
    for part in np.array_split(order, 13):
        found.add(part, rows[part])
    fields = found.event()
    able = rows["num_tokens"] > 0
    mean = np.clip(rows["nll_sum"][able] / rows["num_tokens"][able], 0, HISTOGRAM_EDGES[-1])
    for key, weights in (
        ("documents", None), ("tokens", rows["num_tokens"][able]), ("bytes", sizes[able]),
    ):  # fmt: skip
        expected = np.histogram(mean, HISTOGRAM_EDGES, weights=weights)[0]
        assert np.array_equal(getattr(fields, key), expected)
    shown = fields.domains
    assert len(shown) == DOMAINS_SHOWN + 1
    assert sum(sum(d.counts) for d in shown.values()) == able.sum()
    name, told = next(iter(shown.items()))
    mine = able & (domain == names.index(name))
    assert told.tokens == rows["num_tokens"][mine].sum()
    assert told.nll == pytest.approx(rows["nll_sum"][mine].sum())
    counts = np.histogram(np.clip(rows["nll_sum"][mine] / rows["num_tokens"][mine], 0, 16),
                          HISTOGRAM_EDGES)[0]  # fmt: skip
    assert np.array_equal(counts[told.first : told.first + len(told.counts)],
                          told.counts)  # fmt: skip


def test_a_loss_that_is_no_number_is_not_shown() -> None:
    """Its document leaves the pool, and nothing is said of the others by it."""
    found = LossHistogram(np.zeros(1, np.int64), ["d"], np.ones(1, np.int64))
    rows = np.zeros(2, PART_DTYPE)
    rows["num_tokens"], rows["nll_sum"] = 1, [np.nan, 1.5]
    found.add(np.zeros(2, np.int64), rows)
    told = found.event()
    assert (sum(told.documents), told.documents[15]) == (1, 1)
    assert told.domains["d"].nll == 1.5


def test_the_last_histogram_is_of_the_scores(tiny_run: RunFolder) -> None:
    """By domain, too: documents, tokens, bytes and losses."""
    held = fold_log(tiny_run.events).histogram
    found = read_scores(tiny_run.scores("main"))
    for code, name in enumerate(found.domains):
        mine = found.domain == code
        told = held.domains[name]
        assert sum(told.counts) == mine.sum()
        assert told.tokens == found.num_tokens[mine].sum()
        assert told.bytes == found.num_bytes[mine].sum()
        assert told.nll == pytest.approx(found.nll_sum[mine].sum(), rel=1e-6)


def test_documents_in_hand_stand_apart_and_give_way(generator: np.random.Generator) -> None:
    """What each worker has now, in place of what it had; an addition tells it whole."""
    found = LossHistogram(np.zeros(50, np.int64), ["d"], np.ones(50, np.int64))
    rows = rows_of(generator, 50)
    rows["num_tokens"] = np.maximum(rows["num_tokens"], 1)
    first, second = (np.bincount(bins_of(rows[a:b]), minlength=160) for a, b in ((0, 20), (20, 30)))
    found.take_in_hand(7, first)
    found.take_in_hand(9, second)
    told = found.event()
    assert sum(told.documents) == 0
    counts = np.zeros(160, np.int64)
    counts[told.in_hand_bins] = told.in_hand
    assert np.array_equal(counts, first + second)
    assert found.added() is None
    found.take_in_hand(7, np.zeros(160, np.int64))
    found.add(np.arange(20), rows[:20])
    told = found.added()
    assert sum(told.documents) == 20
    assert sum(told.in_hand) == 10


def test_a_run_tells_what_is_in_hand_while_it_scores_and_nothing_at_its_end(
    tiny_run: RunFolder,
) -> None:
    told = [e for e in read_events(tiny_run.events) if isinstance(e, Histogram | HistogramAdded)]
    assert any(sum(e.in_hand or []) for e in told)
    assert not sum(told[-1].in_hand or [])
    assert not sum(fold_log(tiny_run.events).histogram.in_hand or [])
