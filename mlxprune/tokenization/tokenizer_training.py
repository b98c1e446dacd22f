"""Tokenizer training in a child: the library hears no signal before it is done, and may fill
memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import machine
from mlxprune.config.data import Data
from mlxprune.config.schema import TrainTokenizer
from mlxprune.data.index import Corpus, open_corpus
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row, RowKeys
from mlxprune.data.sources import Source, plain_source, source_from
from mlxprune.execution.children import do_in_child
from mlxprune.execution.context import Execution
from mlxprune.execution.supervision import supervised
from mlxprune.records import Json
from mlxprune.tokenization.sentencepiece_bpe import TokenizerSummary, train_tokenizer

TRAIN = "mlxprune.tokenization.tokenizer_training:train"


@dataclass(frozen=True)
class TokenizerOrder:
    """Train into ``folder`` on ``documents`` of an indexed corpus with these ``data``; or, where
    there is no corpus, on all rows of the ``sources``, which are plain values."""

    settings: Json
    folder: Path
    data: Json
    corpus: Path | None = None
    documents: np.ndarray | None = None
    sources: list[Json] | None = None


def train(link: Any, order: TokenizerOrder) -> TokenizerSummary:
    """In the child."""
    settings = TrainTokenizer.model_validate(order.settings, strict=False)
    return train_tokenizer(settings, _texts(order), machine.cores(), order.folder)


def _texts(order: TokenizerOrder) -> Iterator[str]:
    if order.corpus is not None and order.documents is not None:
        corpus = open_corpus(order.corpus, Data.model_validate(order.data, strict=False))
        wanted = np.zeros(len(corpus), bool)
        wanted[order.documents] = True
        yield from (text for _, text in corpus.texts(wanted))
        return
    for place in order.sources or ():
        rows = read_rows(source_from(place, RowKeys()))
        yield from (row.text for row in rows if isinstance(row, Row))


def train_on_corpus(
    execution: Execution,
    settings: TrainTokenizer,
    corpus: Corpus,
    documents: np.ndarray,
    folder: Path,
) -> TokenizerSummary:
    """On documents of a corpus. Raises DataError where their text cannot fill the vocabulary."""
    data = execution.config.data.model_dump(mode="json")
    order = TokenizerOrder(
        settings.model_dump(mode="json"), folder, data, corpus.folder, np.asarray(documents)
    )
    return _in_child(execution, order)


def train_on_sources(
    execution: Execution, settings: TrainTokenizer, sources: list[Source], folder: Path
) -> TokenizerSummary:
    """The same on all rows of files."""
    data = execution.config.data.model_dump(mode="json")
    places = [plain_source(source) for source in sources]
    order = TokenizerOrder(settings.model_dump(mode="json"), folder, data, sources=places)
    return _in_child(execution, order)


def _in_child(execution: Execution, order: TokenizerOrder) -> TokenizerSummary:
    def attempt() -> TokenizerSummary:
        return do_in_child(
            execution.children, execution.control, execution.log, TRAIN, order, TokenizerSummary,
            saves=False,
        )  # fmt: skip

    return supervised(execution.log, "tokenizer", "the tokenizer", attempt, lambda: 0, lambda: None)
