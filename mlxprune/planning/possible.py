"""Possible: what could only fail after hours of work, refused before any."""

from __future__ import annotations

from mlxprune.config.schema import Config
from mlxprune.data.accounts import refuse_bad_input
from mlxprune.data.sources import find_sources
from mlxprune.errors import ConfigError
from mlxprune.evaluation.target_text import target_data
from mlxprune.evaluation.tasks import find_tasks, read_task
from mlxprune.experiment.scorers import scoring_context
from mlxprune.model.architecture import preset_of, training_defaults
from mlxprune.model.model_checks import checked, refuse_untrainable, tokenizer_warnings
from mlxprune.tokenization.tokenizer import fetch_tokenizer, load_tokenizer

SOME_IDS = 64  # a vocabulary to build a model with, whose positions are asked


def check_possible(config: Config) -> list[str]:
    """Refuse before work begins what could only fail after hours of it; return what is worth a
    warning. Raises ConfigError and DataError."""
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
        stated = {**preset_of(settings.model).config, "vocab_size": SOME_IDS}
        refuse_untrainable(stated, chosen.context, name)
        if name != "final" and config.score.overlap >= (config.score.context or chosen.context):
            where = f"score.overlap = {config.score.overlap}"
            raise ConfigError("the overlap leaves no room for targets", where, "lower it")
    if config.evaluation.tasks:
        for task in find_tasks(config.evaluation.tasks, config.evaluation.gauntlet).tasks:
            read_task(task)
    if config.evaluation.target:
        target = find_sources(target_data(config))
        if target.problems:
            refuse_bad_input(config.data, [], target.problems)
    return _check_pretrained(config)


def _check_pretrained(config: Config) -> list[str]:
    """The models and tokenizers that the configuration names."""
    warnings: list[str] = []
    scoring = {r.pretrained for r in config.scorers if r.pretrained}
    for reference in config.scorers:
        if reference.pretrained:
            what = "score.context" if config.score.context else "reference.context"
            found = checked(reference.pretrained, scoring_context(config, reference), what)
            warnings += [f"{reference.pretrained}: {warning}" for warning in found.warnings]
    name = config.tokenizer.pretrained
    if name and name not in scoring:
        found_tokenizer = load_tokenizer(fetch_tokenizer(name))
        warnings += [f"{name}: {warning}" for warning in tokenizer_warnings(found_tokenizer)]
    return warnings
