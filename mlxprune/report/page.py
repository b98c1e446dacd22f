"""Report: what a run did and found, as one object for machines and one HTML file for people."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.data import split
from mlxprune.errors import UsageError, one_line
from mlxprune.experiment.arms import arms_of
from mlxprune.experiment.artifacts import slice_scores
from mlxprune.experiment.comparisons import ON, verdict_sentence
from mlxprune.experiment.data_efficiency import rho_sentence
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import read_json, write_atomic
from mlxprune.report import figures
from mlxprune.report.result import report_result
from mlxprune.report.samples import sample_documents
from mlxprune.report.task_tables import task_facts
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current, marker_path, read_marker
from mlxprune.selection.metric import metric_values
from mlxprune.units import duration

REPORT_VERSION = 4
MAIN = ("pruned", "random", "matched")  # of many arms, those that the table by domain shows
COLUMNS = 7


def write_report(run: RunFolder, config: Config, state: dict[str, Any]) -> None:
    """report.html: one file, no network, no script; every text from data is escaped."""
    import jinja2

    if not is_current(run, run.corpus):
        fix = "run it first: mlxprune run CONFIG"
        raise UsageError("there is nothing to report yet", str(run.path), fix)
    marker_path(run.report).unlink(missing_ok=True)  # only the stage calls it current
    found = report_result(run, config, state)
    facts = {
        "found": found,
        "name": config.name,
        "sentence": verdict_sentence(found),
        "config": write_yaml(config.model_dump(mode="json")),
        "state": state,
        "split": split.open_split(run.split).table if is_current(run, run.split) else None,
        "duration": duration,
        "one_line": one_line,
        "rho_sentence": rho_sentence,
        "on": ON[config.evaluation.primary],
        "primary": config.evaluation.primary,
        "first": config.slices[0].label,
    }
    facts |= _token_facts(run) | _score_facts(run, config) | _curve_facts(run, config)
    tested = _test_facts(found["arms"])
    facts |= tested | task_facts(found, tested["test_arms"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files("mlxprune.report") / "report.html.j2").read_text())
    write_atomic(run.report, template.render(**facts))


def _token_facts(run: RunFolder) -> dict[str, Any]:
    if not is_current(run, run.tokens()):
        return {"tokens": None}
    facts = read_json(run.tokens() / "tokens.json")
    parts = {split.PARTS[int(code)]: count for code, count in facts["parts"].items()}
    return {"tokens": {**facts, "parts": parts}}


def _score_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    choice = config.slices[0]
    folder = run.selection(choice.label)
    empty: dict[str, Any] = {"histogram": None, "samples": [], "score": None, "mixes": {}}
    empty |= {"by_domain": None, "by_length": None, "ends": {}, "metric": ""}
    if not is_current(run, folder):
        return empty
    found = slice_scores(run, config, choice)
    manifest = read_json(folder / "manifest.json")
    kept = np.load(folder / "kept.npy")
    groups, ends = sample_documents(run, config, choice, found, kept)
    metric = choice.metric if isinstance(choice.metric, str) else "difference"
    what = {"perplexity": "mean NLL, nats a token", "bpb": "bits per byte"}.get(metric, metric)
    domains = [r for r in manifest["domains"] if "quantiles" in r]
    domains = sorted(domains, key=lambda r: float(r["quantiles"][1]))[: figures.MOST_DOMAINS]
    lengths = manifest["lengths"]
    octaves = [f"{r['from_tokens']:,} to {2 * r['from_tokens'] - 1:,} tokens" for r in lengths]
    return {
        "histogram": figures.histogram(
            metric_values(found, "perplexity"), found.num_tokens, kept, manifest
        ),
        "mixes": {
            c.label: figures.mix(read_json(run.selection(c.label) / "manifest.json")["domains"])
            for c in config.slices
            if is_current(run, run.selection(c.label))
        },
        "by_domain": figures.spread(domains, [r["domain"] for r in domains], what),
        "by_length": figures.spread(lengths, octaves, what),
        "metric": what,
        "samples": groups,
        "ends": ends,
        "score": (read_marker(run.scores(config.scorers[0].name)) or {})["summary"],
    }


def _curve_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    references = [s.name for s in scorers_of(config) if s.snapshot is None]
    folders = [(name, run.reference(name)) for name in references]
    folders += [(arm.name, run.final(arm.name)) for arm in arms_of(config)]
    trained = [
        (name, read_json(folder / "training.json"))
        for name, folder in folders
        if is_current(run, folder) and (folder / "training.json").exists()
    ]
    return {
        "reference_curve": figures.curves([t for t in trained if t[0] in references]),
        "arm_curves": figures.curves([t for t in trained if t[0] not in references]),
    }


def _test_facts(found: dict[str, Any]) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    documents: dict[str, int] = {}
    rungs = []
    for name, entry in found.items():
        tests = [s["test"] for s in entry["seeds"].values() if "test" in s]
        if tests and entry["rung"] is not None:
            family = name.rpartition("-x")[0]
            rungs.append({**entry, "arm": name, "family": family})
        for test in tests:
            documents |= test["documents"]
            for domain, bits in test["domains"].items():
                rows.setdefault(domain, {})
                rows[domain][name] = rows[domain].get(name, 0.0) + bits / len(tests)
    able = [n for n, e in found.items() if e["test_macro"] is not None]
    main = [n for n in able if found[n]["kind"] in MAIN and found[n]["rung"] is None]
    names = able if len(able) <= COLUMNS else main[:COLUMNS]
    ladder = figures.ladder(rungs) if rungs else None
    return {
        "test_rows": rows,
        "test_arms": names,
        "test_left": len(able) - len(names),
        "test_documents": documents,
        "ladder": ladder,
        "rungs": sorted(rungs, key=lambda r: (float(r["rung"]), str(r["family"]))),
    }
