"""The first stages: corpus, split, tokenizer, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.hashing import mix
from mlxprune.data.index import CORPUS_VERSION
from mlxprune.data.indexing import build_index, note_places, verify_inputs
from mlxprune.data.readers import HARMLESS_REASONS
from mlxprune.data.sources import Source
from mlxprune.errors import DataError
from mlxprune.experiment.artifacts import open_run_corpus, open_run_tokens
from mlxprune.experiment.budgets import pool_need
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import files_identity, fingerprint_of, folder_in_the_making, read_json
from mlxprune.machine import cores
from mlxprune.model.weights import fetch_model
from mlxprune.planning.cost_model import CorpusTokens, estimate_costs
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import read_marker
from mlxprune.run.stage import Artifact, RunContext, run_stage, stage_progress
from mlxprune.selection.metric import refuse_unknown_domains
from mlxprune.selection.ranking import refuse_nothing
from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
from mlxprune.tokenization.token_file import TOKENS_VERSION, encode_corpus
from mlxprune.tokenization.tokenizer import (
    TOKENIZER_FILES,
    TOKENIZER_VERSION,
    copy_tokenizer,
    fetch_tokenizer,
    load_tokenizer,
)

# --- the stages, in order ---------------------------------------------------------------------


def _corpus_inputs(config: Config, facts: list[dict[str, Any]]) -> dict[str, Any]:
    files = [[f["name"], f["size"], f["edges"]] for f in facts]
    aside = ("paths", "max_bad")  # where the files lie and how many bad rows are borne
    settings = {k: v for k, v in config.data.results().items() if k not in aside}
    return {"version": CORPUS_VERSION, "data": settings, "files": files}


def refuse_changed_inputs(
    config: Config,
    run_folder: RunFolder,
    sources: list[Source],
    facts: list[dict[str, Any]],
) -> None:
    known = read_marker(run_folder.corpus)
    if known is None:
        return
    if known["fingerprint"] != fingerprint_of(_corpus_inputs(config, facts)):
        fix = "start a new run with another --dir; a run keeps its corpus"
        raise DataError("the input files changed since this run began", str(run_folder.path), fix)
    verify_inputs(run_folder.corpus, sources, facts)


def index_corpus(
    work: RunContext, sources: list[Source], left_out: list[str], facts: list[dict[str, Any]]
) -> None:
    work.inputs["corpus"] = _corpus_inputs(work.config, facts)
    folder = work.run.corpus
    if read_marker(folder) is not None:
        note_places(folder, sources)
    if left_out:
        names = ", ".join(Path(p).name for p in left_out[:5])
        more = ", ..." if len(left_out) > 5 else ""
        work.warn("corpus", f"{len(left_out)} other files are left out: {names}{more}")

    def build() -> dict[str, Any]:
        with folder_in_the_making(folder) as partial:
            report = stage_progress(work, "corpus", "files")
            return build_index(work.config.data, sources, left_out, partial, report)

    run_stage(work, "corpus", [Artifact(folder, work.fingerprint("corpus"), build)])
    found = open_run_corpus(work.run, work.config)
    for choice in work.config.slices:
        refuse_unknown_domains(choice, tuple(found.domains))
    for reason, count in found.summary["skipped"].items():
        if reason not in HARMLESS_REASONS:
            work.warn("corpus", f"{count} rows skipped: {reason} (corpus/bad-rows.jsonl)")


def split_corpus(work: RunContext) -> None:
    work.inputs["split"] = {
        "version": split.SPLIT_VERSION,
        "seed": work.config.seed,
        "split": work.config.split.results(),
        "corpus": work.fingerprint("corpus"),
    }

    def build() -> dict[str, Any]:
        with folder_in_the_making(work.run.split) as partial:
            corpus = open_run_corpus(work.run, work.config)
            return split.build(work.config, corpus, partial, pool_need(work.config))

    run_stage(work, "split", [Artifact(work.run.split, work.fingerprint("split"), build)])
    found = split.open_split(work.run.split)
    table = found.table
    if found.beyond_need:
        left = f"{found.beyond_need:,} documents are left out: the budgets need no larger pool"
        work.warn("split", f"{left} (--pool all, in a new run, takes them)")
    for part in ("train", "test", "validation"):
        if not table[part]["documents"]:
            fix = "give more documents, or set split shares by hand"
            raise DataError(f"the {part} part has no document", str(work.run.split), fix)
    for choice in work.config.slices:
        refuse_nothing(choice, table["train"]["documents"])
    missing = split.without(table, "test")
    if missing:
        count = len(table["test"]["domains"])
        names = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        held = f"macro is over {count - len(missing)} of {count} domains"
        work.warn("split", f"no test document in {names}: {held}")
    few = split.too_few(table, "test")
    if few:
        names = ", ".join(few[:8]) + (", ..." if len(few) > 8 else "")
        limit = split.HELD_OUT_DOCUMENTS
        work.warn("split", f"too few test documents (under {limit}) to say much about: {names}")


def train_or_copy_tokenizer(work: RunContext) -> None:
    settings = work.config.tokenizer
    inputs: dict[str, Any] = {"version": TOKENIZER_VERSION, "tokenizer": settings.results()}
    if settings.train:
        inputs["split"] = work.fingerprint("split")
    else:
        source = fetch_tokenizer(str(settings.pretrained))
        inputs["files"] = files_identity(source, TOKENIZER_FILES)
    work.inputs["tokenizer"] = inputs
    folder = work.run.tokenizer

    def build() -> dict[str, Any]:
        with folder_in_the_making(folder) as partial:
            if settings.pretrained:
                copy_tokenizer(source, partial)
                return {"pretrained": settings.pretrained}
            assert settings.train
            texts = _texts_to_learn_from(work, settings.train.max_bytes)
            return train_tokenizer(settings.train, texts, cores(), partial)

    run_stage(work, "tokenizer", [Artifact(folder, work.fingerprint("tokenizer"), build)])


def _texts_to_learn_from(work: RunContext, most: int) -> Iterator[str]:
    """The reference part, or with cross-scoring the pool; of more text than is read, a sample."""
    which = split.TRAIN if work.config.split.cross else split.REFERENCE
    members = split.open_split(work.run.split).members(which)
    if not len(members):
        fix = "set split.reference, or use tokenizer.pretrained"
        raise DataError("no reference document to train on", str(work.run.split), fix)
    names = open_run_corpus(work.run, work.config)
    size = int(names.index["bytes"][members].sum())
    if size > most:
        drawn = mix(names.index["key"][members], f"tokenizer {work.config.seed}")
        members = members[drawn.astype(np.float64) / 2.0**64 < 1.05 * most / size]
    wanted = np.zeros(len(names), bool)
    wanted[members] = True
    return (text for _, text in names.texts(wanted))


def encode_tokens(work: RunContext) -> None:
    work.inputs["tokens"] = {
        "version": TOKENS_VERSION,
        "split": work.fingerprint("split"),
        "tokenizer": work.fingerprint("tokenizer"),
    }
    pieces = [_tokens_piece(work, "main", work.run.tokenizer)]
    for scorer in scorers_of(work.config):
        if scorer.reference.pretrained:  # it scores with its own tokenizer
            source = fetch_model(scorer.reference.pretrained)
            pieces.append(_tokens_piece(work, scorer.tokenizer, source))
    run_stage(work, "tokens", pieces)
    held = open_run_tokens(work.run)
    facts = read_json(work.run.tokens() / "tokens.json")["parts"]
    parts = (
        facts.get(str(p), 0) for p in (split.REFERENCE, split.TRAIN, split.VALIDATION, split.TEST)
    )
    sizes = CorpusTokens(len(held.ids), *parts)
    flops = estimate_costs(work.config, sizes, False)["stage_flops"]
    work.log.emit("tokens", "forecast", flops=flops)


def _tokens_piece(work: RunContext, name: str, tokenizer_folder: Path) -> Artifact:
    folder = work.run.tokens(name)
    identity = files_identity(tokenizer_folder, TOKENIZER_FILES)

    def build() -> dict[str, Any]:
        with folder_in_the_making(folder) as partial:
            return encode_corpus(
                open_run_corpus(work.run, work.config),
                split.open_split(work.run.split).part,
                split.LEFT_OUT,
                load_tokenizer(tokenizer_folder),
                partial,
                stage_progress(work, "tokens", "bytes"),
            )

    return Artifact(folder, fingerprint_of(work.fingerprint("tokens"), identity), build)
