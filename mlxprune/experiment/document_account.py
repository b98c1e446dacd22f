"""Document account: what became of every row of the input, so that nothing vanishes."""

from __future__ import annotations

import numpy as np

from mlxprune.data import split
from mlxprune.data.index import CorpusCounts
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.records import Record
from mlxprune.run.markers import is_current

NO_TOKEN, UNSCORED, ITEMS = "no_token", "no_score", "holds_task_items"
# The parts that are used, by the names that people know them by.
USED = {
    split.REFERENCE: "reference", split.TRAIN: "pool", split.VALIDATION: "validation",
    split.TEST: "test",
}  # fmt: skip


class DocumentAccount(Record):
    """``rows`` of the input are ``skipped`` by reason (they are no documents), ``left_out`` by
    reason (documents that this study does not use) or ``used``, by part."""

    rows: int
    skipped: dict[str, int]
    left_out: dict[str, int]
    used: dict[str, int]

    @property
    def adds_up(self) -> bool:
        groups = (self.skipped, self.left_out, self.used)
        return self.rows == sum(sum(group.values()) for group in groups)


def planned_account(counts: CorpusCounts, beyond_mix: int, beyond_limit: int) -> DocumentAccount:
    """What is known before anything is split."""
    left_out = {"data.mix": beyond_mix, "data.limit": beyond_limit}
    used = counts.documents - beyond_mix - beyond_limit
    return DocumentAccount(
        rows=counts.rows or 0,
        skipped=counts.skipped,
        left_out={reason: n for reason, n in left_out.items() if n},
        used={"documents": used},
    )


def document_account(held: RunArtifacts, counts: CorpusCounts) -> DocumentAccount | None:
    """Of a run, as far as it is; None before it is split, and of corpora of old, whose rows were
    not counted."""
    run = held.run
    if not counts.rows or not is_current(run, run.split):
        return None
    summary, part = held.split.summary, np.asarray(held.split.part)
    left_out = {
        "data.mix": summary.beyond_mix,
        "data.limit": summary.beyond_limit,
        "split.pool": summary.beyond_need,
    }
    used = {name: int((part == code).sum()) for code, name in USED.items()}
    if is_current(run, run.tokens()):
        for code, name in USED.items():
            members = held.split.members(code)
            empty = int((held.tokens().lengths(members) == 0).sum())
            used[name] -= empty
            left_out[NO_TOKEN] = left_out.get(NO_TOKEN, 0) + empty
    if is_current(run, run.scores(held.config.primary_reference.name)):
        train = held.split.members(split.TRAIN)
        with_tokens = used["pool"]
        able = len(held.without_cleaned(train[held.tokens().lengths(train) > 0]))
        left_out[ITEMS] = with_tokens - able
        # Those without a token under a reference's own tokenizer have no score either.
        left_out[UNSCORED] = able - len(held.pool)
        used["pool"] = len(held.pool)
    return DocumentAccount(
        rows=counts.rows,
        skipped=counts.skipped,
        left_out={reason: n for reason, n in left_out.items() if n},
        used=used,
    )


def account_sentence(account: DocumentAccount) -> str:
    """One line: rows = used + left out + skipped, with the reasons."""

    def listed(group: dict[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in group.items())

    parts = [f"used {sum(account.used.values()):,} ({listed(account.used)})"]
    for words, group in (("left out", account.left_out), ("skipped", account.skipped)):
        if group:
            parts.append(f"{words} {sum(group.values()):,} ({listed(group)})")
    return f"{account.rows:,} rows: {'; '.join(parts)}"
