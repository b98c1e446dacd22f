"""Papers: an exam with its answers as files, and what of it people are told before it starts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import contamination, marks, runs, work
from mlxprune.corpus import Corpus
from mlxprune.exam import Exam
from mlxprune.runs import duration


def size(exam: Exam, seconds: float) -> str:
    """``32 tasks, 3,184 items, 2.1M tokens: about 2 min 10 s``."""
    shared = exam.whole / exam.inputs if exam.inputs else 1.0
    more = f" ({shared:.1f} times as many without shared contexts)" if shared > 1.05 else ""
    return (
        f"{len(exam.asked)} tasks, {len(exam.gold):,} items, {exam.inputs:,} tokens{more}: "
        f"about {duration(seconds)}"
    )


def tell_of_bad_lines(under_way: work.Work, exam: Exam) -> None:
    """Warn of what is no item, of answers that do not fit, and of tasks whose file is not there."""
    for asked in exam.asked:
        label = asked.task.label
        reasons = Counter(reason for _, reason, _ in asked.found.bad)
        for reason, count in sorted(reasons.items()):
            what = "1 line is no item" if count == 1 else f"{count:,} lines are no items"
            under_way.warn("evaluation", f"{label}: {what}: {reason}")
        if asked.left_out:
            what = f"the answers of {len(asked.left_out):,} items do not fit the model's context"
            under_way.warn("evaluation", f"{label}: {what}: left out")
    if exam.absent:
        names = ", ".join(exam.absent)
        under_way.warn("evaluation", f"no file for {names}: left out of the category's mean")


def write_items(exam: Exam, answers: np.ndarray, path: Path) -> None:
    """One row an item: where it stands, what was right, what the model chose, and the negative
    log-likelihood in nats, tokens and bytes of every choice. Nothing is rounded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = marks.of_items(exam, answers)
    labels = [asked.task.label for asked in exam.asked]
    counts = [asked.stop - asked.first for asked in exam.asked]
    task = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(labels), dtype=np.int32), counts)), pa.array(labels)
    )
    offsets = pa.array(exam.offsets.astype(np.int32))

    def lists(values: np.ndarray) -> Any:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    table = pa.table(
        {
            "task": task,
            "row": pa.array([row for asked in exam.asked for row in asked.rows], pa.int64()),
            "group": pa.array(exam.group),
            "gold": pa.array(exam.gold),
            "prediction": pa.array(found.prediction),
            "correct": pa.array(found.correct),
            "nll": lists(answers["nll"]),
            "greedy": lists(answers["hit"]),
            "num_tokens": lists(exam.tokens),
            "num_bytes": lists(exam.bytes),
        }
    ).replace_schema_metadata({"metric_version": str(marks.METRIC_VERSION)})
    partial = path.with_name(path.name + runs.PARTIAL)
    pq.write_table(table, partial)
    runs.finish_file(partial, path)


def write_bad_lines(exam: Exam, path: Path) -> None:
    """Every line that is no item: file, row, reason, how it begins."""
    rows = [
        {"file": str(asked.task.path), "row": row, "reason": reason, "start": start}
        for asked in exam.asked
        for row, reason, start in asked.found.bad
    ]
    if rows:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        runs.write_atomic(path, lines)
    else:
        path.unlink(missing_ok=True)


def contaminated(
    under_way: work.Work, exam: Exam, corpus: Corpus, wanted: np.ndarray
) -> contamination.Found:
    """The items of an exam in the ``wanted`` documents (bool, a document each) of a corpus."""
    texts = []
    for asked in exam.asked:
        by_row = {item.row: item for item in asked.found.items}
        texts += [contamination.text_of(by_row[row]) for row in asked.rows]
    report = work.progress(under_way, "evaluation", "bytes")
    done, total = 0, int(corpus.index["bytes"][wanted].sum())

    def progress(characters: int) -> None:
        nonlocal done
        done = min(total, done + characters)
        report(done, total)

    return contamination.find(texts, corpus.texts(wanted), progress)


def by_task(exam: Exam, items: np.ndarray) -> dict[str, list[int]]:
    """Rows of the tasks' files, of items of the exam."""
    found = np.unique(items)
    return {
        asked.task.label: [
            asked.rows[n - asked.first] for n in found.tolist() if asked.first <= n < asked.stop
        ]
        for asked in exam.asked
    }
