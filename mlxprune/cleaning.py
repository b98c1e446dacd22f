"""Cleaning: documents that hold items of the tasks, left out of the pool before it is scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune import contamination, exam, runs, split, study, tasks
from mlxprune.work import Work, adding, progress


def clean(work: Work) -> dict[str, Any]:
    """Find the documents once; what the scores' fingerprints then depend on, too ({} where nobody
    asked). All items of the tasks count, whatever ``evaluation.limit`` asks later."""
    if not study.cleans(work.config):
        return {}
    settings = work.config.evaluation
    found = tasks.find(settings.tasks, settings.gauntlet)
    place = study.cleaned(work.run)
    wanted = runs.fingerprint(
        contamination.VERSION, exam.identity(found, None, 0), work.fingerprint("split")
    )
    if not runs.set_aside(place, wanted):
        names = study.open_corpus(work.run, work.config)
        parts = split.open_split(work.run.split)
        mask = np.zeros(len(names), bool)
        mask[parts.members(split.TRAIN)] = mask[parts.members(split.REFERENCE)] = True
        texts = [
            contamination.text_of(item) for task in found.tasks for item in tasks.read(task).items
        ]
        report = progress(work, "score", "bytes", "search for items of the tasks")
        more = adding(report, int(names.index["bytes"][mask].sum()))
        hits = np.unique(contamination.find(texts, names.texts(mask), more).document)
        with runs.folder_in_the_making(place) as partial:
            np.save(partial / "documents.npy", hits)
        runs.mark(place, "score", wanted, documents=len(hits))
    count = (runs.marker(place) or {})["documents"]
    if count:
        what = "1 document holds" if count == 1 else f"{count:,} documents hold"
        work.warn("score", f"{what} items of the tasks: left out of all arms")
    return {"without": wanted}
