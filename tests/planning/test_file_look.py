"""Files of many layouts, from init through plan to a run, without a change by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import load_config
from mlxprune.data.sources import Source, find_sources
from mlxprune.errors import DataError
from mlxprune.planning.draft_config import StudySizes, look_at_data, write_draft
from mlxprune.planning.file_look import domain_key_of, id_key_of, look_at_file, text_key_of
from mlxprune.planning.plan import plan_run
from mlxprune.testing.layouts import Layout, write_layouts

SIZES = StudySizes("pico", "pico", 384, 64, 4096, 4096, 0.1)
SMALL = ("split={reference: 0.3, validation: 0.1, test: 0.1}", "final.seeds=[0]",
         "final.arms=[pruned]", "reference.batch_size=8", "final.batch_size=8")  # fmt: skip


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[Layout]:
    return write_layouts(tmp_path_factory.mktemp("layouts") / "mine")


def test_every_file_is_read_by_its_own_keys(layouts: list[Layout]) -> None:
    for layout in layouts:
        seen = look_at_data([str(layout.path)])
        (look,) = seen.files
        assert look.keys.text == (layout.text,)
        assert look.rows == pytest.approx(layout.rows)
        assert look.documents == pytest.approx(layout.rows)
        assert len(look.shown) == 3
        assert seen.problems == []
    keys = {layout.path.name: look_at_data([str(layout.path)]).keys for layout in layouts}
    assert keys["mail.parquet"].id == "number"
    assert keys["mail.parquet"].domain == "group"
    assert keys["essays.csv"].domain == "category"
    assert (keys["saved"].domain, keys["saved"].host) == ("url", True)


@pytest.mark.slow
def test_what_init_writes_plans_and_runs(
    layouts: list[Layout], tmp_path: Path, command: Any
) -> None:
    """Every row accounted for, in the plan and in the end."""
    seen = look_at_data([str(layout.path) for layout in layouts])
    assert seen.bytes == pytest.approx(sum(look.bytes for look in seen.files))
    path = tmp_path / "c.yaml"
    path.write_text(write_draft(seen, SIZES, tmp_path, "nine", 8.0))
    config = load_config(path, list(SMALL))
    planned = plan_run(config, measured=False)
    rows = sum(layout.rows for layout in layouts)
    assert planned.corpus.rows == planned.corpus.documents == rows
    assert planned.account.adds_up
    sampled = plan_run(config, sample=True, measured=False)
    assert sampled.corpus.documents == rows
    assert sampled.corpus.domains == planned.corpus.domains
    assert sampled.corpus.bytes == pytest.approx(planned.corpus.bytes, rel=0.01)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    done = command("run", str(path), "--dir", str(tmp_path / "run"), "--json", "-q", *settings)
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)["account"]
    assert account["rows"] == rows == sum(account["used"].values())
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{rows:,} rows: used {rows:,}" in page


@pytest.mark.slow
def test_the_table_of_init(layouts: list[Layout], tmp_path: Path, command: Any) -> None:
    folder = layouts[0].path.parent
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and so on")
    done = command(
        "init",
        str(folder),
        str(tmp_path / "x.zip"),
        "--hours",
        "0.01",
        "-o",
        str(tmp_path / "c.yaml"),
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "mail.parquet", "parquet", "host of url", "prompt+completion", "from the text",
        "not used: ", "it is a zip archive", "about 0.",
    ):  # fmt: skip
        assert words in " ".join(done.stderr.split())  # a long path breaks lines
    written = (tmp_path / "c.yaml").read_text()
    assert "# not used: x.zip: it is a zip archive; unpack it" in written
    assert load_config(tmp_path / "c.yaml").data.paths
    assert load_config(tmp_path / "c.yaml").hours == 0.01  # plan holds the study against it


def look(rows: list[dict[str, Any]]) -> tuple[str | None, str | None, tuple[str, bool]]:
    return text_key_of(rows), id_key_of(rows), domain_key_of(rows)


LONG = "word " * 50


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"text": LONG, "title": "t"}, "text"),
        ({"body": LONG, "note": "n"}, "body"),
        ({"summary": LONG, "n": 1}, "summary"),
        ({"text": "short", "transcript": LONG * 9}, "transcript"),
        ({"meta": {"content": LONG}, "k": "x"}, "meta.content"),
        ({"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ({"instruction": LONG, "input": "", "output": LONG}, "instruction+input+output"),
        ({"question": LONG, "answer": LONG}, "question+answer"),
        ({"n": 1}, None),
    ],
)  # fmt: skip
def test_the_key_of_the_text(row: dict[str, Any], text: str | None) -> None:
    assert text_key_of([row] * 9) == text


def test_ids_tell_rows_apart_and_domains_repeat() -> None:
    rows = [
        {"id": 1, "uuid": f"u{i}", "text": LONG, "topic": "ab"[i % 2], "lang": "en"}
        for i in range(40)
    ]
    assert look(rows) == ("text", "uuid", ("topic", False))
    rows = [{"text": LONG, "source": f"https://s{i % 3}.org/{i}"} for i in range(40)]
    assert look(rows) == ("text", None, ("source", True))
    rows = [{"text": LONG, "source": f"{i}"} for i in range(40)]
    assert look(rows) == ("text", None, ("auto", False))
    assert look([{"text": LONG, "domain": "d"}] * 40)[2] == ("auto", False)


def test_files_of_one_folder_with_other_keys_are_written_one_by_one(tmp_path: Path) -> None:
    for name, key in (("a", "text"), ("b", "body"), ("c", "body")):
        row = json.dumps({key: LONG, "n": name})
        (tmp_path / f"{name}.jsonl").write_text(f"{row}\n" * 5)
    seen = look_at_data([str(tmp_path)])
    assert [Path(e.path).name for e in seen.entries] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert seen.keys.text == ("body",)
    assert [e.text_key for e in seen.entries] == [("text",), None, None]


def test_sizes_are_estimated_file_by_file(tmp_path: Path) -> None:
    """One packed file among plain ones multiplies only itself."""
    import zstandard

    rows = "".join(json.dumps({"text": f"{i} " + LONG}) + "\n" for i in range(4000))
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(rows.encode()))
    truth = 2 * sum(len(json.loads(line)["text"]) for line in rows.splitlines())
    assert look_at_data([str(tmp_path)]).bytes == pytest.approx(truth, rel=0.05)


def test_a_file_that_cannot_be_read_is_a_problem_and_no_end(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    source = Source(tmp_path / "a.parquet", "a.parquet", "parquet", "a.parquet")
    assert look_at_file(source).problem is not None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"id": "c0", "dialog": ["long words", "bye"]}\n' * 9, "lists of texts"),
        ("a.csv", f"{LONG},1\n{LONG},2\n", "its first line is a text"),
        ("a.json", json.dumps({"text": {str(i): LONG for i in range(60)}}), "column by column"),
        ("a.jsonl", '["x"]\n["y"]\n', "none of its rows is an object"),
        ("a.csv", "id,text\n1,caf\xe9\n", "invalid_utf8"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_said_to_be_none(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        look_at_data([str(tmp_path / name)])
    assert words in caught.value.problem


def test_rows_with_one_key_or_another_get_a_list(tmp_path: Path) -> None:
    rows = [{"text": LONG} if i % 3 else {"content": LONG} for i in range(90)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = look_at_data([str(tmp_path / "a.jsonl")])
    assert seen.keys.text == ("text", "content")
    assert 'text_key: ["text", "content"]' in write_draft(seen, SIZES, tmp_path, "x", 8.0)
    assert seen.files[0].documents == pytest.approx(90)


def test_many_files_with_a_bad_one_are_written_one_by_one(tmp_path: Path) -> None:
    """So that plan takes what init has written; names are quoted, whatever they hold."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}\x7f.jsonl").write_text(json.dumps({"text": LONG}) + "\n")
    (folder / "bad.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    seen = look_at_data([str(folder)])
    assert len(seen.entries) == 60
    (tmp_path / "c.yaml").write_text(write_draft(seen, SIZES, tmp_path, "x", 8.0))
    assert len(find_sources(load_config(tmp_path / "c.yaml").data).sources) == 60


def test_a_sample_of_few_long_lines_and_of_harmless_rows(tmp_path: Path) -> None:
    for lines, size in ((8, 100_000), (30, 30_000)):
        (tmp_path / "a.jsonl").write_text(
            "".join(json.dumps({"text": "w " * (size // 2)}) + "\n" for _ in range(lines))
        )
        assert look_at_data([str(tmp_path / "a.jsonl")]).files[0].rows == pytest.approx(
            lines, abs=1
        )
    rows = [{"text": LONG, "domain": "a"}] * 300 + [{"text": "", "domain": "rare"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.yaml").write_text("data: {paths: [a.jsonl]}\nfinal: {model: pico, tokens: 9k}\n")
    for sample in (True, False):
        planned = plan_run(load_config(tmp_path / "c.yaml"), sample=sample, measured=False)
        assert planned.account.adds_up
        assert planned.account.skipped == {"empty_text": 1}
