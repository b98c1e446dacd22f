"""Plan: what a run will do, what it will take, and what is worth a warning. Does no work."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.decompression import codec_of
from mlxprune.data.index import Corpus, CorpusCounts, CorpusSummary, open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.readers import HARMLESS_REASONS
from mlxprune.data.sources import Source, find_sources
from mlxprune.errors import ConfigError
from mlxprune.evaluation.tasks import find_tasks, read_task
from mlxprune.model.architecture import parameter_counts, preset_of, training_defaults
from mlxprune.planning.cost_model import (
    CorpusTokens,
    CostEstimate,
    FittingChange,
    cheapest_changes,
    device_memory,
    disk_bytes,
    memory_bytes,
    seconds_or_why,
    vocabulary_of,
)
from mlxprune.records import Record
from mlxprune.selection.metric import refuse_unknown_domains
from mlxprune.selection.ranking import refuse_nothing

SAMPLE_ROWS = 200
PASSES_LIMIT = 4
TOKENS_PER_PARAMETER = 10
SMALL_DOMAIN = 20


class Fit(Record):
    """Whether the study fits ``hours``, and the changes after which it would; None: not known."""

    hours: float
    fits: bool | None
    changes: list[FittingChange]


class Plan(CostEstimate):
    """The object that ``plan --json`` prints."""

    corpus: CorpusCounts
    tokens: int
    parts: dict[str, int]  # tokens
    memory_bytes: int
    memory_given: int  # what MLX may take of the device's
    disk_bytes: int
    fits: Fit
    warnings: list[str]


def plan_run(
    config: Config,
    sample: bool = False,
    measured: bool = True,
    hours: float = 8.0,
) -> Plan:
    """What a run will do and take.

    Reads the corpus once, or the head of each file with ``sample`` (then ``exact`` is false and
    counts are scaled by file size). ``measured=False`` skips the probe of the machine. Of a study
    that takes longer than ``hours`` it says what would make it fit.
    """
    check_possible(config)
    sources, left_out = find_sources(config.data.paths)
    summary, sizes = _sizes(config, sources, left_out, sample)
    thresholds = split.choose_thresholds(config, sizes)
    tokens = sum(sizes.bytes.values()) / split.bytes_per_token(config)
    parts = {name: thresholds[name] * tokens for name in thresholds}
    parts["train"] = tokens - sum(parts.values())
    if parts["train"] <= 0:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in thresholds.items())
        raise ConfigError("nothing is left to score", f"split: {shares}", "lower these shares")
    for choice in config.slices:
        refuse_nothing(choice, round(summary.documents * parts["train"] / tokens))
    for choice in config.slices:
        refuse_unknown_domains(choice, tuple(summary.domains))
    warnings = _warnings_about_data(config, summary, parts)
    corpus_tokens = CorpusTokens(
        tokens, parts["reference"], parts["train"], parts["validation"], parts["test"]
    )
    costs, why = seconds_or_why(config, corpus_tokens, measured)
    if why:
        warnings.append(f"no time estimate: {why}")
    warnings += _warnings_about_budgets(config, costs, parts)
    needed, given = memory_bytes(config), 2 * device_memory()
    if needed > given:
        warnings.append(
            f"the memory will not do: {needed / 1e9:.1f} GB needed, the device gives "
            f"{given / 1e9:.1f}: take a smaller model or context"
        )
    disk = disk_bytes(config, sum(s.path.stat().st_size for s in sources))
    free = shutil.disk_usage(Path.cwd()).free
    if disk > free:
        warnings.append(f"the disk will not do: {disk / 1e9:.1f} GB needed, {free / 1e9:.1f} free")
    shown = {name: getattr(summary, name) for name in CorpusCounts.__struct_fields__}
    return Plan(
        corpus=CorpusCounts(**shown),
        tokens=round(tokens),
        parts={k: round(v) for k, v in parts.items()},
        **msgspec.structs.asdict(costs),
        memory_bytes=needed,
        memory_given=given,
        disk_bytes=disk,
        fits=_fits(config, corpus_tokens, costs.seconds, hours),
        warnings=warnings,
    )


def _sizes(
    config: Config, sources: list[Source], left_out: list[str], sample: bool
) -> tuple[CorpusSummary, split.DomainSizes]:
    """Of the input, read once or in part."""
    with tempfile.TemporaryDirectory(prefix="mlxprune-plan-") as name:
        lenient = config.data.model_copy(update={"max_bad": 1.0})
        rows = SAMPLE_ROWS if sample else None
        summary = build_index(lenient, sources, left_out, Path(name), rows_per_file=rows)
        corpus = open_corpus(Path(name), config.data)
        if sample:
            return _scaled(config, summary, corpus, sources)
        return summary, split.sizes_of(corpus, split.within_limit(config, corpus))


def _fits(config: Config, sizes: CorpusTokens, seconds: float | None, hours: float) -> Fit:
    """Whether the study fits the time, and the single changes after which it would."""
    if seconds is None:
        return Fit(hours=hours, fits=None, changes=[])
    fits = seconds <= 3600 * hours
    changes = [] if fits else cheapest_changes(config, sizes, seconds, 3600 * hours)
    return Fit(hours=hours, fits=fits, changes=changes)


def check_possible(config: Config) -> None:
    """Refuse before work begins what could only fail after hours of it. Raises ConfigError."""
    listed = [(f"reference {r.name}", r) for r in config.scorers if not r.pretrained]
    if len(listed) == 1:
        listed = [("reference", listed[0][1])]
    for name, settings in (*listed, ("final", config.final)):
        chosen = training_defaults(settings, preset_of(settings.model))
        if chosen.batch_size % (settings.accumulate or 1):
            raise ConfigError(
                f"a batch of {chosen.batch_size} sequences does not divide into "
                f"{settings.accumulate} parts",
                f"{name}.accumulate",
                f"choose a divisor of {name}.batch_size",
            )
        if name != "final" and config.score.overlap >= (config.score.context or chosen.context):
            where = f"score.overlap = {config.score.overlap}"
            raise ConfigError("the overlap leaves no room for targets", where, "lower it")
    if config.evaluation.tasks:
        for task in find_tasks(config.evaluation.tasks, config.evaluation.gauntlet).tasks:
            read_task(task)
    if config.evaluation.target:
        find_sources(config.evaluation.target)


def _scaled(
    config: Config, summary: CorpusSummary, corpus: Corpus, sources: list[Source]
) -> tuple[CorpusSummary, split.DomainSizes]:
    """The heads of the files blown up to the sizes of the files."""
    factors = np.ones(len(sources))
    for code, source in enumerate(sources):
        rows = corpus.index[corpus.index["file"] == code]
        if len(rows) < SAMPLE_ROWS * 0.9 or source.form == "text":
            continue
        if source.form == "parquet":
            import pyarrow.parquet as pq

            factors[code] = pq.ParquetFile(source.path).metadata.num_rows / SAMPLE_ROWS
        else:
            factors[code] = max(1.0, _stream_bytes(source) / max(int(rows["offset"][-1]), 1))
    weight = factors[corpus.index["file"]]
    index = corpus.index

    def sums(weights: np.ndarray) -> dict[str, int]:
        counts = np.bincount(index["domain"], weights=weights, minlength=len(corpus.domains))
        return {d: round(float(n)) for d, n in zip(corpus.domains, counts, strict=True)}

    summary = msgspec.structs.replace(
        summary,
        documents=round(float(weight.sum())),
        bytes=round(float((weight * index["bytes"]).sum())),
        domains=sums(weight),
        domain_bytes=sums(weight * index["bytes"]),
    )
    limit, tokens = 1.0, summary.bytes / split.bytes_per_token(config)
    if config.data.limit_documents() is not None:
        limit = min(1.0, (config.data.limit_documents() or 0) / max(summary.documents, 1))
    elif config.data.limit_tokens() is not None:
        limit = min(1.0, (config.data.limit_tokens() or 0) / max(tokens, 1))
    sizes = split.DomainSizes(
        {d: limit * n for d, n in summary.domains.items()},
        {d: limit * n for d, n in summary.domain_bytes.items()},
    )
    return summary, sizes


def _stream_bytes(source: Source) -> float:
    """Decompressed size of a file, roughly."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        if codec_of(file.read(6)) == "plain":
            return float(size)
    return size * 3.7  # what text compresses to under gzip, zstd and xz, roughly


