"""Plan: what a run will do, what it will take, and what is worth a warning. Does no work."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlxprune import arms, corpus, memory, probe, readers, split, unpack
from mlxprune import model as models
from mlxprune import sources as source_files
from mlxprune.config import Config
from mlxprune.errors import ConfigError, MlxpruneError

SAMPLE_ROWS = 200
PASSES_LIMIT = 4
TOKENS_PER_PARAMETER = 10
SMALL_DOMAIN = 20
TOKENIZE_BYTES_PER_SECOND = 3e6


def plan(config: Config, sample: bool = False, measured: bool = True) -> dict[str, Any]:
    """The object that ``plan --json`` prints.

    Reads the corpus once, or the head of each file with ``sample`` (then ``exact`` is false and
    counts are scaled by file size). ``measured=False`` skips the probe of the machine.
    """
    check_possible(config)
    sources, left_out = source_files.find_sources(config.data.paths)
    with tempfile.TemporaryDirectory(prefix="mlxprune-plan-") as name:
        folder = Path(name)
        lenient = config.data.model_copy(update={"max_bad": 1.0})
        summary = corpus.build(
            lenient, sources, left_out, folder, rows_per_file=SAMPLE_ROWS if sample else None
        )
        found = corpus.open_corpus(folder, config.data)
        sizes = split.sizes_of(found, split.within_limit(config, found))
        if sample:
            sizes = _scaled(config, summary, found, sources)
        thresholds = split.choose_thresholds(config, sizes)
        bad_share = _bad_share(summary)
    tokens = sum(sizes.bytes.values()) / split.bytes_per_token(config)
    parts = {name: thresholds[name] * tokens for name in thresholds}
    parts["train"] = tokens - sum(parts.values())
    warnings = _warnings_about_data(config, summary, bad_share, parts)
    costs = _costs(config, tokens, parts, warnings, measured)
    disk = disk_bytes(config, sum(s.path.stat().st_size for s in sources))
    free = shutil.disk_usage(Path.cwd()).free
    if disk > free:
        warnings.append(f"the disk will not do: {disk / 1e9:.1f} GB needed, {free / 1e9:.1f} free")
    shown = {k: summary[k] for k in ("exact", "files", "documents", "bytes", "domains", "skipped")}
    shown |= {k: summary[k] for k in ("duplicate_ids", "duplicate_texts")}
    return {
        "corpus": shown,
        "tokens": round(tokens),
        "parts": {k: round(v) for k, v in parts.items()},
        **costs,
        "disk_bytes": disk,
        "warnings": warnings,
    }


def check_possible(config: Config) -> None:
    """Refuse before work begins what could only fail after hours of it. Raises ConfigError."""
    for name, settings in (("reference", config.reference), ("final", config.final)):
        chosen = models.training_defaults(settings, models.shape_of(settings.model))
        if chosen["batch_size"] % (settings.accumulate or 1):
            raise ConfigError(
                f"a batch of {chosen['batch_size']} sequences does not divide into "
                f"{settings.accumulate} parts",
                f"{name}.accumulate",
                f"choose a divisor of {name}.batch_size",
            )
        if name == "reference" and config.score.overlap >= (
            config.score.context or chosen["context"]
        ):
            where = f"score.overlap = {config.score.overlap}"
            raise ConfigError("the overlap leaves no room for targets", where, "lower it")


def _scaled(
    config: Config,
    summary: dict[str, Any],
    found: corpus.Corpus,
    sources: list[source_files.Source],
) -> split.Sizes:
    """Blow the heads of the files up to the sizes of the files, in the summary too."""
    import numpy as np

    factors = np.ones(len(sources))
    for code, source in enumerate(sources):
        rows = found.index[found.index["file"] == code]
        if len(rows) < SAMPLE_ROWS * 0.9 or source.form == "text":
            continue
        if source.form == "parquet":
            import pyarrow.parquet as pq

            factors[code] = pq.ParquetFile(source.path).metadata.num_rows / SAMPLE_ROWS
        else:
            factors[code] = max(1.0, _stream_bytes(source) / max(int(rows["offset"][-1]), 1))
    weight = factors[found.index["file"]]
    summary["documents"] = round(float(weight.sum()))
    summary["bytes"] = round(float((weight * found.index["bytes"]).sum()))
    for key, values in (("domains", weight), ("domain_bytes", weight * found.index["bytes"])):
        sums = np.bincount(found.index["domain"], weights=values, minlength=len(found.domains))
        summary[key] = {d: round(float(n)) for d, n in zip(found.domains, sums, strict=True)}
    limit, tokens = 1.0, summary["bytes"] / split.bytes_per_token(config)
    if config.data.limit_documents() is not None:
        limit = min(1.0, (config.data.limit_documents() or 0) / max(summary["documents"], 1))
    elif config.data.limit_tokens() is not None:
        limit = min(1.0, (config.data.limit_tokens() or 0) / max(tokens, 1))
    return split.Sizes(
        {d: limit * n for d, n in summary["domains"].items()},
        {d: limit * n for d, n in summary["domain_bytes"].items()},
    )


def _stream_bytes(source: source_files.Source) -> float:
    """Decompressed size of a file, roughly."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        if unpack.codec_of(file.read(6)) == "plain":
            return float(size)
    return size * 3.7  # what text compresses to under gzip, zstd and xz, roughly


