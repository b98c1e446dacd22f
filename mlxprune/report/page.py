"""Report: what a run did and found, as one HTML file for people."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlxprune.data import split
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.arms import arms_of
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.comparisons import ON, Comparison
from mlxprune.experiment.conclusion import UNFINISHED, saving_sentence
from mlxprune.experiment.document_account import account_sentence
from mlxprune.experiment.private import private_folders, shared_config, without_folders
from mlxprune.experiment.scorers import scorers_of
from mlxprune.experiment.study_result import ArmResult, StudyResult
from mlxprune.files import write_atomic
from mlxprune.records import Json, read_record
from mlxprune.report import figures
from mlxprune.report.answer import answer_of
from mlxprune.report.answer_pictures import verdict_word
from mlxprune.report.handover import handover_commands
from mlxprune.report.result import study_result
from mlxprune.report.samples import Samples, sample_documents
from mlxprune.report.task_tables import (
    budget_picture,
    decile_picture,
    kinds_of,
    target_rows,
    task_board,
)
from mlxprune.run.folder import RunFolder, known_of, known_stages
from mlxprune.run.markers import is_current, marker_path, read_marker
from mlxprune.run.state import RunState
from mlxprune.selection.composition import CompositionRow
from mlxprune.selection.metric import metric_values
from mlxprune.tokenization.token_file import TokenSummary
from mlxprune.training.summary import TrainingSummary
from mlxprune.units import duration
from mlxprune.version import __version__

REPORT_VERSION = 5
MAIN = ("pruned", "random", "matched")  # of many arms, those that the table by domain shows
COLUMNS = 7


def write_report(held: RunArtifacts, state: RunState, with_texts: bool = True) -> None:
    """report.html of a run, ``with_texts`` of documents or without. Raises UsageError where there
    is nothing to report yet."""
    run = held.run
    if not is_current(run, run.corpus):
        fix = "run it first: mlxprune run CONFIG"
        raise UsageError("there is nothing to report yet", str(run.path), fix)
    marker_path(run.report).unlink(missing_ok=True)  # only the stage calls it current
    write_atomic(run.report, report_page(held, state, with_texts))


def report_page(
    held: RunArtifacts, state: RunState, with_texts: bool = True, config_text: str | None = None
) -> str:
    """The report as one page: no network, no script; every text from data is escaped. Without
    ``with_texts`` no document is in it; ``config_text`` takes the place of the configuration."""
    import jinja2

    run, config = held.run, held.config
    folders = private_folders(held)
    place = str(run.path) if not run.path.is_absolute() else "RUN"
    result = study_result(held, state, place=place)
    primary = config.evaluation.primary
    kinds = kinds_of(result)
    versions = {"mlxprune": __version__, **(known_of(run).get("versions") or {})}
    fingerprints = {k: str(v.get("fingerprint")) for k, v in known_stages(run).items()}
    tested = _tested(result.arms)
    curves = _curves(held, kinds)
    facts = {
        "result": result,
        "name": config.name,
        "sentence": UNFINISHED,
        "answer": answer_of(result),
        "verdict_word": verdict_word,
        "savings": [s for c in result.comparisons if c.main and (s := saving_sentence(c, None))],
        "config": config_text or shared_config(config, folders),
        "seed": config.seed,
        "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(state.updated or 0)),
        "version": __version__,
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "fingerprints": fingerprints,
        "again": shlex.join(["mlxprune", "run", "config.yaml", "--dir", place]),
        "state": state,
        "split": held.split.table if is_current(run, run.split) else None,
        "tokens": _token_summary(run),
        "account": None if result.account is None else account_sentence(result.account),
        "duration": duration,
        "one_line": one_line,
        "on": ON[primary],
        "primary": primary,
        "first": config.slices[0].label,
        "handover": handover_commands(result) if with_texts else [],
        "scored": _scored(held, result, with_texts),
        "reference_curve": curves[0],
        "arm_curves": curves[1],
        "tested": tested,
        "shorter": _shorter(result),
        "rungs": sorted(tested.rungs, key=lambda rung: (rung[1].rung or 0.0, rung[0])),
        "ladder": figures.ladder(tested.rungs) if tested.rungs else None,
        "budget_picture": budget_picture(result, tested.arms),
        "task_board": task_board(result, tested.arms),
        "decile_picture": decile_picture(result, tested.arms),
        "target_rows": target_rows(result, tested.arms),
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (files("mlxprune.report") / "report.html.j2").read_text(encoding="utf-8")
    )
    return without_folders(template.render(**facts), folders)


def _token_summary(run: RunFolder) -> TokenSummary | None:
    """With parts by name."""
    if not is_current(run, run.tokens()):
        return None
    summary = read_record(run.tokens() / "tokens.json", TokenSummary)
    summary.parts = {split.PARTS[int(code)]: count for code, count in summary.parts.items()}
    return summary


@dataclass(frozen=True)
class Scored:
    """What the report shows of the scores and of the first slice."""

    metric: str
    histogram: Any
    mixes: dict[str, Any]  # a picture by slice
    by_domain: Any
    by_length: Any
    samples: Samples
    score: Json  # figures of the first reference's scores


def _scored(held: RunArtifacts, result: StudyResult, with_texts: bool) -> Scored | None:
    run, config = held.run, held.config
    choice = config.slices[0]
    manifests = result.slices or {}
    if choice.label not in manifests:
        return None
    scores, manifest = held.scores(choice), manifests[choice.label]
    kept = held.kept(choice)
    metric = choice.metric_name
    what = {"perplexity": "mean NLL, nats a token", "bpb": "bits per byte"}.get(metric, metric)
    domains = [r for r in manifest.domains or [] if r.quantiles is not None]
    domains = sorted(domains, key=_median)[: figures.MOST_DOMAINS]
    lengths = manifest.lengths or []
    octaves = [f"{r.from_tokens:,} to {2 * r.from_tokens - 1:,} tokens" for r in lengths]
    marker = read_marker(run.scores(config.primary_reference.name))
    return Scored(
        metric=what,
        histogram=figures.histogram(
            metric_values(scores, "perplexity"), scores.num_tokens, kept, choice, manifest
        ),
        mixes={label: figures.mix(m.domains or []) for label, m in manifests.items()},
        by_domain=figures.spread(domains, [r.domain for r in domains], what),
        by_length=figures.spread(lengths, octaves, what),
        samples=sample_documents(held, choice, scores, kept) if with_texts else Samples({}, {}),
        score={} if marker is None else marker.summary or {},
    )


def _median(row: CompositionRow) -> float:
    return 0.0 if row.quantiles is None else row.quantiles[1]


def _curves(held: RunArtifacts, kinds: dict[str, str]) -> tuple[Any, Any]:
    """Pictures of the references' trainings and of the arms'."""
    run = held.run
    scorers = [s.name for s in scorers_of(held.config) if s.snapshot is None]
    references = {name: [run.reference(name)] for name in scorers}
    arms: dict[str, list[Path]] = {}
    for arm in arms_of(held.config):
        arms.setdefault(arm.arm, []).append(run.final(arm.name))
    first, second = (
        {
            name: trained
            for name, folders in group.items()
            if (
                trained := [
                    read_record(folder / "training.json", TrainingSummary)
                    for folder in folders
                    if is_current(run, folder) and (folder / "training.json").exists()
                ]
            )
        }
        for group in (references, arms)
    )
    return figures.curves(first, {}), figures.curves(second, kinds)


def _shorter(result: StudyResult) -> list[tuple[Comparison, int, float, Any]]:
    """Slices against random at every budget, the shortest first and the whole length last: (the
    comparison, its targets, targets a parameter, the difference)."""
    rows: list[tuple[Comparison, int, float, Any]] = []
    for row in result.comparisons:
        ends = (row.shorter or []) if row.main else []
        rows += [(row, end.targets, end.a_parameter, end.difference) for end in ends]
        if ends:
            whole = result.arms[row.arm].tokens
            rows.append((row, whole, ends[0].a_parameter * whole / ends[0].targets, row))
    return rows


@dataclass(frozen=True)
class Tested:
    """Bits per byte on the test part by domain and arm, of the arms that have a column; the arms
    that are ``left`` out; documents by domain; the rungs of the ladder."""

    rows: dict[str, dict[str, float]]
    arms: list[str]
    left: int
    documents: dict[str, int]
    rungs: list[tuple[str, ArmResult]]


def _tested(arms: dict[str, ArmResult]) -> Tested:
    rows: dict[str, dict[str, float]] = {}
    documents: dict[str, int] = {}
    rungs = []
    for name, arm in arms.items():
        if arm.tests and arm.rung is not None:
            rungs.append((name.rpartition("-x")[0], arm))
        for test in arm.tests:
            documents |= test.documents
            for domain, bits in test.domains.items():
                rows.setdefault(domain, {})
                rows[domain][name] = rows[domain].get(name, 0.0) + bits / len(arm.tests)
    able = [name for name, arm in arms.items() if arm.test_macro is not None]
    main = [name for name in able if arms[name].kind in MAIN and arms[name].rung is None]
    shown = able if len(able) <= COLUMNS else main[:COLUMNS]
    return Tested(rows, shown, len(able) - len(shown), documents, rungs)
