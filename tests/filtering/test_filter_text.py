"""New text through the study's reference and cuts: whole studies, filtered by."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import mlxprune
from mlxprune.config.data import Data
from mlxprune.config.loading import validate_config
from mlxprune.errors import DataError, UsageError
from mlxprune.filtering import blocks, filter_text
from mlxprune.filtering.filter_text import is_finished
from mlxprune.filtering.result import stability_index
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.selection.metric import metric_values
from mlxprune.selection.selector import apply_slice
from mlxprune.testing import tiny


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that little text has many."""
    monkeypatch.setattr(blocks, "LEAST_BYTES", 8_000)
    monkeypatch.setattr(blocks, "MOST_BYTES", 8_000)
    monkeypatch.setattr(blocks, "LINES_TOGETHER", 16)


def scores_in(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows of all score files, by source and row."""
    paths = sorted((out / "scores").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    found = {(row["source"], row["row"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def kept_lines(out: Path) -> list[bytes]:
    lines: list[bytes] = []
    for path in sorted((out / "kept").glob("*.jsonl.zst")):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        lines += data.splitlines(keepends=True)
    return lines


def corpus_of(run: RunFolder) -> Path:
    return Path(json.loads((run.corpus / "sources.json").read_text())[0]["path"]).parent


def pool_of(run: RunFolder, choice: Any = None) -> tuple[Any, Any, list[tuple[str, int]]]:
    """(the slice, its scores, source and row of each)."""
    held = mlxprune.open_run(run.path)
    choice = choice or held.config.slices[0]
    scores = held.scores(choice)
    table = pq.read_table(held.run.corpus / "documents.parquet").to_pydict()
    places = dict(zip(table["key"], zip(table["source"], table["row"], strict=True), strict=True))
    return choice, scores, [places[key] for key in scores.key.tolist()]


def test_the_studys_own_documents_score_and_fall_as_in_the_study(
    tiny_run: RunFolder, tmp_path: Path
) -> None:
    """To a millionth, and on the same side of a cut unless they lie within that of it."""
    corpus = corpus_of(tiny_run)
    result = mlxprune.filter([str(corpus)], tmp_path / "out", run=tiny_run.path)
    found = scores_in(tmp_path / "out")
    assert len(found) == result.account.rows == 240
    choice, scores, places = pool_of(tiny_run)
    kept = mlxprune.open_run(tiny_run.path).kept(choice)
    edges = [metric_values(scores, choice)[kept].min(), metric_values(scores, choice)[~kept].max()]
    for at, place in enumerate(places):
        row = found[place]
        assert row["nll_sum"] == pytest.approx(scores.nll_sum[at], rel=1e-6)
        assert row["num_tokens"] == scores.num_tokens[at]
        near = any(abs(row["figure"] / edge - 1) < 1e-6 for edge in edges)
        assert row["kept"] == kept[at] or near
    lines = {(p.name, i): line for p in sorted(corpus.glob("*.jsonl"))
             for i, line in enumerate(p.read_bytes().splitlines(keepends=True))}  # fmt: skip
    assert kept_lines(tmp_path / "out") == [lines[p] for p, row in found.items() if row["kept"]]
    assert result.whole.kept_documents == len(kept_lines(tmp_path / "out")) > 20


def files_in(out: Path) -> dict[str, bytes]:
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for name in ("kept", "scores")
        for p in sorted((out / name).iterdir())
    } | {"filter.json": (out / "filter.json").read_bytes()}


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_bytes(tiny_run: RunFolder, tmp_path: Path) -> None:
    data = [str(corpus_of(tiny_run))]
    for workers in (1, 3):
        mlxprune.filter(data, tmp_path / str(workers), run=tiny_run.path, workers=workers)
    assert len(files_in(tmp_path / "1")) > 10
    assert files_in(tmp_path / "1") == files_in(tmp_path / "3")


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_cut_short_goes_on_and_ends_with_the_same_bytes(
    exact: bool, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [str(corpus_of(tiny_run))]
    options: dict[str, Any] = {"run": tiny_run.path, "exact": exact, "workers": 1}
    mlxprune.filter(data, tmp_path / "whole", **options)
    out = tmp_path / "cut"
    calls = 0

    emit = filter_text.Progress

    def dying(**fields: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (2, 4, 7):
            raise KeyboardInterrupt
        return emit(**fields)

    monkeypatch.setattr(filter_text, "Progress", dying)
    stops = 0
    while not (out / "filter.json").exists():
        try:
            mlxprune.filter(data, out, **options)
        except KeyboardInterrupt:
            stops += 1
            assert stops < 5
    assert stops >= 2
    assert files_in(out) == files_in(tmp_path / "whole")
    assert not (out / "work").exists()


@pytest.mark.slow
def test_an_exact_rate_is_that_of_the_new_text(tiny_run: RunFolder, tmp_path: Path) -> None:
    """As a slice of a study would be cut, held against the slice over the same scores."""
    data = [str(corpus_of(tiny_run))]
    result = mlxprune.filter(data, tmp_path / "out", run=tiny_run.path, exact=True, rate="0.3")
    found = list(scores_in(tmp_path / "out").values())
    assert result.cut == "exact"
    from mlxprune.config.slices import Slice
    from mlxprune.scoring.score_file import Scores

    column = {
        n: np.array([row[n] for row in found]) for n in ("nll_sum", "num_tokens", "num_bytes")
    }
    keys = np.array([row["key"] for row in found], np.uint64)
    scores = Scores(keys, column["nll_sum"], column["num_tokens"], column["num_bytes"])
    choice = Slice(criterion="high", rate="0.3", unit="tokens")  # type: ignore[arg-type]
    kept = apply_slice(scores, choice, 0).mask
    assert [row["kept"] for row in found] == kept.tolist()
    assert len(kept_lines(tmp_path / "out")) == kept.sum()
    assert result.whole.share == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_rows_of_other_containers_keep_their_columns(tiny_run: RunFolder, tmp_path: Path) -> None:
    rows = [json.loads(x) for x in (corpus_of(tiny_run) / "prose.jsonl").read_text().splitlines()]
    table = pa.table(
        {"text": [r["text"] for r in rows], "domain": ["prose"] * len(rows),
         "more": pa.array([[i] for i in range(len(rows))], pa.list_(pa.int16()))}
    )  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=30)
    (tmp_path / "b.json").write_text(json.dumps([{**r, "n": 1} for r in rows[:30]], indent=1))
    (tmp_path / "c.jsonl.gz").write_bytes(
        gzip.compress(b"".join(json.dumps(r).encode() + b"\n" for r in rows[:30]))
    )
    data = Data.model_validate(
        {"paths": [str(tmp_path / n) for n in ("a.parquet", "b.json", "c.jsonl.gz")]}
    )
    result = mlxprune.filter(data, tmp_path / "out", run=tiny_run.path)
    found = scores_in(tmp_path / "out")
    tables = [pq.read_table(p) for p in sorted((tmp_path / "out" / "kept").glob("*.parquet"))]
    kept = sorted(row for (source, row), r in found.items() if source == "a.parquet" and r["kept"])
    assert pa.concat_tables(tables).equals(table.take(kept))
    lines = [json.loads(line) for line in kept_lines(tmp_path / "out")]
    assert [line for line in lines if "n" in line] == [
        {**rows[row], "n": 1}
        for (source, row), r in sorted(found.items()) if source == "b.json" and r["kept"]
    ]  # fmt: skip
    assert result.account.rows == len(rows) + 60
    alike = [r["nll_sum"] for (_, row), r in found.items() if row == 7]  # one text, three files
    assert alike == pytest.approx([alike[0]] * 3, rel=1e-6)


@pytest.mark.slow
def test_every_row_is_accounted_for(tiny_run: RunFolder, tmp_path: Path) -> None:
    rows = (corpus_of(tiny_run) / "code.jsonl").read_bytes().splitlines(keepends=True)
    bad = [b'{"text": ""}\n', b"{broken\n", b'{"text": null}\n', b'{"text": "\\ud800"}\n', b"\n"]
    (tmp_path / "new.jsonl").write_bytes(b"".join([*rows[:40], *bad, *rows[40:]]))
    data = Data.model_validate({"paths": [str(tmp_path / "new.jsonl")], "max_bad": 0.1})
    result = mlxprune.filter(data, tmp_path / "out", run=tiny_run.path)
    assert result.account.adds_up
    assert result.account.rows == len(rows) + 4
    assert result.account.skipped == {
        "bad_json": 1, "empty_text": 1, "invalid_unicode": 1, "null_text": 1,
    }  # fmt: skip
    told = [json.loads(x) for x in (tmp_path / "out" / "bad-rows.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"]) for row in told] == [
        (40, "empty_text"), (41, "bad_json"), (42, "null_text"), (43, "invalid_unicode"),
    ]  # fmt: skip
    strict = data.model_copy(update={"max_bad": 0.001})
    with pytest.raises(DataError, match="max_bad"):
        mlxprune.filter(strict, tmp_path / "strict", run=tiny_run.path)
    assert not (tmp_path / "strict" / "filter.json").exists()
    wrong = data.model_copy(update={"text_key": ("body",)})
    with pytest.raises(DataError, match="no row has the text key 'body'"):
        mlxprune.filter(wrong, tmp_path / "wrong", run=tiny_run.path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_slices_of_every_kind_cut_their_own_study(
    number: int, several: RunFolder, tmp_path: Path
) -> None:
    """Two models where a slice needs two, token bytes where it needs none, groups and floors."""
    held = mlxprune.open_run(several.path)
    choice = held.config.slices[number]
    out = tmp_path / "out"
    data = [str(corpus_of(several))]
    result = mlxprune.filter(data, out, run=several.path, slice_name=choice.label)
    found = scores_in(out)
    _, scores, places = pool_of(several, choice)
    values, kept = metric_values(scores, choice), held.kept(choice)
    ours = np.array([found[place]["figure"] for place in places])
    assert np.allclose(ours, values, rtol=1e-5, atol=1e-6)
    differ = np.flatnonzero(np.array([found[place]["kept"] for place in places]) != kept)
    domain = scores.domain if choice.by != "corpus" or choice.bounded else np.zeros(len(values))
    for at in differ:  # within a millionth of a cut of its group, or as short as it is long
        mine = domain == domain[at]
        edges = values[mine & kept], values[mine & ~kept]
        nearest = min(
            np.abs(np.concatenate(edges)[np.concatenate(edges) != values[at]] - values[at])
        )
        assert nearest < 2e-5, (choice.label, at)
    assert result.notes


@pytest.mark.slow
def test_domains_that_the_study_never_saw(several: RunFolder, tmp_path: Path) -> None:
    rows = [json.loads(x) for x in (corpus_of(several) / "prose.jsonl").read_text().splitlines()]
    lines = [json.dumps({**r, "domain": "letters"}) for r in rows[:40]]
    (tmp_path / "new.jsonl").write_text("\n".join([*lines, *map(json.dumps, rows[:20])]) + "\n")
    label = "high-50-by-domain-progress"
    share = {}
    for policy in ("whole", "keep", "drop"):
        result = mlxprune.filter(
            [str(tmp_path / "new.jsonl")], tmp_path / policy, run=several.path, slice_name=label,
            new_domains=policy,
        )  # fmt: skip
        by_name = {row.domain: row for row in result.domains}
        share[policy] = by_name["letters"].share
        assert result.new_domains == ["letters"]
        assert by_name["letters"].study_share is None
        assert by_name["prose"].study_share is not None
        assert any("never saw" in note for note in result.notes)
    assert (share["keep"], share["drop"]) == (1.0, 0.0)


@pytest.mark.slow
def test_cross_scoring_filters_by_its_first_fold(crossed: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = mlxprune.filter([str(corpus_of(crossed))], out, run=crossed.path)
    choice, scores, places = pool_of(crossed)
    found, mine = scores_in(out), np.flatnonzero(scores.fold == 0)
    kept = mlxprune.open_run(crossed.path).kept(choice)
    assert any("first fold" in note for note in result.notes)
    for at in mine.tolist():
        assert found[places[at]]["nll_sum"] == pytest.approx(scores.nll_sum[at], rel=1e-6)
    agree = [found[places[at]]["kept"] == kept[at] for at in mine.tolist()]
    assert np.mean(agree) > 0.95


@pytest.mark.slow
def test_a_model_and_a_range_alone(tiny_run: RunFolder, tmp_path: Path) -> None:
    model = str(tiny_run.reference())
    data = [str(corpus_of(tiny_run))]
    result = mlxprune.filter(data, tmp_path / "out", model=model, least=20, most=60.5)
    found = scores_in(tmp_path / "out").values()
    for row in found:
        assert row["kept"] == (20 <= row["perplexity"] <= 60.5)
    assert 0 < result.whole.kept_documents < len(found)
    bits = mlxprune.filter(data, tmp_path / "bits", model=model, most=3, metric="bpb")
    for row in scores_in(tmp_path / "bits").values():
        assert row["kept"] == (row["nll_sum"] / np.log(2) / row["num_bytes"] <= 3)
    assert bits.whole.study_share is None


@pytest.mark.slow
def test_what_cannot_be_is_told_and_nothing_is_touched(tiny_run: RunFolder, tmp_path: Path) -> None:
    data = [str(corpus_of(tiny_run))]
    model = str(tiny_run.reference())
    for words, what in (
        ({}, "nothing to filter by"), ({"run": tiny_run.path, "model": model}, "are two"),
        ({"model": model}, "no cut"), ({"run": tiny_run.path, "rate": "0.2"}, "exact"),
        ({"run": tiny_run.path, "exact": True, "rate": "7"}, "no rate"),
        ({"run": tiny_run.path, "slice_name": "low-1"}, "no slice"),
        ({"run": tiny_run.path, "new_domains": "burn"}, "burn"),
        ({"run": tiny_run.path, "least": 3}, "for a model alone"),
        ({"run": tiny_run.path, "compress": "lzw"}, "lzw"),
    ):  # fmt: skip
        with pytest.raises((UsageError, DataError), match=what):
            mlxprune.filter(data, tmp_path / "new", **words)  # type: ignore[arg-type]
        assert not (tmp_path / "new").exists()
    mlxprune.filter(data, tmp_path / "out", run=tiny_run.path)
    again = mlxprune.filter(data, tmp_path / "out", run=tiny_run.path)  # says what it said
    assert again.whole.kept_documents > 0
    with pytest.raises(UsageError, match="other filtered text"):
        mlxprune.filter(data, tmp_path / "out", run=tiny_run.path, exact=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        mlxprune.filter(data, tmp_path / "mine", run=tiny_run.path)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_an_exact_rate_holds_among_copies(tiny_run: RunFolder, tmp_path: Path) -> None:
    """Copies have one figure and one key; where they stand tells them apart."""
    row = (corpus_of(tiny_run) / "prose.jsonl").read_bytes().splitlines()[0]
    text = json.dumps({"text": json.loads(row)["text"]}).encode()
    (tmp_path / "new.jsonl").write_bytes(b"\n".join([text] * 600))
    result = mlxprune.filter(
        [str(tmp_path / "new.jsonl")], tmp_path / "out", run=tiny_run.path, exact=True, rate="0.25"
    )
    assert result.whole.kept_documents == 150


@pytest.mark.slow
def test_data_that_change_under_way_are_other_data(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a file, where neither its size nor its ends say so."""
    path = tmp_path / "new.jsonl"
    path.write_bytes((corpus_of(tiny_run) / "prose.jsonl").read_bytes())

    def dies(**fields: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(filter_text, "Progress", dies)
        mlxprune.filter([str(path)], tmp_path / "out", run=tiny_run.path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"the", b"eht"))
    with pytest.raises(UsageError, match="half filtered"):
        mlxprune.filter([str(path)], tmp_path / "out", run=tiny_run.path)
    with pytest.raises(UsageError, match="inside the data"):
        mlxprune.filter([str(tmp_path)], tmp_path / "more" / "out", run=tiny_run.path)


@pytest.mark.slow
def test_a_soft_slice_has_no_cut(tiny_corpus: Path, tmp_path: Path) -> None:
    tree = tiny.tiny_config(tiny_corpus)
    tree["selection"] = {"criterion": "soft", "centre": 0.5, "rate": 0.5}
    run = RunFolder(tmp_path / "run")
    run_study(validate_config(tree, "test"), run, until="selection")
    for exact in (False, True):
        with pytest.raises(DataError, match="drawn by lot"):
            mlxprune.filter([str(tiny_corpus)], tmp_path / "out", run=run.path, exact=exact)


@pytest.mark.slow
def test_the_command_reads_new_files_as_they_are(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    """Their keys are found, what is left out is told, and --json is one object."""
    rows = [json.loads(x) for x in (corpus_of(tiny_run) / "prose.jsonl").read_text().splitlines()]
    folder = tmp_path / "new"
    folder.mkdir()
    lines = [json.dumps({"uuid": r["id"], "content": r["text"]}) for r in rows]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "notes.txt").write_text("about these files")
    words = ["filter", str(tiny_run.path), "--data", str(folder), "--out", str(tmp_path / "out")]
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["account"]["rows"] == len(rows)
    assert any("notes.txt" in note for note in told["notes"])
    done = command(*words)
    assert f"{len(rows):,} rows: used" in done.stdout
    assert "kept text:" in done.stdout
    shutil.rmtree(tmp_path / "out")


def test_the_index_of_stability_is_that_of_its_formula() -> None:
    even = [0, *[3] * 100, 0]
    assert stability_index(even) == pytest.approx(0)
    places = [5, *[1] * 50, *[3] * 50, 10]
    counts = np.array([15, 10, 10, 10, 10, 30, 30, 30, 30, 40], float)
    shares = counts / counts.sum()
    assert stability_index(places) == pytest.approx(
        float(((shares - 0.1) * np.log(shares / 0.1)).sum())
    )


def test_a_start_that_was_killed_before_its_first_word_is_no_obstacle(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "events").mkdir(parents=True)
    (out / ".lock").touch()
    (out / "lock.partial").touch()
    assert not is_finished(out, "identity")
    (out / "mine.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        is_finished(out, "identity")
