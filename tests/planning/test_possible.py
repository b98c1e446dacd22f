"""Models of other families, from plan to the end of a run: refused for what is wrong with them at
the start, and never a dead end later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.errors import ConfigError, DataError, RunError
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.document_explanation import explain_document
from mlxprune.files import read_json
from mlxprune.pipeline.runner import run_study
from mlxprune.planning.plan import plan_run
from mlxprune.planning.possible import check_possible
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.unscored_file import unscored_keys
from mlxprune.testing import tiny
from mlxprune.testing.families import FAMILIES, write_model, write_tokenizer
from mlxprune.tokenization.tokenizer import load_tokenizer


def texts(folder: Path) -> list[str]:
    return [
        json.loads(line)["text"]
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), texts(tiny_corpus))


def study(corpus: Path, model: Path, **sections: Any) -> Config:
    """Without the keys of a tokenizer: the reference brings its own."""
    tree = tiny.tiny_config(corpus, **sections)
    del tree["tokenizer"]
    tree["reference"] = {"pretrained": str(model), "context": 64}
    return validate_config(tree, "test")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_with_a_pretrained_reference(
    family: str, tiny_corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    """Planned by its own size and speed; ranked by it; its tokenizer is that of the final models,
    and nothing is encoded twice. Random weights are told to be what they are."""
    model = write_model(tmp_path / "model", family, tokenizer)
    chosen = study(tiny_corpus, model)
    assert chosen.tokenizer.pretrained == str(model)
    planned = plan_run(chosen, measured=family == "qwen2")
    assert planned.stage_flops["reference"] == 0
    assert planned.stage_flops["score"] > 0
    if planned.stage_seconds is not None:
        assert planned.stage_seconds["reference"] == 0
        assert planned.stage_seconds["score"] > 0
    run = RunFolder(tmp_path / "run")
    result = run_study(chosen, run)
    assert result.state == "done"
    assert sorted(p.name for p in (run.path / "tokens").iterdir() if p.is_dir()) == ["main"]
    assert result.account is not None
    assert result.account.adds_up
    warned = " ".join(w.message for w in open_run(run.path).state.warnings)
    assert "worse than uniform" in warned or "worse than counting tokens" in warned
    vocabulary = read_json(run.final("high-50-s0") / "config.json")["vocab_size"]
    assert vocabulary == load_tokenizer(tokenizer).vocab_size


def test_what_is_wrong_with_a_model_is_told_before_any_work(
    tiny_corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    gpt2 = write_model(tmp_path / "gpt2", "gpt2", tokenizer)
    long = study(tiny_corpus, gpt2, score={"context": 256})
    for work in (check_possible, plan_run, lambda c: run_study(c, RunFolder(tmp_path / "run"))):
        with pytest.raises(ConfigError, match="learned 128 positions") as caught:
            work(long)
        assert "set score.context to 128" in caught.value.fix
    small = write_model(tmp_path / "small", "qwen2", tokenizer, rows=300)
    with pytest.raises(DataError, match="300 rows"):
        check_possible(study(tiny_corpus, small))
    with pytest.raises(DataError, match="no such folder"):
        check_possible(study(tiny_corpus, tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()
    untrainable = study(tiny_corpus, gpt2, final={"model": str(gpt2), "context": 256})
    with pytest.raises(ConfigError, match=r"128 positions, and sequences have 256"):
        check_possible(untrainable)


def test_no_text_to_learn_a_vocabulary_from_is_told_by_plan(
    tiny_corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m", "qwen2", tokenizer)
    tree = tiny.tiny_config(tiny_corpus)
    tree["reference"], tree["split"] = {"pretrained": str(model), "context": 64}, {}
    with pytest.raises(ConfigError, match="no reference document to train a tokenizer on"):
        plan_run(validate_config(tree, "test"), measured=False)


def hurt(folder: Path, tokenizer: Path, rare: list[str]) -> None:
    """Give the embeddings of some words no number."""
    import mlx.core as mx

    weights = mx.load(str(folder / "model.safetensors"))
    table = np.array(weights["model.embed_tokens.weight"])
    for ids in load_tokenizer(tokenizer).encode(rare):
        table[ids[-1]] = np.nan
    weights["model.embed_tokens.weight"] = mx.array(table)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


@pytest.fixture
def some_without_score(tiny_corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A corpus in which few documents begin with a sign, and a model that gives NaN after it."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [
        json.loads(line)
        for path in sorted(tiny_corpus.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for i, row in enumerate(rows):
        row["text"] = ("\u2603 " if i % 40 == 0 else "") + row["text"]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = write_tokenizer(tmp_path / "tokenizer", [row["text"] for row in rows])
    model = write_model(tmp_path / "model", "qwen2", tokenizer, tie_word_embeddings=False)
    hurt(model, tokenizer, ["\u2603"])
    return folder, model


@pytest.mark.slow
def test_documents_without_a_finite_score_leave_the_pool_with_their_ids(
    some_without_score: tuple[Path, Path], tmp_path: Path
) -> None:
    corpus, model = some_without_score
    chosen = study(corpus, model)
    run = RunFolder(tmp_path / "run")
    result = run_study(chosen, run)
    assert result.state == "done"
    held = open_run(run.path)
    (listed,) = run.scores().parent.glob("main.unscored-*.parquet")
    lost = pq.read_table(listed).to_pylist()
    assert lost
    marked = {
        row["id"]
        for row in map(json.loads, (corpus / "a.jsonl").read_text().splitlines())
        if "\u2603" in row["text"]
    }
    assert {row["id"] for row in lost} <= marked
    keys = held.corpus.index["key"][held.pool]
    assert not np.isin(keys, unscored_keys(run.scores())).any()
    assert len(held.scores(held.config.slices[0])) == len(held.pool) == len(keys)
    assert result.account is not None
    assert result.account.left_out == {"no_score": len(lost)}
    assert result.account.adds_up
    warned = " ".join(w.message for w in held.state.warnings)
    assert f"{len(lost)} of " in warned
    assert lost[0]["id"] in warned
    kept = pq.read_table(run.selection("high-50") / "kept.parquet").column("id").to_pylist()
    assert not set(kept) & marked
    (said,) = explain_document(held, lost[0]["id"])
    assert said.reason == "left out: a model gave it no finite score"
    # Scores without a model know these documents; what is said of any one is still of its own.
    free = chosen.selection.slices[0].model_copy(update={"reference": "unigram"})
    tree = chosen.model_dump(mode="json") | {"selection": free.model_dump(mode="json")}
    run_study(validate_config(tree, "test"), run, until="selection")
    held = open_run(run.path)
    label = held.config.slices[0].label
    kept = set(pq.read_table(run.selection(label) / "kept.parquet").column("id").to_pylist())
    ids = pq.read_table(run.scores("unigram")).column("id").to_pylist()
    assert len(ids) == len(held.pool) + len(lost)
    for name in ids[::7]:
        assert explain_document(held, name)[0].kept == (name in kept)
    # The other reference's scores come back with what they lack.
    assert run_study(chosen, run).account == result.account


@pytest.mark.slow
def test_too_many_of_them_stop_the_run_and_what_is_scored_is_kept(
    some_without_score: tuple[Path, Path], tmp_path: Path
) -> None:
    corpus, model = some_without_score
    strict = study(corpus, model, score={"max_unscored": 0.001})
    run = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match="no finite score") as caught:
        run_study(strict, run)
    assert "score.max_unscored" in caught.value.fix
    assert run_study(study(corpus, model), run).state == "done"


@pytest.mark.slow
def test_documents_without_a_token_are_counted_and_told(tiny_corpus: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from mlxprune.files import write_json

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        texts(tiny_corpus),
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<e>"], show_progress=False),
    )
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>"},
    )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "zh.jsonl").write_text(
        "".join(json.dumps({"text": "中文" * (i + 1), "domain": "zh"}) + "\n" for i in range(30))
    )
    tree = tiny.tiny_config(tiny_corpus)
    tree["data"]["paths"] = [str(tiny_corpus), str(corpus)]
    tree["tokenizer"] = {"pretrained": str(folder)}
    planned = plan_run(validate_config(tree, "test"), measured=False)
    assert "give no token" in " ".join(planned.warnings)
    run = RunFolder(tmp_path / "run")
    result = run_study(validate_config(tree, "test"), run)
    assert result.account is not None
    assert result.account.left_out == {"no_token": 30}
    assert result.account.adds_up
    warned = " ".join(w.message for w in open_run(run.path).state.warnings)
    assert "30 documents have no token and are left out: zh 30" in warned
