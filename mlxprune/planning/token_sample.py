"""Token sample: how many tokens a corpus really is, from a tokenizer trained on some of its text.

Before there is a tokenizer, a study counts tokens by a usual length in bytes (``data/split.py``),
and cuts its parts by it. What these parts then hold depends on the text: code has other tokens than
prose. A plan says it from a sample.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from mlxprune import machine
from mlxprune.config.schema import Config, TrainTokenizer
from mlxprune.data import split
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row, auto_domain, row_of
from mlxprune.data.sampling import sample_file
from mlxprune.data.sources import FoundFiles, Source
from mlxprune.errors import MlxpruneError
from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
from mlxprune.tokenization.tokenizer import Tokenizer, fetch_tokenizer, load_tokenizer

SAMPLE_BYTES = 5_000_000  # of text, over all files
SAMPLE_ROWS = 400  # of a file
LONGEST = 50_000  # bytes of a document: more of one tells little of the others
HELD_OUT = 4  # every fourth document is measured, not learned from
LEAST_BYTES = 20_000  # that must be measured for a word on it

Texts = dict[str, list[str]]  # by domain


def tokens_per_counted(config: Config, found: FoundFiles, size: Mapping[str, float]) -> float:
    """How many tokens there are for each that the split counts; 1.0 where a sample tells nothing.

    ``size``: bytes of text by domain that the study uses, by which the domains are weighed.
    """
    texts = sample_texts(found)
    try:
        with tempfile.TemporaryDirectory(prefix="mlxprune-sample-") as name:
            tokenizer = _tokenizer(config, texts, Path(name))
            each = measured_bytes(tokenizer, texts)
    except MlxpruneError:  # too little text for the vocabulary, or a hub out of reach
        return 1.0
    known = {domain: size[domain] for domain in each if size.get(domain)}
    if not known:
        return 1.0
    tokens = sum(known[domain] / each[domain] for domain in known)
    return split.bytes_per_token(config) * tokens / sum(known.values())


def sample_texts(found: FoundFiles) -> Texts:
    """Some text of every file, from several places of it, by domain."""
    texts: Texts = defaultdict(list)
    share = SAMPLE_BYTES / max(1, len(found.sources))
    for source in found.sources:
        left = share
        for domain, text in _rows(source):
            texts[domain].append(text[:LONGEST])
            left -= len(texts[domain][-1])
            if left < 0:
                break
    return texts


def _rows(source: Source) -> list[tuple[str, str]]:
    """(domain, text) of some rows, spread over the sample of the file."""
    if source.form == "text":
        rows = [row for row in read_rows(source) if isinstance(row, Row)]
        return [(row.domain, row.text) for row in rows[:SAMPLE_ROWS]]
    try:
        sample = sample_file(source, SAMPLE_ROWS)
    except MlxpruneError:
        return []
    keys, domain_key = source.keys, source.keys.domain
    if domain_key == "auto" and keys.fixed is None:
        domain_key, _ = auto_domain(source.top, sample.values)
    found = []
    step = 7 if len(sample.values) % 7 else 5  # no order of the file decides which come first
    for number in range(len(sample.values)):
        value = sample.values[number * step % len(sample.values)]
        row = row_of(source.top, source.name, keys, domain_key, number, 0, value)
        if isinstance(row, Row):
            found.append((row.domain, row.text))
    return found


def _tokenizer(config: Config, texts: Texts, folder: Path) -> Tokenizer:
    """The pretrained one, or one trained on three quarters of the sample."""
    if config.tokenizer.pretrained:
        return load_tokenizer(fetch_tokenizer(config.tokenizer.pretrained))
    settings = config.tokenizer.train or TrainTokenizer()
    learned = (t for own in texts.values() for n, t in enumerate(own) if n % HELD_OUT)
    train_tokenizer(settings, learned, machine.cores(), folder)
    return load_tokenizer(folder)


def measured_bytes(tokenizer: Tokenizer, texts: Texts) -> dict[str, float]:
    """Bytes a token of every domain, on the documents that nothing was learned from."""
    found = {}
    for domain, own in texts.items():
        held_out = own[::HELD_OUT]
        tokens = sum(len(ids) for ids in tokenizer.encode(held_out))
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in held_out)
        if tokens and size >= LEAST_BYTES:
            found[domain] = size / tokens
    return found
