"""Target: the user's own text that the final model is meant for, indexed and encoded once a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.config.data import Data, SourceEntry
from mlxprune.config.schema import Config
from mlxprune.data.index import CORPUS_VERSION, Corpus, open_corpus
from mlxprune.data.indexing import note_places
from mlxprune.data.sources import find_sources
from mlxprune.errors import DataError
from mlxprune.execution.context import Execution
from mlxprune.execution.stage import in_place
from mlxprune.files import files_identity, fingerprint_of, full_hash
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import mark_done
from mlxprune.tokenization.prepare import encode_into, index_into
from mlxprune.tokenization.token_file import TOKENS_VERSION, Tokens, open_tokens
from mlxprune.tokenization.tokenizer import TOKENIZER_FILES


def target_data(config: Config) -> Data:
    """Its files, read by the keys of the corpus."""
    keys = ("text_key", "id_key", "domain_key", "max_bad")
    given = {key: getattr(config.data, key) for key in keys}
    paths = [SourceEntry(path=path) for path in config.evaluation.target]
    return Data(paths=paths, **given)


def target_identity(config: Config) -> str | None:
    """What the target's index depends on; None where there is no target."""
    if not config.evaluation.target:
        return None
    settings = target_data(config)
    sources = find_sources(settings).sources
    files = [[source.name, full_hash(source.path)] for source in sources]
    rest = settings.identity() | {"max_bad": settings.max_bad}
    return fingerprint_of(CORPUS_VERSION, TOKENS_VERSION, rest, files)


def target_folder(run: RunFolder) -> Path:
    return run.path / "target"


def prepare_target(execution: Execution) -> tuple[Corpus, Tokens, np.ndarray]:
    """The target, made if it is not there: its index, its tokens, the documents that have any."""
    run, config = execution.run, execution.config
    settings = target_data(config)
    place = RunFolder(target_folder(run))
    indexed = str(target_identity(config))
    if not in_place(execution, "evaluation", place.corpus, indexed):
        index_into(place.corpus, settings, find_sources(settings))
        mark_done(place.corpus, "evaluation", indexed)
    note_places(place.corpus, find_sources(settings).sources)
    names = open_corpus(place.corpus, settings)
    own = files_identity(run.tokenizer, TOKENIZER_FILES)
    encoded = fingerprint_of(indexed, own)
    if not in_place(execution, "evaluation", place.tokens(), encoded):
        encode_into(place.tokens(), names, run.tokenizer)
        mark_done(place.tokens(), "evaluation", encoded)
    return open_target(run, config)


def open_target(run: RunFolder, config: Config) -> tuple[Corpus, Tokens, np.ndarray]:
    """What ``prepare_target`` made."""
    place = RunFolder(target_folder(run))
    names = open_corpus(place.corpus, target_data(config))
    tokens = open_tokens(place.tokens())
    documents = np.arange(len(names))
    documents = documents[tokens.lengths(documents) > 0]
    if not len(documents):
        where = ", ".join(config.evaluation.target)
        raise DataError("the target has no token", where, "give files with text")
    return names, tokens, documents
