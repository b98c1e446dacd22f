"""Worker: a process that filters blocks: rows to texts, to tokens, to losses, to what is kept.

While the device works on one block, a thread reads and encodes the next and another writes the
last, so that neither waits for the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from mlxprune.data.hashing import hash_bytes
from mlxprune.data.original_rows import judged
from mlxprune.data.output_file import SUFFIXES, LinesFiles, ParquetFile
from mlxprune.data.row_counts import RowCounter, bad_row_note
from mlxprune.data.rows import Row, Skip
from mlxprune.files import write_atomic
from mlxprune.filtering.blocks import BlockRows, read_block
from mlxprune.filtering.cuts import groups_of
from mlxprune.filtering.order import (
    NO_SCORE,
    NO_TOKEN,
    BlockDone,
    BlockSummary,
    DomainCounts,
    FilterOrder,
    ScoringModel,
    write_summary,
)
from mlxprune.model.architecture import read_model_config
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.model.weights import load_model
from mlxprune.records import plain
from mlxprune.scoring.model_free import unigram_sums, zlib_loss
from mlxprune.scoring.nll import PART_DTYPE, Scorer
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.tokenization.token_file import Tokens, tokens_of
from mlxprune.tokenization.tokenizer import Tokenizer, load_tokenizer

FILTER = "mlxprune.filtering.worker:filter_blocks"  # what a worker does
BAD_ROWS = 1000  # of a block that are written down
SCORES = pa.schema(
    [
        ("key", pa.uint64()), ("id", pa.string()), ("source", pa.string()), ("row", pa.int64()),
        ("domain", pa.string()), ("nll_sum", pa.float64()), ("num_tokens", pa.int64()),
        ("num_bytes", pa.int64()), ("perplexity", pa.float64()), ("figure", pa.float64()),
        ("truncated", pa.bool_()),
    ]
)  # fmt: skip
DECIDED = SCORES.append(pa.field("kept", pa.bool_()))


@dataclass
class ReadBlock:
    """A block as documents: ``at`` says of each which piece and which row of it it is."""

    number: int
    pieces: list[BlockRows]
    rows: list[Row]
    at: np.ndarray  # int64 [documents, 2]
    files: dict[int, RowCounter]
    bad: list[bytes]
    tokens: list[Tokens]  # by model
    parts: list[np.ndarray] = field(default_factory=list)  # PART rows, by model


def filter_blocks(link: Any, order: FilterOrder) -> None:
    """In the child: filter blocks as they are given out."""
    from mlxprune.engine import backend

    models = [_ready(link, model) for model in order.models]
    tokenizers = _tokenizers(order.models)
    reading: deque[Future[ReadBlock]] = deque()
    writing: deque[Future[None]] = deque()

    def write(block: ReadBlock) -> None:
        write_block_results(order, block)
        link.tell(BlockDone(block.number, len(block.rows), backend.peak_memory()))

    def score(block: ReadBlock) -> None:
        """With one model the next block is begun before this one has come back."""
        block.parts = [np.zeros(0, PART_DTYPE)] * len(models)
        left = len(models)

        def finish(at: int, part: np.ndarray) -> None:
            nonlocal left
            block.parts[at] = part
            left -= 1
            if not left:
                writing.append(writer.submit(write, block))

        for at, model in enumerate(models):
            model.submit(block, at, finish)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def idle() -> None:
            while reading:
                score(reading.popleft().result())
            for model in models:
                model.drain()
            while writing:
                writing.popleft().result()

        for number in link.items(idle):
            reading.append(reader.submit(read_documents, order, number, tokenizers))
            if len(reading) > 1:
                score(reading.popleft().result())
            while writing and writing[0].done():
                writing.popleft().result()
            link.edge()
        idle()


@dataclass(frozen=True)
class _Ready:
    submit: Callable[[ReadBlock, int, Callable[[int, np.ndarray], None]], None]
    drain: Callable[[], None]


def _ready(link: Any, model: ScoringModel) -> _Ready:
    """A model that takes blocks."""
    from mlxprune.engine import backend

    if model.kind != "model":
        losses = None if model.losses is None else np.load(model.losses)

        def free(block: ReadBlock, at: int, finish: Callable[[int, np.ndarray], None]) -> None:
            link.edge()
            finish(at, _free_part(block, block.tokens[at], losses))

        return _Ready(free, lambda: None)
    assert model.model is not None
    assert model.policy is not None
    plan = memory_plan(read_model_config(model.model), model.policy.context)
    backend.limit_memory(plan.scoring_bytes(model.policy.batch_tokens))
    loaded, _ = load_model(model.model)
    scorer = Scorer(loaded, model.policy, lambda scored, slots, waited: link.edge())

    def submit(block: ReadBlock, at: int, finish: Callable[[int, np.ndarray], None]) -> None:
        documents = np.arange(len(block.rows))
        scorer.submit(block.tokens[at], documents, lambda part, positions: finish(at, part))

    return _Ready(submit, scorer.drain)


def _free_part(block: ReadBlock, tokens: Tokens, losses: np.ndarray | None) -> np.ndarray:
    documents = np.arange(len(block.rows))
    if losses is not None and len(documents):
        return unigram_sums(tokens, documents, losses)
    part = np.zeros(len(documents), PART_DTYPE)
    part["num_tokens"] = tokens.lengths(documents)
    part["nll_sum"] = [zlib_loss(row.text) for row in block.rows]
    return part


def _tokenizers(models: list[ScoringModel]) -> list[Tokenizer]:
    """By model; two of one folder share theirs."""
    opened = {model.tokenizer: load_tokenizer(model.tokenizer) for model in models}
    return [opened[model.tokenizer] for model in models]


def read_documents(order: FilterOrder, number: int, tokenizers: list[Tokenizer]) -> ReadBlock:
    """The documents of a block that was put down, encoded."""
    pieces = read_block(order.block(number))
    block = ReadBlock(number, pieces, [], np.zeros((0, 2), np.int64), {}, [], [])
    at: list[tuple[int, int]] = []
    for n, piece in enumerate(pieces):
        source, key = order.sources[piece.source], order.domain_keys[piece.source]
        counter = block.files.setdefault(piece.source, RowCounter())
        for i, row in enumerate(judged(source, key, piece.raw)):
            counter.add(row)
            if isinstance(row, Row):
                block.rows.append(row)
                at.append((n, i))
            elif len(block.bad) < BAD_ROWS:
                block.bad.append(_bad_line(source.name, row))
    block.at = np.array(at, np.int64).reshape(len(at), 2)
    made: dict[int, Tokens] = {}
    for tokenizer in tokenizers:
        made.setdefault(id(tokenizer), tokens_of(tokenizer, [row.text for row in block.rows]))
    block.tokens = [made[id(tokenizer)] for tokenizer in tokenizers]
    return block


def _bad_line(name: str, skip: Skip) -> bytes:
    return orjson.dumps(bad_row_note(name, skip), option=orjson.OPT_APPEND_NEWLINE)


def write_block_results(order: FilterOrder, block: ReadBlock) -> None:
    """Scores, what is kept, bad rows, and last of all the summary, which says that a block is
    done."""
    part, documents = block.parts[0], len(block.rows)
    sizes = np.fromiter((len(row.text.encode()) for row in block.rows), np.int64, documents)
    with_tokens = part["num_tokens"] > 0
    able = with_tokens & np.all([np.isfinite(p["nll_sum"]) for p in block.parts], axis=0)
    figures = np.full(documents, np.nan)
    figures[able] = figures_of(order, [p[able] for p in block.parts], sizes[able])
    names = [row.domain for row in block.rows]
    kept = np.zeros(documents, bool)
    if order.cuts is not None and able.any():
        inside = np.flatnonzero(able & (part["num_tokens"] >= order.choice.min_tokens))
        kept[inside] = order.cuts.kept(
            figures[inside], [names[i] for i in inside.tolist()], part["num_tokens"][inside]
        )
        write_kept_rows(order, block.number, block.pieces, block.at[kept])
    _write_scores(order, block, able, figures, sizes, kept)
    if block.bad:
        write_atomic(order.bad_rows(block.number), b"".join(block.bad))
    summary = BlockSummary(
        files={code: counter.finished() for code, counter in block.files.items()},
        domains=_counts(order, names, able, figures, part["num_tokens"], sizes, kept),
        whole=DomainCounts(places=places_among(order.percentiles.get("", []), figures[able])),
        unscored={
            reason: count
            for reason, count in (
                (NO_TOKEN, int((~with_tokens).sum())),
                (NO_SCORE, int((with_tokens & ~able).sum())),
            )
            if count
        },
    )
    write_summary(order, block.number, summary)
    order.block(block.number).unlink(missing_ok=True)


def figures_of(order: FilterOrder, parts: list[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """The figure that the slice ranks by, float64, of documents that all models have scored."""
    own = parts[0]
    scores = Scores(
        np.zeros(len(own), np.uint64),
        own["nll_sum"],
        own["num_tokens"],
        sizes,
        other=parts[1]["nll_sum"] if len(parts) > 1 else None,
        curve=order.curve,
        overlap=order.overlap,
    )
    return metric_values(scores, order.choice)


def write_kept_rows(
    order: FilterOrder, number: int, pieces: list[BlockRows], at: np.ndarray
) -> None:
    """The rows at these (piece, row) as they stand in their files: lines, or a table."""
    if not len(at):
        return
    chosen = [
        piece.raw.take(at[at[:, 0] == n, 1])
        for n, piece in enumerate(pieces)
        if (at[:, 0] == n).any()
    ]
    if chosen[0].table is not None:
        table = ParquetFile(order.kept(number, ".parquet"), chosen[0].table.schema)
        for raw in chosen:
            table.write(raw.table)
        table.close()
        return
    out = LinesFiles([order.kept(number, f".jsonl{SUFFIXES[order.codec]}")], order.codec)
    for raw in chosen:
        lines = [line for line in raw.as_lines() if isinstance(line, bytes)]
        out.write(pa.record_batch([pa.array(lines, pa.large_binary())], names=["line"]))
    out.close()


def _write_scores(
    order: FilterOrder,
    block: ReadBlock,
    able: np.ndarray,
    figures: np.ndarray,
    sizes: np.ndarray,
    kept: np.ndarray,
) -> None:
    part, decided = block.parts[0], order.cuts is not None
    ids, keys = [], []
    for row in block.rows:
        text = hash_bytes(row.text.encode())
        ids.append(row.id if row.id is not None else f"{text:016x}")
        keys.append(hash_bytes(ids[-1].encode() + b"\0" + text.to_bytes(8, "little")))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        perplexity = np.exp(part["nll_sum"] / part["num_tokens"])
    codes = [block.pieces[n].source for n in block.at[:, 0].tolist()]
    columns = [
        pa.array(np.array(keys, np.uint64)),
        pa.array(ids, pa.string()),
        pa.array([order.sources[code].name for code in codes], pa.string()),
        pa.array(np.array([row.number for row in block.rows], np.int64)),
        pa.array([row.domain for row in block.rows], pa.string()),
        pa.array(part["nll_sum"]),
        pa.array(part["num_tokens"]),
        pa.array(sizes),
        pa.array(perplexity),
        pa.array(figures),
        pa.array(part["truncated"]),
        *([pa.array(kept)] if decided else []),
    ]
    schema = DECIDED if decided else SCORES
    batch = pa.record_batch(columns, schema=schema).filter(pa.array(able))
    out = ParquetFile(order.scores(block.number, decided), schema)
    out.write(batch)
    out.close()


def _counts(
    order: FilterOrder,
    names: list[str],
    able: np.ndarray,
    figures: np.ndarray,
    tokens: np.ndarray,
    sizes: np.ndarray,
    kept: np.ndarray,
) -> dict[str, DomainCounts]:
    some = np.flatnonzero(able)
    found: dict[str, DomainCounts] = {}
    for name, members in groups_of([names[i] for i in some.tolist()], tokens, "domain").items():
        mine = some[members]
        both = mine[kept[mine]]
        found[name] = DomainCounts(
            documents=len(mine),
            tokens=int(tokens[mine].sum()),
            bytes=int(sizes[mine].sum()),
            kept_documents=len(both),
            kept_tokens=int(tokens[both].sum()),
            kept_bytes=int(sizes[both].sum()),
            places=places_among(order.percentiles.get(name, []), figures[mine]),
        )
    return found


def places_among(edges: list[float], figures: np.ndarray) -> list[int]:
    """How many figures lie between which edges; nothing where there are none."""
    if not edges:
        return []
    at = np.searchsorted(np.array(edges), figures, side="right")
    counts: list[int] = plain(np.bincount(at, minlength=len(edges) + 1).tolist())
    return counts
