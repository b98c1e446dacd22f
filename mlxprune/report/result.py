"""Result: what a run did and found, as one object for machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.experiment.arms import arms_of
from mlxprune.experiment.artifacts import assessed_arms, planned_arms
from mlxprune.experiment.comparisons import compare_arms, first_verdict
from mlxprune.experiment.data_efficiency import budget_points, rho
from mlxprune.experiment.task_results import task_standing
from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current, read_marker
from mlxprune.training.recipe import training_summary

ARM_FACTS = ("kind", "slice", "rung", "effective_tokens", "overlap", "overlap_by_chance")


def report_result(run: RunFolder, config: Config, state: dict[str, Any]) -> dict[str, Any]:
    """The object that ``run --json`` prints: whatever of it exists so far."""
    found: dict[str, Any] = {
        "run": str(run.path),
        "state": state["state"],
        "stages": {
            name: {"state": stage["state"], "seconds": stage.get("seconds")}
            for name, stage in state["stages"].items()
        },
    }
    if is_current(run, run.corpus):
        summary = read_json(run.corpus / "summary.json")
        found["corpus"] = {
            k: v for k, v in summary.items() if k not in ("domain_bytes", "left_out")
        }
    slices = {}
    for choice in config.slices:
        folder = run.selection(choice.label)
        if is_current(run, folder):
            slices[choice.label] = read_json(folder / "manifest.json")
    if slices:
        first = next(iter(slices.values()))
        keys = ("kept_documents", "kept_tokens", "pool_documents", "pool_tokens")
        found["selection"] = {k: first[k] for k in keys}
        found["slices"] = slices
    found["arms"] = _arms(run, config)
    found["left_out"] = planned_arms(run)["left_out"] if found["arms"] else {}
    found["comparisons"] = compare_arms(run, config)
    planned = planned_arms(run)
    found["budgets"] = budget_points(run, config.evaluation.primary, planned)
    for compared in found["comparisons"]:
        arm, control = (found["budgets"].get(compared[side]) for side in ("arm", "control"))
        if arm and control:
            compared["rho"] = rho(arm, control)
    found["tasks"] = task_standing(run, assessed_arms(run))
    found["verdict"] = first_verdict(config, found["comparisons"])
    return found


def _arms(run: RunFolder, config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    planned = planned_arms(run)["arms"]
    for name in (arm.name for arm in arms_of(config)):
        if name not in planned or not is_current(run, run.final(name)):
            continue
        facts = planned[name]
        seed = training_summary(read_json(run.final(name) / "training.json"))
        same = (read_marker(run.final(name)) or {}).get("same_as")
        seed |= {k: facts[k] for k in ARM_FACTS[3:] if k in facts}
        seed |= {"same_as": same} if same else {}
        if is_current(run, run.evaluation(name)):
            test = read_json(run.evaluation(name))
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