def _bad_share(summary: dict[str, Any]) -> float:
    harmless = (*readers.HARMLESS_REASONS, "duplicate_text")
    bad = sum(n for r, n in summary["skipped"].items() if r not in harmless)
    return bad / max(1, bad + summary["documents"])


def _warnings_about_data(
    config: Config, summary: dict[str, Any], bad_share: float, parts: dict[str, float]
) -> list[str]:
    warnings = []
    if bad_share > config.data.max_bad:
        shown = ", ".join(f"{r} {n}" for r, n in summary["skipped"].items())
        warnings.append(f"{bad_share:.1%} of the rows are bad, above data.max_bad: {shown}")
    small = [d for d, n in summary["domains"].items() if n < SMALL_DOMAIN]
    if small:
        names = ", ".join(small[:6]) + (", ..." if len(small) > 6 else "")
        warnings.append(f"{len(small)} domains of under {SMALL_DOMAIN} documents: {names}")
    trained = config.tokenizer.train
    if trained and parts["reference"] < 20 * trained.vocab_size:
        warnings.append(
            f"a vocabulary of {trained.vocab_size} is too large for {parts['reference']:,.0f} "
            "reference tokens"
        )
    if parts["test"] < 20_000:
        warnings.append(f"the test part has only {parts['test']:,.0f} tokens: wide intervals")
    if summary["duplicate_texts"] > 0.05 * summary["documents"]:
        share = summary["duplicate_texts"] / summary["documents"]
        warnings.append(f"{share:.0%} of the texts are copies: data.duplicates: drop")
    return warnings


def _costs(
    config: Config,
    tokens: float,
    parts: dict[str, float],
    warnings: list[str],
    measured: bool,
) -> dict[str, Any]:
    vocabulary = config.tokenizer.train.vocab_size if config.tokenizer.train else 50_000
    shapes = {
        "reference": models.shape_of(config.reference.model),
        "final": models.shape_of(config.final.model),
    }
    configs = {k: {**s.config, "vocab_size": vocabulary} for k, s in shapes.items()}
    context = {
        "reference": models.training_defaults(config.reference, shapes["reference"])["context"],
        "final": models.training_defaults(config.final, shapes["final"])["context"],
    }
    choice = config.selection
    rate = float(choice.rate) if choice.rate is not None else float(choice.band[1] - choice.band[0])  # type: ignore[index]
    unique = max(1.0, rate * parts["train"])
    targets = arms.final_targets(config, shapes["final"], vocabulary, round(unique))
    passes = targets / unique
    runs_count = len(arms.arms_of(config))
    train_reference = 0 if config.reference.pretrained else config.reference.tokens
    each = {k: models.flops_per_token(c, context[k]) for k, c in configs.items()}
    flops = {
        "reference": 3 * each["reference"] * train_reference,
        "score": each["reference"] * parts["train"],
        "final": 3 * each["final"] * targets * runs_count,
        "evaluation": each["final"] * parts["test"] * runs_count,
    }
    if passes > PASSES_LIMIT:
        worth = arms.effective_data(unique, targets) / targets
        warnings.append(
            f"{passes:.1f} passes over the slice, more than {PASSES_LIMIT}: worth {worth:.0%} of "
            "fresh data; give more data, a higher rate, or fewer final.tokens"
        )
    body, _ = models.parameter_counts(configs["reference"])
    if train_reference and train_reference < TOKENS_PER_PARAMETER * body:
        warnings.append(
            f"the reference sees {train_reference / body:.1f} tokens a parameter, under "
            f"{TOKENS_PER_PARAMETER}: raise reference.tokens"
        )
    if train_reference and parts["reference"] < 0.95 * train_reference:
        repeats = train_reference / max(parts["reference"], 1)
        warnings.append(f"the reference part is short: {repeats:.1f} passes over it")
    seconds = _seconds(
        config, tokens, parts, configs, context, targets, runs_count, measured, warnings
    )
    return {
        "passes": passes,
        "arms": {
            "count": runs_count,
            "unique_tokens": round(unique),
            "targets": targets,
            "effective_tokens": round(arms.effective_data(unique, targets)),
        },
        "flops": sum(flops.values()),
        "stage_flops": flops,
        "seconds": sum(seconds.values()) if seconds else None,
        "stage_seconds": seconds,
        "memory_bytes": _memory(config, configs, context, shapes),
    }


