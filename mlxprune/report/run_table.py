"""Run table: several runs side by side, what differs in their configurations, and whether their
figures may be held against each other."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlxprune.checksums import read_sealed
from mlxprune.config.loading import load_config
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.arm_styles import BETTER, UNDECIDED, WORSE
from mlxprune.experiment.comparisons import best_slice
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.replicates import replicated
from mlxprune.inference.verdict import Verdict
from mlxprune.records import Json, Record, SparseRecord, record_of
from mlxprune.report.answer_pictures import slices_by_run
from mlxprune.report.best_by_corpus import BestByCorpus, CorpusStudy, best_by_corpus
from mlxprune.run.folder import RunFolder, existing_run, known_stages

REPEATED = ("name", "seed", "split.seed")  # keys in which repeats of one study differ


class ComparedSlice(SparseRecord):
    """A slice of a run against its random control."""

    run: str
    slice: str
    control: str
    difference: float
    interval: tuple[float, float]
    verdict: Verdict
    seeds: int
    figure: float | None  # of the slice; None where the test parts differ
    rho: str | None  # None where it is not decided
    net_saving: float | None
    best: bool  # the slice that the run's verdict is on


class RepeatedSlice(Record):
    """One slice over runs that differ in nothing but their seed: mean, 95 % interval over runs."""

    slice: str
    difference: float
    interval: tuple[float, float] | None
    by_run: dict[str, float]


class RunTable(Record):
    """The object that ``compare --json`` prints. ``differing``: keys of the configurations in which
    runs differ, by run."""

    runs: list[str]
    primary: str
    same_test: bool
    notes: list[str]
    slices: list[ComparedSlice]
    differing: dict[str, dict[str, str]]
    repeated: list[RepeatedSlice]
    by_corpus: BestByCorpus | None = None  # of runs over different corpora


@dataclass(frozen=True)
class _Known:
    name: str
    result: StudyResult
    config: Json
    inputs: Json


def run_table(paths: list[Path]) -> RunTable:
    """Raises UsageError: fewer than two runs, one without a report, or figures of another kind."""
    if len(paths) < 2:
        raise UsageError("one run has nothing to compare with", str(paths[0]), "name two or more")
    known = [_known(existing_run(path), path) for path in paths]
    if len({one.name for one in known}) < len(known):
        pairs = zip(paths, known, strict=True)
        known = [_Known(str(path), k.result, k.config, k.inputs) for path, k in pairs]
    first = known[0]
    for one in known[1:]:
        _refuse_unlike(first, one)
    corpora = len({_fingerprint(one, "corpus") for one in known})
    same_test = corpora == 1 and len({_fingerprint(one, "split") for one in known}) == 1
    notes = []
    if corpora > 1:
        notes.append(
            f"the runs are over {corpora} corpora: each slice is told against the random control "
            "of its own, and the test domains are those of each"
        )
    elif not same_test:
        notes.append("the runs have other test parts: differences from own controls alone compare")
    models = {str(one.config["final"]["model"]) for one in known}
    if len(models) > 1:
        notes.append("the final models differ in size: so do the differences that are possible")
    differing = _differing(known)
    return RunTable(
        runs=[one.name for one in known],
        primary=str(first.config["evaluation"]["primary"]),
        same_test=same_test,
        notes=notes,
        slices=[row for one in known for row in _rows(one, same_test)],
        differing=differing,
        repeated=_repeated(known) if set(differing) <= set(REPEATED) and corpora == 1 else [],
        by_corpus=_by_corpus(known) if corpora > 1 else None,
    )


def _known(run: RunFolder, path: Path) -> _Known:
    report = run.path / "report.json"
    again = f"mlxprune run {path}/config.yaml --dir {path}"
    if not report.exists():
        raise UsageError("the run has no report yet", str(path), again)
    try:
        result = record_of(read_sealed(report), StudyResult)
    except (OSError, ValueError):
        fix = f"mlxprune report {path} writes it anew"
        problem = "the report is damaged, or of another version"
        raise UsageError(problem, str(report), fix) from None
    if not result.comparisons:
        raise UsageError("no arm of the run is compared yet", str(path), again)
    loaded = load_config(run.config)
    config = loaded.model_dump(mode="json")
    config["selection"] = ", ".join(choice.label for choice in loaded.slices)
    return _Known(run.path.name, result, config, known_stages(run))


def _fingerprint(one: _Known, stage: str) -> str:
    return str(one.inputs.get(stage, {}).get("fingerprint"))


def _refuse_unlike(first: _Known, other: _Known) -> None:
    where = f"{first.name} and {other.name}"
    primaries = [str(one.config["evaluation"]["primary"]) for one in (first, other)]
    if primaries[0] != primaries[1]:
        what = f"their verdicts rest on other figures, {primaries[0]} and {primaries[1]}"
        fix = "run one of them again with the other's evaluation.primary"
        raise UsageError(what, where, fix)


def _by_corpus(known: list[_Known]) -> BestByCorpus:
    """Of each corpus the first run that is named."""
    firsts: dict[str, _Known] = {}
    for one in known:
        firsts.setdefault(_fingerprint(one, "corpus"), one)
    return best_by_corpus([CorpusStudy(one.name, one.result) for one in firsts.values()])


def _rows(one: _Known, same_test: bool) -> list[ComparedSlice]:
    best = best_slice(one.result.comparisons)
    rows = []
    for row in one.result.comparisons:
        if not row.main:
            continue
        is_best = best is not None and row.arm == best.arm
        saving = one.result.saving if is_best else None
        rows.append(
            ComparedSlice(
                run=one.name,
                slice=row.arm,
                control=row.control,
                difference=row.difference,
                interval=row.interval,
                verdict=row.verdict,
                seeds=len(row.seeds),
                figure=row.control_figure + row.difference if same_test else None,
                rho=str(row.rho) if row.rho is not None and row.rho.decided else None,
                net_saving=None if saving is None else saving.net,
                best=is_best,
            )
        )
    return sorted(rows, key=lambda row: row.difference)


def _differing(known: list[_Known]) -> dict[str, dict[str, str]]:
    """By key, where not all runs say the same."""
    flat = [dict(_leaves(one.config, "")) for one in known]
    keys = sorted({key for tree in flat for key in tree})
    return {
        key: {one.name: one_line(tree.get(key, "-")) for one, tree in zip(known, flat, strict=True)}
        for key in keys
        if len({str(tree.get(key, "-")) for tree in flat}) > 1
    }


def _leaves(tree: Any, path: str) -> list[tuple[str, object]]:
    if isinstance(tree, dict) and tree:
        found = []
        for key, value in tree.items():
            found += _leaves(value, f"{path}.{key}" if path else str(key))
        return found
    return [(path, tree)]


def _repeated(known: list[_Known]) -> list[RepeatedSlice]:
    """Every slice that all runs have, over them."""
    by_slice: dict[str, dict[str, float]] = {}
    for one in known:
        for row in one.result.comparisons:
            if row.main:
                by_slice.setdefault(row.arm, {})[one.name] = row.difference
    found = []
    for name, differences in by_slice.items():
        if len(differences) == len(known):
            over = replicated(differences)
            found.append(
                RepeatedSlice(
                    slice=name,
                    difference=over.difference,
                    interval=over.interval,
                    by_run=over.by_study,
                )
            )
    return sorted(found, key=lambda row: row.difference)


def table_page(table: RunTable) -> str:
    """The same as one HTML page, without network or script."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = (files("mlxprune.report") / "run_table.html.j2").read_text(encoding="utf-8")
    colours = {Verdict.BETTER: BETTER, Verdict.WORSE: WORSE}
    picture = None if table.by_corpus is None else slices_by_run(table.slices)
    return environment.from_string(text).render(
        table=table, colours=colours, usual=UNDECIDED, one_line=one_line, picture=picture
    )
