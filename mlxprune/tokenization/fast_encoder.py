"""Fast encoder: kitoken in place of sentencepiece, as long as both give equal ids.

It is young, so it is proven and not believed: on awkward texts when it is opened, on all of the
first text, and on one text in a thousand after that. At the first difference, and where it is not
installed, sentencepiece does the work; the ids are the same either way.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlxprune.tokenization.awkward_texts import AWKWARD

Encode = Callable[[list[str]], list[list[int]]]
SETTING = "MLXPRUNE_ENCODER"  # sentencepiece: kitoken is left alone
FIRST_CHARACTERS = 1_000_000  # of the first text that are encoded by both
ONE_IN = 1000
PIECE_TEXTS = 64  # that a thread takes at a time


def fast_encoder(model: Path, exact: Encode, control: int) -> Encode:
    """``exact``, or what gives the same ids faster; ids below ``control`` stand for no text."""
    if os.environ.get(SETTING) == "sentencepiece":
        return exact
    try:
        import kitoken
    except ImportError:
        return exact
    try:
        opened = kitoken.Kitoken.from_sentencepiece_file(str(model))
    except Exception:  # of another kind, or a version that cannot read it
        return exact
    encoder = FastEncoder(opened, exact, control)
    return encoder if encoder.agrees(list(AWKWARD)) else exact


class FastEncoder:
    """Encodes as ``exact`` does, and finds out when it does not."""

    def __init__(self, opened: Any, exact: Encode, control: int) -> None:
        self.opened, self.exact, self.control = opened, exact, control
        self.trusted = True
        self._proven = self._seen = 0

    def __call__(self, texts: list[str]) -> list[list[int]]:
        if not self.trusted:
            return self.exact(texts)
        if self._proven < FIRST_CHARACTERS:
            self._proven += sum(map(len, texts))
            checked: Sequence[str] = texts
        else:
            first = -self._seen % ONE_IN
            checked = texts[first::ONE_IN]
        self._seen += len(texts)
        if checked and not self.agrees(list(checked)):
            warnings.warn(
                "kitoken gave other ids than sentencepiece: it is left alone", stacklevel=2
            )
            return self.exact(texts)
        return self._encoded(texts)

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        pieces = [texts[at : at + PIECE_TEXTS] for at in range(0, len(texts), PIECE_TEXTS)]
        if len(pieces) < 2:
            found = [self._some(piece) for piece in pieces]
        else:
            with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
                found = list(threads.map(self._some, pieces))
        return [ids for some in found for ids in some]

    def _some(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.opened.encode_all(texts, False)
        odd = [n for n, one in enumerate(ids) if one and min(one) < self.control]
        for n, right in zip(odd, self.exact([texts[n] for n in odd]) if odd else [], strict=True):
            ids[n] = right
        return ids

    def agrees(self, texts: list[str]) -> bool:
        """Whether both give equal ids; if not, this one is not asked again."""
        try:
            self.trusted = self._encoded(texts) == self.exact(texts)
        except Exception:  # the library's own, of many kinds
            self.trusted = False
        return self.trusted
