"""The tokenizer: equal ids everywhere, text never yields a control id, nothing is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxprune.config.schema import TrainTokenizer
from mlxprune.errors import DataError, RunError
from mlxprune.tokenization import tokenizer
from mlxprune.tokenization.awkward_texts import AWKWARD
from mlxprune.tokenization.sentencepiece_bpe import (
    PIECE_BYTES,
    check_equality,
    cut_at_lines,
    train_tokenizer,
)
from mlxprune.tokenization.tokenizer import fetch_tokenizer, load_tokenizer

ALPHABET = [
    *"abcxyz ", "  ", "\n", "\t", "\r\n", "the ", " of", "def f(x):", "12", "é", "e\u0301", "你",
    "😀", "\0", "\u2585", "<0x0A>", "<unk>", "<|endoftext|>", "\u202e", "\ufeff",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(0)
    texts = ["".join(generator.choices(ALPHABET, k=200)) for _ in range(400)]
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TrainTokenizer(vocab_size=700), texts, 2, out)
    return out


@pytest.fixture(scope="module")
def fuzz() -> list[str]:
    generator = random.Random()
    return ["".join(generator.choices(ALPHABET, k=generator.randint(0, 40))) for _ in range(1500)]


def test_all_three_readers_give_equal_ids(folder: Path, fuzz: list[str]) -> None:
    """sentencepiece, transformers.AutoTokenizer, mlx-lm; every special literal among the texts."""
    from mlx_lm.tokenizer_utils import load as load_for_mlx
    from transformers import AutoTokenizer

    samples = [*AWKWARD, *fuzz]
    plain = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ours = load_tokenizer(folder).encode(samples)
    hugging, mlx = AutoTokenizer.from_pretrained(str(folder)), load_for_mlx(folder)
    for text, ids in zip(samples, ours, strict=True):
        assert plain.encode(text) == ids
        assert hugging(text)["input_ids"] == ids, repr(text)
        assert mlx.encode(text) == ids, repr(text)
    assert hugging.eos_token_id == hugging.bos_token_id == 1


def test_text_never_yields_a_control_id(folder: Path, fuzz: list[str]) -> None:
    for ids in load_tokenizer(folder).encode([*AWKWARD, *fuzz]):
        assert not {0, 1} & set(ids)


@given(st.text(alphabet=st.characters(exclude_characters="\u2581", exclude_categories=["Cs"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_text_comes_back(folder: Path, text: str) -> None:
    loaded = load_tokenizer(folder)
    assert loaded.decode(loaded.encode([text])[0]) == text


def test_training_drops_nothing_by_length(tmp_path: Path) -> None:
    """One line longer than any default limit is learned from."""
    long = "zebra " * 20_000
    train_tokenizer(TrainTokenizer(vocab_size=300), [long, "abc def ghi jkl " * 50], 1, tmp_path)
    (ids,) = load_tokenizer(tmp_path).encode(["zebra zebra"])
    assert len(ids) == 2


def test_training_is_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    texts = ["the quick brown fox jumps over the lazy dog " * 20, "def f(x):\n    return x\n" * 30]
    models = []
    for threads in (1, 2):
        out = tmp_path / str(threads)
        out.mkdir()
        train_tokenizer(TrainTokenizer(vocab_size=300), texts, threads, out)
        models.append((out / "tokenizer.json").read_bytes())
    assert models[0] == models[1]


def test_pieces_join_to_the_text() -> None:
    generator = random.Random()
    text = "".join(generator.choices("ab\n", weights=[50, 50, 1], k=30_000))
    pieces = list(cut_at_lines(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= PIECE_BYTES


def test_a_vocabulary_that_the_text_cannot_fill_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train_tokenizer(TrainTokenizer(vocab_size=9000), ["short text"], 1, tmp_path)
    assert "vocab_size" in caught.value.where


def test_the_save_step_refuses_layouts_that_disagree(folder: Path, tmp_path: Path) -> None:
    """The check has teeth: a layout that never merges is found."""
    for name in ("tokenizer.model", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tree = json.loads((tmp_path / "tokenizer.json").read_text())
    tree["model"]["merges"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(RunError):
        check_equality(tmp_path, ["the of the def f(x): 12 " * 5, *AWKWARD])


def test_a_pretrained_tokenizer_opens_by_path(folder: Path, tmp_path: Path) -> None:
    """Through transformers, with control literals encoded as text."""
    tree = json.loads((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = load_tokenizer(fetch_tokenizer(str(tmp_path)))
    assert loaded.kind == "pretrained"
    assert (loaded.prefix, loaded.end) == (1, 1)
    for ids in loaded.encode(list(AWKWARD)):
        assert 1 not in ids
    with pytest.raises(DataError):
        fetch_tokenizer("./nowhere")


def test_the_ids_of_pieces_are_those_of_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text is encoded in pieces, which are cut where no merge can cross."""
    draw, own = random.Random(), load_tokenizer(folder)
    letters = [*ALPHABET, " ", " ", "\u2581"]
    for size in (1, 2, 3, 7, 20):
        monkeypatch.setattr(tokenizer, "PIECE_CHARACTERS", size)
        for _ in range(150):
            text = "".join(draw.choices(letters, k=draw.randint(0, 60)))
            pieces = [*own.pieces(text)]
            found = [i for piece in pieces for i in own.encode([piece])[0]]
            assert found == own.encode([text])[0], (size, text, pieces)
    monkeypatch.setattr(tokenizer, "PIECE_CHARACTERS", 8)
    assert len([*own.pieces("word " * 100)]) > 30
