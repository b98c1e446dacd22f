"""The first stages: corpus, split, tokenizer, tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.hashing import mix
from mlxprune.data.held_out import HELD_OUT_DOCUMENTS
from mlxprune.data.index import CORPUS_VERSION
from mlxprune.data.indexing import changed_files, note_places, verify_inputs
from mlxprune.data.mix import mix_sentence
from mlxprune.data.rows import HARMLESS_REASONS
from mlxprune.data.sources import notes_on_files
from mlxprune.data.split import SplitSummary
from mlxprune.errors import DataError, one_line
from mlxprune.execution.progress import stage_progress
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.artifacts import InputFiles, StudyExecution
from mlxprune.experiment.budgets import pool_need
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import files_identity, fingerprint_of, folder_in_the_making
from mlxprune.model.weights import fetch_model
from mlxprune.planning.cost_model import CorpusTokens, estimate_costs
from mlxprune.records import Json, read_record
from mlxprune.run.event_kinds import Forecast
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import damaged_files, read_marker
from mlxprune.selection.metric import refuse_unknown_domains
from mlxprune.selection.ranking import refuse_nothing
from mlxprune.tokenization.prepare import encode_into, files_read, index_into
from mlxprune.tokenization.token_file import TOKENS_VERSION, TokenSummary
from mlxprune.tokenization.tokenizer import (
    TOKENIZER_FILES,
    TOKENIZER_VERSION,
    copy_tokenizer,
    fetch_tokenizer,
)
from mlxprune.tokenization.tokenizer_training import train_on_corpus


def corpus_inputs(config: Config, given: InputFiles) -> Json:
    """What the stage ``corpus`` rests on: the files, not where they lie, and how they are read."""
    settings = config.data.identity()
    listed = files_read(config.data, given.found, given.files)
    return {"version": CORPUS_VERSION, "data": settings, "files": listed}


def refuse_changed_inputs(config: Config, run: RunFolder, given: InputFiles) -> None:
    """Raises DataError: a run keeps its corpus."""
    known = read_marker(run.corpus)
    if known is None or damaged_files(run.corpus):  # it is made again, and then checked
        return
    fix = "start a new run with another --dir, or do all of this one again: --accept-changed-input"
    if known.fingerprint != fingerprint_of(corpus_inputs(config, given)):
        which = changed_files(run.corpus, given.files)
        raise DataError(f"the input changed since this run began: {which}", str(run.path), fix)
    verify_inputs(run.corpus, given.found.sources, given.files)


def index_corpus(study: StudyExecution) -> None:
    folder, config, given = study.run.corpus, study.config, study.input
    if read_marker(folder) is not None:
        note_places(folder, given.found.sources)
    for note in notes_on_files(given.found):
        study.warn("corpus", note)
    report = stage_progress(study, "corpus", "bytes")
    artifact = Artifact(
        folder,
        (corpus_inputs(config, given),),
        lambda: index_into(folder, config.data, given.found, report),
    )
    run_stage(study, "corpus", [artifact])
    for choice in config.slices:
        refuse_unknown_domains(choice, tuple(study.held.corpus.domains))
    summary = study.held.corpus.summary
    for reason, count in summary.skipped.items():
        if reason not in HARMLESS_REASONS:
            study.warn("corpus", f"{count} rows skipped: {reason} (corpus/bad-rows.jsonl)")
    for note in summary.notes:
        study.warn("corpus", note)


def split_corpus(study: StudyExecution) -> None:
    config, run = study.config, study.run
    inputs = {
        "version": split.version_of(run.split),
        "seed": config.seed,
        "split": config.split.results(),
        "corpus": study.fingerprint("corpus"),
    }

    def build() -> SplitSummary:
        with folder_in_the_making(run.split) as partial:
            return split.build(config, study.held.corpus, partial, pool_need(config))

    run_stage(study, "split", [Artifact(run.split, (inputs,), build)])
    _judge_split(study)


def _judge_split(study: StudyExecution) -> None:
    """Refuse a split without one of its parts; warn of what is small."""
    table = study.held.split.table
    summary = study.held.split.summary
    if summary.mix:
        study.warn("split", mix_sentence(summary.mix))
    if summary.beyond_need:
        count = summary.beyond_need
        left = f"{count:,} documents are left out: the budgets need no larger pool"
        study.warn("split", f"{left} (--pool all, in a new run, takes them)")
    for part in ("train", "test", "validation"):
        if not table[part].documents:
            fix = "give more documents, or set split shares by hand"
            raise DataError(f"the {part} part has no document", str(study.run.split), fix)
    for choice in study.config.slices:
        refuse_nothing(choice, table["train"].documents)
    missing = split.without(table, "test")
    if missing:
        count = len(table["test"].domains)
        names = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        over = f"macro is over {count - len(missing)} of {count} domains"
        study.warn("split", f"no test document in {names}: {over}")
    few = split.too_few(table, "test")
    if few:
        names = ", ".join(few[:8]) + (", ..." if len(few) > 8 else "")
        limit = HELD_OUT_DOCUMENTS
        study.warn("split", f"too few test documents (under {limit}) to say much about: {names}")


def train_or_copy_tokenizer(study: StudyExecution) -> None:
    settings, folder = study.config.tokenizer, study.run.tokenizer
    inputs: Json = {"version": TOKENIZER_VERSION, "tokenizer": settings.results()}
    if settings.train:
        inputs["split"] = study.fingerprint("split")
    else:
        source = fetch_tokenizer(str(settings.pretrained))
        inputs["files"] = files_identity(source, TOKENIZER_FILES)

    def build() -> object:
        with folder_in_the_making(folder) as partial:
            if settings.pretrained:
                copy_tokenizer(source, partial)
                return {"pretrained": settings.pretrained}
            assert settings.train
            documents = _documents_to_learn_from(study, settings.train.max_bytes)
            corpus = study.held.corpus
            return train_on_corpus(study, settings.train, corpus, documents, partial)

    run_stage(study, "tokenizer", [Artifact(folder, (inputs,), build)])


def _documents_to_learn_from(study: StudyExecution, most: int) -> np.ndarray:
    """The reference part, or with cross-scoring the pool; of more text than is read, a sample."""
    corpus = study.held.corpus
    members = study.held.split.members(split.TRAIN if study.config.split.cross else split.REFERENCE)
    if not len(members):
        fix = "set split.reference, or use tokenizer.pretrained"
        raise DataError("no reference document to train on", str(study.run.split), fix)
    size = int(corpus.index["bytes"][members].sum())
    if size > most:
        drawn = mix(corpus.index["key"][members], f"tokenizer {study.config.seed}")
        members = members[drawn.astype(np.float64) / 2.0**64 < 1.05 * most / size]
    return members


def encode_tokens(study: StudyExecution) -> None:
    inputs = {
        "version": TOKENS_VERSION,
        "split": study.fingerprint("split"),
        "tokenizer": study.fingerprint("tokenizer"),
    }
    folders = {"main": study.run.tokenizer}
    for scorer in scorers_of(study.config):
        if scorer.reference.pretrained and scorer.tokenizer != "main":  # it has its own
            folders[scorer.tokenizer] = fetch_model(scorer.reference.pretrained)
    artifacts = [_tokens(study, name, folder, inputs) for name, folder in folders.items()]
    run_stage(study, "tokens", artifacts, inputs)
    summary = read_record(study.run.tokens() / "tokens.json", TokenSummary)
    reference, train, validation, test = (
        summary.parts.get(str(part), 0)
        for part in (split.REFERENCE, split.TRAIN, split.VALIDATION, split.TEST)
    )
    sizes = CorpusTokens(summary.tokens, reference, train, validation, test)
    _tell_of_tokenless(study)
    flops = estimate_costs(study.config, sizes, False).stage_flops
    study.log.emit("tokens", Forecast(flops=flops))


def _tell_of_tokenless(study: StudyExecution) -> None:
    """Documents in use without a token: of characters that the tokenizer does not know."""
    held = study.held
    used = np.flatnonzero(held.split.part != split.LEFT_OUT)
    empty = used[held.tokens().lengths(used) == 0]
    if len(empty):
        codes, counts = np.unique(held.corpus.index["domain"][empty], return_counts=True)
        order = np.argsort(-counts)
        named = [f"{one_line(held.corpus.domains[codes[i]])} {counts[i]:,}" for i in order[:6]]
        more = ", ..." if len(codes) > 6 else ""
        study.warn(
            "tokens",
            f"{len(empty):,} documents have no token and are left out: {', '.join(named)}{more}; "
            "the tokenizer does not know their characters",
        )


def _tokens(study: StudyExecution, name: str, tokenizer_folder: Path, inputs: Json) -> Artifact:
    folder = study.run.tokens(name)

    def build() -> TokenSummary:
        report = stage_progress(study, "tokens", "bytes")
        return encode_into(
            folder, study.held.corpus, tokenizer_folder, report, study.held.split.part
        )

    identity = files_identity(tokenizer_folder, TOKENIZER_FILES)
    return Artifact(folder, (fingerprint_of(inputs), identity), build)
