"""What a model answered, as tables on a terminal."""

from __future__ import annotations

import textwrap
from typing import Any

from mlxprune.errors import one_line
from mlxprune.evaluation.bits_per_byte import TextBits
from mlxprune.evaluation.lm_eval_bridge import LmEvalResult
from mlxprune.evaluation.task_metrics import (
    CategoryResult,
    MeanResult,
    SuiteResult,
    categories_in_order,
)
from mlxprune.report.terminal import plain_table

LONGEST_NAME = 28
LEGEND = """\
accuracy and its 95 % interval in %. norm: 0 is guessing, 100 all right.
one: the norm of one answer to all. bits: bits per byte of the right answer;
margin: how many more the others take."""


def print_suite(answers: SuiteResult, context: int) -> None:
    """Tasks by category with their intervals and traps, then the categories and their mean."""
    from rich.console import Console

    rich = Console(highlight=False)
    rich.print(_tasks(answers))
    print(LEGEND)
    for _, category in categories_in_order(answers.categories):
        for label in category.tasks:
            for trap in answers.tasks[label].traps:
                _note(f"  {short_label(label)}: {trap}")
    cut = sum(task.cut for task in answers.tasks.values())
    if cut:
        share = cut / sum(task.items for task in answers.tasks.values())
        _note(
            f"{cut:,} items ({share:.0%}) are longer than the context of {context}: "
            "they lose their beginning"
        )
    for label, why in answers.absent.items():
        _note(f"{short_label(label)} is left out: {why}")
    print()
    rich.print(_categories(answers))
    print()


def print_lm_eval(result: LmEvalResult) -> None:
    """What lm-eval measured, as it names it."""
    from rich.console import Console

    Console(highlight=False).print(_lm_eval(result))
    print()


def print_text(bits: TextBits) -> None:
    """Bits per byte of a text by domain."""
    from rich.console import Console

    Console(highlight=False).print(_text(bits))


def short_label(label: str) -> str:
    """A task's name as tables show it."""
    name = one_line(label).removeprefix("bigbench_")
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def _note(text: str) -> None:
    print(
        textwrap.fill(
            one_line(text),
            79,
            initial_indent=text[: len(text) - len(text.lstrip())],
            subsequent_indent="    ",
            break_long_words=False,
        )
    )


def _row(made: Any, *cells: str, bold: bool = False) -> None:
    """Cells as plain text: what data says is no markup."""
    from rich.text import Text

    made.add_row(*(Text(one_line(cell)) for cell in cells), style="bold" if bold else None)


def _number(value: float | None, form: str) -> str:
    """Empty where there is no number, as from a broken model."""
    return "" if value is None or value != value else f"{value:{form}}"


def _tasks(answers: SuiteResult) -> Any:
    made = plain_table(
        "tasks", "", "items", "accuracy", "interval", "norm", "one", "bits", "margin"
    )
    made.padding = (0, 0, 0, 1)  # eight columns in eighty characters
    for name, category in categories_in_order(answers.categories):
        _row(made, name.replace("_", " "), bold=True)
        for label in category.tasks:
            task = answers.tasks[label]
            _row(
                made,
                short_label(label),
                f"{task.items:,}",
                _percent(task.accuracy),
                f"{_percent(task.low)} {_percent(task.high)}",
                _percent(task.normalised_accuracy),
                _percent(task.normalised_one_answer),
                _number(task.gold_bpb, ".3f"),
                _number(task.margin, "+.3f"),
            )
    return made


def _categories(answers: SuiteResult) -> Any:
    made = plain_table(
        "normalised accuracy", "", "norm", "interval", "one", "bits", "margin", "tasks"
    )
    made.padding = (0, 0, 0, 1)
    rows: list[tuple[str, MeanResult]] = [*categories_in_order(answers.categories)]
    if len(rows) > 1:
        rows.append((f"average of {answers.average_over}", answers.average))
    for name, mean in rows:
        count = ""
        if isinstance(mean, CategoryResult):
            held, absent = len(mean.tasks), len(mean.absent)
            count = f"{held} of {held + absent}" if absent else str(held)
        _row(
            made,
            name.replace("_", " "),
            _percent(mean.normalised_accuracy),
            f"{_percent(mean.normalised_low)} {_percent(mean.normalised_high)}",
            _percent(mean.normalised_one_answer),
            _number(mean.gold_bpb, ".3f"),
            _number(mean.margin, "+.3f"),
            count,
            bold=name.startswith("average of"),
        )
    return made


def _lm_eval(result: LmEvalResult) -> Any:
    packages = ", ".join(f"{name} {version}" for name, version in result.packages.items())
    made = plain_table(packages, "", "version", "shots", "metric", "value")
    for task, figures in result.results.items():
        version, shots = str(result.versions.get(task, "")), str(result.shots.get(task, ""))
        for key, value in figures.items():
            if isinstance(value, float) and "_stderr" not in key:
                _row(made, task, version, shots, key, f"{value:.4f}")
    return made


def _text(text: TextBits) -> Any:
    made = plain_table("bits per byte", "", "bits")
    for name, bits in text.domains.items():
        _row(made, name, _number(bits, ".4f"))
    _row(made, "plain mean of the domains", _number(text.macro, ".4f"), bold=True)
    _row(made, "all text", _number(text.original_mix, ".4f"))
    return made


def _percent(value: float) -> str:
    shown = f"{100 * value:.1f}"
    return "0.0" if shown == "-0.0" else shown
