"""Decontaminate: documents that hold items of the tasks, left out before the pool is scored."""

from __future__ import annotations

import numpy as np

from mlxprune.data import split
from mlxprune.evaluation import requests
from mlxprune.evaluation.contamination import CONTAMINATION_VERSION, find_traces, text_of
from mlxprune.evaluation.tasks import find_tasks, read_task
from mlxprune.execution.progress import adding_progress, stage_progress
from mlxprune.execution.stage import in_place
from mlxprune.experiment.artifacts import StudyExecution, leaves_out_items
from mlxprune.files import fingerprint_of, folder_in_the_making
from mlxprune.run.markers import mark_done, read_marker


def decontaminate(study: StudyExecution) -> dict[str, str]:
    """Find the documents once; what the scores' fingerprints then depend on, too ({} where nobody
    asked). All items of the tasks count, whatever ``evaluation.limit`` asks later."""
    if not leaves_out_items(study.config):
        return {}
    settings, held = study.config.evaluation, study.held
    tasks = find_tasks(settings.tasks, settings.gauntlet)
    identity = requests.requests_identity(tasks, None, 0)
    wanted = fingerprint_of(CONTAMINATION_VERSION, identity, study.fingerprint("split"))
    place = held.cleaned
    if not in_place(study, "score", place, wanted):
        mask = np.zeros(len(held.corpus), bool)
        for part in (split.TRAIN, split.REFERENCE):
            mask[held.split.members(part)] = True
        texts = [text_of(item) for task in tasks.tasks for item in read_task(task).items]
        report = stage_progress(study, "score", "bytes", "search for items of the tasks")
        more = adding_progress(report, int(held.corpus.index["bytes"][mask].sum()))
        hits = np.unique(find_traces(texts, held.corpus.texts(mask), more).document)
        with folder_in_the_making(place) as partial:
            np.save(partial / "documents.npy", hits)
        mark_done(place, "score", wanted, documents=len(hits))
    marker = read_marker(place)
    count = (marker.documents if marker else None) or 0
    if count:
        what = "1 document holds" if count == 1 else f"{count:,} documents hold"
        study.warn("score", f"{what} items of the tasks: left out of all arms")
    return {"without": wanted}
