"""Plan: what a run will do, what it will take, and what is worth a warning. Does no work."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from mlxprune import machine
from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.index import CorpusCounts, CorpusSummary, open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.mix import MixShare, mix_sentence
from mlxprune.data.sources import FoundFiles, find_sources, notes_on_files
from mlxprune.errors import ConfigError, DataError, one_line
from mlxprune.experiment.document_account import DocumentAccount, planned_account
from mlxprune.experiment.trust import LONG_DOCUMENT, TOKENS_A_PARAMETER
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.planning.corpus_sample import sampled_sizes
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
from mlxprune.planning.possible import check_possible
from mlxprune.planning.power_forecast import PowerForecast, power_forecast
from mlxprune.planning.token_sample import tokens_per_counted
from mlxprune.records import Record
from mlxprune.selection.metric import refuse_unknown_domains
from mlxprune.selection.ranking import refuse_nothing

HOURS = 8.0  # a night
PASSES_LIMIT = 4
SMALL_DOMAIN = 20


class Fit(Record):
    """Whether the study fits ``hours``, and the changes after which it would; None: not known."""

    hours: float
    fits: bool | None
    changes: list[FittingChange]


class Plan(CostEstimate):
    """The object that ``plan --json`` prints."""

    corpus: CorpusCounts
    account: DocumentAccount  # what becomes of every row, as far as it is known
    tokens: int
    parts: dict[str, int]  # tokens
    memory_bytes: int
    memory_given: int  # what MLX may take of the device's
    disk_bytes: int
    fits: Fit
    decides: PowerForecast
    warnings: list[str]


def plan_run(
    config: Config,
    sample: bool = False,
    measured: bool = True,
    hours: float | None = None,
) -> Plan:
    """What a run will do and take.

    Reads the corpus once, or some rows of every file with ``sample`` (then ``exact`` is false and
    counts are scaled by file size). ``measured=False`` skips the probe of the machine. Of a study
    that takes longer than ``hours``, by default those of the configuration, it says what would make
    it fit. Raises what a run would raise.
    """
    warnings = check_possible(config)
    found = find_sources(config.data)
    summary, sizes, mix, account, longest_bytes = _sizes(config, found, sample)
    each = split.bytes_per_token(config)
    tokens = sum(sizes.bytes.values()) / each
    parts = split.expected_tokens(config, sizes)
    _refuse_sizes(config, summary, parts, tokens)
    warnings += [*notes_on_files(found), *summary.notes]
    warnings += [mix_sentence(mix)] if mix else []
    warnings += _warnings_about_data(config, summary, parts)
    validation, test = (split.expected_read(config, sizes, n) for n in ("validation", "test"))
    real = tokens_per_counted(config, found, sizes.bytes) if measured else 1.0
    counted = CorpusTokens(tokens, parts["reference"], parts["train"], validation, test, real)
    parts = {name: real * size for name, size in parts.items()}
    if measured and (busy := machine.busy_words()):
        warnings.append(f"{busy}: times are what they would be while it stays so")
    costs, why = seconds_or_why(config, counted, measured)
    if why:
        warnings.append(f"no time estimate: {why}")
    warnings += _warnings_about_budgets(config, costs, parts)
    warnings += _warnings_about_arms(config, costs, real * longest_bytes / each)
    needed, given = memory_bytes(config), 2 * device_memory()
    if needed > given:
        warnings.append(
            f"the memory will not do: {needed / 1e9:.1f} GB needed, the device gives "
            f"{given / 1e9:.1f}: take a smaller model or context"
        )
    disk = disk_bytes(config, sum(s.path.stat().st_size for s in found.sources))
    free = shutil.disk_usage(Path.cwd()).free
    if disk > free:
        warnings.append(f"the disk will not do: {disk / 1e9:.1f} GB needed, {free / 1e9:.1f} free")
    shown = {name: getattr(summary, name) for name in CorpusCounts.__struct_fields__}
    return Plan(
        corpus=CorpusCounts(**shown),
        account=account,
        tokens=round(real * tokens),
        parts={k: round(v) for k, v in parts.items()},
        **msgspec.structs.asdict(costs),
        memory_bytes=needed,
        memory_given=given,
        disk_bytes=disk,
        fits=_fits(config, counted, costs.seconds, hours or config.hours or HOURS),
        decides=power_forecast(config, sizes),
        warnings=warnings,
    )


def _refuse_sizes(
    config: Config, summary: CorpusSummary, parts: dict[str, float], tokens: float
) -> None:
    """Raises ConfigError and DataError: parts that would be empty, slices that can keep nothing."""
    if parts["train"] <= 0:
        shares = ", ".join(
            f"{n} {size / max(tokens, 1):.0%}" for n, size in parts.items() if size > 0
        )
        raise ConfigError("nothing is left to score", f"split: {shares}", "lower these shares")
    if config.tokenizer.train and not config.split.cross and parts["reference"] <= 0:
        fix = "set split.reference, or use tokenizer.pretrained"
        raise ConfigError("no reference document to train a tokenizer on", "tokenizer.train", fix)
    if summary.skipped and not summary.documents:
        reasons = ", ".join(f"{one_line(why)} {n:,}" for why, n in summary.skipped.items())
        problem = f"no row is a document: {reasons}"
        raise DataError(problem, "data.paths", "name the text key, or mend the files")
    for choice in config.slices:
        refuse_nothing(choice, round(summary.documents * parts["train"] / tokens))
    for choice in config.slices:
        refuse_unknown_domains(choice, tuple(summary.domains))


def _sizes(
    config: Config, found: FoundFiles, sample: bool
) -> tuple[CorpusSummary, split.DomainSizes, list[MixShare], DocumentAccount, int]:
    """Of the input, read once or in part, and the bytes of the longest document, 0 where not all
    are read. Raises DataError as a run would."""
    if sample:
        summary, sizes, mix = sampled_sizes(config, found)
        beyond_mix = sum(s.documents - s.used_documents for s in mix)
        beyond_limit = summary.documents - beyond_mix - round(sum(sizes.documents.values()))
        return summary, sizes, mix, planned_account(summary, beyond_mix, beyond_limit), 0
    with tempfile.TemporaryDirectory(prefix="mlxprune-plan-") as name:
        summary = build_index(config.data, found, Path(name))
        corpus = open_corpus(Path(name), config.data)
        taken = split.take_documents(config, corpus)
        account = planned_account(summary, taken.beyond_mix, taken.beyond_limit)
        longest = int(corpus.index["bytes"][taken.within].max(initial=0))
        return summary, split.sizes_of(corpus, taken.within), taken.mix, account, longest


def _fits(config: Config, sizes: CorpusTokens, seconds: float | None, hours: float) -> Fit:
    """Whether the study fits the time, and the single changes after which it would."""
    if seconds is None:
        return Fit(hours=hours, fits=None, changes=[])
    fits = seconds <= 3600 * hours
    changes = [] if fits else cheapest_changes(config, sizes, seconds, 3600 * hours)
    return Fit(hours=hours, fits=fits, changes=changes)


def _warnings_about_data(
    config: Config, summary: CorpusSummary, parts: dict[str, float]
) -> list[str]:
    warnings = []
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


def _warnings_about_arms(config: Config, costs: CostEstimate, longest: float) -> list[str]:
    """``longest``: tokens of the longest document."""
    warnings = []
    least = min((arm.unique_tokens for arm in costs.arms.values()), default=0)
    if longest > LONG_DOCUMENT * least > 0:
        share = f"{longest / least:.0%} of an arm's tokens"
        warnings.append(f"the longest document is {share}: arms may miss U by as much")
    if config.split.seed:
        count = len(config.split.seed)
        warnings.append(f"the study is repeated {count} times (split.seed): times are of one")
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
        if reference.tokens < TOKENS_A_PARAMETER * body:
            warnings.append(
                f"{which} sees {reference.tokens / body:.1f} tokens a parameter, under "
                f"{TOKENS_A_PARAMETER:.0f}: raise reference.tokens"
            )
        own = parts["reference"]
        if config.split.cross:
            own = parts["train"] * (1 - 1 / config.split.cross)
        if own < 0.95 * reference.tokens:
            repeats = reference.tokens / max(own, 1)
            warnings.append(f"the reference part is short: {repeats:.1f} passes over it")
    for choice in config.slices:
        if choice.criterion == "range":
            what = "how much a range keeps is known once there are scores: a half is assumed"
            warnings.append(f"{choice.label}: {what}")
        if choice.tokens is not None and choice.tokens > costs.pool_tokens:
            what = f"asks for {choice.tokens:,} of about {costs.pool_tokens:,} tokens of the pool"
            warnings.append(f"{choice.label} {what}: the run will stop at selection")
    if costs.pool_tokens < 0.99 * parts["train"]:
        warnings.append(
            f"the pool is {costs.pool_tokens:,} of {parts['train']:,.0f} tokens: the budgets "
            "need no more (split.pool: auto; --pool all takes the rest, too)"
        )
    return warnings
