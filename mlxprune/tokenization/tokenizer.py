"""Tokenizer: train SentencePiece BPE on the reference part, or take one from Hugging Face.

Text never yields a control token: a document that spells ``<|endoftext|>`` is encoded as text. What
is saved gives equal ids in sentencepiece, transformers and mlx-lm; saving checks that on a sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.data.hub import fetch_from_hub
from mlxprune.errors import DataError, one_line
from mlxprune.files import read_json, write_atomic
from mlxprune.tokenization.awkward_texts import END_OF_TEXT, SPACE_MARK
from mlxprune.tokenization.fast_encoder import fast_encoder

TOKENIZER_VERSION = 1
PIECE_CHARACTERS = 1 << 20  # of a long text that are encoded at a time
BETWEEN_WORDS = re.compile(rf"[^\s{SPACE_MARK}] [^\s{SPACE_MARK}]")


@dataclass(frozen=True)
class Tokenizer:
    """``encode`` maps texts to ids; ``prefix`` starts a scored document, ``end`` closes one."""

    folder: Path
    kind: str
    vocab_size: int
    prefix: int
    end: int
    encode: Callable[[list[str]], list[list[int]]]
    decode: Callable[[list[int]], str]
    opening: tuple[int, ...] = ()  # what it puts before a text where it is not told otherwise
    empty: tuple[int, ...] = ()  # what it makes of an empty text then, without a closing end
    # Pieces of a long text whose ids, one after another, are the ids of the whole.
    pieces: Callable[[str], Iterator[str]] = lambda text: iter((text,))

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32


def load_tokenizer(folder: Path) -> Tokenizer:
    """A saved tokenizer: our own by sentencepiece, any other by transformers."""
    if (folder / "tokenizer.model").exists() and _is_own(folder):
        return _load_own(folder)
    return _load_pretrained(folder)


def _is_own(folder: Path) -> bool:
    try:
        config = read_json(folder / "tokenizer_config.json")
    except (OSError, ValueError):
        return False
    if not isinstance(config, dict):
        return False
    return config.get("eos_token") == END_OF_TEXT and config.get("split_special_tokens") is True


def _load_own(folder: Path) -> Tokenizer:
    import os

    import sentencepiece

    model = folder / "tokenizer.model"
    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    except (RuntimeError, OSError) as error:
        fix = "fetch the tokenizer again, or have it trained again"
        raise DataError(f"cannot open the tokenizer: {one_line(error)}", str(model), fix) from None
    threads = os.cpu_count() or 1

    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = processor.encode(texts, num_threads=threads)
        return ids

    end = processor.eos_id()
    size, control = processor.vocab_size(), end + 1
    fast = fast_encoder(folder / "tokenizer.model", encode, control)
    return Tokenizer(
        folder, "sentencepiece-bpe", size, end, end, fast, processor.decode, pieces=own_pieces
    )


def own_pieces(text: str) -> Iterator[str]:
    """Of a text for our own tokenizer, which puts a space before every text: cut at single spaces,
    which are left out. No piece of its vocabulary goes on after a space (SentencePiece's
    split_by_whitespace), so no merge crosses a cut."""
    at = 0
    while len(text) - at > PIECE_CHARACTERS:
        found = BETWEEN_WORDS.search(text, at + PIECE_CHARACTERS)
        if found is None:
            break
        yield text[at : found.start() + 1]
        at = found.start() + 2
    yield text[at:]


def _load_pretrained(folder: Path) -> Tokenizer:
    import os

    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is no torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # of models: only their tokenizer is used
    try:
        wrapped = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        fix = "give a folder with tokenizer.json, or a hub id"
        raise DataError(f"cannot open the tokenizer: {one_line(error)}", str(folder), fix) from None
    if wrapped.eos_token_id is None and wrapped.bos_token_id is None:
        fix = "choose one with an end-of-text token"
        raise DataError("the tokenizer has neither bos nor eos", str(folder), fix)
    end = wrapped.eos_token_id if wrapped.eos_token_id is not None else wrapped.bos_token_id
    prefix = wrapped.bos_token_id if wrapped.bos_token_id is not None else end
    # Asked first: a call sets how the backend reads control tokens.
    whole, empty = list(wrapped("a")["input_ids"]), list(wrapped("")["input_ids"])
    if len(empty) > 1 and empty[-1] == wrapped.eos_token_id:
        empty.pop()
    backend = getattr(wrapped, "backend_tokenizer", None)

    def encode(texts: list[str]) -> list[list[int]]:
        if backend is not None:
            return [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]
        return [
            wrapped.encode(t, add_special_tokens=False, split_special_tokens=True) for t in texts
        ]

    if backend is not None:
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()

    def decode(ids: list[int]) -> str:
        return str(wrapped.decode(ids, clean_up_tokenization_spaces=False))

    # Ids may have gaps, so that the largest says how many rows a model needs.
    size = max(len(wrapped), max(wrapped.get_vocab().values(), default=0) + 1)
    opening = _opening(whole, encode(["a"])[0])
    return Tokenizer(folder, "pretrained", size, prefix, end, encode, decode, opening, tuple(empty))


def _opening(whole: list[int], plain: list[int]) -> tuple[int, ...]:
    """What stands before a text's own ids."""
    for at in range(len(whole)):
        if whole[at : at + len(plain)] == plain:
            return tuple(whole[:at])
    return ()


DECODED_BEFORE = 4  # tokens that are decoded with one, so that its spaces and bytes come out


def token_texts(tokenizer: Tokenizer, ids: np.ndarray) -> list[str]:
    """The text of every token, ``ids`` [tokens]; one that ends inside a character is empty, and the
    one that completes it has it whole."""
    numbers = ids.astype(int).tolist()
    found = []
    for at in range(len(numbers)):
        before = max(0, at - DECODED_BEFORE)
        with_it = tokenizer.decode(numbers[before : at + 1])
        without = tokenizer.decode(numbers[before:at]) if at > before else ""
        while without.endswith("\ufffd"):
            without = without[:-1]
        if with_it.endswith("\ufffd"):
            found.append("")
            continue
        found.append(with_it[len(without) :] if with_it.startswith(without) else with_it)
    return found


TOKENIZER_PATTERNS = ("*.model", "*.txt", "*.tiktoken", "*.jinja")


def fetch_tokenizer(name: str) -> Path:
    """A local folder, or a snapshot of a hub id with everything but weights. Raises DataError where
    what it says for other programs is broken: it is copied into every model."""
    folder = fetch_from_hub(name, ["*.json", *TOKENIZER_PATTERNS])
    refuse_broken_layout(folder)
    return folder


def refuse_broken_layout(folder: Path) -> None:
    """Raises DataError where tokenizer.json is there and cannot be opened."""
    from tokenizers import Tokenizer as Fast

    path = folder / "tokenizer.json"
    if not path.exists():
        return
    try:
        Fast.from_file(str(path))
    except Exception as error:  # it raises Exception itself
        fix = "fetch the tokenizer again"
        raise DataError(f"cannot open the tokenizer: {one_line(error)}", str(path), fix) from None


TOKENIZER_FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
)  # fmt: skip


def copy_tokenizer(source: Path, target: Path) -> None:
    """Put the tokenizer's files beside a model, so that the folder opens everywhere."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            write_atomic(target / name, (source / name).read_bytes())
