"""The fast encoder is asked only as long as it agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxprune.run.folder import RunFolder
from mlxprune.testing.tiny import WORDS
from mlxprune.tokenization import fast_encoder as module
from mlxprune.tokenization.awkward_texts import AWKWARD
from mlxprune.tokenization.fast_encoder import FastEncoder, fast_encoder
from mlxprune.tokenization.tokenizer import load_tokenizer

TEXTS = [" ".join(WORDS[i % 9 : i % 9 + 12]) + f" {i}" for i in range(700)]


def exact(texts: list[str]) -> list[list[int]]:
    return [[2 + ord(c) % 90 for c in text] for text in texts]


class Opened:
    """A library that gives other ids from some text on."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong, self.asked = wrong, 0

    def encode_all(self, texts: list[str], specials: bool) -> list[list[int]]:
        assert specials is False
        self.asked += len(texts)
        return [[7] if self.wrong and self.wrong in t else exact([t])[0] for t in texts]


def test_it_gives_the_ids_of_sentencepiece(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kitoken", reason="pip install 'mlxprune[fast-tokens]'")
    fast = load_tokenizer(tiny_run.tokenizer)
    assert isinstance(fast.encode, FastEncoder)
    monkeypatch.setenv(module.SETTING, "sentencepiece")
    plain = load_tokenizer(tiny_run.tokenizer)
    assert not isinstance(plain.encode, FastEncoder)
    texts = [*AWKWARD, *TEXTS, "the \u2581of\t\n" * 300]
    assert fast.encode(texts) == plain.encode(texts)
    assert fast.encode.trusted


def test_a_difference_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is among the awkward texts, in the first text, or in the sample of the later."""
    monkeypatch.setattr(module, "FIRST_CHARACTERS", 2000)
    first = FastEncoder(Opened(" 300"), exact, 2)
    with pytest.warns(UserWarning, match="left alone"):
        assert first(TEXTS[:400]) == exact(TEXTS[:400])
    assert not first.trusted
    later = FastEncoder(Opened("odd"), exact, 2)
    assert later(TEXTS) == exact(TEXTS)
    with pytest.warns(UserWarning, match="left alone"):
        assert later([*TEXTS[:299], *["odd"] * 10]) == exact([*TEXTS[:299], *["odd"] * 10])
    assert not FastEncoder(Opened("<unk>"), exact, 2).agrees(list(AWKWARD))


def test_a_control_id_is_never_its_to_give() -> None:
    class Control(Opened):
        def encode_all(self, texts: list[str], specials: bool) -> list[list[int]]:
            return [[1] if "end" in t else ids for t, ids in zip(texts, exact(texts), strict=True)]

    encoder = FastEncoder(Control(), exact, 2)
    assert encoder(["the end", "more"]) == exact(["the end", "more"])


def test_what_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"no model")
    given: Any = fast_encoder(path, exact, 2)
    assert given is exact
