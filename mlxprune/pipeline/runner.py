"""The pipeline: read this file first.

    corpus -> split -> tokenizer -> tokens -> reference -> score -> selection -> final
           -> evaluation -> report

Every arrow is a file in the run folder. A stage is a function that names its artifacts and what
each of them rests on; one whose fingerprint already stands in its marker is reused, anything else
is built, and the marker comes last. So a run that is started again does what is missing or out of
date, and says why.
"""

from __future__ import annotations

from collections.abc import Callable

from mlxprune.checksums import write_sealed
from mlxprune.config.loading import load_config
from mlxprune.config.schema import Config
from mlxprune.data.indexing import input_facts
from mlxprune.data.sources import find_sources, pinned
from mlxprune.errors import DataError
from mlxprune.execution.control import Control
from mlxprune.execution.lifecycle import (
    begin_run,
    finish_run,
    inputs_before,
    leave_nothing_where_removed,
)
from mlxprune.execution.stage import Artifact, remember_inputs, run_stage
from mlxprune.experiment.artifacts import InputFiles, StudyExecution
from mlxprune.experiment.study_result import StudyResult
from mlxprune.files import fingerprint_of, no_space_is_an_error
from mlxprune.model.device_choice import settle_device
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
from mlxprune.planning.possible import check_possible
from mlxprune.records import Json, plain
from mlxprune.report.result import study_result
from mlxprune.run import lock
from mlxprune.run.event_kinds import RunStatus
from mlxprune.run.events import EventLog, Listener
from mlxprune.run.folder import (
    STAGES,
    RunFolder,
    is_costly,
    is_other_study,
    removed_folder,
    take_commands,
)
from mlxprune.run.markers import mark_done


def write_the_report(study: StudyExecution) -> None:
    from mlxprune.report.page import REPORT_VERSION, write_report

    inputs = {
        "version": REPORT_VERSION,
        "evaluation": study.fingerprint("evaluation"),
        "selection": study.fingerprint("selection"),
        "report": study.config.report.model_dump(),
    }

    def build() -> Json:
        write_report(study.held, study.log.state)
        mark_done(study.run.report, "report", artifact.fingerprint)
        return {"report": str(study.run.report)}

    artifact = Artifact(study.run.report, (inputs,), build)
    run_stage(study, "report", [artifact])


# The method, stage by stage.
PIPELINE: dict[str, Callable[[StudyExecution], None]] = {
    "corpus": index_corpus,
    "split": split_corpus,
    "tokenizer": train_or_copy_tokenizer,
    "tokens": encode_tokens,
    "reference": train_references,
    "score": score_pool,
    "selection": select_slices,
    "final": train_arms,
    "evaluation": evaluate_arms,
    "report": write_the_report,
}


def run_study(
    config: Config,
    run: RunFolder,
    until: str | None = None,
    force: str | None = None,
    listeners: list[Listener] | None = None,
    accept_changed_input: bool = False,
) -> StudyResult:
    """Run the stages that are missing or out of date, up to the stage ``until``; ``force`` and all
    after it anew. Input files that changed since the run began are refused, or with
    ``accept_changed_input`` everything is done anew. Return the result that --json prints."""
    config = _with_pinned_data(config, run)
    warnings = check_possible(config)
    other = is_other_study(run, study_of(config))
    found = find_sources(config.data)
    given = InputFiles(found, input_facts(found.sources))
    with lock.locked(run):
        changed = "other data, seed or split" if other else None
        changed = changed or _changed_input(config, run, given, accept_changed_input)
        force = STAGES[0] if changed else force
        log = EventLog(run.events)
        log.listeners += listeners or []
        with Control(run, log) as control, no_space_is_an_error(run.path):
            take_commands(run)  # those of an earlier life
            forced = STAGES[STAGES.index(force) :] if force else ()
            before = inputs_before(run)
            study = StudyExecution(config, run, log, control, forced, before=before, input=given)
            begin_run(study, study_of(config), disk_bytes(config, given.size))
            try:
                if changed:
                    study.warn("corpus", f"{changed}: all is done anew")
                for warning in warnings:
                    study.warn("reference", warning)
                settle_device(study)
                for name, stage in PIPELINE.items():
                    stage(study)
                    if name == until:
                        break
                remember_inputs(study)
                result = study_result(study.held, log.state, state=RunStatus.DONE)
                write_sealed(run.path / "report.json", result)
            except BaseException as error:
                if isinstance(error, Exception) and not run.run_json.exists():
                    raise removed_folder(run) from None
                finish_run(study, error)
                raise
            finally:
                study.children.close()
                leave_nothing_where_removed(run)
            finish_run(study, None, plain(result))
            return result


def _changed_input(config: Config, run: RunFolder, given: InputFiles, accepted: bool) -> str | None:
    """What changed of the input. Raises DataError unless that is accepted, or nothing costly rests
    on it, before anything is touched."""
    try:
        refuse_changed_inputs(config, run, given)
    except DataError as error:
        if not accepted and is_costly(run):
            raise
        return error.problem
    return None


def _with_pinned_data(config: Config, run: RunFolder) -> Config:
    """With addresses of the hub at the commits that the run began with, or begins with now."""
    if not any(entry.path.startswith("hf://") for entry in config.data.paths):
        return config
    before = load_config(run.config).data if run.config.exists() else None
    return config.model_copy(update={"data": pinned(config.data, before)})


def study_of(config: Config) -> str:
    """What a run folder belongs to for good: data (but not where it lies), seed, split."""
    return fingerprint_of(config.data.identity(), config.seed, config.split.results())
