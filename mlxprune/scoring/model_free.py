"""Model-free scores: what needs no model, and what a reference has to beat.

They have the columns of any scores file. ``zlib``: the bits that zlib takes for the text, as nats,
so that bits per byte is 8 times the compression ratio. ``unigram``: the NLL under frequencies.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.scoring.nll import PART_DTYPE
from mlxprune.tokenization.token_file import Tokens
from mlxprune.units import LN2

MODEL_FREE_VERSION = 1
LEVEL = 6
TEXTS_AT_ONCE = 512
TOKENS_AT_ONCE = 1 << 22


def zlib_scores(
    corpus: Corpus, tokens: Tokens, documents: np.ndarray, report: Callable[[int, int], None]
) -> np.ndarray:
    """PART rows: 8 ln 2 times the bytes of each document's text under zlib."""
    result = np.zeros(len(documents), PART_DTYPE)
    result["num_tokens"] = tokens.lengths(documents)
    wanted = np.zeros(len(corpus), bool)
    wanted[documents] = True
    place = np.cumsum(wanted) - 1
    size = int(corpus.index["bytes"][documents].sum())
    done = 0
    texts = corpus.texts(wanted)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # zlib lets other threads run
        while some := list(itertools.islice(texts, TEXTS_AT_ONCE)):
            losses = list(pool.map(lambda item: zlib_loss(item[1]), some))
            numbers = np.array([number for number, _ in some])
            result["nll_sum"][place[numbers]] = losses
            done += int(corpus.index["bytes"][numbers].sum())
            report(done, size)
    return result


def zlib_loss(text: str) -> float:
    """The bits that zlib takes for a text, in nats."""
    return 8 * LN2 * len(zlib.compress(text.encode(), LEVEL))


def unigram_scores(tokens: Tokens, documents: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """PART rows: the NLL of each document's tokens under their frequencies in the ``learned``
    documents."""
    return unigram_sums(tokens, documents, unigram_losses(tokens, learned))


def unigram_losses(tokens: Tokens, learned: np.ndarray) -> np.ndarray:
    """float64 [vocab]: the NLL of every id by its frequency in the ``learned`` documents, each id
    counted once more (Laplace)."""
    counts = np.ones(tokens.vocab_size, np.int64)
    for ids, _ in _stretches(tokens, learned):
        counts += np.bincount(ids, minlength=tokens.vocab_size)
    losses: np.ndarray = np.log(counts.sum()) - np.log(counts)
    return losses


def unigram_sums(tokens: Tokens, documents: np.ndarray, nll: np.ndarray) -> np.ndarray:
    """PART rows: the losses of each document's tokens, summed."""
    result = np.zeros(len(documents), PART_DTYPE)
    result["num_tokens"] = tokens.lengths(documents)
    at = 0
    for ids, lengths in _stretches(tokens, documents):
        sums = np.concatenate([[0.0], np.cumsum(nll[ids])])
        ends = np.cumsum(lengths)
        result["nll_sum"][at : at + len(lengths)] = sums[ends] - sums[ends - lengths]
        at += len(lengths)
    return result


def _stretches(tokens: Tokens, documents: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(their ids in a row, their lengths) of some documents at a time."""
    lengths = tokens.lengths(documents)
    ends = np.cumsum(lengths)
    first = 0
    while first < len(documents):
        before = int(ends[first - 1]) if first else 0
        stop = int(np.searchsorted(ends, before + TOKENS_AT_ONCE, side="left")) + 1
        part = documents[first:stop]
        yield np.concatenate([tokens.document(int(d)) for d in part]), lengths[first:stop]
        first = stop
