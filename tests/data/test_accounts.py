"""Nothing vanishes: what cannot be read is an error, or is counted; all of it is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.data.index import Corpus
from mlxprune.errors import DataError
from mlxprune.files import read_json
from mlxprune.testing.corpora import indexed, write_rows


def texts(count: int, key: str = "text", **more: Any) -> list[dict[str, Any]]:
    return [{key: f"text {i} of {key}", **more} for i in range(count)]


def refused(folder: Path, paths: list[Path], **settings: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        indexed(folder, paths, **settings)
    return caught.value


def balanced(found: Corpus) -> bool:
    return found.summary.rows == found.summary.documents + sum(found.summary.skipped.values())


def test_a_file_of_which_no_row_can_be_read_is_an_error_whatever_max_bad(tmp_path: Path) -> None:
    """However small it is beside the others."""
    good = write_rows(tmp_path / "good.jsonl", texts(5000))
    notes = write_rows(tmp_path / "notes.jsonl", texts(10, "source_text"))
    for limit in (0.01, 1.0):
        error = refused(tmp_path, [good, notes], max_bad=limit)
        assert "no row has the text key 'text'" in error.problem
        assert "source_text" in error.problem
        assert error.where == str(notes)
        assert "text_key: source_text" in error.fix


def test_all_files_are_told_at_once_with_the_keys_that_their_rows_have(tmp_path: Path) -> None:
    good = write_rows(tmp_path / "good.jsonl", texts(30))
    notes = write_rows(tmp_path / "notes.jsonl", texts(30, "source_text", note=1))
    mail = tmp_path / "mail.parquet"
    pq.write_table(pa.table({"number": [1, 2], "message": ["long enough", "too"]}), mail)
    numbers = write_rows(tmp_path / "numbers.jsonl", [{"text": i} for i in range(9)])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(mail.read_bytes()[:-20])
    pointer = tmp_path / "pointer.jsonl"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    error = refused(tmp_path, [good, notes, mail, numbers, broken, pointer])
    assert "5 of 6 files" in error.problem
    told = "\n".join(error.details)
    for words in (
        "source_text, note", "message, number", "text_key: message", "text_not_a_string 9",
        "broken.parquet: cannot read it", "Git LFS pointer", "git lfs pull",
    ):  # fmt: skip
        assert words in told
    assert good.name not in told
    assert error.lines().startswith("error: ")
    assert error.as_json()["details"] == error.details


def test_max_bad_holds_for_every_file_as_though_it_were_alone(tmp_path: Path) -> None:
    good = write_rows(tmp_path / "good.jsonl", texts(10_000))
    some = write_rows(tmp_path / "some.jsonl", texts(40) + texts(2, "body"))
    error = refused(tmp_path, [good, some])
    assert "2 of 42 rows are bad" in error.problem
    assert "body" in error.problem
    found = indexed(tmp_path, [good, some], max_bad=0.05)
    assert found.summary.skipped == {"missing_text": 2}
    assert balanced(found)
    files = {f["name"]: f for f in read_json(found.folder / "files.json")}
    assert files["some.jsonl"]["skipped"] == {"missing_text": 2}
    assert (files["some.jsonl"]["rows"], files["some.jsonl"]["documents"]) == (42, 40)


def test_a_domain_of_which_no_row_can_be_read_is_an_error(tmp_path: Path) -> None:
    rows = texts(3000, domain="web") + texts(9, "message", domain="mail")
    path = write_rows(tmp_path / "a.jsonl", rows)
    error = refused(tmp_path, [path], max_bad=0.5)
    assert "domain 'mail'" in error.problem
    assert "message" in error.problem
    found = indexed(tmp_path, [path], text_key=["text", "message"])
    assert found.summary.domains == {"mail": 9, "web": 3000}


def test_empty_rows_are_harmless_and_counted(tmp_path: Path) -> None:
    rows = [{"text": ""}, {"text": None}, {"text": " "}, {"text": "x"}]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    assert found.summary.skipped == {"empty_text": 2, "null_text": 1}
    assert balanced(found)


def test_files_of_a_folder_that_are_not_read_are_counted_by_reason(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in (
        "ok/c.jsonl", "_raw/a.jsonl", "ok/_b.jsonl", ".hidden/x.jsonl", ".note", "README.md",
        "a.tmp", "c.md5", "table.csv",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "x"}\n')
    found = indexed(tmp_path, [folder])
    assert found.summary.documents == 1
    assert found.summary.files_left_out == {
        "named with a leading underscore": 2, "hidden": 2, "temporary": 1, "a checksum": 1,
        "beside data of another format": 2,
    }  # fmt: skip
    assert sorted(Path(p).name for p in found.summary.left_out if "raw" in p) == ["a.jsonl"]


def test_a_folder_is_one_of_texts_by_what_its_files_are(tmp_path: Path) -> None:
    """Never because nothing else matched."""
    texts_of = tmp_path / "texts"
    texts_of.mkdir()
    for name in ("a.txt", "b.md", "c.py", "LICENSE", "1342", "d.foo", "e.bin"):
        (texts_of / name).write_bytes(b"\0\1\2" * 50 if name == "e.bin" else b"some words\n")
    found = indexed(tmp_path, [texts_of])
    assert found.summary.documents == 5
    assert found.summary.files_left_out == {"of an unknown kind (.foo)": 1, "binary data": 1}
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.foo", "b.foo"):
        (other / name).write_text("some words\n")
    (other / "c.zip").write_bytes(b"PK\x03\x04 and so on")
    error = refused(tmp_path, [other])
    assert "nothing in this folder is read" in error.problem
    assert "a zip archive" in error.problem
    assert "unknown kind (.foo)" in error.problem


def test_a_broken_data_file_of_a_folder_is_no_file_beside_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "a.jsonl", texts(5))
    (folder / "b.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "c.jsonl").write_text(json.dumps({"text": "x"}), encoding="utf-16")
    error = refused(tmp_path, [folder])
    assert "2 of 3 files" in error.problem
    assert "UTF-16" in "".join(error.details)


def test_files_of_text_are_judged_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i}.txt").write_text(f"words {i}")
    (folder / "bad.txt").write_bytes("caf\u00e9 au lait".encode("latin-1"))
    assert "1 of 31 rows" in refused(tmp_path, [folder]).problem
    assert indexed(tmp_path, [folder], max_bad=0.05).summary.documents == 30


def test_many_domains_are_told_and_an_address_is_none(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "source": f"https://site{i % 3}.org/{i}"} for i in range(400)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    found = indexed(tmp_path, [path])
    assert found.summary.domains == {"a": 400}
    assert "`source` of a.jsonl names no domains" in found.summary.notes[0]
    hosts = indexed(tmp_path, [path], domain_key={"host": "source"})
    assert set(hosts.summary.domains) == {"site0.org", "site1.org", "site2.org"}
    assert hosts.summary.notes == []
    asked = indexed(tmp_path, [path], domain_key="source")
    assert len(asked.summary.domains) == 400
    assert "400 domains, 400 of one document" in asked.summary.notes[0]


def test_bytes_after_compressed_data_are_told(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "crlf.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "x"}\n') + b"\r\n")
    found = indexed(tmp_path, [path])
    assert found.summary.documents == 1
    assert "crlf.jsonl.gz: 2 bytes after the end" in found.summary.notes[0]


def test_keys_that_were_asked_for_and_that_no_row_has(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", texts(9, kind="x"))
    second = write_rows(tmp_path / "b.jsonl", texts(9, "body"))
    entry = {"path": str(second), "text_key": "body", "domain_key": "topic"}
    with pytest.raises(DataError) as caught:
        indexed(tmp_path, [first], domain_key="topic")
    assert "kind" in caught.value.fix
    from mlxprune.config.data import Data
    from mlxprune.data.indexing import build_index
    from mlxprune.data.sources import find_sources

    data = Data.model_validate({"paths": [str(first), entry]})
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="no row has the key 'topic'"):
        build_index(data, find_sources(data), tmp_path / "out")


def test_in_a_folder_too_bytes_go_before_names(tmp_path: Path) -> None:
    """And what is no file, or our own configuration, is left out and told."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text('{"text": "x"}\n{"text": "y"}\n')
    (folder / "c.jsonl").symlink_to(tmp_path / "nowhere")
    import os

    os.mkfifo(folder / "d.jsonl")
    found = indexed(tmp_path, [folder])
    assert found.summary.documents == 4
    assert found.summary.files_left_out == {"a link to nothing": 1, "not a regular file": 1}
    texts_of = tmp_path / "texts"
    texts_of.mkdir()
    (texts_of / "a.txt").write_text("words")
    (texts_of / "b.txt").write_bytes("wide words".encode("utf-16-le"))
    (texts_of / "mine.yaml").write_text("version: 1\ndata:\n  paths: [.]\n")
    (texts_of / "other.yaml").write_text("key: value\n")
    found = indexed(tmp_path, [texts_of])
    assert found.summary.documents == 2
    assert found.summary.files_left_out == {"UTF-16 text": 1, "a configuration of mlxprune": 1}


def test_a_packed_file_that_ends_early_is_told_in_plain_words(tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("words")
    (folder / "b.txt.gz").write_bytes(gzip.compress(b"some words " * 50)[:-9])
    error = refused(tmp_path, [folder])
    assert error.problem == "the compressed file ends early"


def test_a_note_about_the_data_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text(json.dumps(texts(9), indent=1))
    (tmp_path / "data" / "dataset_info.json").write_text('{"description": "words"}')
    assert indexed(tmp_path, [tmp_path / "data"]).summary.documents == 9


def test_a_file_that_two_entries_name_is_read_once_and_told(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", texts(5))
    found = indexed(tmp_path, [path, tmp_path])
    assert found.summary.documents == 5
    assert found.summary.files_left_out == {"named by an entry before, too": 1}


def test_a_full_disk_is_not_the_inputs_fault(tmp_path: Path) -> None:
    """The limit of the size of a file stands in for the disk."""
    import subprocess
    import sys

    path = write_rows(tmp_path / "a.jsonl", texts(20_000))
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from mlxprune.testing.corpora import indexed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "indexed(Path(sys.argv[1]), [Path(sys.argv[2])])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "OSError" in done.stderr.splitlines()[-1]
    assert "check its permissions" not in done.stderr
