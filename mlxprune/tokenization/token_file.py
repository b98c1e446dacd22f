"""Tokens: every document encoded once, into one flat file that is memory-mapped ever after.

``tokens.bin`` holds the ids of all documents in canonical order (uint16, or uint32 above 65,536
ids), without control tokens; ``offsets.npy`` says where each begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.data.index import Corpus
from mlxprune.errors import RunError
from mlxprune.records import Record, read_record, write_record
from mlxprune.tokenization.tokenizer import Tokenizer

TOKENS_VERSION = 1
BATCH_BYTES = 4 << 20
AHEAD = 2  # batches that are read before the first of them is written


class TokenSummary(Record):
    """tokens.json: the vocabulary, and how many tokens there are of what."""

    dtype: str
    vocab_size: int
    prefix: int
    end: int
    tokens: int
    bytes_per_token: float
    parts: dict[str, int]  # by the number of the part
    domains: dict[str, int]


@dataclass(frozen=True)
class Tokens:
    """``ids`` [total] unsigned, ``offsets`` [documents + 1] int64; both memory-mapped."""

    ids: np.ndarray
    offsets: np.ndarray
    vocab_size: int
    prefix: int
    end: int
    folder: Path | None = None  # where they lie; None: in memory alone

    def document(self, number: int) -> np.ndarray:
        return self.ids[int(self.offsets[number]) : int(self.offsets[number + 1])]

    def lengths(self, documents: np.ndarray) -> np.ndarray:
        """Tokens of each of the documents, int64."""
        result: np.ndarray = self.offsets[documents + 1] - self.offsets[documents]
        return result


def tokens_of(tokenizer: Tokenizer, texts: list[str]) -> Tokens:
    """The tokens of some texts, in memory."""
    ids = tokenizer.encode(texts) if texts else []
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(one) for one in ids], out=offsets[1:])
    flat = np.fromiter(itertools.chain.from_iterable(ids), tokenizer.dtype, int(offsets[-1]))
    return Tokens(flat, offsets, tokenizer.vocab_size, tokenizer.prefix, tokenizer.end)


def encode_corpus(
    corpus: Corpus,
    part: np.ndarray,
    left_out: int,
    tokenizer: Tokenizer,
    folder: Path,
    progress: Callable[[int, int], None],
) -> TokenSummary:
    """Encode every document that is in use into ``folder``; return the summary."""
    wanted = np.asarray(part) != left_out
    lengths = np.zeros(len(corpus), np.int64)
    done_bytes, all_bytes = 0, int(corpus.index["bytes"][wanted].sum())

    def encode(texts: list[str]) -> tuple[list[int], np.ndarray]:
        if len(texts) == 1:  # perhaps a long one
            parts = [
                _checked(tokenizer, [piece], folder)[1] for piece in tokenizer.pieces(texts[0])
            ]
            return [sum(map(len, parts))], np.concatenate(parts)
        return _checked(tokenizer, texts, folder)

    # One thread encodes (the library has threads of its own) while this one reads and writes.
    with (folder / "tokens.bin").open("wb") as out, ThreadPoolExecutor(1) as encoder:
        waiting: list[tuple[list[int], int, Future[tuple[list[int], np.ndarray]]]] = []

        def write() -> None:
            nonlocal done_bytes
            documents, size, encoded = waiting.pop(0)
            sizes, flat = encoded.result()
            lengths[documents] = sizes
            flat.tofile(out)
            done_bytes += size
            progress(done_bytes, all_bytes)

        for documents, texts, size in _batches(corpus, wanted):
            waiting.append((documents, size, encoder.submit(encode, texts)))
            if len(waiting) > AHEAD:
                write()
        while waiting:
            write()
    offsets = np.zeros(len(corpus) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    np.save(folder / "offsets.npy", offsets)
    domains = np.bincount(
        corpus.index["domain"], weights=lengths, minlength=len(corpus.domains)
    ).astype(np.int64)
    parts = np.asarray(part)
    summary = TokenSummary(
        dtype=np.dtype(tokenizer.dtype).name,
        vocab_size=tokenizer.vocab_size,
        prefix=tokenizer.prefix,
        end=tokenizer.end,
        tokens=int(offsets[-1]),
        bytes_per_token=all_bytes / max(int(offsets[-1]), 1),
        parts={str(p): int(lengths[parts == p].sum()) for p in np.unique(parts)},
        domains={d: int(n) for d, n in zip(corpus.domains, domains, strict=True)},
    )
    write_record(folder / "tokens.json", summary)
    return summary


def _checked(tokenizer: Tokenizer, texts: list[str], folder: Path) -> tuple[list[int], np.ndarray]:
    """How many tokens each text has, and all of them in the dtype of the file."""
    encoded = tokenizer.encode(texts)
    sizes = [len(ids) for ids in encoded]
    flat = np.fromiter(itertools.chain.from_iterable(encoded), np.int64, sum(sizes))
    if len(flat) and not 0 <= flat.min() <= flat.max() < tokenizer.vocab_size:
        raise RunError("an id is outside the vocabulary", str(folder), "report this")
    return sizes, flat.astype(tokenizer.dtype)


def _batches(corpus: Corpus, wanted: np.ndarray) -> Iterator[tuple[list[int], list[str], int]]:
    """(documents, their texts, their bytes), about BATCH_BYTES at a time."""
    documents: list[int] = []
    texts: list[str] = []
    size = 0
    for document, text in corpus.texts(wanted):
        if documents and int(corpus.index["bytes"][document]) > BATCH_BYTES // 4:
            yield documents, texts, size  # a long one comes alone: it is encoded in pieces
            documents, texts, size = [], [], 0
        documents.append(document)
        texts.append(text)
        size += int(corpus.index["bytes"][document])
        if size >= BATCH_BYTES:
            yield documents, texts, size
            documents, texts, size = [], [], 0
    if documents:
        yield documents, texts, size


def open_tokens(folder: Path) -> Tokens:
    summary = read_record(folder / "tokens.json", TokenSummary)
    offsets = np.load(folder / "offsets.npy", mmap_mode="r")
    dtype = np.dtype(summary.dtype)
    if summary.tokens:
        ids: np.ndarray = np.memmap(folder / "tokens.bin", dtype, mode="r")
    else:
        ids = np.zeros(0, dtype)
    return Tokens(ids, offsets, summary.vocab_size, summary.prefix, summary.end, folder)
