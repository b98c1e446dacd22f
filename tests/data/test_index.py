"""The corpus index: ids, keys, duplicates, limits on bad rows, constant memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.data.hashing import hash_text, mix
from mlxprune.data.index import Corpus
from mlxprune.data.indexing import input_facts, verify_inputs
from mlxprune.errors import DataError
from mlxprune.files import full_hash, read_json
from mlxprune.run.folder import RunFolder
from mlxprune.testing.corpora import indexed, write_rows


def ids(found: Corpus) -> list[str]:
    return pq.read_table(found.folder / "documents.parquet").column("id").to_pylist()


def test_copies_are_numbered_and_other_texts_are_marked(tmp_path: Path) -> None:
    """Also when the user's own ids look like ours."""
    rows = [
        {"id": "a", "text": "x"},
        {"id": "a", "text": "x"},
        {"id": "a-2", "text": "x"},
        {"id": "a", "text": "other"},
        {"id": "a", "text": "other"},
        {"id": "a", "text": "x"},
    ]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    other = f"a#{hash_text('other') & 0xFFFFFFFF:08x}"
    assert ids(found) == ["a", "a-3", "a-2", other, f"{other}-2", "a-4"]
    assert len(set(found.index["key"].tolist())) == 6
    assert found.summary.duplicate_ids == 4
    assert found.summary.duplicate_texts == 4


def test_a_number_and_its_text_stay_two_documents(tmp_path: Path) -> None:
    rows = [{"id": 0, "text": "same"}, {"id": "0", "text": "same"}, {"id": 0.5, "text": "z"}]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    assert ids(found) == ["0", "0-2", "0.5"]


def test_missing_ids_come_from_the_text(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"id": None, "text": "two"}, {"text": "one"}]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)])
    first = f"{hash_text('one'):016x}"
    assert ids(found) == [first, f"{hash_text('two'):016x}", f"{first}-2"]


def test_the_order_of_the_input_changes_nothing(tmp_path: Path) -> None:
    paths = [
        write_rows(
            tmp_path / f"{n}.jsonl", [{"id": f"{n}{i}", "text": f"{n} {i}"} for i in range(5)]
        )
        for n in "cab"
    ]
    first, second = indexed(tmp_path, paths), indexed(tmp_path, paths[::-1])
    assert np.array_equal(first.index, second.index)
    assert ids(first) == ids(second)


def test_keys_do_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": f"text {i}"} for i in range(9)]
    places = [tmp_path / "here", tmp_path / "there" / "deep"]
    for place in places:
        place.mkdir(parents=True)
        write_rows(place / "a.jsonl", rows)
    here, there = (indexed(tmp_path, [p / "a.jsonl"]) for p in places)
    assert np.array_equal(here.index["key"], there.index["key"])


def test_duplicates_can_be_dropped(tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": f"text {i % 3}"} for i in range(9)]
    found = indexed(tmp_path, [write_rows(tmp_path / "a.jsonl", rows)], duplicates="drop")
    assert ids(found) == ["0", "1", "2"]
    assert found.summary.skipped == {"duplicate_text": 6}
    assert [text for _, text in found.texts()] == ["text 0", "text 1", "text 2"]


def test_bad_rows_are_counted_kept_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = "".join(f'{{"text": "good {i}"}}\n' for i in range(98))
    path.write_text(good + '{"text": 5}\n{broken\n{"text": ""}\n{"text": null}\n')
    with pytest.raises(DataError) as caught:
        indexed(tmp_path, [path])
    assert "2 of 102 rows are bad" in caught.value.problem
    found = indexed(tmp_path, [path], max_bad=0.02)
    assert found.summary.skipped == {
        "bad_json": 1, "empty_text": 1, "null_text": 1, "text_not_a_string": 1,
    }  # fmt: skip
    bad = list(map(json.loads, (found.folder / "bad-rows.jsonl").read_text().splitlines()))
    assert [(b["row"], b["reason"]) for b in bad][:2] == [
        (98, "text_not_a_string"),
        (99, "bad_json"),
    ]


def test_a_wrong_text_key_lists_the_keys_there_are(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"body": "x", "id": "1"}] * 3)
    with pytest.raises(DataError) as caught:
        indexed(tmp_path, [path])
    assert "body" in caught.value.fix


