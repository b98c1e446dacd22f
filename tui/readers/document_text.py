"""Texts: documents as people read them, decoded from the token files without a copy of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import places_of
from mlxprune.tokenization.token_file import open_tokens
from mlxprune.tokenization.tokenizer import DECODED_BEFORE, Tokenizer, load_tokenizer, token_texts


class Texts:
    """``tokens`` memory-mapped, and the tokenizer that made them. Raises OSError and others where
    the run has no tokens yet."""

    def __init__(self, run: RunFolder) -> None:
        self.tokens = open_tokens(run.tokens())
        self.keys = np.load(run.corpus / "index.npy", mmap_mode="r")["key"]
        self.folder = run.tokenizer
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.folder)
        return self._tokenizer

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """The document numbers of keys, int64; -1 for one that the corpus does not have."""
        return places_of(self.keys, keys)

    def text(self, document: int, first: int = 0, most: int = 400) -> str:
        """The beginning, or a later stretch, of a document: so many tokens."""
        ids = self.tokens.document(document)[first : first + most]
        return self.tokenizer.decode(ids.astype(int).tolist())

    def stretch(self, document: int, first: int, most: int) -> tuple[str, int]:
        """The text of so many tokens from ``first`` on, and where the next stretch begins; it ends
        between characters, so the stretches of a document are its text."""
        ids = self.tokens.document(document)
        stop = min(len(ids), first + most)
        before = max(0, first - DECODED_BEFORE)
        lead = self.tokenizer.decode(ids[before:first].astype(int).tolist()) if first else ""
        for end in range(stop, min(len(ids), stop + 8) + 1):
            with_it = self.tokenizer.decode(ids[before:end].astype(int).tolist())
            if end == len(ids) or not with_it.endswith("\ufffd"):
                break
        return (with_it[len(lead) :] if with_it.startswith(lead) else with_it), end

    def pieces(self, document: int, most: int) -> list[str]:
        """The text of every token of the beginning, as ``token_texts`` tells it."""
        return token_texts(self.tokenizer, self.tokens.document(document)[:most])
