"""Scoring: every target once, exact against float64, the same alone and in a batch."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.errors import RunError
from mlxprune.model.architecture import full_config, preset_of
from mlxprune.model.weights import initialise_model, load_model, save_model
from mlxprune.run.folder import RunFolder
from mlxprune.scoring import windows
from mlxprune.scoring.nll import Scorer, score_documents, token_losses
from mlxprune.scoring.units import unit_bytes, work_units
from mlxprune.scoring.windows import (
    WindowPolicy,
    batches_of,
    fit_edges,
    resolve_policy,
    stored_policy,
    windows_of,
)
from mlxprune.testing import float64_llama
from mlxprune.tokenization.token_file import Tokens, open_tokens

CONTEXT = 24


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = full_config(preset_of("pico"), 300, 64, 1, 1)
    save_model(initialise_model(config, 3), config, folder, folder)
    return folder


def tokens_of(lengths: list[int], prefix: int = 1) -> Tokens:
    ids = np.random.default_rng().integers(2, 300, sum(lengths)).astype(np.uint16)
    return Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), 300, prefix, 1)


def policy(**changes: object) -> WindowPolicy:
    values: dict[str, object] = {
        "context": CONTEXT, "overlap": 0, "long_documents": "windows",
        "max_tokens_per_document": None, "batch_tokens": 4 * CONTEXT,
    }  # fmt: skip
    return WindowPolicy(**{**values, **changes})  # type: ignore[arg-type]


LENGTHS = [1, 2, CONTEXT - 1, CONTEXT, CONTEXT + 1, 2 * CONTEXT, 2 * CONTEXT + 1, 300, 7, 7]


@pytest.mark.float32
@pytest.mark.parametrize("start", ["last", "prefix"])
@pytest.mark.parametrize("overlap", [0, 5])
def test_scores_equal_the_float64_llama(saved: Path, overlap: int, start: str) -> None:
    """One token, exactly one window, one more, very long."""
    model, config = load_model(saved)
    tokens = tokens_of(LENGTHS, prefix=5)
    documents = np.arange(len(LENGTHS))
    part = score_documents(model, tokens, documents, policy(overlap=overlap, start=start))
    weights = float64_llama.read_weights(saved / "model.safetensors")
    true = [
        float64_llama.document_nll(weights, config, tokens.document(d), 5, CONTEXT, overlap, start)
        for d in documents
    ]
    assert part["num_tokens"].tolist() == LENGTHS
    assert not part["truncated"].any()
    assert np.allclose(part["nll_sum"], true, rtol=2e-6)


@pytest.mark.parametrize("overlap", [0, 5])
def test_every_unit_is_finished_once_with_the_rows_that_it_has_alone(
    saved: Path, overlap: int
) -> None:
    """Batches of the next unit are under way before the last of one have come back."""
    model, _ = load_model(saved)
    tokens = tokens_of([*LENGTHS, 0, 90])
    chosen = policy(overlap=overlap, batch_tokens=2 * CONTEXT)
    units = [np.array(u) for u in ([0, 1, 2], [3], [10], [4, 5, 6, 7], [8, 9, 11])]
    finished: list[tuple[np.ndarray, np.ndarray]] = []
    told: list[int] = []
    scorer = Scorer(model, chosen, lambda scored, slots, waited: told.append(scored))
    for unit in units:
        scorer.submit(tokens, unit, lambda rows, positions: finished.append((rows, positions)))
        assert len(scorer.waiting) <= 2
    scorer.drain()
    assert len(finished) == len(units)
    by_size = {len(rows): rows for rows, _ in finished}
    for unit in units:
        positions = np.zeros((2, CONTEXT))
        alone = score_documents(model, tokens, unit, chosen, positions=positions)
        assert any(
            np.array_equal(alone, rows) and np.array_equal(positions, sums)
            for rows, sums in finished
        )
    assert by_size[4]["num_tokens"].sum() == sum(LENGTHS[4:8])
    assert sum(told) == sum(LENGTHS) + 90


@pytest.mark.float32
@pytest.mark.parametrize("overlap", [0, 5])
def test_token_losses_are_those_of_the_float64_llama(saved: Path, overlap: int) -> None:
    model, config = load_model(saved)
    tokens = tokens_of([61], prefix=5)
    losses = token_losses(model, tokens, 0, policy(overlap=overlap))
    weights = float64_llama.read_weights(saved / "model.safetensors")
    ids = tokens.document(0)
    # The loss of a token is what the document is longer by with it, where no window begins anew.
    whole = [
        float64_llama.document_nll(weights, config, ids[:n], 5, CONTEXT, overlap) for n in range(62)
    ]
    assert losses.shape == (61,)
    assert np.allclose(losses[:CONTEXT], np.diff(whole)[:CONTEXT], rtol=1e-4, atol=1e-5)
    assert np.isclose(losses.astype(np.float64).sum(), whole[-1], rtol=2e-6)


def test_tokens_that_a_policy_leaves_out_have_no_loss(saved: Path) -> None:
    model, _ = load_model(saved)
    tokens = tokens_of([61])
    losses = token_losses(model, tokens, 0, policy(long_documents="truncate"))
    assert np.isfinite(losses[:CONTEXT]).all()
    assert np.isnan(losses[CONTEXT:]).all()


@given(st.lists(st.integers(1, 80), min_size=1, max_size=25), st.integers(0, 10))
@settings(max_examples=15, deadline=None)
def test_batched_equals_alone(saved: Path, lengths: list[int], overlap: int) -> None:
    model, _ = load_model(saved)
    tokens = tokens_of(lengths)
    documents = np.arange(len(lengths))
    chosen = policy(overlap=overlap)
    together = score_documents(model, tokens, documents, chosen)
    alone = np.concatenate(
        [score_documents(model, tokens, documents[i : i + 1], chosen) for i in documents]
    )
    assert np.allclose(together["nll_sum"], alone["nll_sum"], rtol=1e-6)
    assert np.array_equal(together["num_tokens"], alone["num_tokens"])


@given(
    length=st.integers(0, 200),
    context=st.integers(1, 50),
    overlap=st.integers(0, 49),
    limit=st.one_of(st.none(), st.integers(1, 120)),
    how=st.sampled_from(["windows", "truncate"]),
)
@settings(deadline=None)
def test_windows_score_every_target_at_most_once(
    length: int, context: int, overlap: int, limit: int | None, how: str
) -> None:
    """All of them without a limit; no window is longer than the context."""
    chosen = policy(
        context=context, overlap=overlap, max_tokens_per_document=limit, long_documents=how
    )
    if overlap >= context:
        with pytest.raises(RunError):
            windows_of(np.array([length]), chosen)
        return
    found, truncated = windows_of(np.array([length]), chosen)
    scored = np.zeros(length, int)
    for first, stop, skip in zip(found.first, found.stop, found.skip, strict=True):
        assert 0 < stop - first <= context
        scored[first + skip : stop] += 1
    assert scored.max(initial=0) <= 1
    assert bool(truncated[0]) == (scored.sum() < length)
    if limit is None and how == "windows":
        assert scored.all()
    if how == "truncate" and limit is None:
        assert scored.sum() == min(length, context)
    if limit is not None and length > limit:
        assert 0 < scored.sum() <= max(limit, context if limit >= context else limit)


def test_padding_is_never_counted(saved: Path) -> None:
    """The count of targets is exact and changing what padding holds changes nothing."""
    model, _ = load_model(saved)
    tokens = tokens_of([3, 20, 9])
    documents = np.arange(3)
    first = score_documents(model, tokens, documents, policy())
    other = Tokens(tokens.ids, tokens.offsets, 300, tokens.prefix, 250)  # another padding id
    assert np.array_equal(first, score_documents(model, other, documents, policy()))


def test_positions_add_up_to_the_sums(saved: Path) -> None:
    model, _ = load_model(saved)
    tokens = tokens_of(LENGTHS)
    positions = np.zeros((2, CONTEXT))
    part = score_documents(model, tokens, np.arange(len(LENGTHS)), policy(), positions=positions)
    assert positions[0].sum() == pytest.approx(part["nll_sum"].sum())
    assert positions[1].sum() == sum(LENGTHS)


def fewest_slots(lengths: list[int], candidates: list[int], most: int) -> int:
    """By trying every choice of edges."""
    best = 10**9
    for count in range(1, most + 1):
        for edges in itertools.combinations(candidates, count):
            if edges[-1] >= max(lengths):
                best = min(best, sum(min(e for e in edges if e >= n) for n in lengths))
    return best


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    most=st.integers(1, 4),
)
@settings(deadline=None, max_examples=150)
def test_edges_need_the_fewest_slots(lengths: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "MOST_EDGES", most)
        edges = fit_edges(np.array(lengths), 12)
    assert len(edges) <= most
    assert list(edges) == sorted(set(edges))
    slots = sum(min(e for e in edges if e >= n) for n in lengths)
    assert slots == fewest_slots(lengths, list(range(1, 13)), most)


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=300),
    batch_tokens=st.integers(1, 5000),
)
@settings(deadline=None, max_examples=100)
def test_batches_hold_every_row_once_in_few_shapes(lengths: list[int], batch_tokens: int) -> None:
    """A shape an edge, and shares of it for the last; every row within its padded length; only the
    last batch not full. Without edges a batch is as long as its longest row."""
    plain = policy(context=512, batch_tokens=batch_tokens)
    found, _ = windows_of(np.array(lengths), plain)
    rows_of = found.stop - found.first
    fitted = replace(plain, edges=fit_edges(rows_of, 512))
    for chosen in (plain, fitted):
        made = list(batches_of(found, chosen))
        rows = np.concatenate([rows for _, _, rows in made])
        assert sorted(rows.tolist()) == list(range(len(found)))
        for edge, size, rows in made:
            assert rows_of[rows].max() <= edge
            assert len(rows) <= size
            assert size * edge <= max(batch_tokens, edge)
        if chosen is plain:
            assert all((rows_of[rows].max(), len(rows)) == (edge, n) for edge, n, rows in made)
        else:
            assert len({(edge, size) for edge, size, _ in made[:-1]}) <= windows.MOST_EDGES
            assert all(len(rows) == size for _, size, rows in made[:-1])
            whole = max(1, batch_tokens // made[-1][0])
            assert made[-1][1] in {whole, *(-(-whole // share) for share in windows.LAST_SHARES)}


@pytest.mark.parametrize(("context", "most"), [(512, 0.05), (1024, 0.05), (2048, 0.05)])
def test_little_is_padding_on_a_cpu(
    context: int, most: float, generator: np.random.Generator
) -> None:
    """On lengths as on the web, in units of the size that a run has; the mean of some."""
    assert mean_padding(policy(context=context, batch_tokens=2048), generator) < most


@pytest.mark.parametrize(("context", "most"), [(512, 0.05), (1024, 0.06), (2048, 0.08)])
def test_little_is_padding_in_the_shapes_of_a_gpu(
    context: int, most: float, generator: np.random.Generator
) -> None:
    lengths, _ = windows_of(web_lengths(generator, 50_000), policy(context=context))
    edges = fit_edges(np.append(lengths.stop - lengths.first, context), context)
    chosen = policy(context=context, batch_tokens=16_384, edges=edges)
    assert mean_padding(chosen, generator) < most


def web_lengths(generator: np.random.Generator, count: int) -> np.ndarray:
    return np.exp(generator.normal(np.log(350), 1.0, count)).astype(np.int64) + 1


def mean_padding(chosen: WindowPolicy, generator: np.random.Generator) -> float:
    shares = []
    for _ in range(8):
        lengths = web_lengths(generator, 60_000)
        units = work_units(4 * lengths, unit_bytes(chosen))
        first, stop = max(units, key=lambda unit: unit[1] - unit[0])  # the first are smaller
        found, _ = windows_of(lengths[first:stop], chosen)
        slots = sum(size * edge for edge, size, _ in batches_of(found, chosen))
        shares.append(1 - int((found.stop - found.first).sum()) / slots)
    return float(np.mean(shares))


def test_a_policy_is_resolved_once(tmp_path: Path) -> None:
    """What is stored before the first batch holds, whatever memory or corpus say later."""
    config = full_config(preset_of("pico"), 300, 64, 1, 1)
    path = tmp_path / "shapes.json"
    lengths = np.array([3, 50, 700])
    first = stored_policy(path, lambda: resolve_policy(lengths, config, 64))
    again = stored_policy(path, lambda: resolve_policy(lengths * 2, config, 32))
    assert first == again
    assert first.context == 64


def test_a_random_model_is_as_surprised_as_it_must_be(tmp_path: Path) -> None:
    """A model of all-equal logits scores ln V on every target."""
    config = full_config(preset_of("pico"), 300, 64, 1, 1)
    model = initialise_model(config, 0)
    model.model.embed_tokens.weight = mx.zeros_like(model.model.embed_tokens.weight)
    tokens = tokens_of([5, 40])
    part = score_documents(model, tokens, np.arange(2), policy())
    assert np.allclose(part["nll_sum"], np.log(300) * np.array([5, 40]), rtol=1e-6)


def test_the_scores_file_holds_the_pool_and_what_it_was_made_with(tiny_run: RunFolder) -> None:
    table = pq.read_table(tiny_run.scores())
    assert table.column_names == [
        "key", "id", "source", "row", "domain", "nll_sum", "num_tokens", "num_bytes",
        "perplexity", "truncated",
    ]  # fmt: skip
    meta = {
        k.decode(): v.decode() for k, v in table.schema.metadata.items() if k != b"ARROW:schema"
    }
    wanted = {"reference", "tokenizer", "prefix", "policy.context", "policy.long_documents"}
    assert wanted | {"metric_version"} <= meta.keys()
    mean = table.column("nll_sum").to_numpy() / table.column("num_tokens").to_numpy()
    assert np.allclose(table.column("perplexity").to_numpy(), np.exp(mean))
    split = np.load(tiny_run.split / "part.npy")
    assert table.num_rows == (split == 3).sum()
    rows = [*zip(table.column("source").to_pylist(), table.column("row").to_pylist(), strict=True)]
    assert rows == sorted(rows)


@pytest.mark.float32
def test_the_scores_of_a_run_equal_the_float64_llama(tiny_run: RunFolder) -> None:
    """Through the worker processes, the parts and the file."""
    table = pq.read_table(tiny_run.scores())
    pool = np.flatnonzero(np.load(tiny_run.split / "part.npy") == 3)
    tokens = open_tokens(tiny_run.tokens())
    weights = float64_llama.read_weights(tiny_run.reference() / "model.safetensors")
    config = json.loads((tiny_run.reference() / "config.json").read_text())
    for at in np.random.default_rng().choice(len(pool), 12, replace=False):
        ids = tokens.document(int(pool[at]))
        true = float64_llama.document_nll(weights, config, ids, tokens.prefix, 64)
        assert table.column("nll_sum")[int(at)].as_py() == pytest.approx(true, rel=1e-5)


def test_a_document_without_a_number_tells_nothing_of_others() -> None:
    """Neither do the mean losses by position know of it."""
    import mlx.core as mx

    from mlxprune.scoring import nll

    ids = np.arange(2, 53, dtype=np.uint16)  # each stands once
    tokens = Tokens(ids, np.array([0, 9, 39, 51]), 300, 1, 1)

    def losses(inputs: np.ndarray, targets: np.ndarray) -> mx.array:
        bad = (targets == tokens.document(1)[0]).any(axis=1)
        found = np.ones(targets.shape, np.float32)
        found[bad] = np.nan
        return mx.array(found)

    scorer = nll.Scorer.__new__(nll.Scorer)
    scorer.losses_of, scorer.policy = losses, policy()
    scorer.between = lambda scored, slots, waited: None
    scorer.waiting, scorer.narrow, scorer.starving = nll.deque(), None, True
    scorer.units = []
    result: list[tuple[np.ndarray, np.ndarray]] = []
    scorer.submit(tokens, np.arange(3), lambda rows, sums: result.append((rows, sums)))
    scorer.drain()
    ((rows, sums),) = result
    assert np.isnan(rows["nll_sum"]).tolist() == [False, True, False]
    assert rows["nll_sum"][[0, 2]].tolist() == [9, 12]
    assert np.isfinite(sums).all()
    assert sums[0].sum() == sums[1].sum()


def test_later_windows_begin_with_the_prefix_where_the_tokenizer_puts_one() -> None:
    from mlxprune.config.schema import Score
    from mlxprune.scoring.windows import window_start
    from mlxprune.tokenization.tokenizer import Tokenizer

    def tokenizer(opening: tuple[int, ...]) -> Tokenizer:
        return Tokenizer(Path(), "x", 9, 2, 1, lambda t: [], lambda i: "", opening)

    assert window_start(Score(), tokenizer((2,))) == "prefix"
    assert window_start(Score(), tokenizer(())) == "last"
    assert window_start(Score(later_windows="last"), tokenizer((2,))) == "last"
    assert window_start(Score(later_windows="prefix"), tokenizer(())) == "prefix"
    assert "later_windows" not in Score().results()
