"""Single stages alone, init, plan, doctor: the commands around the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import load_config, validate_config
from mlxprune.config.yaml_file import read_yaml
from mlxprune.run.folder import RunFolder


@pytest.mark.slow
def test_scoring_alone_equals_the_run(
    tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    """The same model over the same documents; again is reused."""
    arguments = [
        "score", "--model", str(tiny_run.reference()), "--data", str(tiny_corpus),
        "--out", str(tmp_path / "out"), "--context", "64", "--json",
    ]  # fmt: skip
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(
        tmp_path / "out" / "scores.parquet", columns=["id", "nll_sum"]
    ).to_pydict()
    alone = dict(zip(table["id"], table["nll_sum"], strict=True))
    inside = pq.read_table(tiny_run.scores(), columns=["id", "nll_sum"]).to_pydict()
    assert len(alone) == 240
    for name, nll in zip(inside["id"], inside["nll_sum"], strict=True):
        assert alone[name] == pytest.approx(nll, rel=1e-6)
    again = command(*arguments)
    assert json.loads(again.stdout) == json.loads(done.stdout)


@pytest.mark.slow
def test_select_works_on_a_file_and_on_a_run(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    for number, source in enumerate((tiny_run.path, tiny_run.scores())):
        out = tmp_path / str(number)
        done = command(
            "select",
            str(source),
            "--criterion",
            "low",
            "--rate",
            "0.25",
            "--out",
            str(out),
            "--json",
        )
        facts = json.loads(done.stdout)
        assert facts["kept_documents"] == int(0.25 * facts["pool_documents"] + 0.5)
        assert pq.read_table(out / "kept.parquet").num_rows == facts["kept_documents"]
    band = command("select", str(tiny_run.path), "--band", "0.2,0.6", "--out", str(tmp_path / "b"))
    assert "band-20-60" in band.stdout
    again = command("select", str(tiny_run.path), "--out", str(tmp_path / "b"))
    assert again.returncode == 2


def test_single_stages_keep_out_of_a_runs_folder(
    tiny_run: RunFolder, tiny_corpus: Path, command: Any
) -> None:
    done = command(
        "score", "--model", str(tiny_run.reference()), "--data", str(tiny_corpus),
        "--out", str(tiny_run.path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "holds a run" in done.stderr


@pytest.mark.slow
def test_train_alone(tiny_corpus: Path, tmp_path: Path, command: Any) -> None:
    done = command(
        "train", "--data", str(tiny_corpus), "--out", str(tmp_path / "out"), "--model", "pico",
        "--tokens", "4k", "--context", "64", "--vocab-size", "384", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    model = tmp_path / "out"
    assert found["model"] == str(model)
    assert found["tokens"] >= 4000
    card = (model / "README.md").read_text()
    assert f"{found['documents']:,} documents" in card
    data = ["--data", str(tiny_corpus / "prose.jsonl"), "--out", str(tmp_path / "scores")]
    for words in (
        ["score", "--model", str(model), *data],
        [
            "eval",
            str(model),
            "--text",
            str(tiny_corpus / "prose.jsonl"),
            "--out",
            str(tmp_path / "e"),
        ],
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_init_guesses_and_writes_what_run_reads(
    tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    out = tmp_path / "tiny.yaml"
    done = command("init", str(tiny_corpus), "--hours", "0.1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    cells = [line.split() for line in done.stderr.splitlines() if line.startswith("prose.jsonl ")]
    assert cells == [["prose.jsonl", "jsonl", "80", "0.0", "text", "id", "prose"]]
    loaded = load_config(out)
    assert [entry.path for entry in loaded.data.paths] == [str(tiny_corpus)]
    assert (loaded.data.text_key, loaded.data.id_key) == (("text",), "id")
    again = command("init", str(tiny_corpus), "-o", str(out))
    assert again.returncode == 2


@pytest.mark.slow
def test_init_finds_other_keys(tmp_path: Path, command: Any) -> None:
    rows = [{"content": f"words {i} " * 9, "url": f"u{i}", "source": "s"} for i in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = command(
        "init", str(tmp_path / "a.jsonl"), "--hours", "0.1", "-o", str(tmp_path / "a.yaml")
    )
    assert done.returncode == 0, done.stderr
    loaded = load_config(tmp_path / "a.yaml")
    assert (loaded.data.text_key, loaded.data.id_key) == (("content",), "url")


@pytest.mark.slow
def test_plan_says_what_will_happen_and_warns(tiny_yaml: Path, command: Any) -> None:
    done = command("plan", str(tiny_yaml), "--json", "--set", "final.tokens=1M")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= {
        "corpus", "tokens", "passes", "flops", "seconds", "memory_bytes", "disk_bytes", "warnings",
    }  # fmt: skip
    assert found["corpus"]["exact"] is True
    assert found["corpus"]["domains"] == {"code": 80, "numbers": 80, "prose": 80}
    warned = " ".join(found["warnings"])
    assert "passes over the slice" in warned
    assert "tokens a parameter" in warned
    assert found["seconds"] > 0


def test_plan_warns_about_small_domains_and_refuses_what_a_run_refuses(
    tmp_path: Path, command: Any
) -> None:
    rows = [{"text": f"words {i} " * 20, "domain": "big"} for i in range(100)]
    rows += [{"text": "few", "domain": "small"}] * 3
    text = "".join(json.dumps(r) + "\n" for r in rows) + "{broken\n" * 5
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "c.yaml").write_text(
        "data: {paths: [a.jsonl]}\nfinal: {model: pico, tokens: 10k}\n"
    )
    plan = ("plan", str(tmp_path / "c.yaml"), "--json", "--no-probe")
    error = json.loads(command(*plan).stdout)["error"]
    assert "5 of 108 rows are bad" in error["problem"]
    assert "bad_json 5" in error["problem"]
    found = json.loads(command(*plan, "--set", "data.max_bad=0.1").stdout)
    assert "1 domain of under 20 documents: small" in " ".join(found["warnings"])
    assert found["seconds"] is None
    assert found["corpus"]["skipped"] == {"bad_json": 5}
    assert found["account"]["used"] == {"documents": 103}
    assert found["corpus"]["rows"] == 108


def test_plan_by_sample_is_near_the_truth(tmp_path: Path, command: Any) -> None:
    with (tmp_path / "a.jsonl").open("w") as out:
        for i in range(3000):
            out.write(json.dumps({"text": f"words and words {i} " * (1 + i % 9)}) + "\n")
    (tmp_path / "c.yaml").write_text(
        "data: {paths: [a.jsonl]}\nfinal: {model: pico, tokens: 10k}\n"
    )
    found = json.loads(
        command("plan", str(tmp_path / "c.yaml"), "--json", "--no-probe", "--sample").stdout
    )
    assert found["corpus"]["exact"] is False
    assert found["corpus"]["documents"] == pytest.approx(3000, rel=0.1)


@pytest.mark.slow
def test_the_doctors_self_test_passes(command: Any) -> None:
    done = command("doctor", "--selftest", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert set(found["checks"]) == {
        "float32_is_float32", "kernels_against_float64", "head_widths", "vocabulary_edges",
        "lookup_gradient", "gradient_against_float64", "model_against_float64",
        "alone_against_batch", "compiled_against_eager", "same_step_same_bytes",
        "scores_before_and_after_training", "resume", "memory",
    }  # fmt: skip
    assert str(Path.home()) not in done.stdout


@pytest.mark.slow
def test_the_demo_corpus_is_real_text_in_several_domains(tmp_path: Path) -> None:
    from mlxprune.data.demo_corpus import prepare_demo, write_demo_corpus

    counts = write_demo_corpus(tmp_path / "one", bytes_per_domain=30_000)
    assert set(counts) >= {"code", "docstrings", "help", "licences", "readmes", "tables"}
    write_demo_corpus(tmp_path / "two", bytes_per_domain=30_000)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({r["id"] for r in rows}) == len(rows)
        assert all(r["text"].strip() and r["domain"] == path.stem for r in rows)
    validate_config(read_yaml(prepare_demo(tmp_path / "demo")), "demo")


def test_kept_masks_agree_with_the_kept_file(tiny_run: RunFolder) -> None:
    folder = tiny_run.selection("high-50")
    keys = pq.read_table(tiny_run.scores(), columns=["key"]).column("key").to_numpy()
    kept = pq.read_table(folder / "kept.parquet").column("key").to_numpy()
    assert np.array_equal(keys[np.load(folder / "kept.npy")], kept)


@pytest.mark.slow
def test_a_model_scores_under_the_positions_that_it_has(tiny_corpus: Path, tmp_path: Path) -> None:
    """By default under its own context, whatever it is called; never under more."""
    from mlxprune.errors import ConfigError
    from mlxprune.standalone.score import score_data
    from mlxprune.testing.families import write_model, write_tokenizer

    texts = [
        json.loads(line)["text"]
        for path in sorted(tiny_corpus.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    tokenizer = write_tokenizer(tmp_path / "tokenizer", texts)
    model = write_model(tmp_path / "model", "gpt2", tokenizer)
    chosen = validate_config({"data": {"paths": [str(tiny_corpus)]}}, "test")
    scored = score_data(chosen, str(model), tmp_path / "out", [])
    told = pq.read_schema(scored.scores).metadata
    assert told[b"policy.context"] == b"128"
    assert told[b"policy.start"] == b"last"
    assert np.isfinite(pq.read_table(scored.scores).column("nll_sum").to_numpy()).all()
    long = validate_config({"data": {"paths": [str(tiny_corpus)]}, "score": {"context": 129}}, "x")
    with pytest.raises(ConfigError, match="learned 128 positions"):
        score_data(long, str(model), tmp_path / "out", [])


def test_what_an_index_rests_on_knows_which_entry_has_which_keys(tmp_path: Path) -> None:
    """Two files whose entries change places are another corpus; where they lie is not in it."""
    from mlxprune.config.data import Data
    from mlxprune.data.indexing import input_facts
    from mlxprune.data.sources import find_sources
    from mlxprune.tokenization.prepare import files_read

    def rests_on(*entries: dict[str, Any]) -> Any:
        data = Data.model_validate(
            {"paths": [{**e, "path": str(tmp_path / e["path"])} for e in entries]}
        )
        found = find_sources(data)
        return data.identity(), files_read(data, found, input_facts(found.sources))

    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "x"}) + "\n")
    one = {"path": "a.jsonl", "weight": 1}, {"path": "b.jsonl", "weight": 3}
    other = {"path": "b.jsonl", "weight": 1}, {"path": "a.jsonl", "weight": 3}
    assert rests_on(*one) != rests_on(*other)
    plain = {"path": "a.jsonl"}, {"path": "b.jsonl"}
    assert rests_on(*plain) == rests_on(*plain[::-1])
    assert len(rests_on(*plain)[1][0]) == 3  # as runs of earlier versions have it