def _bad_share(summary: CorpusSummary) -> float:
    harmless = (*HARMLESS_REASONS, "duplicate_text")
    bad = sum(n for r, n in summary.skipped.items() if r not in harmless)
    return bad / max(1, bad + summary.documents)


def _warnings_about_data(
    config: Config, summary: CorpusSummary, parts: dict[str, float]
) -> list[str]:
    warnings, bad_share = [], _bad_share(summary)
    if bad_share > config.data.max_bad:
        shown = ", ".join(f"{r} {n}" for r, n in summary.skipped.items())
        warnings.append(f"{bad_share:.1%} of the rows are bad, above data.max_bad: {shown}")
    small = [d for d, n in summary.domains.items() if n < SMALL_DOMAIN]
    if small:
        names = ", ".join(small[:6]) + (", ..." if len(small) > 6 else "")
        many = "1 domain" if len(small) == 1 else f"{len(small)} domains"
        warnings.append(f"{many} of under {SMALL_DOMAIN} documents: {names}")
    trained = config.tokenizer.train
    learned = parts["train"] if config.split.cross else parts["reference"]
    if trained and learned < 20 * trained.vocab_size:
        warnings.append(
            f"a vocabulary of {trained.vocab_size} is large for {learned:,.0f} tokens to learn from"
        )
    if parts["test"] < 20_000:
        warnings.append(f"the test part has only {parts['test']:,.0f} tokens: wide intervals")
    if summary.duplicate_texts > 0.05 * summary.documents:
        share = summary.duplicate_texts / summary.documents
        warnings.append(f"{share:.0%} of the texts are copies: data.duplicates: drop")
    return warnings


