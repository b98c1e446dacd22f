"""Slices of any scores from the command line: several at once, made elsewhere, joined to data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.cli import main
from mlxprune.run.folder import RunFolder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command line in this process: nothing here computes, and a start takes a second."""

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["mlxprune", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def elsewhere(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A score for every document of the tiny corpus: its number, by name."""
    ids, values = [], []
    for path in sorted(tiny_corpus.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            ids.append(json.loads(line)["id"])
            values.append(float(ids[-1].rpartition("-")[2]))
    path = tmp_path / "elsewhere.parquet"
    pq.write_table(pa.table({"id": ids[::-1], "quality": values[::-1]}), path)
    return path


def test_several_slices_come_from_one_pass(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "out"
    done = command(
        "select", str(tiny_run.scores()), "--out", str(out), "--json", "--criterion", "low",
        "--criterion", "high", "--rate", "0.25", "--rate", "0.5", "--band", "0.4,0.6",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["slices"]
    assert set(found) == {"low-25", "low-50", "high-25", "high-50", "band-40-60"}
    assert {p.name for p in out.iterdir()} == set(found)
    for name, facts in found.items():
        kept = pq.read_table(out / name / "kept.parquet")
        assert kept.num_rows == facts["kept_documents"]
        assert kept.column_names == ["key", "id", "source", "row", "rank"]
    assert {r["domain"] for r in found["low-25"]["domains"]} == {"code", "numbers", "prose"}


def test_scores_made_elsewhere_are_joined_to_their_data(
    elsewhere: Path, tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "out"
    done = command(
        "select", str(elsewhere), "--score", "quality", "--out", str(out), "--rate", "0.1",
        "--by", "domain", "--data", str(tiny_corpus), "--domain-key", "domain", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["missing"] == {"in_data_only": 0, "in_scores_only": 0}
    kept = pq.read_table(out / "kept.parquet").to_pydict()
    expected = {f"{d}-{n}" for d in ("code", "numbers", "prose") for n in range(72, 80)}
    assert set(kept["id"]) == expected
    for identity, source, row in zip(kept["id"], kept["source"], kept["row"], strict=True):
        line = (tiny_corpus / Path(source).name).read_text().splitlines()[row]
        assert json.loads(line)["id"] == identity


def test_documents_on_one_side_only_are_counted_named_and_refused_above_a_limit(
    elsewhere: Path, tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    table = pq.read_table(elsewhere)
    less = pa.concat_tables([table.slice(5), pa.table({"id": ["ghost"], "quality": [1.0]})])
    path = tmp_path / "less.parquet"
    pq.write_table(less, path)
    arguments = ["select", str(path), "--score", "quality", "--data", str(tiny_corpus)]
    done = command(*arguments, "--out", str(tmp_path / "a"))
    assert done.returncode == 2
    gone = table.column("id").slice(0, 5).to_pylist()
    assert any(name in done.stderr for name in gone)
    assert "5 of 240" in done.stderr
    assert not (tmp_path / "a").exists()
    done = command(*arguments, "--out", str(tmp_path / "b"), "--max-missing", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["missing"] == {"in_data_only": 5, "in_scores_only": 1}
    assert facts["pool_documents"] == 235
    kept = pq.read_table(tmp_path / "b" / "kept.parquet").column("id").to_pylist()
    assert not {"ghost", *gone} & set(kept)


def test_other_data_are_refused(elsewhere: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "other.jsonl").write_text('{"id": "x", "text": "y"}\n')
    done = command(
        "select", str(elsewhere), "--score", "quality", "--out", str(tmp_path / "o"),
        "--data", str(tmp_path / "other.jsonl"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "no document of the data is scored" in done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--rate", "2"], "rate 2"),
        (["--rate", "0.0001"], "keeps none"),
        (["--protect", "nothere"], "nothere"),
        (["--floor", "0.9"], "floors keep"),
        (["--cap", "0.1"], "caps leave"),
        (["--floor", "prose=0.5", "--floor", "0.1"], "one share for all"),
        (["--floor", "prose=0.5", "--floor", "prose=0.1"], "twice"),
        (["--max-missing", "nan"], "no share"),
        (["--min-tokens", "100000"], "min_tokens"),
        (["--metric", "difference:main"], "difference"),
        (["--metric", "progress"], "early"),
        (["--by", "language"], "by"),
        (["--reference", "other"], "other"),
        (["--criterion", "high", "--criterion", "high"], "two slices"),
    ],
)
def test_slices_that_cannot_be_are_three_lines(
    options: list[str], problem: str, tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "out"
    done = command("select", str(tiny_run.scores()), "--out", str(out), *options)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 3
    assert problem in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--criterion", "soft", "--rate", "0.2"], "soft-20-at-50"),
        (["--criterion", "band", "--band", "0.1,0.4"], "band-10-40"),
        (["--band", "0.1,0.4"], "band-10-40"),
    ],
)
def test_soft_and_band_work_as_one_types_them(
    options: list[str], name: str, tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    done = command("select", str(tiny_run.scores()), "--out", str(tmp_path / "out"), *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: ")


def test_bounds_are_named_on_the_command_line(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "out"
    done = command(
        "select", str(tiny_run.path), "--out", str(out), "--json", "--unit", "tokens",
        "--floor", "code=0.3", "--cap", "numbers=0.5", "--protect", "prose", "--rate", "0.7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {r["domain"]: r for r in json.loads(done.stdout)["domains"]}
    assert rows["prose"]["keep_rate"] == 1
    assert rows["code"]["keep_rate"] > 0.25
    assert rows["numbers"]["keep_rate"] < 0.55


def test_the_slice_of_a_run_is_the_one_that_the_command_takes(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "out"
    done = command("select", str(tiny_run.path), "--out", str(out), "--unit", "tokens")
    assert done.returncode == 0, done.stderr
    own = pq.read_table(tiny_run.selection("high-50") / "kept.parquet")
    assert pq.read_table(out / "kept.parquet").equals(own)


def test_soft_slices_are_drawn_by_seed(tiny_run: RunFolder, tmp_path: Path, command: Any) -> None:
    kept = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        done = command(
            "select", str(tiny_run.scores()), "--out", str(tmp_path / name), "--seed", seed,
            "--criterion", "soft", "--centre", "0.5", "--rate", "0.3",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kept.append(pq.read_table(tmp_path / name / "kept.parquet").column("id").to_pylist())
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0]) == len(kept[2]) == int(np.floor(0.3 * _pool(tiny_run) + 0.5))


def _pool(run: RunFolder) -> int:
    return int(pq.read_metadata(run.scores()).num_rows)