@pytest.mark.parametrize("key", ["group_key", "domain_key", "id_key"])
def test_a_key_that_no_row_has_is_an_error(key: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": "x", "site": None, "id": "1"}] * 3)
    with pytest.raises(DataError) as caught:
        indexed(tmp_path, [path], **{key: "sight"})
    assert "site" in caught.value.fix
    indexed(tmp_path, [path], **{key: "site"})  # there, if null


def test_no_documents_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    with pytest.raises(DataError) as caught:
        indexed(tmp_path, [path])
    assert caught.value.exit_code == 2


def test_texts_come_back_and_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(20)])
    found = indexed(tmp_path, [path])
    wanted = np.zeros(20, bool)
    wanted[[3, 17]] = True
    assert list(found.texts(wanted)) == [(3, "text 3"), (17, "text 17")]
    write_rows(path, [{"text": f"text {i}" if i != 17 else "changed"} for i in range(20)])
    with pytest.raises(DataError):
        list(found.texts(wanted))
    write_rows(path, [{"text": "text 0"}])
    with pytest.raises(DataError):
        list(found.texts(wanted))


def test_a_changed_time_leads_to_verification_not_to_work(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(20)])
    found = indexed(tmp_path, [path])
    os.utime(path, (1, 1))
    verify_inputs(found.folder, found.sources, input_facts(found.sources))
    path.write_text(path.read_text().replace("text 7", "text 8"))
    with pytest.raises(DataError):
        verify_inputs(found.folder, found.sources, input_facts(found.sources))


MEMORY_PROBE = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from mlxprune.config.data import Data
from mlxprune.data.indexing import build_index
from mlxprune.data.sources import find_sources
pa.set_memory_pool(pa.system_memory_pool())
data = Data(paths=[sys.argv[1]])
out = Path(sys.argv[2]); out.mkdir()
build_index(data, find_sources(data), out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_memory_is_a_constant_plus_64_bytes_a_document(tmp_path: Path) -> None:
    """1x and 10x: what ten times the documents add is at most 64 bytes for each."""
    counts, peaks = (150_000, 1_500_000), []
    for count in counts:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as out:
            for i in range(count):
                out.write(f'{{"id": "document-{i:09d}", "text": "{"word " * 20}{i}"}}\n')
        command = [sys.executable, "-c", MEMORY_PROBE, str(path), str(tmp_path / f"i{count}")]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    grown = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    print(f"{grown:.1f} bytes a document")
    assert grown <= 64


def test_the_mix_is_seeded_and_a_bijection() -> None:
    hashes = np.random.default_rng().integers(0, 2**64, 10_000, np.uint64)
    mixed = mix(hashes, 1)
    assert len(np.unique(mixed)) == len(np.unique(hashes))
    assert not np.array_equal(mixed, mix(hashes, 2))
    assert abs(float(mixed.astype(np.float64).mean()) / 2**64 - 0.5) < 0.02


def test_files_json_notes_the_full_hash(tiny_run: RunFolder) -> None:
    files = read_json(tiny_run.corpus / "files.json")
    sources = read_json(tiny_run.corpus / "sources.json")
    assert full_hash(Path(sources[0]["path"])) == files[0]["full"]


def test_a_long_text_is_hashed_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, cut where a word ends: the hashes that a short text has."""
    import random

    from mlxprune.data import hashing

    draw = random.Random()
    letters = [*"ab \n\t\u00a0\u2003\u0308\u0301e\u00e9\u212b\u1100\u1161\u11a8\U0001f600", "  "]
    for _ in range(2000):
        text = "".join(draw.choices(letters, k=draw.randint(0, 50)))
        whole = hashing.normalised(text)
        expected = (hashing.hash_text(text), hashing.hash_text(whole), len(text.encode()))
        for size in (1, 3, 8, 1000):
            monkeypatch.setattr(hashing, "PIECE_CHARACTERS", size)
            assert hashing.hash_document(text) == expected, (size, text)
