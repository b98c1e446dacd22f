"""Layouts: files as people have them, each with containers and keys of its own."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

SYLLABLES = (
    "ri", "ver", "sto", "ne", "li", "pa", "per", "gar", "den", "win", "dow", "mor", "ning", "let",
    "ter", "en", "gi", "mar", "ket", "sil", "for", "est", "ta", "ble", "mu", "sic", "cloud", "or",
    "an", "ge", "tea", "cher", "vil", "la", "ques", "tion", "swer", "sim", "num", "ber", "sum",
)  # fmt: skip
SITES = ("example.org", "news.example.com", "blog.example.net", "wiki.example.edu")


@dataclass(frozen=True)
class Layout:
    """A file or folder: ``text`` is the key that holds the text of its ``rows`` rows."""

    path: Path
    text: str
    rows: int


def words(generator: random.Random, least: int = 30, most: int = 120) -> str:
    """A sentence of made-up words, long ones rarer than short ones."""
    made = []
    for _ in range(generator.randint(least, most)):
        count = min(1 + int(generator.expovariate(0.7)), 6)
        made.append("".join(generator.choice(SYLLABLES) for _ in range(count)))
    return " ".join(made) + "."


def write_layouts(folder: Path, rows: int = 60, seed: int = 0) -> list[Layout]:
    """Nine files of nine layouts under ``folder``, ``rows`` rows each; equal for equal seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    some = range(rows)
    made: list[Layout] = []

    def put(name: str, data: bytes, text: str) -> None:
        (folder / name).write_bytes(data)
        made.append(Layout(folder / name, text, rows))

    posts = [{"id": f"p{i}", "text": words(draw), "domain": "posts"} for i in some]
    put("posts.jsonl", _lines(posts), "text")
    notes = [{"note": i, "source_text": words(draw), "lang": "en"} for i in some]
    put("notes.jsonl.zst", zstandard.compress(_lines(notes)), "source_text")
    chats = [
        {
            "messages": [
                {"role": "user", "content": words(draw)},
                {"role": "assistant", "content": words(draw)},
            ]
        }
        for _ in some
    ]
    put("chats.jsonl.gz", gzip.compress(_lines(chats), mtime=0), "messages")
    pairs = [{"prompt": words(draw), "completion": words(draw), "uid": f"q{i}"} for i in some]
    put("pairs.ndjson.xz", lzma.compress(_lines(pairs)), "prompt+completion")
    talks = [{"uuid": f"t{i}", "speaker": "someone", "transcript": words(draw)} for i in some]
    put("talks.json", json.dumps(talks, indent=2).encode(), "transcript")
    essays = [[f"e{i}", f"On {i}, or not", words(draw), draw.choice("ab")] for i in some]
    put("essays.csv", _table(["id", "title", "body", "category"], essays, ","), "body")
    pages = [[f"w{i}", words(draw) + ' She said "yes".'] for i in some]
    put("wiki.tsv.bz2", bz2.compress(_table(["key", "content"], pages, "\t")), "content")
    mail = {
        "number": [*some],
        "message": [words(draw) for _ in some],
        "group": [draw.choice(("work", "home")) for _ in some],
    }
    pq.write_table(pa.table(mail), folder / "mail.parquet", row_group_size=25)
    made.append(Layout(folder / "mail.parquet", "message", rows))
    saved = folder / "saved"
    saved.mkdir(exist_ok=True)
    addresses = [f"https://{draw.choice(SITES)}/{i}" for i in some]
    table = pa.table({"content": [words(draw) for _ in some], "url": addresses})
    with pa.ipc.new_stream(str(saved / "data-00000-of-00001.arrow"), table.schema) as out:
        out.write_table(table, max_chunksize=20)
    (saved / "dataset_info.json").write_text('{\n  "citation": "",\n  "description": ""\n}')
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "x"}
    (saved / "state.json").write_text(json.dumps(state, indent=2))
    made.append(Layout(saved, "content", rows))
    return made


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _table(header: list[str], rows: list[list[str]], delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()
