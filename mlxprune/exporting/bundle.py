"""Bundle: what a run found, to be shared: figures, scores by key, the report; no text of a
document, no id, no name of a machine, no folder of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.errors import UsageError
from mlxprune.experiment.private import (
    private_folders,
    refuse_private,
    shared,
    shared_config,
)
from mlxprune.experiment.scorers import free_score_names, scorers_of
from mlxprune.exporting.documents import ExportSource
from mlxprune.exporting.shards import ExportRecord, Shard, ShardFolder
from mlxprune.files import fingerprint_of, full_hash, json_bytes, read_json, write_atomic
from mlxprune.records import plain
from mlxprune.report.page import report_page
from mlxprune.report.result import slice_manifests, study_result
from mlxprune.run.folder import known_of
from mlxprune.run.markers import is_current

BUNDLE_VERSION = 1
SCORE_COLUMNS = ("key", "domain", "nll_sum", "num_tokens", "num_bytes", "perplexity", "truncated")
KEPT_COLUMNS = ("key", "rank")
README = """# {name}

What an `mlxprune` run found, without its texts.

- `report.html` (open it in a browser), and the same as `report.json`
- `config.yaml`: paths are told from the folder of the data on
- `scores/`: a row a document; `key` is a hash of its id and text, so whoever has the corpus can
  join them
- `slices/`: what each slice keeps, by key, and its table of domains
- `training/`, `eval/`: figures of every model

Made by mlxprune {version}.
"""


def write_bundle(source: ExportSource, place: Path, out: Path) -> ExportRecord:
    """Write the bundle of a run. Raises UsageError where the source is none."""
    held = source.held
    if held is None:
        raise UsageError("only a run can be bundled", str(place), "give a run folder")
    run, folders = held.run, private_folders(held)
    what = {"run": source.name, "format": "bundle"}
    folder = ShardFolder(out, fingerprint_of(BUNDLE_VERSION, what, held.state.events), what)

    def put(name: str, text: str) -> None:
        refuse_private(name, text, folders)
        write_atomic(folder.partial / name, text)

    def put_json(name: str, value: object) -> None:
        put(name, json_bytes(shared(plain(value), folders)).decode())

    result = study_result(held, held.state)
    result.run = source.name
    put_json("report.json", result)
    config, state = shared_config(held.config, folders), held.state
    for warning in state.warnings:
        warning.message = shared(warning.message, folders)
    put("report.html", report_page(held, state, with_texts=False, config_text=config))
    put("config.yaml", config)
    known = known_of(run)
    machine = {key: known.get(key) for key in ("version", "versions", "device")}
    put_json("machine.json", machine)
    for label, manifest in slice_manifests(held).items():
        put_json(f"slices/{label}/manifest.json", manifest)
        kept = run.selection(label) / "kept.parquet"
        _copy_columns(kept, folder.partial / "slices" / label / "kept.parquet", KEPT_COLUMNS)
    names = [scorer.name for scorer in scorers_of(held.config)]
    names += [held.config.primary_reference.name, *free_score_names(held.config)]
    for name in dict.fromkeys(names):
        if is_current(run, run.scores(name)):
            target = folder.partial / "scores" / f"{name}.parquet"
            _copy_columns(run.scores(name), target, SCORE_COLUMNS)
    for name in held.arms.arms:
        training, evaluation = run.final(name) / "training.json", run.evaluation(name)
        if is_current(run, run.final(name)):
            put_json(f"training/{name}.json", read_json(training))
        if is_current(run, evaluation):
            put_json(f"eval/{name}.json", read_json(evaluation))
    put("README.md", README.format(name=source.name, version=folder.record.version))
    files = sorted(p for p in folder.partial.rglob("*") if p.is_file() and p.name != ".export.json")
    hashes = {p.relative_to(folder.partial).as_posix(): full_hash(p) for p in files}
    folder.record.shards = [Shard(files=hashes, documents=0)]
    return folder.finish(len(source.scored), [], [])


def _copy_columns(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Some columns of a Parquet file; of what it tells of itself the policy of the windows."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stored = pq.ParquetFile(source)
    schema = stored.schema_arrow
    kept = [name for name in names if name in schema.names]
    told = {
        key: value
        for key, value in (schema.metadata or {}).items()
        if key.startswith(b"policy.") or key in (b"prefix", b"metric_version")
    }
    written = pa.schema([schema.field(name) for name in kept], metadata=told)
    with pq.ParquetWriter(target, written) as out:
        for batch in stored.iter_batches(columns=kept):
            out.write_batch(batch.replace_schema_metadata(told))
