"""Target: the user's own text that the final model is meant for, indexed and encoded once a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune import corpus, runs, sources, tokenizer, tokens
from mlxprune.config import Config, Data
from mlxprune.corpus import Corpus
from mlxprune.errors import DataError
from mlxprune.runs import RunFolder
from mlxprune.tokens import Tokens

ALL = 0  # its one part


def data_of(config: Config) -> Data:
    """Its files, read by the keys of the corpus."""
    keys = ("text_key", "id_key", "domain_key", "max_bad")
    given = {key: getattr(config.data, key) for key in keys}
    return Data(paths=config.evaluation.target, **given)


def identity(config: Config) -> str | None:
    """What the target's index depends on; None where there is no target."""
    if not config.evaluation.target:
        return None
    settings = data_of(config)
    found, _ = sources.find_sources(settings.paths)
    files = [[source.name, runs.full_hash(source.path)] for source in found]
    rest = {k: v for k, v in settings.results().items() if k != "paths"}
    return runs.fingerprint(corpus.VERSION, tokens.VERSION, rest, files)


def folder_of(run: RunFolder) -> Path:
    return run.path / "target"


def prepare(run: RunFolder, config: Config) -> tuple[Corpus, Tokens, np.ndarray]:
    """The target, made if it is not there: its index, its tokens, the documents that have any."""
    settings = data_of(config)
    place = RunFolder(folder_of(run))
    indexed = str(identity(config))
    if not runs.set_aside(place.corpus, indexed):
        found, left_out = sources.find_sources(settings.paths)
        with runs.folder_in_the_making(place.corpus) as partial:
            corpus.build(settings, found, left_out, partial)
        runs.mark(place.corpus, "evaluation", indexed)
    names = corpus.open_corpus(place.corpus, settings)
    own = runs.files_identity(run.tokenizer, tokenizer.TOKENIZER_FILES)
    encoded = runs.fingerprint(indexed, own)
    if not runs.set_aside(place.tokens(), encoded):
        with runs.folder_in_the_making(place.tokens()) as partial:
            part = np.full(len(names), ALL, np.uint8)
            reader = tokenizer.load(run.tokenizer)
            tokens.build(names, part, -1, reader, partial, lambda done, total: None)
        runs.mark(place.tokens(), "evaluation", encoded)
    return open_target(run, config)


def open_target(run: RunFolder, config: Config) -> tuple[Corpus, Tokens, np.ndarray]:
    """What ``prepare`` made."""
    place = RunFolder(folder_of(run))
    names = corpus.open_corpus(place.corpus, data_of(config))
    found = tokens.open_tokens(place.tokens())
    documents = np.arange(len(names))
    documents = documents[found.lengths(documents) > 0]
    if not len(documents):
        where = ", ".join(config.evaluation.target)
        raise DataError("the target has no token", where, "give files with text")
    return names, found, documents
