"""The pipeline: read this file first.

    corpus -> split -> tokenizer -> tokens -> reference -> score -> selection -> final
           -> evaluation -> report

Every arrow is a file in the run folder. A stage is a function that names its inputs and its pieces;
a piece whose fingerprint already stands in its marker is reused, anything else is built, and the
marker comes last. So a run that is started again does what is missing or out of date, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxprune.config.schema import Config
from mlxprune.data.indexing import input_facts
from mlxprune.data.sources import find_sources
from mlxprune.files import fingerprint_of, no_space_is_an_error, write_json
from mlxprune.pipeline.evaluate_arms import evaluate_arms
from mlxprune.pipeline.prepare_data import (
    encode_tokens,
    index_corpus,
    refuse_changed_inputs,
    split_corpus,
    train_or_copy_tokenizer,
)
from mlxprune.pipeline.score_pool import score_pool
from mlxprune.pipeline.select_slices import select_slices
from mlxprune.pipeline.train_arms import train_arms
from mlxprune.pipeline.train_references import train_references
from mlxprune.planning.cost_model import disk_bytes
from mlxprune.planning.plan import check_possible
from mlxprune.report.result import report_result
from mlxprune.run import lock
from mlxprune.run.control import Control
from mlxprune.run.events import EventLog
from mlxprune.run.folder import STAGES, RunFolder, check_same_study, take_commands
from mlxprune.run.markers import mark_done
from mlxprune.run.stage import (
    Artifact,
    RunContext,
    begin_run,
    finish_run,
    inputs_before,
    remember_inputs,
    run_stage,
)


def run_study(
    config: Config,
    run_folder: RunFolder,
    until: str | None = None,
    force: str | None = None,
    listeners: list[Any] | None = None,
) -> dict[str, Any]:
    """Run the stages that are missing or out of date; return the result that --json prints."""
    check_possible(config)
    check_same_study(run_folder, study_of(config))
    sources, left_out = find_sources(config.data.paths)
    facts = input_facts(sources)
    with lock.locked(run_folder):
        refuse_changed_inputs(config, run_folder, sources, facts)  # before anything is touched
        log = EventLog(run_folder.events)
        log.listeners += listeners or []
        with Control(run_folder, log) as control, no_space_is_an_error(run_folder.path):
            take_commands(run_folder)  # those of an earlier life
            forced = STAGES[STAGES.index(force) :] if force else ()
            work = RunContext(config, run_folder, log, control, forced)
            work.before = inputs_before(run_folder)
            need = disk_bytes(config, sum(f["size"] for f in facts))
            begin_run(work, study_of(config), need)
            try:
                for name, stage in PIPELINE.items():
                    if name == "corpus":
                        index_corpus(work, sources, left_out, facts)
                    else:
                        stage(work)
                    if name == until:
                        break
                remember_inputs(work)
                result = report_result(run_folder, config, log.state) | {"state": "done"}
                write_json(run_folder.path / "report.json", result)
            except BaseException as error:
                finish_run(work, error)
                raise
            finish_run(work, None, result)
            return result


def study_of(config: Config) -> str:
    """What a run folder belongs to for good: data (but not where it lies), seed, split."""
    data = {k: v for k, v in config.data.results().items() if k not in ("paths", "max_bad")}
    return fingerprint_of(data, config.seed, config.split.results())


def write_report_stage(work: RunContext) -> None:
    from mlxprune.report.page import REPORT_VERSION, write_report

    work.inputs["report"] = {
        "version": REPORT_VERSION,
        "evaluation": work.fingerprint("evaluation"),
        "selection": work.fingerprint("selection"),
        "report": work.config.report.model_dump(),
    }
    fingerprint = work.fingerprint("report")

    def build() -> dict[str, Any]:
        write_report(work.run, work.config, work.log.state)
        mark_done(work.run.report, "report", fingerprint)
        return {"report": str(work.run.report)}

    run_stage(work, "report", [Artifact(work.run.report, fingerprint, build)])


PIPELINE: dict[str, Callable[[RunContext], None]] = {
    "corpus": lambda work: None,  # it takes the sources, see run()
    "split": split_corpus,
    "tokenizer": train_or_copy_tokenizer,
    "tokens": encode_tokens,
    "reference": train_references,
    "score": score_pool,
    "selection": select_slices,
    "final": train_arms,
    "evaluation": evaluate_arms,
    "report": write_report_stage,
}
