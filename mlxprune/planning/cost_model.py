"""Cost model: FLOPs, time and memory of a study, from sizes alone, and what would fit."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from mlxprune.config.loading import override_setting, validate_config
from mlxprune.config.schema import Config, Reference
from mlxprune.config.slices import Slice
from mlxprune.data import split
from mlxprune.errors import MlxpruneError
from mlxprune.evaluation.tasks import Task, choices_of, find_tasks, read_task
from mlxprune.experiment.arms import arms_of, confirmed_arms, ranks_slices
from mlxprune.experiment.budgets import (
    UNKNOWN_VOCABULARY,
    effective_data,
    final_targets,
    pool_tokens,
)
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import read_json
from mlxprune.model.architecture import (
    Preset,
    flops_per_token,
    parameter_counts,
    preset_of,
    read_model_config,
    text_config,
    training_defaults,
)
from mlxprune.model.memory_bounds import PROCESS_BYTES, memory_plan
from mlxprune.model.model_checks import fetch_for_checks
from mlxprune.planning.throughput import measure_scoring, measure_throughput
from mlxprune.records import Json, Record

# Of a processor of some years ago, by one core or two; small beside what a machine is measured for.
INDEX_BYTES_PER_SECOND = 60e6
LEARN_BYTES_PER_SECOND = 2e6  # of text that a tokenizer learns from
TOKENIZE_BYTES_PER_SECOND = 3e6
REPORT_SECONDS = 5.0
SMALLER = {
    "3b": "1b",
    "1b": "125m",
    "125m": "mini",
    "mini": "micro",
    "micro": "nano",
    "nano": "pico",
}
LEAST_TARGETS = 2  # a parameter: a budget is not cut below it to fit the time
measured_throughput = functools.cache(measure_throughput)
scoring_rate = functools.cache(measure_scoring)


@dataclass(frozen=True)
class CorpusTokens:
    """Tokens of the corpus by part, as the split counts them, before the pool is cut to what the
    budgets need; of validation and test those that are read. ``real``: how many there are for each
    that is counted."""

    tokens: float
    reference: float
    train: float
    validation: float
    test: float
    real: float = 1.0


def vocabulary_of(config: Config) -> int:
    """Of the final models; of a pretrained tokenizer, what its files say."""
    if config.tokenizer.train:
        return config.tokenizer.train.vocab_size
    return tokenizer_size(config.tokenizer.pretrained) or UNKNOWN_VOCABULARY


@functools.cache
def tokenizer_size(name: str | None) -> int | None:
    """Rows that a tokenizer needs, by its tokenizer.json; None where there is none here."""
    path = Path(name or "").expanduser() / "tokenizer.json"
    try:
        tree = read_json(path)
        vocabulary = tree["model"]["vocab"]
        ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
        ids += [token["id"] for token in tree.get("added_tokens") or []]
        return int(max(ids)) + 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _preset(reference: Reference) -> Preset:
    folder = _pretrained_folder(reference)
    return preset_of(reference.model) if folder is None else preset_of(str(folder))


@functools.cache
def _fetched(name: str) -> Path | None:
    try:
        folder = fetch_for_checks(name)
    except MlxpruneError:
        return None
    return folder if (folder / "config.json").exists() else None


def _pretrained_folder(reference: Reference) -> Path | None:
    """Where the files of a pretrained reference are, of a hub id the small ones."""
    return _fetched(reference.pretrained) if reference.pretrained else None


def reference_config(config: Config, reference: Reference) -> Json:
    """The model configuration of a reference, with its vocabulary."""
    folder = _pretrained_folder(reference)
    if folder is None:
        return {**preset_of(reference.model).config, "vocab_size": vocabulary_of(config)}
    stated = read_model_config(folder)
    own = text_config(stated).get("vocab_size") or UNKNOWN_VOCABULARY
    return {**preset_of(str(folder)).config, "vocab_size": own}


class PlannedArm(Record):
    """An arm as far as sizes tell before anything is scored: U, T, passes, D_eff."""

    unique_tokens: int
    targets: int
    passes: float
    effective_tokens: int
    seeds: int
    on_ladder: bool = False
    ranks: bool = False  # slices, on the validation part


class CostEstimate(Record):
    """What a study takes. ``seconds`` and ``stage_seconds`` are None where nothing was measured."""

    passes: float  # over the first slice
    targets: int  # T
    models: int
    pool_tokens: int
    task_tokens: int  # of one model
    arms: dict[str, PlannedArm]
    left_out: dict[str, str]  # arm: why
    flops: float
    stage_flops: dict[str, float]
    seconds: float | None
    stage_seconds: dict[str, float] | None


def estimate_costs(config: Config, sizes: CorpusTokens, measured: bool) -> CostEstimate:
    """From sizes alone; no seconds unless ``measured``."""
    vocabulary = vocabulary_of(config)
    pool = sizes.real * pool_tokens(config, sizes.train)
    final = preset_of(config.final.model)
    context = training_defaults(config.final, final).context
    final_config = {**final.config, "vocab_size": vocabulary}
    unique = max(1.0, expected_share(config.slices[0], pool) * pool)
    targets = final_targets(config, final, vocabulary, round(unique))
    arms, left_out = _arms(config, targets, pool, sizes.real * sizes.reference)
    count = sum(arm.seeds for arm in arms.values())
    each = flops_per_token(final_config, context)
    bytes_per_token = split.bytes_per_token(config)
    flops, seconds = _scoring_costs(config, sizes, pool, measured)
    seconds = {**_text_seconds(config, sizes, bytes_per_token), **seconds}
    asked = task_tokens(config, context, bytes_per_token)
    # A branch adds its decay; what is before it, it shares with the arm. The ladder has none.
    branches = len(config.final.branches)
    longer = config.final.decay * sum(config.final.branches)
    whole = sum(arm.seeds for arm in arms.values() if not arm.on_ladder)
    ranked = sum(arm.seeds for arm in arms.values() if arm.ranks)
    trained = targets * (count + whole * longer)
    test, validation = sizes.real * sizes.test, sizes.real * sizes.validation
    read = (test + asked) * (count + whole * branches) + validation * ranked
    flops["final"] = 3 * each * trained
    flops["evaluation"] = each * read
    if measured:
        rates = measured_throughput(config.final.model, vocabulary, context)
        seconds["final"] = trained / rates.train
        seconds["evaluation"] = read / rates.score
        seconds["report"] = REPORT_SECONDS
    return CostEstimate(
        passes=targets / unique,
        targets=targets,
        models=count,
        pool_tokens=round(pool),
        task_tokens=round(asked),
        arms=arms,
        left_out=left_out,
        flops=sum(flops.values()),
        stage_flops=flops,
        seconds=sum(seconds.values()) if measured else None,
        stage_seconds=seconds if measured else None,
    )


def _text_seconds(config: Config, sizes: CorpusTokens, each: float) -> dict[str, float]:
    """Of the stages that read text; a token is ``each`` bytes long."""
    trained = config.tokenizer.train
    learned = 0.0 if trained is None else min(sizes.reference * each, trained.max_bytes)
    return {
        "corpus": sizes.tokens * each / INDEX_BYTES_PER_SECOND,
        "tokenizer": learned / LEARN_BYTES_PER_SECOND,
        "tokens": sizes.tokens * each / TOKENIZE_BYTES_PER_SECOND,
    }


def _scoring_costs(
    config: Config, sizes: CorpusTokens, pool: float, measured: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """(FLOPs, seconds) of the stages ``reference`` and ``score``."""
    vocabulary, folds = vocabulary_of(config), config.split.cross or 1
    flops = {"reference": 0.0, "score": 0.0}
    seconds = {"reference": 0.0, "score": 0.0}
    for scorer in scorers_of(config):
        reference = scorer.reference
        preset = _preset(reference)
        window = config.score.context or training_defaults(reference, preset).context
        model = reference_config(config, reference)
        own = flops_per_token(model, window)
        folder = _pretrained_folder(reference)
        # A snapshot is trained on the way to its reference; a fold scores its part of the pool.
        trained = 0 if reference.pretrained or scorer.snapshot is not None else reference.tokens
        scored = pool / folds + (sizes.real * sizes.validation if folds > 1 else 0.0)
        if folder is not None:  # in tokens of its own tokenizer
            own_bytes = split.bytes_of_vocabulary(int(model["vocab_size"]))
            scored *= split.bytes_per_token(config) / own_bytes
        flops["reference"] += 3 * own * trained
        flops["score"] += own * scored
        if measured and folder is not None:
            seconds["score"] += scored / scoring_rate(folder, window)
        elif measured:
            rates = measured_throughput(reference.model, vocabulary, window)
            seconds["reference"] += trained / rates.train
            seconds["score"] += scored / rates.score
    return flops, seconds


def task_tokens(config: Config, context: int, bytes_per_token: float) -> float:
    """About how many tokens the items of the tasks are, for one model, contexts shared."""
    if not config.evaluation.tasks:
        return 0.0
    tasks = find_tasks(config.evaluation.tasks, config.evaluation.gauntlet)
    return sum(
        _one_task(task, config.evaluation.limit, context, bytes_per_token) for task in tasks.tasks
    )


@functools.cache
def _one_task(task: Task, limit: int | None, context: int, bytes_per_token: float) -> float:
    read = read_task(task)
    count = len(read.items)
    said = sum(len(text) for item in read.items for text in item.continuations)
    asked = sum(len(item.contexts[0]) for item in read.items)
    choices = sum(len(choices_of(item)) for item in read.items) / count
    answer = said / count / choices / bytes_per_token
    example = asked / count / bytes_per_token + answer
    prompt = (read.task.shots + 1) * example
    # Choices of one length share a context that is cut; others do not.
    rows = choices if prompt > context and answer > 2 else 1.0
    return min(count, limit or count) * (rows * min(prompt, context) + choices * answer)


def expected_share(choice: Slice, pool: float) -> float:
    """The share of the pool's tokens that a slice keeps; a half of a range, which is not known
    before there are scores."""
    if choice.tokens is not None:
        return min(1.0, choice.tokens / max(pool, 1.0))
    return choice.kept_share


def _arms(
    config: Config, targets: int, pool: float, reference: float
) -> tuple[dict[str, PlannedArm], dict[str, str]]:
    """Every arm, and which are left out and why."""
    shares = {c.label: expected_share(c, pool) for c in config.slices}
    by_share = {c.share: expected_share(c, pool) for c in config.slices}
    arms: dict[str, PlannedArm] = {}
    left_out: dict[str, str] = {}
    # Which slices are confirmed is not known yet: they cost alike.
    first = [choice.label for choice in config.slices[: config.final.confirm]]
    for arm in confirmed_arms(config, first) if config.final.confirm else arms_of(config):
        base = pool if arm.rung is None else targets / arm.rung
        share = shares[arm.slice] if arm.slice else by_share.get(arm.share or "", 1.0)
        unique = share * base + (reference if arm.kind == "all" else 0.0)
        if arm.rung is not None and base > pool:
            left_out[arm.arm] = f"a base of {base:,.0f} tokens is more than the pool's {pool:,.0f}"
        elif arm.kind == "none" and targets <= min(by_share.values()) * pool:
            left_out[arm.arm] = f"{targets:,} targets are no more than U: it is random"
        else:
            seeds = arms[arm.arm].seeds if arm.arm in arms else 0
            arms[arm.arm] = PlannedArm(
                unique_tokens=round(unique),
                targets=targets,
                passes=targets / max(unique, 1),
                effective_tokens=round(effective_data(max(unique, 1), targets)),
                seeds=seeds + 1,
                on_ladder=arm.rung is not None,
                ranks=ranks_slices(arm),
            )
    return arms, left_out


def seconds_or_why(config: Config, sizes: CorpusTokens, measured: bool) -> tuple[CostEstimate, str]:
    """The estimate, and why it holds no times where they were asked for."""
    try:
        return estimate_costs(config, sizes, measured), ""
    except MlxpruneError as error:
        return estimate_costs(config, sizes, False), error.problem


class FittingChange(Record):
    """Settings after which a study fits its time, how long it then takes, and what that loses."""

    set: list[str]
    seconds: float
    loses: str


def cheapest_changes(
    config: Config, sizes: CorpusTokens, seconds: float, allowed: float
) -> list[FittingChange]:
    """Changes after which the study fits ``allowed`` seconds, the least harmful first: single ones,
    or where none is enough, one by one until it fits."""
    changes = []
    for setting, loses in _candidates(config, sizes, seconds, allowed):
        after = estimate_costs(_changed(config, setting), sizes, True).seconds
        if after is not None and after <= allowed:
            changes.append(FittingChange(set=[setting], seconds=after, loses=loses))
    return changes or _together(config, sizes, seconds, allowed)


def _together(
    config: Config, sizes: CorpusTokens, seconds: float, allowed: float
) -> list[FittingChange]:
    settings: dict[str, str] = {}
    lost: list[str] = []
    while seconds > allowed:
        options = _candidates(config, sizes, seconds, allowed)
        if not options:
            return []
        setting, loses = options[0]
        config = _changed(config, setting)
        seconds = estimate_costs(config, sizes, True).seconds or 0.0
        settings[setting.partition("=")[0]] = setting  # a later one of the same key replaces it
        lost += [loses] if loses not in lost else []
    return [FittingChange(set=[*settings.values()], seconds=seconds, loses="; ".join(lost))]


def _changed(config: Config, setting: str) -> Config:
    tree = config.model_dump(mode="json")
    override_setting(tree, setting)
    return validate_config(tree, setting)


def _candidates(
    config: Config, sizes: CorpusTokens, seconds: float, allowed: float
) -> list[tuple[str, str]]:
    final = config.final
    found = []
    if config.split.pool == "all":
        found.append(("split.pool=auto", "documents that the budgets do not need stay unscored"))
    main = [a for a in final.arms if a in ("pruned", "random")]
    if 0 < len(main) < len(final.arms):
        found.append((f"final.arms=[{', '.join(main)}]", "the controls besides random"))
    if final.ladder:
        found.append(("final.ladder=[]", "the ladder"))
    for count in range(len(final.seeds) - 1, 1, -1):
        found.append((f"final.seeds={final.seeds[:count]}", "wider intervals"))
    stage_seconds = estimate_costs(config, sizes, True).stage_seconds or {}
    spent = stage_seconds["final"]
    left = allowed - (seconds - spent)
    body, _ = parameter_counts(
        {**preset_of(final.model).config, "vocab_size": vocabulary_of(config)}
    )
    if final.tokens and spent and left > 0:
        tokens = _round_down(0.85 * final.tokens * left / spent)
        if LEAST_TARGETS * body <= tokens < final.tokens:
            found.append((f"final.tokens={tokens}", "targets: every arm trains less"))
    if final.model in SMALLER:
        found.append((f"final.model={SMALLER[final.model]}", "a smaller final model"))
    trains_one = len(config.scorers) == 1 and not config.reference.pretrained
    if trains_one and config.reference.model in SMALLER:
        found.append((f"reference.model={SMALLER[config.reference.model]}", "a smaller reference"))
    if len(final.seeds) > 1:
        found.append((f"final.seeds={final.seeds[:1]}", "the verdict: one seed gives none"))
    scoring = stage_seconds["score"]
    room = allowed - (seconds - scoring)
    if scoring and room > 0 and sizes.tokens:
        limit = _round_down(0.9 * sizes.tokens * room / scoring)
        if config.data.limit is None and limit < sizes.tokens:
            found.append((f"data.limit={limit}", "documents: the pool is smaller"))
    return found


def _round_down(number: float) -> int:
    """Two digits are enough to plan with."""
    size = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return max(1, int(number // size * size))


def device_memory() -> int:
    """Bytes that batches may fill by default: half of what the device recommends."""
    from mlxprune.engine import backend

    return backend.detect().memory_bytes


def memory_bytes(config: Config) -> int:
    """The largest bound of the stages: training in one process, scoring in several."""
    from mlxprune.engine import backend

    device = backend.detect()
    needs = [PROCESS_BYTES]
    for settings in (*config.scorers, config.final):
        scores = isinstance(settings, Reference)
        preset = _preset(settings) if isinstance(settings, Reference) else preset_of(settings.model)
        stated = {**preset.config, "vocab_size": vocabulary_of(config)}
        if isinstance(settings, Reference):
            stated = reference_config(config, settings)
        chosen = training_defaults(settings, preset)
        if not (isinstance(settings, Reference) and settings.pretrained):
            plan = memory_plan(stated, chosen.context, config.memory)
            checkpointing = settings.gradient_checkpointing
            parts = settings.accumulate or plan.micro_batches(
                chosen.batch_size, chosen.optimizer, checkpointing
            )
            rows = max(1, chosen.batch_size // parts)
            bound = plan.training_bytes(rows, chosen.optimizer, checkpointing)
            needs.append(PROCESS_BYTES + bound)
        if scores:
            plan = memory_plan(stated, config.score.context or chosen.context, config.memory)
            processes = config.score.workers or device.score_workers
            batch = config.score.batch_tokens or plan.scoring_batch(
                device.score_tokens_per_batch, processes
            )
            needs.append(processes * (PROCESS_BYTES + plan.scoring_bytes(batch)))
    return max(needs)


def disk_bytes(config: Config, input_bytes: int) -> int:
    """A generous estimate: tokens of uncompressed text, scores, models with two checkpoints."""
    vocabulary = vocabulary_of(config)

    def model_bytes(name: str) -> int:
        preset = preset_of(name)
        return sum(parameter_counts({**preset.config, "vocab_size": vocabulary})) * 4

    ends = 1 + len(config.final.branches)
    finals = ends * len(arms_of(config)) * model_bytes(config.final.model)
    trained = [s for s in scorers_of(config) if not s.reference.pretrained]
    return 4 * input_bytes + 7 * (finals + sum(model_bytes(s.reference.model) for s in trained))
