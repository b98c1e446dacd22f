"""Card: the README.md of an exported dataset, made from the run."""

from __future__ import annotations

import math

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.errors import one_line
from mlxprune.experiment.conclusion import verdict_sentence
from mlxprune.experiment.private import private_folders, shared_config, without_folders
from mlxprune.exporting.documents import ExportSource
from mlxprune.exporting.shards import ShardFolder
from mlxprune.files import tree_bytes, write_atomic
from mlxprune.records import Json
from mlxprune.report.result import study_result
from mlxprune.selection.manifest import SliceManifest
from mlxprune.version import __version__

FRONT = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
dataset_info:
  description: "mlxprune export {identity}"
  splits:
  - name: train
    num_bytes: {bytes}
    num_examples: {documents}
  download_size: {stored}
  dataset_size: {bytes}
tags:
- mlxprune
- data-pruning
- perplexity
size_categories:
- {size}
---
"""
SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip


def write_card(
    source: ExportSource,
    folder: ShardFolder,
    part: str,
    documents: np.ndarray,
    columns: list[str],
) -> None:
    """README.md: what the documents are, how they were chosen, what a study found of them.

    The facts at its head make ``datasets`` read a folder anew whose content has changed: its cache
    knows a folder by them.
    """
    entries = source.corpus.index[documents]
    size = next((name for most, name in SIZES if len(documents) < most), "1B<n<10B")
    front = FRONT.format(
        size=size,
        identity=folder.record.identity,
        bytes=int(entries["bytes"].sum()),
        documents=len(documents),
        stored=tree_bytes(folder.partial),
    )
    lines = [front, f"# {source.name}: {_title(source, part)}", ""]
    lines += [
        f"{len(documents):,} documents, {int(entries['bytes'].sum()):,} bytes of text, chosen by "
        f"[mlxprune](https://arxiv.org/abs/2405.20541) {__version__}. Columns: "
        f"{', '.join(f'`{_cell(name)}`' for name in columns)}.",
        "",
        *_method(source, part),
        *_domains(source, documents),
        *_verdict(source),
        *_how(source, part, folder.record.what),
    ]
    write_atomic(folder.partial / "README.md", "\n".join(lines) + "\n")


def _title(source: ExportSource, part: str) -> str:
    named = source.manifest.name if source.manifest is not None else ""
    return part if part not in ("kept", "dropped") else f"{named}, {part}"


def _cell(text: object) -> str:
    """A name from data inside a table of Markdown."""
    plain = one_line(text)
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!&" else c for c in plain)


def _method(source: ExportSource, part: str) -> list[str]:
    manifest = source.manifest
    if manifest is None:
        return []
    return ["## How the documents were chosen", "", *_criterion(manifest, source), ""] + (
        [f"These are the documents of the part `{_cell(part)}`.", ""] if part != "kept" else []
    )


def _criterion(manifest: SliceManifest, source: ExportSource) -> list[str]:
    choice = source.choice
    assert choice is not None
    told = "bits per byte" if choice.metric == "bpb" else choice.metric_name
    by = choice.by if isinstance(choice.by, str) else ", ".join(choice.by)
    lines = [
        f"A reference language model that had not seen them scored {manifest.pool_documents:,} "
        f"documents. The slice `{manifest.name}` keeps {manifest.kept_documents:,} of them by "
        f"`{choice.metric_name}`: criterion `{choice.criterion}`, counted in {choice.unit}, "
        f"ranked inside `{by}`.",
        f"{told.capitalize()} of what is kept runs from {_shown(manifest.lowest, choice)} to "
        f"{_shown(manifest.highest, choice)}.",
    ]
    if source.held is not None:
        reference = source.held.config.primary_reference
        model = reference.pretrained or f"the preset {reference.model}, trained on a random part"
        folder = private_folders(source.held)
        lines.append(f"The reference is {without_folders(str(model), folder)}.")
    return lines


def _shown(figure: float, choice: Slice) -> str:
    """The figure that a slice ranks by, as people say it."""
    return f"{math.exp(figure) if choice.metric == 'perplexity' else figure:,.4g}"


def _domains(source: ExportSource, documents: np.ndarray) -> list[str]:
    entries, names = source.corpus.index[documents], source.corpus.domains
    everything = source.corpus.index
    counts = np.bincount(entries["domain"], minlength=len(names))
    sizes = np.bincount(entries["domain"], weights=entries["bytes"], minlength=len(names))
    whole = np.bincount(everything["domain"], weights=everything["bytes"], minlength=len(names))
    lines = ["## Domains", "", "| domain | documents | bytes | share | of the corpus |"]
    lines.append("|---|---:|---:|---:|---:|")
    for i in np.argsort(-sizes, kind="stable").tolist():
        share, before = sizes[i] / max(sizes.sum(), 1), whole[i] / max(whole.sum(), 1)
        cells = f"{counts[i]:,} | {int(sizes[i]):,} | {share:.1%} | {before:.1%}"
        lines.append(f"| {_cell(names[i])} | {cells} |")
    return [*lines, ""]


def _verdict(source: ExportSource) -> list[str]:
    """What the study found, where it has been run to the end."""
    if source.held is None:
        return []
    result = study_result(source.held, source.held.state)
    if not result.comparisons:
        return []
    sentence = verdict_sentence(result.comparisons, source.held.config.evaluation.primary)
    lines = ["## What a study found", "", sentence, ""]
    lines += ["| arm minus control | difference, bits per byte | interval | seeds | verdict |"]
    lines += ["|---|---:|---:|---:|---|"]
    for row in result.comparisons:
        low, high = row.interval
        verdict = row.verdict.short
        lines.append(
            f"| {row.arm} - {row.control} | {row.difference:+.4f} | {low:+.4f} to {high:+.4f} | "
            f"{len(row.seeds)} | {verdict} |"
        )
    return [*lines, ""]


def _how(source: ExportSource, part: str, what: Json) -> list[str]:
    """The commands that make it again."""
    if source.held is None:
        return []
    folders = private_folders(source.held)
    named = source.manifest.name if source.manifest is not None else ""
    order = str(what["order"])
    shuffled = f" --shuffle {order.rpartition(' ')[2]}" if order.startswith("shuffled") else ""
    return [
        "## How to make it again",
        "",
        "    mlxprune run config.yaml --dir run",
        f"    mlxprune export run --slice {named} --part {part} --to hf{shuffled} --out dataset",
        "",
        "config.yaml (paths are told from the folder of the data on):",
        "",
        "```yaml",
        shared_config(source.held.config, folders).rstrip().replace("```", "'''"),
        "```",
    ]