def _warnings_about_budgets(
    config: Config, costs: CostEstimate, parts: dict[str, float]
) -> list[str]:
    warnings = []
    if costs.passes > PASSES_LIMIT:
        first = next(iter(costs.arms.values()))
        warnings.append(
            f"{costs.passes:.1f} passes over the slice, more than {PASSES_LIMIT}: worth "
            f"{first.effective_tokens / first.targets:.0%} of fresh data; give more data, a "
            "higher rate, or fewer final.tokens"
        )
    vocabulary = vocabulary_of(config)
    for reference in config.scorers:
        if reference.pretrained:
            continue
        which = "the reference" if len(config.scorers) == 1 else f"reference {reference.name}"
        stated = {**preset_of(reference.model).config, "vocab_size": vocabulary}
        body, _ = parameter_counts(stated)
        if reference.tokens < TOKENS_PER_PARAMETER * body:
            warnings.append(
                f"{which} sees {reference.tokens / body:.1f} tokens a parameter, under "
                f"{TOKENS_PER_PARAMETER}: raise reference.tokens"
            )
        own = parts["reference"]
        if config.split.cross:
            own = parts["train"] * (1 - 1 / config.split.cross)
        if own < 0.95 * reference.tokens:
            repeats = reference.tokens / max(own, 1)
            warnings.append(f"the reference part is short: {repeats:.1f} passes over it")
    if costs.pool_tokens < 0.99 * parts["train"]:
        warnings.append(
            f"the pool is {costs.pool_tokens:,} of {parts['train']:,.0f} tokens: the budgets "
            "need no more (split.pool: auto; --pool all takes the rest, too)"
        )
    return warnings
