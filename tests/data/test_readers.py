"""Files to rows: every codec, every awkward form, every reason to skip."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mlxprune.config.data import Data
from mlxprune.data.decompression import decompressed_chunks
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row, Skip
from mlxprune.data.sources import FoundFiles, find_sources
from mlxprune.errors import DataError

ROWS = b"".join(
    json.dumps({"id": i, "text": f"text {i} " * 50}).encode() + b"\n" for i in range(200)
)


def found_in(path: Path | str, **settings: object) -> FoundFiles:
    return find_sources(Data.model_validate({"paths": [str(path)], **settings}))


def rows_of(path: Path, **settings: object) -> list[Row | Skip]:
    return [row for source in found_in(path, **settings).sources for row in read_rows(source)]


def texts_of(path: Path, **settings: object) -> list[str]:
    return [row.text for row in rows_of(path, **settings) if isinstance(row, Row)]


CODECS = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "gz of several members": lambda d: gzip.compress(d[:5000]) + gzip.compress(d[5000:]),
    "zst": lambda data: zstandard.compress(data),
    "zst of several frames": lambda d: zstandard.compress(d[:5000]) + zstandard.compress(d[5000:]),
    "zst without content size": lambda d: zstandard.ZstdCompressor(
        write_content_size=False
    ).compress(d),
    "xz": lzma.compress,
}


@pytest.mark.parametrize("codec", CODECS)
def test_the_codec_is_sniffed_from_the_bytes(codec: str, tmp_path: Path) -> None:
    """Whatever the name says."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(CODECS[codec](ROWS))
    assert texts_of(path) == [f"text {i} " * 50 for i in range(200)]


