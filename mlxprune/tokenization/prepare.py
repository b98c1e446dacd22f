"""Prepare: index and encode any files, or reuse what stands there for the same input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data.index import CORPUS_VERSION, Corpus, open_corpus
from mlxprune.data.indexing import build_index, input_facts
from mlxprune.data.sources import find_sources
from mlxprune.files import files_identity, fingerprint_of, folder_in_the_making
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import RunFolder
from mlxprune.run.stage import Artifact, RunContext, run_stage, stage_progress
from mlxprune.tokenization.token_file import TOKENS_VERSION, Tokens, encode_corpus, open_tokens
from mlxprune.tokenization.tokenizer import TOKENIZER_FILES, load_tokenizer

# A corpus that is used whole has one part.
WHOLE = 0


def prepare_text(
    config: Config, folder: Path, tokenizer_folder: Path, log: EventLog, control: Control
) -> tuple[Corpus, Tokens]:
    """Index and encode the data under ``folder``, or reuse what stands there for the same input."""
    sources, left_out = find_sources(config.data.paths)
    facts = input_facts(sources)
    settings = {k: v for k, v in config.data.results().items() if k != "paths"}
    files = [[f["name"], f["size"], f["edges"]] for f in facts]
    indexed = fingerprint_of(CORPUS_VERSION, settings, files)
    under_way = RunContext(config, RunFolder(folder), log, control)

    def index() -> dict[str, Any]:
        with folder_in_the_making(under_way.run.corpus) as partial:
            return build_index(config.data, sources, left_out, partial)

    run_stage(under_way, "corpus", [Artifact(under_way.run.corpus, indexed, index)])
    found = open_corpus(under_way.run.corpus, config.data)
    identity = files_identity(tokenizer_folder, TOKENIZER_FILES)
    encoded = fingerprint_of(TOKENS_VERSION, indexed, identity)

    def encode() -> dict[str, Any]:
        with folder_in_the_making(under_way.run.tokens()) as partial:
            return encode_corpus(
                found,
                np.full(len(found), WHOLE, np.uint8),
                -1,
                load_tokenizer(tokenizer_folder),
                partial,
                stage_progress(under_way, "tokens", "bytes"),
            )

    run_stage(under_way, "tokens", [Artifact(under_way.run.tokens(), encoded, encode)])
    return found, open_tokens(under_way.run.tokens())
