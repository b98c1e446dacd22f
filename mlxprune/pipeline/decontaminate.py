"""Cleaning: documents that hold items of the tasks, left out of the pool before it is scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.data import split
from mlxprune.evaluation import requests
from mlxprune.evaluation.contamination import CONTAMINATION_VERSION, find_traces, text_of
from mlxprune.evaluation.tasks import find_tasks, read_task
from mlxprune.experiment.artifacts import cleaned, cleans, open_run_corpus
from mlxprune.files import fingerprint_of, folder_in_the_making
from mlxprune.run.markers import mark_done, read_marker, set_aside
from mlxprune.run.stage import RunContext, adding_progress, stage_progress


def clean(work: RunContext) -> dict[str, Any]:
    """Find the documents once; what the scores' fingerprints then depend on, too ({} where nobody
    asked). All items of the tasks count, whatever ``evaluation.limit`` asks later."""
    if not cleans(work.config):
        return {}
    settings = work.config.evaluation
    found = find_tasks(settings.tasks, settings.gauntlet)
    place = cleaned(work.run)
    wanted = fingerprint_of(
        CONTAMINATION_VERSION, requests.requests_identity(found, None, 0), work.fingerprint("split")
    )
    if not set_aside(place, wanted):
        names = open_run_corpus(work.run, work.config)
        parts = split.open_split(work.run.split)
        mask = np.zeros(len(names), bool)
        mask[parts.members(split.TRAIN)] = mask[parts.members(split.REFERENCE)] = True
        texts = [text_of(item) for task in found.tasks for item in read_task(task).items]
        report = stage_progress(work, "score", "bytes", "search for items of the tasks")
        more = adding_progress(report, int(names.index["bytes"][mask].sum()))
        hits = np.unique(find_traces(texts, names.texts(mask), more).document)
        with folder_in_the_making(place) as partial:
            np.save(partial / "documents.npy", hits)
        mark_done(place, "score", wanted, documents=len(hits))
    count = (read_marker(place) or {})["documents"]
    if count:
        what = "1 document holds" if count == 1 else f"{count:,} documents hold"
        work.warn("score", f"{what} items of the tasks: left out of all arms")
    return {"without": wanted}
