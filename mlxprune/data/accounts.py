"""Accounts: what was read of every file, and whether that will do.

A file or domain of which no row can be read is an error whatever ``data.max_bad`` says, and a file
is judged by that share as though it were alone. All that is wrong is told at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlxprune.config.data import Data
from mlxprune.data.row_counts import FileCounts
from mlxprune.data.rows import HARMLESS_REASONS, NO_DOMAIN, row_keys_of
from mlxprune.data.sources import FileProblem, Source
from mlxprune.errors import DataError, one_line

MANY_DOMAINS = 200  # above which a table of them says nothing, and matched and macro mean little
FEW = 10  # rows that can be mended by hand
NAMED = 12  # keys that a message lists
LISTED = 40  # problems that a message lists
OWN_KEYS = "data.paths: [{{path: {name}, text_key: {key}}}]"


@dataclass
class Account:
    """What was read of one file."""

    source: Source
    rows: int = 0
    documents: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    bad_by_domain: Counter[str] = field(default_factory=Counter)
    documents_by_domain: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    has_domain: bool = False
    has_group: bool = False
    has_id: bool = False
    refused_domains: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    problem: tuple[str, str] | None = None

    def add(self, part: FileCounts) -> None:
        """What a piece of the input held of it."""
        self.rows += part.rows
        self.documents += part.documents
        self.skipped.update(part.skipped)
        self.bad_by_domain.update(part.bad_by_domain)
        self.documents_by_domain.update(part.documents_by_domain)
        self.texts.update(part.texts)
        self.has_domain |= part.has_domain
        self.has_group |= part.has_group
        self.has_id |= part.has_id
        self.refused_domains.update(part.refused_domains)
        self.notes += [note for note in part.notes if note not in self.notes]
        self.problem = self.problem or part.problem

    @property
    def bad(self) -> int:
        """Rows that count towards data.max_bad."""
        return sum(n for reason, n in self.skipped.items() if reason not in HARMLESS_REASONS)


def refuse_bad_input(
    data: Data, accounts: list[Account], found: list[FileProblem], sampled: bool = False
) -> None:
    """Raises DataError with all that is wrong: ``found`` before any row was read, and what the
    accounts say. Of ``sampled`` rows only what is wrong with all of a file's counts: shares of so
    few are none of the file's."""
    problems = [*found, *problems_of(data, accounts, sampled)]
    if problems and len({p.problem for p in problems}) == 1:  # one mistake, once
        where = ", ".join(p.path for p in problems[:3]) + (", ..." if len(problems) > 3 else "")
        fix = problems[0].fix
        if len(problems) == len(accounts) > 1:
            texts = _texts_of(accounts)
            fix = _text_key_fix(accounts[0], texts, 1) if texts else fix
        raise DataError(problems[0].problem, where, fix)
    if problems:
        details = [f"{p.path}: {p.problem}; {p.fix}" for p in problems[:LISTED]]
        more = len(problems) - LISTED
        details += [f"and {more} more"] if more > 0 else []
        files = {p.path for p in problems}
        raise DataError(
            f"{len(files)} of {len(accounts) + len(found)} files cannot be used as they are",
            "data.paths",
            "mend each as its line says, or leave it out",
            details,
        )
    if not any(account.documents for account in accounts):
        where = ", ".join(str(a.source.path) for a in accounts[:3])
        raise DataError("no documents", where, "check data.paths and data.text_key")


def problems_of(data: Data, accounts: list[Account], sampled: bool = False) -> list[FileProblem]:
    """What is wrong with the files that were read, in canonical order; then with domains, keys and
    the whole."""
    problems: list[FileProblem] = []
    for members in _judged_together(accounts):
        problem = _of_files(data, members, len(accounts), sampled)
        if problem is not None:
            problems.append(problem)
    if problems or sampled:
        return problems
    problems = _of_domains(accounts) or _of_keys(data, accounts)
    rows, bad = sum(a.rows for a in accounts), sum(a.bad for a in accounts)
    if not problems and bad > data.max_bad * rows:
        reasons = reasons_of(sum((a.skipped for a in accounts), Counter()))
        problems.append(_too_bad(data, "data.paths", bad, rows, reasons))
    return problems


