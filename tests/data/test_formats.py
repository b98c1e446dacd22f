"""What a file is, by its bytes; its name decides only where bytes cannot."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.data.formats import format_of
from mlxprune.errors import DataError

ROWS = [{"id": i, "text": f"text {i}", "turns": [{"a": 1}]} for i in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def test_names_say_nothing_where_bytes_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "table")
    (tmp_path / "table.txt").write_bytes((tmp_path / "table").read_bytes())
    (tmp_path / "lines").write_bytes(LINES)
    (tmp_path / "lines.txt").write_bytes(gzip.compress(LINES))
    assert [format_of(tmp_path / n).form for n in ("table", "table.txt")] == ["parquet", "parquet"]
    assert [format_of(tmp_path / n).form for n in ("lines", "lines.txt")] == ["jsonl", "jsonl"]


@pytest.mark.parametrize(
    ("text", "form", "inside"),
    [
        (json.dumps(ROWS), "json", "array"),
        (json.dumps(ROWS, indent=2), "json", "array"),
        ("\ufeff" + json.dumps(ROWS, indent=1), "json", "array"),
        (json.dumps({"version": [1], "data": ROWS}), "json", "lists"),
        (json.dumps({"rows": ROWS}, indent=4), "json", "lists"),
        ("\n".join(json.dumps(row, indent=2) for row in ROWS), "json", ""),
        (json.dumps(ROWS[0]), "jsonl", ""),
        (LINES.decode(), "jsonl", ""),
        ('{"text": "broken\n' + LINES.decode(), "jsonl", ""),
        ('[1]\n[2]\n', "jsonl", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a"])
def test_the_forms_of_json(text: str, form: str, inside: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = format_of(path)
    assert (found.form, found.inside) == (form, inside)


def test_a_large_array_is_known_by_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 900, "n": i} for i in range(300)], indent=2))
    assert (format_of(path).form, format_of(path).inside) == ("json", "array")
    path.write_text(json.dumps({"text": "y" * 300_000}, indent=2) * 2)
    assert (format_of(path).form, format_of(path).inside) == ("json", "")


def test_tables_by_name_or_by_a_header_with_a_key_of_text(tmp_path: Path) -> None:
    rows = 'id,text\n1,"one, two"\n2,three\n'
    for name, data, form in (
        ("a.csv", rows, "csv"),
        ("a.csv.gz", gzip.compress(rows.encode()), "csv"),
        ("a.tsv", "id\ttext\n1\tx\n", "tsv"),
        ("nameless", rows, "csv"),
        ("nameless-tabs", "id\ttext\n1\tx\n2\ty\n", "tsv"),
        ("a.txt", rows, "text"),
        ("prose", "Dear Sir, the content, as they say,\nis here.\nYours\n", "text"),
    ):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        assert format_of(path).form == form, name


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        made.addfile(tarfile.TarInfo("a.txt"))
    return out.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (POINTER, "Git LFS pointer"),
        (LINES.decode().encode("utf-16"), "UTF-16"),
        (LINES.decode().encode("utf-16-le"), "UTF-16"),
        (zipped("a.txt"), "zip archive"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "Excel"),
        (zipped("archive/data.pkl"), "pickled"),
        (b"%PDF-1.7\n" + bytes(range(60, 200)), "PDF"),
        (b"<!DOCTYPE html>\n<html><body>x</body></html>", "HTML"),
        (b'<?xml version="1.0"?><a/>', "XML"),
        (pickle.dumps(ROWS), "pickled"),
        (tarred(), "tar archive"),
        (gzip.compress(tarred()), "tar archive"),
        (b"SQLite format 3\0" + bytes(80), "SQLite"),
        (b"\x93NUMPY\x01\0" + bytes(60), "NumPy"),
        (bytes(range(32)) * 40, "binary"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a"])
def test_what_is_not_read_is_named_for_what_it_is(
    data: bytes, what: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = format_of(path)
    assert found.form == ""
    assert what in found.what
    assert found.fix


def test_a_parquet_file_must_be_one_and_not_be_packed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    (tmp_path / "c.parquet").write_text("text\n")
    assert "compressed Parquet" in format_of(tmp_path / "b.parquet.gz").what
    assert "no Parquet" in format_of(tmp_path / "c.parquet").what
    with pytest.raises(DataError):
        format_of(tmp_path / "nothing")


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        (tmp_path / name).touch()
        assert format_of(tmp_path / name).form in ("jsonl", "csv")


@pytest.mark.parametrize("name", ["a.json", "a"])
def test_a_cut_through_a_character_is_still_a_cut(name: str, tmp_path: Path) -> None:
    """Wherever the part ends that is looked at."""
    whole = json.dumps([{"text": "x\U0001f600é" * 9}]).encode()
    plain = json.dumps([{"text": "x\U0001f600é" * 9}], ensure_ascii=False).encode()
    path = tmp_path / name
    for data in (whole, plain):
        for less in range(3, 40):
            path.write_bytes(data[:-less])
            assert format_of(path).form == "json", data[:-less][-20:]