def _memory(
    config: Config,
    configs: dict[str, dict[str, Any]],
    context: dict[str, int],
    shapes: dict[str, models.Shape],
) -> int:
    """The largest bound of the stages: training in one process, scoring in several."""
    from mlxprune import backend

    device = backend.detect()
    allowed = config.memory or device.memory_bytes
    needs = []
    for which, settings in (("reference", config.reference), ("final", config.final)):
        if which == "reference" and config.reference.pretrained:
            continue
        chosen = models.training_defaults(settings, shapes[which])
        what = (device.name, device.score_workers, chosen["optimizer"])
        checkpointing = settings.gradient_checkpointing
        parts = settings.accumulate or memory.micro_batches(
            configs[which], context[which], chosen["batch_size"], allowed, *what, checkpointing
        )
        rows = max(1, chosen["batch_size"] // parts)
        needs.append(
            memory.PROCESS_BYTES
            + memory.training_bytes(configs[which], context[which], rows, *what, checkpointing)
        )
    window = config.score.context or context["reference"]
    processes = config.score.workers or device.score_workers
    batch = config.score.batch_tokens or memory.score_batch_tokens(
        configs["reference"], window, device.score_tokens_per_batch, allowed, device.name, processes
    )
    scoring = memory.scoring_bytes(configs["reference"], window, batch, device.name)
    return max(*needs, processes * (memory.PROCESS_BYTES + scoring))


def _seconds(
    config: Config,
    tokens: float,
    parts: dict[str, float],
    configs: dict[str, dict[str, Any]],
    context: dict[str, int],
    targets: int,
    runs_count: int,
    measured: bool,
    warnings: list[str],
) -> dict[str, float] | None:
    """Seconds by stage from a short probe of this machine; None without one."""
    if not measured:
        return None
    vocabulary = configs["final"]["vocab_size"]
    try:
        reference = probe.measure(config.reference.model, vocabulary, context["reference"])
        same = (config.reference.model, context["reference"]) == (
            config.final.model,
            context["final"],
        )
        final = (
            reference if same else probe.measure(config.final.model, vocabulary, context["final"])
        )
    except MlxpruneError as error:
        warnings.append(f"no time estimate: {error.problem}")
        return None
    return {
        "tokens": tokens * split.bytes_per_token(config) / TOKENIZE_BYTES_PER_SECOND,
        "reference": 0.0
        if config.reference.pretrained
        else config.reference.tokens / reference["train"],
        "score": parts["train"] / reference["score"],
        "final": targets * runs_count / final["train"],
        "evaluation": parts["test"] * runs_count / final["score"],
    }


def disk_bytes(config: Config, input_bytes: int) -> int:
    """A generous estimate: tokens of uncompressed text, scores, models with two checkpoints."""
    text = 4 * input_bytes
    vocabulary = config.tokenizer.train.vocab_size if config.tokenizer.train else 50_000

    def model_bytes(name: str) -> int:
        shape = models.shape_of(name)
        return sum(models.parameter_counts({**shape.config, "vocab_size": vocabulary})) * 4

    finals = len(config.final.arms) * len(config.final.seeds)
    sized = 0 if config.reference.pretrained else model_bytes(config.reference.model)
    return text + 7 * (sized + finals * model_bytes(config.final.model))
