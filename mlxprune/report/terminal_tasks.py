"""Marksheet: the marks of a model as tables on a terminal."""

from __future__ import annotations

import textwrap
from typing import Any

from mlxprune.errors import one_line
from mlxprune.evaluation.task_metrics import categories_in_order
from mlxprune.report.terminal import plain_table

LONGEST_NAME = 28
LEGEND = """\
accuracy and its 95 % interval in %. norm: 0 is guessing, 100 all right.
one: the norm of one answer to all. bits: bits per byte of the right answer;
margin: how many more the others take."""


def print_suite_result(found: dict[str, Any]) -> None:
    """Tasks by category with their intervals and traps, then the categories and their mean."""
    from rich.console import Console

    rich = Console(highlight=False)
    if "tasks" in found:
        rich.print(_tasks(found))
        print(LEGEND)
        for _, category in categories_in_order(found["categories"]):
            for label in category["tasks"]:
                for trap in found["tasks"][label]["traps"]:
                    _note(f"  {short_label(label)}: {trap}")
        cut = {label: t["cut"] for label, t in found["tasks"].items() if t["cut"]}
        if cut:
            share = sum(cut.values()) / sum(t["items"] for t in found["tasks"].values())
            _note(
                f"{sum(cut.values()):,} items ({share:.0%}) are longer than the context of "
                f"{found['context']}: they lose their beginning"
            )
        for label, why in found["absent"].items():
            _note(f"{short_label(label)} is left out: {why}")
        print()
        rich.print(_categories(found))
        print()
    if "lm_eval" in found:
        rich.print(_outside(found["lm_eval"]))
        print()
    if "text" in found:
        rich.print(_text(found["text"]))


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


def _tasks(found: dict[str, Any]) -> Any:
    made = plain_table(
        "tasks", "", "items", "accuracy", "interval", "norm", "one", "bits", "margin"
    )
    made.padding = (0, 0, 0, 1)  # eight columns in eighty characters
    for name, category in categories_in_order(found["categories"]):
        _row(made, name.replace("_", " "), bold=True)
        for label in category["tasks"]:
            told = found["tasks"][label]
            _row(
                made,
                short_label(label),
                f"{told['items']:,}",
                _percent(told["accuracy"]),
                f"{_percent(told['low'])} {_percent(told['high'])}",
                _percent(told["normalised_accuracy"]),
                _percent(told["normalised_one_answer"]),
                _number(told["gold_bpb"], ".3f"),
                _number(told["margin"], "+.3f"),
            )
    return made


def _categories(found: dict[str, Any]) -> Any:
    made = plain_table(
        "normalised accuracy", "", "norm", "interval", "one", "bits", "margin", "tasks"
    )
    made.padding = (0, 0, 0, 1)
    rows = categories_in_order(found["categories"])
    if len(rows) > 1:
        rows.append((f"average of {found['average_over']}", found["average"]))
    for name, told in rows:
        absent = told.get("absent", [])
        count = f"{len(told['tasks'])} of {len(told['tasks']) + len(absent)}" if absent else ""
        _row(
            made,
            name.replace("_", " "),
            _percent(told["normalised_accuracy"]),
            f"{_percent(told['normalised_low'])} {_percent(told['normalised_high'])}",
            _percent(told["normalised_one_answer"]),
            _number(told["gold_bpb"], ".3f"),
            _number(told["margin"], "+.3f"),
            count or str(len(told.get("tasks", [])) or ""),
            bold=name.startswith("average of"),
        )
    return made


def _outside(found: dict[str, Any]) -> Any:
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    made = plain_table(packages, "", "version", "shots", "metric", "value")
    for task, told in found["results"].items():
        for key, value in told.items():
            if isinstance(value, float) and "_stderr" not in key:
                version, shots = (str(found[k].get(task, "")) for k in ("versions", "shots"))
                _row(made, task, version, shots, key, f"{value:.4f}")
    return made


def _text(found: dict[str, Any]) -> Any:
    made = plain_table("bits per byte", "", "bits")
    for name, bits in found["domains"].items():
        _row(made, name, _number(bits, ".4f"))
    _row(made, "plain mean of the domains", _number(found["macro"], ".4f"), bold=True)
    _row(made, "all text", _number(found["original_mix"], ".4f"))
    return made


def _percent(value: float) -> str:
    shown = f"{100 * value:.1f}"
    return "0.0" if shown == "-0.0" else shown
