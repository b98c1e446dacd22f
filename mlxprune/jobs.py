"""Single stages without a study: score any data with any model, train a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import (
    arms,
    corpus,
    evaluate,
    lock,
    readers,
    runs,
    score,
    train,
    work,
    workers,
)
from mlxprune import model as models
from mlxprune import sources as source_files
from mlxprune import tokenizer as tokenizers
from mlxprune import tokens as tokens_module
from mlxprune.config import Config, Score
from mlxprune.control import Control
from mlxprune.errors import DataError, UsageError
from mlxprune.events import EventLog
from mlxprune.runs import RunFolder

# A corpus that is used whole has one part.
ALL = 0


def prepare(
    config: Config, folder: Path, tokenizer_folder: Path, log: EventLog, control: Control
) -> tuple[corpus.Corpus, tokens_module.Tokens]:
    """Index and encode the data under ``folder``, or reuse what stands there for the same input."""
    sources, left_out = source_files.find_sources(config.data.paths)
    facts = corpus.input_facts(sources)
    settings = {k: v for k, v in config.data.results().items() if k != "paths"}
    files = [[f["name"], f["size"], f["edges"]] for f in facts]
    indexed = runs.fingerprint(corpus.VERSION, settings, files)
    under_way = work.Work(config, RunFolder(folder), log, control)

    def index() -> dict[str, Any]:
        with runs.folder_in_the_making(under_way.run.corpus) as partial:
            return corpus.build(config.data, sources, left_out, partial)

    work.run_stage(under_way, "corpus", [work.Piece(under_way.run.corpus, indexed, index)])
    found = corpus.open_corpus(under_way.run.corpus, config.data)
    identity = runs.files_identity(tokenizer_folder, tokenizers.TOKENIZER_FILES)
    encoded = runs.fingerprint(tokens_module.VERSION, indexed, identity)

    def encode() -> dict[str, Any]:
        with runs.folder_in_the_making(under_way.run.tokens()) as partial:
            return tokens_module.build(
                found,
                np.full(len(found), ALL, np.uint8),
                -1,
                tokenizers.load(tokenizer_folder),
                partial,
                work.progress(under_way, "tokens", "bytes"),
            )

    work.run_stage(under_way, "tokens", [work.Piece(under_way.run.tokens(), encoded, encode)])
    return found, tokens_module.open_tokens(under_way.run.tokens())


def _apart(out: Path) -> RunFolder:
    """A folder of its own: a study's corpus and tokens are not ours to replace."""
    if (out / "run.json").exists():
        raise UsageError("this folder holds a run", str(out), "choose another --out")
    return RunFolder(out)


def score_data(
    config: Config, model: str, out: Path, settings: Score, listeners: list[Any]
) -> dict[str, Any]:
    """Score every document of the data with one model into ``out/scores.parquet``."""
    source = models.fetch(model)
    run = _apart(out)
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, runs.no_space_is_an_error(out):
            found, tokens = prepare(config, out, source, log, control)
            documents = np.arange(len(found))
            documents = documents[tokens.lengths(documents) > 0]
            if not len(documents):
                raise DataError("no document has a token", str(out), "check the data")
            stated = runs.read_json(source / "config.json")
            context = settings.context or min(int(stated.get("max_position_embeddings", 512)), 2048)
            weights = runs.files_identity(source, models.MODEL_FILES)
            corpus_marker = runs.marker(run.tokens())
            described = [score.VERSION, settings.results(), context, weights, corpus_marker]
            fingerprint = runs.fingerprint(described)
            parts, target = out / "parts", out / "scores.parquet"
            if runs.is_done(target, fingerprint):
                found_before = runs.marker(target) or {}
                return {"scores": str(target), **found_before["summary"]}
            runs.set_aside(target, fingerprint)
            runs.set_aside(parts, fingerprint)
            runs.claim(parts, fingerprint)
            np.save(parts / "documents.npy", documents)
            lengths = tokens.lengths(documents)
            policy = score.policy_in(
                parts / "shapes.json",
                lambda: score.resolve_policy(lengths, stated, context, config.memory, settings),
            )
            task = workers.Task(
                str(source),
                str(run.tokens()),
                str(parts),
                str(parts / "documents.npy"),
                policy,
                workers.units(found.index["bytes"][documents]),
            )
            log.emit("score", "stage.start", why="asked for")
            processes = settings.workers or workers.usual_number()
            workers.score_pool(task, found, processes, log, control)
            metadata = {
                "model": model,
                "prefix": str(tokens.prefix),
                **score.policy_metadata(policy),
            }
            summary = score.write_scores(
                target, found, documents, *workers.joined(parts, len(task.units)), metadata
            )
            runs.mark(target, "score", fingerprint, summary=summary)
            shutil.rmtree(parts)
        log.close()
    return {"scores": str(target), **summary}


def train_model(config: Config, out: Path, listeners: list[Any]) -> dict[str, Any]:
    """Train ``config.final`` on all of the data into ``out/final/model-s<seed>``."""
    run = _apart(out)
    with lock.locked(run):
        log = EventLog(run.events)
        log.listeners += listeners
        with Control(run, log) as control, runs.no_space_is_an_error(out):
            folder = _tokenizer(config, run, log, control)
            found, tokens = prepare(config, out, folder, log, control)
            documents = np.arange(len(found))
            lengths = tokens.lengths(documents) + 1
            shape = models.shape_of(config.final.model)
            targets = arms.final_targets(config, shape, tokens.vocab_size, int(lengths.sum()))
            seed = config.final.seeds[0]
            vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
            recipe = arms.recipe_of(config.final, shape, vocabulary, targets, seed)
            held_out = evaluate.validation_documents(found, tokens, documents[::20], seed, 100_000)
            rest = np.setdiff1d(documents, held_out)
            stream = train.Stream(tokens, rest, found.index["key"][rest], seed)
            place = run.final(f"model-s{seed}")
            fingerprint = runs.fingerprint(train.identity(recipe), runs.marker(run.tokens()))
            if not runs.set_aside(place, fingerprint):
                log.emit("final", "stage.start", why="asked for")
                train.train(
                    recipe,
                    stream,
                    place,
                    fingerprint,
                    folder,
                    evaluate.validator(
                        found, tokens, held_out, recipe.config, recipe.context, config.memory
                    ),
                    "final",
                    log,
                    control,
                    config.final.gradient_checkpointing,
                    config.memory,
                )
        log.close()
    return {"model": str(place), **arms.summary_of(runs.read_json(place / "training.json"))}


def _tokenizer(config: Config, run: RunFolder, log: EventLog, control: Control) -> Path:
    settings = config.tokenizer
    if settings.pretrained:
        return tokenizers.fetch(settings.pretrained)
    assert settings.train
    sources, _ = source_files.find_sources(config.data.paths)
    files = [[f["name"], f["size"], f["edges"]] for f in corpus.input_facts(sources)]
    fingerprint = runs.fingerprint(settings.results(), config.data.text_key, files)
    if not runs.is_done(run.tokenizer, fingerprint):
        runs.set_aside(run.tokenizer, fingerprint)
        keys = corpus.keys_of(config.data)
        rows = (row for source in sources for row in readers.read(source, keys))
        texts = (row.text for row in rows if isinstance(row, readers.Row))
        with runs.folder_in_the_making(run.tokenizer) as partial:
            tokenizers.train(settings.train, texts, work.cores(), partial)
        runs.mark(run.tokenizer, "tokenizer", fingerprint)
    return run.tokenizer
