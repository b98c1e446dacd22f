"""Filter: new text by a run and its slice, or by a model and a range: one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlxprune.config.data import Data
from mlxprune.config.loading import resolve_path, validate_config
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.experiment.artifacts import open_run
from mlxprune.filtering.basis import FilterBasis, basis_of_model, basis_of_run
from mlxprune.filtering.cuts import NEW_DOMAINS
from mlxprune.filtering.filter_text import filter_text
from mlxprune.filtering.result import FilterResult
from mlxprune.run.events import Listener

WHERE = "mlxprune filter"


def filter(  # noqa: A001 (what it is called as mlxprune.filter)
    data: Data | list[str] | str,
    out: Path | str,
    *,
    run: Path | str | None = None,
    slice_name: str | None = None,
    exact: bool = False,
    rate: str | None = None,
    new_domains: str = "whole",
    model: str | None = None,
    least: str | float | None = None,
    most: str | float | None = None,
    metric: str = "perplexity",
    context: int | None = None,
    compress: str = "zstd",
    workers: int | None = None,
    memory: str | None = None,
    listeners: list[Listener] | None = None,
) -> FilterResult:
    """Keep of ``data`` what the slice of a ``run`` would keep, or what a ``model`` finds between
    ``least`` and ``most`` perplexity (or bits per byte), in the folder ``out``.

    ``data``: paths, or the section of a configuration with keys. The others as the options of the
    command (docs/export.md). Raises UsageError and DataError with what is wrong.
    """
    if new_domains not in NEW_DOMAINS:
        fix = closest(new_domains, NEW_DOMAINS)
        raise UsageError(f"unknown {one_line(new_domains)!r}", "--new-domains", fix)
    if rate is not None and not exact:
        fix = "add --exact: a cut by score has the rate that the new text gives it"
        raise UsageError("--rate is for exact rates", "--rate", fix)
    section = data if isinstance(data, Data) else _section(data)
    ends = {key: end for key, end in (("min", least), ("max", most)) if end is not None}
    if (run is None) == (model is None):
        fix = "name a run, or give --model with --min or --max"
        what = "there is nothing to filter by" if run is None else "a run and a model are two"
        raise UsageError(what, WHERE, fix)
    if run is not None and (ends or context is not None or metric != "perplexity"):
        fix = "leave --min, --max, --metric and --context away: the run's slice says what is kept"
        raise UsageError("a range is for a model alone", WHERE, fix)
    if run is not None:
        basis = basis_of_run(open_run(run), slice_name, new_domains, exact, rate)
        basis = _with_memory(basis, memory) if memory is not None else basis
    else:
        basis = _of_model(str(model), section, ends, metric, context, memory)
    return filter_text(basis, section, Path(out), compress, workers, listeners)


def _section(paths: list[str] | str) -> Data:
    listed = [paths] if isinstance(paths, str) else [*paths]
    absolute = [resolve_path(str(path), Path.cwd()) for path in listed]
    return validate_config({"data": {"paths": absolute}}, "data").data


def _with_memory(basis: FilterBasis, memory: str) -> FilterBasis:
    tree = {**basis.config.model_dump(mode="json"), "memory": memory}
    return replace(basis, config=validate_config(tree, "--memory"))


def _of_model(
    model: str,
    section: Data,
    ends: dict[str, Any],
    metric: str,
    context: int | None,
    memory: str | None,
) -> FilterBasis:
    if not ends:
        raise UsageError("a model alone has no cut", f"{WHERE} --model", "add --min or --max")
    tree: dict[str, Any] = {
        "data": section.model_dump(mode="json"),
        "selection": {**{k: str(v) for k, v in ends.items()}, "metric": metric},
        "score": {"context": context},
        "memory": memory,
    }
    config = validate_config(tree, WHERE)
    return basis_of_model(config, model, config.slices[0])