def _judged_together(accounts: list[Account]) -> Iterable[list[Account]]:
    """One file each, but the files of plain text of an entry as one: a file is a row there."""
    texts: dict[int, list[Account]] = {}
    for account in accounts:
        if account.source.form == "text" and account.problem is None:
            texts.setdefault(account.source.entry, []).append(account)
        else:
            yield [account]
    yield from texts.values()


def _of_files(data: Data, members: list[Account], files: int, sampled: bool) -> FileProblem | None:
    first = members[0]
    path = str(first.source.path)
    if len(members) > 1:
        path = f"{first.source.path.parent} ({len(members)} files of text)"
    if first.problem is not None:
        return FileProblem(path, *first.problem)
    skipped: Counter[str] = sum((a.skipped for a in members), Counter())
    rows, documents = sum(a.rows for a in members), sum(a.documents for a in members)
    bad, texts = sum(a.bad for a in members), _texts_of(members)
    if bad and not documents:
        if skipped["missing_text"]:
            asked = " or ".join(repr(key) for key in first.source.keys.text)
            problem = f"no row has the text key {asked}: the rows have {_keys(texts)}"
            return FileProblem(path, problem, _text_key_fix(first, texts, files))
        problem = f"none of its {rows:,} rows is a document: {reasons_of(skipped)}"
        return FileProblem(path, problem, reason_fix(skipped))
    if bad > data.max_bad * rows and not sampled:
        have = f"; those without a text have {_keys(texts)}" if texts else ""
        found = _too_bad(data, path, bad, rows, reasons_of(skipped) + have)
        if texts and texts.most_common(1)[0][1]:
            keys = [*first.source.keys.text, texts.most_common(1)[0][0]]
            listed = ", ".join(map(one_line, keys))
            fix = f"give a list of keys, text_key: [{listed}], or raise data.max_bad"
            return FileProblem(path, found.problem, fix)
        return found
    return None


def _too_bad(data: Data, where: str, bad: int, rows: int, reasons: str) -> FileProblem:
    return FileProblem(
        where,
        f"{bad:,} of {rows:,} rows are bad, above data.max_bad = {data.max_bad:g}: {reasons}",
        "mend them, or raise data.max_bad",
    )


def _texts_of(members: list[Account]) -> Counter[str]:
    """With the keys that hold no text, which a sum of counters would drop."""
    texts: Counter[str] = Counter()
    for account in members:
        texts.update(account.texts)
    return texts


def reasons_of(skipped: Counter[str]) -> str:
    """Rows by reason, as words."""
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(skipped.items()))


def _keys(texts: Counter[str]) -> str:
    """The keys that there are, those with the most text first."""
    names = [one_line(key) for key, _ in texts.most_common(NAMED)]
    return ", ".join(names) + (", ..." if len(texts) > NAMED else "") if names else "no keys"


def _text_key_fix(account: Account, texts: Counter[str], files: int) -> str:
    likely = next((key for key, size in texts.most_common(1) if size), "KEY")
    if files == 1:
        return f"set data.text_key: {one_line(likely)}"
    return "write " + OWN_KEYS.format(name=account.source.path.name, key=one_line(likely))


def reason_fix(skipped: Counter[str]) -> str:
    """What to do about rows that are mostly skipped for one reason."""
    worst = next((r for r, _ in skipped.most_common() if r not in HARMLESS_REASONS), "")
    return {
        "invalid_utf8": "convert it to UTF-8",
        "bad_json": "it is no JSON Lines: check how it was written",
        "not_an_object": "write one object a line, with the text under a key",
        "text_not_a_string": "name a key that holds text",
        "too_many_fields": "put texts that hold the delimiter into quotes",
        "not_text": "give WET files, or extract the text of the pages first",
    }.get(worst, "check the file, or leave it out")


