"""What bench/fuzz.py throws bytes at. Each target takes bytes and must return, whatever they are:
errors of ours are answers, every other exception is a finding.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mlxprune.commands.console import event_line
from mlxprune.commands.options import told_as_json
from mlxprune.config.data import Data
from mlxprune.config.loading import load_config
from mlxprune.data.readers import read_rows
from mlxprune.data.sources import find_sources
from mlxprune.errors import MlxpruneError
from mlxprune.evaluation.tasks import find_tasks, read_task
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.model.model_checks import model_facts
from mlxprune.run.events import EventReader, fold_log, last_records
from mlxprune.run.folder import RunFolder
from mlxprune.run.phrases import console_line, news_of, sentence_of, words_of
from mlxprune.run.segments import packed
from mlxprune.run.status import status_json

KEYS = (
    "text", "id", "domain", "meta", "source", "pile_set_name", "messages", "content", "text.x",
    "query", "choices", "gold", "context", "continuation", "context_options", "a b", "",
)  # fmt: skip
PACK: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data, gzip.compress, zstandard.compress, lzma.compress, bz2.compress,
)  # fmt: skip
NAMES = (
    "a.jsonl", "a.parquet", "a.txt", "a", "a.jsonl.zst", "a.json", "a.csv", "a.tsv.gz",
    "a.arrow", "a.warc", "a.pq", "README",
)  # fmt: skip
STATE_KEYS = (
    "t", "v", "seq", "stage", "kind", "model", "state", "stages", "curves", "seconds", "loss",
    "edges", "bins", "documents", "domains", "files", "error", "done", "total", "rate", "memory",
    "recent", "histogram", "warnings", "sum", "message", "step",
)  # fmt: skip
EVENT_KINDS = (
    "snapshot", "warning", "progress", "train.step", "run.start", "run.end", "stage.end",
    "stage.start", "histogram", "histogram.added", "device", "damaged", "x",
)  # fmt: skip
SETTINGS = (
    "data", "split", "selection", "reference", "final", "evaluation", "tokenizer", "score",
    "paths", "rate", "band", "slices", "criterion", "tokens", "seeds", "name", "seed", "mix",
    "limit", "domain_key", "text_key", "model", "memory", "min", "max", "version",
)  # fmt: skip
MODEL_KEYS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "intermediate_size", "vocab_size", "n_embd", "n_layer", "text_config", "num_key_value_heads",
    "tie_word_embeddings", "rope_scaling",
)  # fmt: skip


class Draw:
    """Choices out of bytes, in order; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, count: int) -> int:
        return self.byte() % count

    def choice(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def rest(self) -> bytes:
        found = self.data[self.at :]
        self.at = len(self.data)
        return found

    def text(self) -> str:
        size = self.byte() % 24
        found = self.data[self.at : self.at + size]
        self.at += size
        return found.decode("utf-8", self.choice(("replace", "surrogateescape", "ignore")))

    def value(self, keys: tuple[str, ...], depth: int = 0) -> Any:
        kind = self.below(16)
        if kind < 4 or depth > 4:
            return self.text()
        if kind == 4:
            return self.choice((0, 1, -1, 2**31, 2**63, 10**30, -(2**63)))
        if kind == 5:
            return self.choice((0.0, 1.5, -0.5, 1e308, float("nan"), float("inf")))
        if kind == 6:
            return self.choice((None, True, False))
        if kind < 11:
            return [self.value(keys, depth + 1) for _ in range(self.below(5))]
        return self.table(keys, depth + 1)

    def table(self, keys: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
        return {
            (self.choice(keys) if self.below(8) else self.text()): self.value(keys, depth)
            for _ in range(self.below(6))
        }


def _bent(data: bytes, draw: Draw) -> bytes:
    """The same with some bytes changed, cut, or with more behind them."""
    changed = bytearray(data)
    for _ in range(draw.below(4)):
        if changed:
            changed[(draw.byte() * 256 + draw.byte()) % len(changed)] = draw.byte()
    if draw.below(4) == 1:
        del changed[draw.byte() * len(changed) // 256 :]
    return bytes(changed)


def _file(draw: Draw, folder: Path) -> Path:
    path = folder / draw.choice(NAMES)
    form = draw.below(5)
    if form == 0:
        data = draw.rest()
    else:
        rows = [draw.table(KEYS) for _ in range(draw.below(6))]
        if form == 1:
            data = b"\n".join(json.dumps(r).encode("utf-8", "replace") for r in rows)
        elif form == 2:
            data = json.dumps(rows if draw.below(2) else {draw.choice(KEYS): rows}).encode()
        elif form == 3:
            lines = [",".join(str(v).replace("\n", " ") for v in r.values()) for r in rows]
            data = "\n".join(["text,id,domain", *lines]).encode("utf-8", "replace")
        else:
            data = _table_file(rows, folder)
        data = draw.choice(PACK)(_bent(data, draw))
    path.write_bytes(_bent(data, draw))
    return path


def _table_file(rows: list[dict[str, Any]], folder: Path) -> bytes:
    try:
        table = pa.Table.from_pylist([{k: str(v) for k, v in row.items()} for row in rows])
        pq.write_table(table, folder / "made")
    except (pa.ArrowException, ValueError, UnicodeError, TypeError):
        return b"PAR1"
    return (folder / "made").read_bytes()


def readers(data: bytes, folder: Path) -> None:
    draw = Draw(data)
    path = _file(draw, folder)
    keys = draw.choice(("auto", "file", "none", "path:1", "domain", "meta.pile_set_name"))
    text = draw.choice((("text",), ("messages", "text"), ("text+content",), ("meta.text",)))
    section = Data(paths=[str(path)], domain_key=keys, text_key=text, max_document=1 << 20)
    found = find_sources(section)
    for source in found.sources:
        for row in read_rows(source):
            str(row)


def configuration(data: bytes, folder: Path) -> None:
    draw = Draw(data)
    path = folder / "x.yaml"
    if draw.below(2):
        path.write_bytes(draw.rest())
    else:
        tree = {"data": {"paths": ["x"]}, **draw.table(SETTINGS)}
        path.write_bytes(_bent(json.dumps(tree).encode("utf-8", "replace"), draw))
    setting = draw.text().encode("utf-8", "replace").decode()
    load_config(path, [setting] if draw.below(3) == 0 else None)


def log_of_events(data: bytes, folder: Path) -> None:
    draw = Draw(data)
    events = folder / "events"
    events.mkdir()
    records = b""
    for _ in range(draw.below(12)):
        wire = {"kind": draw.choice(EVENT_KINDS), **draw.table(STATE_KEYS)}
        try:
            records += packed(wire) if draw.below(2) else msgpack.packb(wire)
        except (ValueError, OverflowError, TypeError):
            continue
    body = _bent(records, draw) + (draw.rest() if draw.below(3) == 0 else b"")
    if draw.below(4) == 0:
        (events / "000001-x.msgpack.zst").write_bytes(_bent(zstandard.compress(body), draw))
    else:
        (events / "000001-x.msgpack").write_bytes(body)
    (folder / "run.json").write_bytes(_bent(b'{"name": "x"}', draw))
    state = fold_log(events)
    state.as_json()
    json.dumps(told_as_json(status_json(RunFolder(folder), state, 1.0)), default=str)
    reader = EventReader(events)
    for event in reader.read(5.0):
        for say in (console_line, words_of, news_of, sentence_of):
            say(event)
    for record in last_records(events, 20):
        assert event_line(record).isprintable()


def tokenizer(data: bytes, folder: Path) -> None:
    """Own ids lead back to the text, and pieces give the ids of the whole."""
    from mlxprune.tokenization import tokenizer as module

    own = _own_tokenizer()
    text = data.decode("utf-8", "replace").replace("\0", "").replace("\u2585", "")
    whole = own.encode([text])[0]
    assert own.decode(whole) == text or "\N{LOWER ONE EIGHTH BLOCK}" in text, "round trip"
    usual = module.PIECE_CHARACTERS
    module.PIECE_CHARACTERS = 5
    try:
        pieces = [*own.pieces(text)]
        assert [i for piece in pieces for i in own.encode([piece])[0]] == whole, "pieces"
    finally:
        module.PIECE_CHARACTERS = usual


_made: list[Any] = []


def _own_tokenizer() -> Any:
    if not _made:
        from mlxprune.config.schema import TrainTokenizer
        from mlxprune.testing.tiny import CODE, WORDS
        from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
        from mlxprune.tokenization.tokenizer import load_tokenizer

        folder = Path(tempfile.mkdtemp(prefix="fuzz-tokenizer-"))
        texts = [
            " ".join(WORDS[i % 40 :]) + "\n  \u00e9\u4e2d " + "\n".join(CODE) for i in range(300)
        ]
        train_tokenizer(TrainTokenizer(vocab_size=360), texts, 1, folder)
        _made.append(load_tokenizer(folder))
    return _made[0]


def tasks(data: bytes, folder: Path) -> None:
    draw = Draw(data)
    path = folder / "own.jsonl"
    if draw.below(3) == 0:
        path.write_bytes(draw.rest())
    else:
        rows = [draw.table(KEYS) for _ in range(draw.below(6))]
        text = b"\n".join(json.dumps(r).encode("utf-8", "replace") for r in rows)
        path.write_bytes(_bent(text, draw))
    if draw.below(3) == 0:
        (folder / "tasks.yaml").write_bytes(draw.rest())
    for task in find_tasks([str(path)], None).tasks:
        read_task(task)


def models(data: bytes, folder: Path) -> None:
    draw = Draw(data)
    kinds = ("llama", "gpt2", "x")
    config = {"model_type": draw.choice(kinds), **draw.table(MODEL_KEYS)}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8, "vocab_size": 9}  # fmt: skip
    config = {**sizes, **config} if draw.below(2) else config
    (folder / "config.json").write_bytes(_bent(json.dumps(config).encode(), draw))
    head = draw.table(("a", "b", "data_offsets", "shape", "dtype", "__metadata__"))
    head |= {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, draw.below(9)]}}
    text = json.dumps(head).encode("utf-8", "replace")
    weights = len(text).to_bytes(8, "little") + text + bytes(draw.below(20))
    (folder / "model.safetensors").write_bytes(_bent(weights, draw))
    with contextlib.suppress(MlxpruneError):
        model_facts(folder)
    preset = preset_of(str(folder))
    if preset.config["model_type"] == "llama":
        parameter_counts({"vocab_size": 9, **preset.config})


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "readers": readers,
    "configuration": configuration,
    "events": log_of_events,
    "tokenizer": tokenizer,
    "tasks": tasks,
    "models": models,
}


def attempt(target: str, data: bytes) -> None:
    """Raises what is a finding."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        try:
            TARGETS[target](data, Path(folder))
        except MlxpruneError as error:
            assert len(error.lines().splitlines()) >= 3
        except OSError as error:
            if error.filename is None:
                raise