@pytest.mark.parametrize("codec", [c for c in CODECS if c != "plain"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_compressed_file_that_ends_early_is_named(
    codec: str, share: float, tmp_path: Path
) -> None:
    path = tmp_path / "cut.jsonl"
    data = CODECS[codec](ROWS)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError) as caught:
        texts_of(path)
    assert "cut.jsonl" in caught.value.where


def test_a_zst_file_cut_between_blocks_is_an_error(tmp_path: Path) -> None:
    """The library's own stream reader ends silently here."""
    data = zstandard.ZstdCompressor(level=1).compress(bytes(range(256)) * 4000 + ROWS * 20)
    path = tmp_path / "cut.jsonl.zst"
    for cut in range(len(data) - 1, len(data) // 2, -len(data) // 7):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError):
            list(decompressed_chunks(path))


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl.gz"
    data = bytearray(gzip.compress(ROWS))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError):
        texts_of(path)


BAD_LINES = {
    b'{"text": ""}': "empty_text",
    b'{"text": " \\n\\t "}': "empty_text",
    b'{"text": null}': "null_text",
    b'{"body": "x"}': "missing_text",
    b'{"text": 5}': "text_not_a_string",
    b'{"text": ["x"]}': "text_not_a_string",
    b'{"text": "x"': "bad_json",
    b"nothing": "bad_json",
    b'"x"': "not_an_object",
    b"[1]": "not_an_object",
    b"17": "not_an_object",
    b'{"text": "\xff\xfe"}': "invalid_utf8",
    b'{"text": "a\xed\xa0\x80b"}': "invalid_utf8",
    b'{"text": "\\ud800"}': "invalid_unicode",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_every_bad_row_has_its_reason(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b'\n{"text": "good"}\n')
    good, bad, last = rows_of(path)
    assert isinstance(good, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, Skip)
    assert bad.reason == BAD_LINES[line]
    assert bad.number == 1


@pytest.mark.parametrize(
    "line", [b'{"text": "ok", "x": NaN}', b'{"text": "ok", "y": "\\ud800"}', b'{"text":"ok"}\r']
)
def test_rows_that_only_the_fast_parser_refuses_are_documents(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(line + b"\n")
    assert texts_of(path) == ["ok"]


def test_blank_lines_are_no_rows_and_only_lf_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "one\u2028two"}\n\n  \n{"text": "three"}'.encode())
    found = rows_of(path)
    assert [r.text for r in found if isinstance(r, Row)] == ["one\u2028two", "three"]
    assert [r.number for r in found] == [0, 1]


def test_parquet_reads_only_the_needed_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table(
        {
            "text": ["a", None, "c", ""],
            "id": [1, 2, 3, 4],
            "meta": [{"pile_set_name": "X", "size": 1}] * 4,
            "heavy": ["z" * 1000] * 4,
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    asked: list[list[str]] = []
    original = pq.ParquetFile.iter_batches

    def spy(self: pq.ParquetFile, *args: object, **options: object) -> object:
        asked.append(options["columns"])  # type: ignore[arg-type]
        return original(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    found = rows_of(path)
    assert [getattr(r, "reason", "ok") for r in found] == ["ok", "null_text", "ok", "empty_text"]
    assert isinstance(found[0], Row)
    assert (found[0].domain, found[0].id) == ("X", "1")
    assert asked == [["text", "id", "meta.pile_set_name"]] * 2, "the head, and all"


def test_a_parquet_file_without_the_text_column_lists_those_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "a.parquet")
    (skip,) = rows_of(tmp_path / "a.parquet")
    assert isinstance(skip, Skip)
    assert (skip.reason, skip.texts) == ("missing_text", (("body", 1),))


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for name, text in {
        "a/one.txt": "one",
        "b/two.md": "two",
        ".hidden": "no",
        "_private.txt": "no",
        "x.tmp": "no",
        "one.sha256": "no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = rows_of(tmp_path)
    assert [(r.text, r.domain, r.id) for r in found if isinstance(r, Row)] == [
        ("one", "a", "a/one.txt"),
        ("two", "b", "b/two.md"),
    ]


def test_a_folder_with_data_leaves_other_files_out_and_lists_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "dataset_info.json").write_text("{}")
    found = found_in(tmp_path)
    sources, left_out = found.sources, [left.path for left in found.left_out]
    assert [s.name for s in sources] == ["a.jsonl"]
    assert [Path(p).name for p in left_out] == ["README.md", "dataset_info.json"]


@pytest.mark.parametrize(
    ("key", "domain"),
    [("auto", "D"), ("meta.kind", "K"), ("file", "c4"), ("path:1", "sub"), ("nothing", "(none)")],
)
def test_domains(key: str, domain: str, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "c4-00001-of-00007.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"text": "x", "domain": "D", "meta": {"kind": "K"}}) + "\n")
    (row,) = rows_of(tmp_path, domain_key=key)
    assert isinstance(row, Row)
    assert row.domain == domain


@pytest.mark.parametrize("value", [None, "", [], {}, ["a"]])
def test_a_domain_that_is_none_is_named_so(value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x", "domain": value}) + '\n{"text": "y", "domain": "d"}\n')
    found = rows_of(path)
    assert [r.domain for r in found if isinstance(r, Row)] == ["(none)", "d"]


def test_dotted_keys_reach_into_objects_but_a_plain_key_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": {"b": "inner"}}\n{"a.b": "plain", "a": {"b": "inner"}}\n')
    assert texts_of(path, text_key="a.b") == ["inner", "plain"]


def test_a_parquet_row_that_is_no_text_costs_only_itself(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    found = rows_of(tmp_path / "a.parquet")
    assert [getattr(r, "reason", "ok") for r in found] == ["ok", "invalid_utf8", "ok"]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_parquet_type_of_text_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array(["eins", "zwei"]).cast(kind)
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "a.parquet")
    found = rows_of(tmp_path / "a.parquet")
    assert [(r.text, r.id) for r in found if isinstance(r, Row)] == [
        ("eins", "eins"),
        ("zwei", "zwei"),
    ]


def test_folders_with_brackets_are_folders_and_globs_know_their_levels(tmp_path: Path) -> None:
    for domain in ("law", "math"):
        folder = tmp_path / "data [1]" / domain
        folder.mkdir(parents=True)
        (folder / "x.jsonl").write_text('{"text": "x"}\n')
    assert len(rows_of(tmp_path / "data [1]")) == 2
    import glob

    pattern = Path(glob.escape(str(tmp_path / "data [1]"))) / "*" / "*.jsonl"
    found = rows_of(pattern)
    assert [r.domain for r in found if isinstance(r, Row)] == ["law", "math"]


def test_json_files_alone_are_data_and_beside_data_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "x"}\n{"text": "y"}\n')
    assert len(rows_of(tmp_path)) == 2
    (tmp_path / "b.jsonl").write_text('{"text": "z"}\n')
    assert texts_of(tmp_path) == ["z"]


def test_run_folders_are_no_data_and_links_are_followed_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "runs" / "r" / "events").mkdir(parents=True)
    (data / "runs" / "r" / "run.json").write_text("{}")
    (data / "runs" / "r" / "x.jsonl").write_text('{"text": "of a run"}\n')
    (data / "a.jsonl").write_text('{"text": "x"}\n')
    (data / "again.jsonl").symlink_to(data / "a.jsonl")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.jsonl").write_text('{"text": "y"}\n')
    (data / "linked").symlink_to(outside)
    (outside / "loop").symlink_to(data)
    assert sorted(texts_of(data)) == ["x", "y"]


def test_integers_of_any_size_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "x", "id": 100000000000000000000000000001}\n{"text": "y", "id": 1.5}\n'
    )
    found = rows_of(path)
    ids = [r.id for r in found if isinstance(r, Row)]
    assert ids == ["100000000000000000000000000001", "1.5"]


def test_a_domain_of_numbers_is_found_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "x"}] * 300 + [{"text": "x", "domain": n} for n in (0, 1, 2)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    domains = {r.domain for r in rows_of(path) if isinstance(r, Row)}
    assert domains == {"(none)", "0", "1", "2"}


def test_globs_find_files_and_say_when_they_do_not(tmp_path: Path) -> None:
    for name in ("a1.jsonl", "a2.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    sources = found_in(str(tmp_path / "a*.jsonl")).sources
    assert [s.name for s in sources] == ["a1.jsonl", "a2.jsonl"]
    with pytest.raises(DataError):
        found_in(str(tmp_path / "none*.jsonl"))
    with pytest.raises(DataError):
        found_in(str(tmp_path / "missing.jsonl"))


def test_the_hub_is_asked_for_data_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network in tests: the client's own function is watched."""
    import huggingface_hub

    (tmp_path / "data.jsonl").write_text('{"text": "x"}\n')
    asked: dict[str, object] = {}

    def fake(repo: str, **options: object) -> str:
        asked.update(repo=repo, **options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    sources = found_in("hf://datasets/org/name@main").sources
    assert [s.name for s in sources] == ["data.jsonl"]
    assert (asked["repo"], asked["repo_type"], asked["revision"]) == ("org/name", "dataset", "main")
    with pytest.raises(DataError):
        found_in("hf://models/org")


def test_the_hub_out_of_reach_is_an_error_of_three_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: object, **options: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DataError) as caught:
        found_in("hf://datasets/org/name")
    assert "HF_HUB_OFFLINE" in caught.value.fix


def test_a_pattern_finds_names_in_either_form_of_letters(tmp_path: Path) -> None:
    """A disk may hold one letter as a letter and its accent; who types has one."""
    import unicodedata

    for form, name in (("NFD", "caf\u00e9-1"), ("NFC", "caf\u00e9-2")):
        path = tmp_path / f"{unicodedata.normalize(form, name)}.jsonl"
        path.write_text('{"text": "a"}\n')
    for form in ("NFC", "NFD"):
        pattern = unicodedata.normalize(form, "caf\u00e9-*.jsonl")
        found = found_in(tmp_path / pattern).sources
        assert len(found) == 2, form


def test_an_address_of_the_hub_is_pinned_to_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on keeps the commit that it began with; another revision is asked anew."""
    import huggingface_hub

    from mlxprune.data.sources import pinned

    commits = {None: "a" * 40, "main": "b" * 40}
    asked: list[str | None] = []

    def fake(repo: str, **options: object) -> str:
        revision = options["revision"]
        asked.append(revision)  # type: ignore[arg-type]
        folder = tmp_path / "snapshots" / commits.get(revision, str(revision))  # type: ignore[call-overload]
        (folder / "part").mkdir(parents=True, exist_ok=True)
        (folder / "part" / "data.jsonl").write_text('{"text": "x"}\n')
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)

    def paths(*entries: object, before: Data | None = None) -> list[str]:
        data = Data.model_validate({"paths": [*entries]})
        return [entry.path for entry in pinned(data, before).paths]

    plain, inside = "hf://datasets/org/name", "hf://datasets/org/name/part"
    first = paths(plain, {"path": inside, "text_key": "body"}, "local.jsonl")
    assert first == [
        f"hf://datasets/org/name@{'a' * 40}", f"hf://datasets/org/name@{'a' * 40}/part",
        "local.jsonl",
    ]  # fmt: skip
    assert paths(first[0]) == first[:1]
    commits[None] = "c" * 40  # the hub has moved on
    before = Data.model_validate({"paths": first})
    asked.clear()
    assert paths(plain, before=before) == first[:1]
    assert asked == []
    assert paths(plain) == [f"hf://datasets/org/name@{'c' * 40}"]
    assert paths(f"{plain}@main", before=before) == [f"hf://datasets/org/name@{'b' * 40}"]
    assert found_in(first[1]).sources[0].path.name == "data.jsonl"