def _of_domains(accounts: list[Account]) -> list[FileProblem]:
    """Domains of which no row can be read."""
    documents: Counter[str] = sum((a.documents_by_domain for a in accounts), Counter())
    bad: Counter[str] = sum((a.bad_by_domain for a in accounts), Counter())
    lost = sorted(name for name in bad if not documents[name] and name != NO_DOMAIN)
    if len({*documents, *bad}) > MANY_DOMAINS:  # they are no domains, which is told
        return []
    problems = []
    for name in lost:
        holders = [a for a in accounts if a.bad_by_domain[name]]
        texts = _texts_of(holders)
        have = f"; the rows have {_keys(texts)}" if texts else ""
        what = f"none of the {bad[name]:,} rows of domain {one_line(name)!r} can be read{have}"
        skipped: Counter[str] = sum((a.skipped for a in holders), Counter())
        fix = reason_fix(skipped)
        if texts:
            fix = "give data.text_key a list: the first key that a row has is taken"
        elif bad[name] < FEW:
            fix += ", or mend the row" if bad[name] == 1 else ", or mend the rows"
        problems.append(FileProblem(str(holders[0].source.path), what, fix))
    return problems


def _of_keys(data: Data, accounts: list[Account]) -> list[FileProblem]:
    """Keys that were asked for and that no row has."""
    usual = row_keys_of(Data(paths=data.paths))
    problems = []
    for what, seen in (("domain", "has_domain"), ("group", "has_group"), ("id", "has_id")):
        asked: dict[str, list[Account]] = {}
        for account in accounts:
            keys = account.source.keys
            key = getattr(keys, what)
            by_place = what == "domain" and (key in ("auto", "file") or key.startswith("path:"))
            fixed = what == "domain" and keys.fixed is not None
            if key and not by_place and not fixed and account.source.form != "text":
                asked.setdefault(key, []).append(account)
        for key, members in asked.items():
            is_usual = key == getattr(usual, what)
            has_rows = any(a.documents for a in members)
            if is_usual or not has_rows or any(getattr(a, seen) for a in members):
                continue
            have = ", ".join(map(one_line, keys_there_are([a.source for a in members])[:NAMED]))
            fix = f"choose one of: {have or 'none'}"
            problems.append(FileProblem(f"data.{what}_key", f"no row has the key {key!r}", fix))
    return problems


def keys_there_are(sources: list[Source]) -> list[str]:
    """The keys of the first rows of the first files: for errors that name a key."""
    from mlxprune.data.containers import values_of

    found: dict[str, None] = {}
    for source in sources[:5]:
        if source.form == "text":
            continue
        for number, _, value in values_of(source, whole=True):
            found |= dict.fromkeys(map(str, value)) if isinstance(value, dict) else {}
            if number >= 100:
                break
    return list(found)


def notes_on(accounts: list[Account], domains: dict[str, int]) -> list[str]:
    """What a reader should know of input that will do: ``domains`` are documents by domain."""
    notes = []
    for account in accounts:
        notes += [f"{one_line(account.source.name)}: {note}" for note in account.notes]
    refused = Counter(key for a in accounts for key in a.refused_domains)
    for key, files in refused.items():
        example = next(a.source for a in accounts if key in a.refused_domains)
        where = one_line(example.name) if files == 1 else f"{files} files"
        notes.append(
            f"`{key}` of {where} names no domains: nearly all of its values differ (of addresses, "
            f"`domain_key: {{host: {key}}}` takes the hosts)"
        )
    singles = sum(count == 1 for count in domains.values())
    many = len(domains) > MANY_DOMAINS
    if many or (len(domains) > 20 and singles > len(domains) / 2):
        notes.append(
            f"{len(domains):,} domains, {singles:,} of one document: with so many, the matched "
            "control is nearly the slice itself and macro is a mean over single documents; name a "
            "coarser domain_key (file, path:1, {host: key})"
        )
    return notes
