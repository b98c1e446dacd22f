"""SentencePiece BPE: train a tokenizer, and save it in Hugging Face's layout, with equal ids."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlxprune.config.schema import TrainTokenizer
from mlxprune.errors import DataError, RunError
from mlxprune.files import write_json
from mlxprune.records import Record
from mlxprune.tokenization.awkward_texts import AWKWARD, END_OF_TEXT, SPACE_MARK, UNKNOWN

PIECE_BYTES = 4096  # training text is cut into pieces near this size, at line ends
# SentencePiece drops a training sentence that holds one of these; they encode as bytes.
TRAINER_REFUSES = str.maketrans("", "", "\0\N{LOWER FIVE EIGHTHS BLOCK}")


class TokenizerSummary(Record):
    """What a training made."""

    kind: str
    vocab_size: int
    trained_on_bytes: int


# Over 60 lines: the trainer takes its settings in one call, and refuses in many ways.
def train_tokenizer(
    settings: TrainTokenizer, texts: Iterable[str], threads: int, folder: Path
) -> TokenizerSummary:
    """Train on ``texts`` and save into ``folder``; return the summary.

    Raises DataError when the text cannot fill the vocabulary.
    """
    import sentencepiece

    counted = _Counted(texts, settings.max_bytes)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=counted.pieces(),
            model_writer=model,
            model_type="bpe",
            vocab_size=settings.vocab_size,
            byte_fallback=True,
            character_coverage=0.9995,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            max_sentence_length=1 << 24,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            unk_id=0,
            eos_id=1,
            bos_id=-1,
            pad_id=-1,
            unk_piece=UNKNOWN,
            eos_piece=END_OF_TEXT,
            num_threads=threads,
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        too_small = "smaller than required" in str(error)
        fix = "raise it: bytes and frequent characters take their places first"
        if not too_small:
            fix = "lower it, or give the reference part more text (split.reference)"
        size = "small" if too_small else "large"
        raise DataError(
            f"a vocabulary of {settings.vocab_size} is too {size} for {counted.bytes:,} bytes",
            "tokenizer.train.vocab_size",
            fix,
        ) from None
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    write_json(folder / "tokenizer.json", huggingface_layout(processor))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": UNKNOWN,
        "split_special_tokens": True,  # text that spells a control token is encoded as text
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
    }
    write_json(folder / "tokenizer_config.json", config)
    check_equality(folder, [*AWKWARD, *counted.sample])
    return TokenizerSummary(
        kind=settings.kind,
        vocab_size=processor.vocab_size(),
        trained_on_bytes=counted.bytes,
    )


class _Counted:
    """Training text in pieces, up to a budget, with a sample of it for the equality check."""

    def __init__(self, texts: Iterable[str], max_bytes: int) -> None:
        self.texts, self.max_bytes = texts, max_bytes
        self.bytes = 0
        self.sample: list[str] = []

    def pieces(self) -> Iterator[str]:
        for text in self.texts:
            if len(self.sample) < 400:
                self.sample.append(text[:2000])
            for piece in cut_at_lines(text.translate(TRAINER_REFUSES)):
                self.bytes += len(piece.encode())
                yield piece
            if self.bytes >= self.max_bytes:
                return


def cut_at_lines(text: str) -> Iterator[str]:
    """Pieces of near PIECE_BYTES characters that join to the text; cut after a line end if any."""
    start = 0
    while len(text) - start > PIECE_BYTES:
        stop = text.rfind("\n", start, start + PIECE_BYTES) + 1
        if stop <= start:
            stop = start + PIECE_BYTES
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


# Over 60 lines: it is one description of a tokenizer, key by key.
def huggingface_layout(processor: Any) -> dict[str, Any]:
    """``tokenizer.json`` that merges as SentencePiece does.

    A merge's rank is the id of the piece it makes. Control pieces and byte pieces take part in no
    merge, so their literals in a text stay text.
    """
    size = processor.vocab_size()
    vocabulary = {processor.id_to_piece(i): i for i in range(size)}
    merges: list[list[str]] = []
    for i in range(size):
        piece = processor.id_to_piece(i)
        if processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i):
            continue
        splits = []
        for at in range(1, len(piece)):
            left, right = vocabulary.get(piece[:at]), vocabulary.get(piece[at:])
            if left is not None and right is not None:
                splits.append((left, right, [piece[:at], piece[at:]]))
        merges.extend(pair for _, _, pair in sorted(splits))
    special = [
        {
            "id": i, "content": processor.id_to_piece(i), "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
        for i in (0, 1)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE_MARK},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def check_equality(folder: Path, sample: list[str]) -> None:
    """Refuse a folder in which the two layouts disagree, or in which a text yields a control id."""
    import sentencepiece
    from tokenizers import Tokenizer as Fast

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = Fast.from_file(str(folder / "tokenizer.json"))
    fast.encode_special_tokens = True
    ours = processor.encode(sample)
    theirs = [e.ids for e in fast.encode_batch(sample, add_special_tokens=False)]
    for text, a, b in zip(sample, ours, theirs, strict=True):
        if a != b or 0 in a or 1 in a:
            raise RunError(
                f"the saved tokenizer layouts disagree on {text[:60]!a}",
                str(folder),
                "please report this text; a pretrained tokenizer works meanwhile",
            )
