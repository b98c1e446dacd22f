"""Corpus sample: how large a corpus is, about, from some rows of every file."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.accounts import Account, notes_on, refuse_bad_input
from mlxprune.data.index import CorpusSummary
from mlxprune.data.mix import MixShare, groups_of, used_bytes
from mlxprune.data.readers import text_domain
from mlxprune.data.rows import HARMLESS_REASONS, Row, auto_domain, row_of
from mlxprune.data.sampling import expansion, sample_file
from mlxprune.data.sources import FoundFiles, Source
from mlxprune.errors import DataError

SAMPLE_ROWS = 400  # of a file


def sampled_sizes(
    config: Config, found: FoundFiles
) -> tuple[CorpusSummary, split.DomainSizes, list[MixShare]]:
    """The counts of a corpus, its sizes after mix and limit, and what the mix takes, about. Raises
    DataError where the rows that were read will not do."""
    accounts: list[Account] = []
    documents: Counter[tuple[int, str]] = Counter()  # by entry and domain, scaled
    size: Counter[tuple[int, str]] = Counter()
    skipped = Counter[str]()
    for source in found.sources:
        account, factor, sizes = _of_file(source)
        accounts.append(account)
        for domain, number in account.documents_by_domain.items():
            documents[source.entry, domain] += round(number * factor)
            size[source.entry, domain] += round(sizes[domain] * factor)
        skipped.update({reason: round(n * factor) for reason, n in account.skipped.items()})
    refuse_bad_input(config.data, accounts, found.problems, sampled=True)
    names = sorted({domain for _, domain in documents})
    by_domain = {d: sum(n for (_, name), n in documents.items() if name == d) for d in names}
    bytes_by_domain = {d: sum(n for (_, name), n in size.items() if name == d) for d in names}
    summary = CorpusSummary(
        files=len(found.sources),
        rows=sum(by_domain.values()) + sum(skipped.values()),
        documents=sum(by_domain.values()),
        bytes=sum(bytes_by_domain.values()),
        domains=by_domain,
        domain_bytes=bytes_by_domain,
        skipped=dict(sorted(skipped.items())),
        duplicate_ids=0,
        duplicate_texts=0,
        exact=False,
        files_left_out=dict(Counter(left.why for left in found.left_out)),
        left_out=[left.path for left in found.left_out],
        notes=notes_on(accounts, by_domain),
    )
    kept, shares = _mixed(config, names, documents, size)
    sizes_now = {d: sum(n * kept[key] for key, n in size.items() if key[1] == d) for d in names}
    total = sum(sizes_now.values())
    limit = 1.0
    count = sum((n * kept[key] for key, n in documents.items()), 0.0)
    if (most := config.data.limit_documents()) is not None:
        limit = min(1.0, most / max(count, 1))
    elif (tokens := config.data.limit_tokens()) is not None:
        limit = min(1.0, tokens * split.bytes_per_token(config) / max(total, 1))
    docs_now = {d: sum(n * kept[key] for key, n in documents.items() if key[1] == d) for d in names}
    sizes_of = split.DomainSizes(
        {d: limit * n for d, n in docs_now.items()}, {d: limit * n for d, n in sizes_now.items()}
    )
    return summary, sizes_of, shares


def _of_file(source: Source) -> tuple[Account, float, Counter[str]]:
    """(what was read of the file, how many rows stand for each that was, bytes by domain)."""
    account, sizes = Account(source), Counter[str]()
    if source.form == "text":
        domain = text_domain(source)
        account.rows = account.documents = 1
        account.documents_by_domain[domain] = 1
        sizes[domain] = round(source.path.stat().st_size * expansion(source))
        return account, 1.0, sizes
    try:
        sample = sample_file(source, SAMPLE_ROWS)
    except DataError as error:
        account.problem = (error.problem, error.fix)
        return account, 1.0, sizes
    keys, domain_key = source.keys, source.keys.domain
    if domain_key == "auto" and keys.fixed is None:
        domain_key, refused = auto_domain(source.top, sample.values)
        account.refused_domains.update(refused)
    for number, value in enumerate(sample.values):
        row = row_of(source.top, source.name, keys, domain_key, number, 0, value)
        account.rows += 1
        if isinstance(row, Row):
            account.documents += 1
            account.documents_by_domain[row.domain] += 1
            sizes[row.domain] += len(row.text.encode("utf-8"))
            account.has_domain |= row.has_domain
            account.has_group |= row.has_group
            account.has_id |= row.has_id
        else:
            account.skipped[row.reason] += 1
            account.bad_by_domain[row.domain] += row.reason not in HARMLESS_REASONS
            account.texts.update(dict(row.texts))
    return account, sample.rows / max(len(sample.values), 1), sizes


def _mixed(
    config: Config,
    names: list[str],
    documents: Counter[tuple[int, str]],
    size: Counter[tuple[int, str]],
) -> tuple[dict[tuple[int, str], float], list[MixShare]]:
    """(the share that the mix takes of every entry and domain, the shares of the mix)."""
    if not config.data.mixes:
        return dict.fromkeys(documents, 1.0), []
    groups = groups_of(config.data, names)
    by_domain = config.data.mix is not None

    def group(key: tuple[int, str]) -> int:
        return names.index(key[1]) if by_domain else key[0]

    count = len(groups.names)
    available, there = np.zeros(count), np.zeros(count)
    for key in documents:
        available[group(key)] += size[key]
        there[group(key)] += documents[key]
    tokens = config.data.limit_tokens()
    most = None if tokens is None else tokens * split.bytes_per_token(config)
    used = used_bytes(groups, available, most)
    kept = used / np.maximum(available, 1)
    shares = [
        MixShare(
            name=groups.names[i],
            share=float(groups.wanted[i]),
            documents=round(there[i]),
            bytes=round(available[i]),
            used_documents=round(there[i] * kept[i]),
            used_bytes=round(used[i]),
        )
        for i in range(count)
    ]
    return {key: float(kept[group(key)]) for key in documents}, shares
