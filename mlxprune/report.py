"""Report: what a run did and found, as one object for machines and one HTML file for people."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from mlxprune import (
    arms,
    budgets,
    contest,
    pictures,
    runs,
    samples,
    scoreboard,
    scores,
    split,
    study,
    verdict,
)
from mlxprune.config import Config
from mlxprune.errors import UsageError, one_line
from mlxprune.runs import RunFolder
from mlxprune.yamlfile import write_yaml

VERSION = 4
MAIN = ("pruned", "random", "matched")  # of many arms, those that the table by domain shows
COLUMNS = 7
ARM_FACTS = ("kind", "slice", "rung", "effective_tokens", "overlap", "overlap_by_chance")


def result(run: RunFolder, config: Config, state: dict[str, Any]) -> dict[str, Any]:
    """The object that ``run --json`` prints: whatever of it exists so far."""
    found: dict[str, Any] = {
        "run": str(run.path),
        "state": state["state"],
        "stages": {
            name: {"state": stage["state"], "seconds": stage.get("seconds")}
            for name, stage in state["stages"].items()
        },
    }
    if runs.is_current(run, run.corpus):
        summary = runs.read_json(run.corpus / "summary.json")
        found["corpus"] = {
            k: v for k, v in summary.items() if k not in ("domain_bytes", "left_out")
        }
    slices = {}
    for choice in config.slices:
        folder = run.selection(choice.label)
        if runs.is_current(run, folder):
            slices[choice.label] = runs.read_json(folder / "manifest.json")
    if slices:
        first = next(iter(slices.values()))
        keys = ("kept_documents", "kept_tokens", "pool_documents", "pool_tokens")
        found["selection"] = {k: first[k] for k in keys}
        found["slices"] = slices
    found["arms"] = _arms(run, config)
    found["left_out"] = verdict.planned_arms(run)["left_out"] if found["arms"] else {}
    found["comparisons"] = verdict.comparisons(run, config)
    planned = verdict.planned_arms(run)
    found["budgets"] = budgets.points(run, config.evaluation.primary, planned)
    for compared in found["comparisons"]:
        arm, control = (found["budgets"].get(compared[side]) for side in ("arm", "control"))
        if arm and control:
            compared["rho"] = budgets.rho(arm, control)
    found["tasks"] = contest.standing(run, verdict.assessed_arms(run))
    found["verdict"] = verdict.of_first_slice(config, found["comparisons"])
    return found


def _arms(run: RunFolder, config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    planned = verdict.planned_arms(run)["arms"]
    for name in (arm.name for arm in arms.arms_of(config)):
        if name not in planned or not runs.is_current(run, run.final(name)):
            continue
        facts = planned[name]
        seed = arms.summary_of(runs.read_json(run.final(name) / "training.json"))
        same = (runs.marker(run.final(name)) or {}).get("same_as")
        seed |= {k: facts[k] for k in ARM_FACTS[3:] if k in facts}
        seed |= {"same_as": same} if same else {}
        if runs.is_current(run, run.evaluation(name)):
            test = runs.read_json(run.evaluation(name))
            seed["test"] = {k: v for k, v in test.items() if k != "tasks"}
        kept = {k: facts[k] for k in ARM_FACTS if k in facts}
        entry = found.setdefault(facts["arm"], {**seed, **kept, "seeds": {}})
        entry.pop("test", None)
        entry.pop("same_as", None)
        entry["seeds"][str(facts["seed"])] = seed
    for entry in found.values():
        seeds = entry["seeds"].values()
        held_out = [s["validation_bpb"] for s in seeds if s["validation_bpb"]]
        entry["validation_bpb"] = float(np.mean(held_out)) if held_out else None
        for figure in ("macro", "original_mix"):
            values = [s["test"][figure] for s in seeds if "test" in s]
            entry[f"test_{figure}"] = float(np.mean(values)) if values else None
        aims = [s["test"]["target"]["macro"] for s in seeds if "target" in s.get("test", {})]
        entry["test_target"] = float(np.mean(aims)) if aims else None
        for figure in ("overlap", "overlap_by_chance"):
            if figure in entry:
                entry[figure] = float(np.mean([s[figure] for s in seeds]))
    return found


def write(run: RunFolder, config: Config, state: dict[str, Any]) -> None:
    """report.html: one file, no network, no script; every text from data is escaped."""
    import jinja2

    if not runs.is_current(run, run.corpus):
        fix = "run it first: mlxprune run CONFIG"
        raise UsageError("there is nothing to report yet", str(run.path), fix)
    runs.marker_path(run.report).unlink(missing_ok=True)  # only the stage calls it current
    found = result(run, config, state)
    facts = {
        "found": found,
        "name": config.name,
        "sentence": verdict.sentence(found),
        "config": write_yaml(config.model_dump(mode="json")),
        "state": state,
        "split": split.open_split(run.split).table if runs.is_current(run, run.split) else None,
        "duration": runs.duration,
        "one_line": one_line,
        "rho_sentence": budgets.sentence,
        "on": verdict.ON[config.evaluation.primary],
        "primary": config.evaluation.primary,
        "first": config.slices[0].label,
    }
    facts |= _token_facts(run) | _score_facts(run, config) | _curve_facts(run, config)
    tested = _test_facts(found["arms"])
    facts |= tested | scoreboard.facts(found, tested["test_arms"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files("mlxprune") / "report.html.j2").read_text())
    runs.write_atomic(run.report, template.render(**facts))


def _token_facts(run: RunFolder) -> dict[str, Any]:
    if not runs.is_current(run, run.tokens()):
        return {"tokens": None}
    facts = runs.read_json(run.tokens() / "tokens.json")
    parts = {split.PARTS[int(code)]: count for code, count in facts["parts"].items()}
    return {"tokens": {**facts, "parts": parts}}


def _score_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    choice = config.slices[0]
    folder = run.selection(choice.label)
    empty: dict[str, Any] = {"histogram": None, "samples": [], "score": None, "mixes": {}}
    empty |= {"by_domain": None, "by_length": None, "ends": {}, "metric": ""}
    if not runs.is_current(run, folder):
        return empty
    found = study.slice_scores(run, config, choice)
    manifest = runs.read_json(folder / "manifest.json")
    kept = np.load(folder / "kept.npy")
    groups, ends = samples.documents(run, config, choice, found, kept)
    metric = choice.metric if isinstance(choice.metric, str) else "difference"
    what = {"perplexity": "mean NLL, nats a token", "bpb": "bits per byte"}.get(metric, metric)
    domains = [r for r in manifest["domains"] if "quantiles" in r]
    domains = sorted(domains, key=lambda r: float(r["quantiles"][1]))[: pictures.MOST_DOMAINS]
    lengths = manifest["lengths"]
    octaves = [f"{r['from_tokens']:,} to {2 * r['from_tokens'] - 1:,} tokens" for r in lengths]
    return {
        "histogram": pictures.histogram(
            scores.metric(found, "perplexity"), found.num_tokens, kept, manifest
        ),
        "mixes": {
            c.label: pictures.mix(
                runs.read_json(run.selection(c.label) / "manifest.json")["domains"]
            )
            for c in config.slices
            if runs.is_current(run, run.selection(c.label))
        },
        "by_domain": pictures.spread(domains, [r["domain"] for r in domains], what),
        "by_length": pictures.spread(lengths, octaves, what),
        "metric": what,
        "samples": groups,
        "ends": ends,
        "score": (runs.marker(run.scores(config.scorers[0].name)) or {})["summary"],
    }


def _curve_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    references = [s.name for s in study.scorers_of(config) if s.snapshot is None]
    folders = [(name, run.reference(name)) for name in references]
    folders += [(arm.name, run.final(arm.name)) for arm in arms.arms_of(config)]
    trained = [
        (name, runs.read_json(folder / "training.json"))
        for name, folder in folders
        if runs.is_current(run, folder) and (folder / "training.json").exists()
    ]
    return {
        "reference_curve": pictures.curves([t for t in trained if t[0] in references]),
        "arm_curves": pictures.curves([t for t in trained if t[0] not in references]),
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
    ladder = pictures.ladder(rungs) if rungs else None
    return {
        "test_rows": rows,
        "test_arms": names,
        "test_left": len(able) - len(names),
        "test_documents": documents,
        "ladder": ladder,
        "rungs": sorted(rungs, key=lambda r: (float(r["rung"]), str(r["family"]))),
    }
