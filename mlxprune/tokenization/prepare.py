"""Prepare: index and encode any files, or reuse what stands there for the same input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.data import Data
from mlxprune.data import split
from mlxprune.data.index import (
    CORPUS_VERSION,
    Corpus,
    CorpusSummary,
    InputFile,
    open_corpus,
)
from mlxprune.data.indexing import build_index, input_facts, note_places
from mlxprune.data.sources import FoundFiles, find_sources
from mlxprune.execution.context import Execution
from mlxprune.execution.progress import stage_progress
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.files import files_identity, folder_in_the_making
from mlxprune.tokenization.token_file import (
    TOKENS_VERSION,
    Tokens,
    TokenSummary,
    encode_corpus,
    open_tokens,
)
from mlxprune.tokenization.tokenizer import TOKENIZER_FILES, load_tokenizer

# A corpus that is used whole has one part.
WHOLE = 0
Report = Callable[[int, int], None]


def files_read(data: Data, found: FoundFiles, files: list[InputFile]) -> list[list[Any]]:
    """What an index rests on of its files; with the entry of each, where entries have keys."""
    listed: list[list[Any]] = [[file.name, file.size, file.edges] for file in files]
    if "entries" in data.identity():
        for one, source in zip(listed, found.sources, strict=True):
            one.append(source.entry)
    return listed


def index_into(
    folder: Path,
    data: Data,
    found: FoundFiles,
    report: Report = lambda done, total: None,
) -> CorpusSummary:
    """Index files into a folder that appears whole, or not at all."""
    with folder_in_the_making(folder) as partial:
        return build_index(data, found, partial, report)


def encode_into(
    folder: Path,
    corpus: Corpus,
    tokenizer_folder: Path,
    report: Report = lambda done, total: None,
    part: np.ndarray | None = None,
) -> TokenSummary:
    """Encode a corpus into a folder that appears whole, or not at all; of one that is split, what
    is not left out."""
    whole = np.full(len(corpus), WHOLE, np.uint8)
    with folder_in_the_making(folder) as partial:
        return encode_corpus(
            corpus,
            whole if part is None else part,
            -1 if part is None else split.LEFT_OUT,
            load_tokenizer(tokenizer_folder),
            partial,
            report,
        )


def prepare_text(execution: Execution, tokenizer_folder: Path) -> tuple[Corpus, Tokens]:
    """Index and encode the data of the configuration into the execution's folder, or reuse what
    stands there for the same input."""
    data, run = execution.config.data, execution.run
    found = find_sources(data)
    settings = data.identity() | {"max_bad": data.max_bad}
    files = files_read(data, found, input_facts(found.sources))
    indexed = stage_progress(execution, "corpus", "bytes")
    index = Artifact(
        run.corpus,
        (CORPUS_VERSION, settings, files),
        lambda: index_into(run.corpus, data, found, indexed),
    )
    run_stage(execution, "corpus", [index], {})
    note_places(run.corpus, found.sources)
    corpus = open_corpus(run.corpus, data)
    report = stage_progress(execution, "tokens", "bytes")
    encoded = Artifact(
        run.tokens(),
        (TOKENS_VERSION, index.fingerprint, files_identity(tokenizer_folder, TOKENIZER_FILES)),
        lambda: encode_into(run.tokens(), corpus, tokenizer_folder, report),
    )
    run_stage(execution, "tokens", [encoded], {})
    return corpus, open_tokens(run.tokens())
