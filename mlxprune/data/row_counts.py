"""Row counts: what was read of a file, row by row."""

from __future__ import annotations

from collections import Counter

import msgspec

from mlxprune.data.rows import HARMLESS_REASONS, Row, Skip
from mlxprune.records import Json, Record

TEXTS_SEEN = 200  # rows without a text whose keys are counted


class FileCounts(Record):
    """What a piece of the input held of one file."""

    rows: int = 0
    documents: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    bad_by_domain: dict[str, int] = msgspec.field(default_factory=dict)
    documents_by_domain: dict[str, int] = msgspec.field(default_factory=dict)
    texts: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # of rows without the text key: how much text each key holds
    has_domain: bool = False  # in any row
    has_group: bool = False
    has_id: bool = False
    refused_domains: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    problem: tuple[str, str] | None = None  # and what to do


class RowCounter:
    """Counts the rows of one file; ``notes`` are what its reader says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counts = FileCounts()
        self.skipped: Counter[str] = Counter()
        self.bad_by_domain: Counter[str] = Counter()
        self.by_domain: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.without_text = 0

    def add(self, row: Row | Skip) -> None:
        counts = self.counts
        counts.rows += 1
        if isinstance(row, Row):
            counts.documents += 1
            counts.has_domain |= row.has_domain
            counts.has_group |= row.has_group
            counts.has_id |= row.has_id
            self.by_domain[row.domain] += 1
            return
        self.skipped[row.reason] += 1
        if row.reason not in HARMLESS_REASONS:
            self.bad_by_domain[row.domain] += 1
        if row.texts and self.without_text < TEXTS_SEEN:
            self.without_text += 1
            self.texts.update(dict(row.texts))

    def finished(self) -> FileCounts:
        return msgspec.structs.replace(
            self.counts,
            skipped=dict(self.skipped),
            bad_by_domain=dict(self.bad_by_domain),
            documents_by_domain=dict(self.by_domain),
            texts=dict(self.texts),
            notes=self.notes,
        )


def bad_row_note(file: int | str, skip: Skip) -> Json:
    """A line of bad-rows.jsonl."""
    start = skip.start.encode("utf-8", "backslashreplace").decode("utf-8")
    return {"file": file, "row": skip.number, "reason": skip.reason, "start": start}
