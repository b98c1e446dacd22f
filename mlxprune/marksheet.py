"""Marksheet: the marks of a model as tables on a terminal."""

from __future__ import annotations

from typing import Any

from mlxprune import tasks
from mlxprune.errors import one_line

LEGEND = """\
accuracy and its 95 % interval in %. norm: 0 is guessing, 100 all right. one: the norm
of one answer to all. bits: bits per byte of the right answer; margin: how many more
the others take."""


def print_marks(found: dict[str, Any]) -> None:
    """Tasks by category with their intervals and traps, then the categories and their mean."""
    from rich.console import Console

    rich = Console(highlight=False)
    if "tasks" in found:
        rich.print(_tasks(found))
        print(LEGEND)
        for label, told in found["tasks"].items():
            for trap in told["traps"]:
                print(f"  {one_line(label)}: {trap}")
        cut = {label: t["cut"] for label, t in found["tasks"].items() if t["cut"]}
        if cut:
            share = sum(cut.values()) / sum(t["items"] for t in found["tasks"].values())
            print(
                f"{sum(cut.values()):,} items ({share:.0%}) are longer than the context of "
                f"{found['context']}: they lose their beginning"
            )
        for label, file in found["absent"].items():
            print(f"{label} is left out: no {file}")
        print()
        rich.print(_categories(found))
        print()
    if "lm_eval" in found:
        rich.print(_outside(found["lm_eval"]))
        print()
    if "text" in found:
        rich.print(_text(found["text"]))


def table(title: str, *columns: str) -> Any:
    """A plain table whose first column is text that is never cut."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left", box=None, padding=(0, 0, 0, 1))
    made.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def in_order(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Categories as the paper lists them, own ones last."""
    names = [*tasks.categories(), *found]
    return [(name, found[name]) for name in dict.fromkeys(names) if name in found]


def _tasks(found: dict[str, Any]) -> Any:
    made = table("tasks", "", "items", "accuracy", "interval", "norm", "one", "bits", "margin")
    for name, category in in_order(found["categories"]):
        made.add_row(name.replace("_", " "), style="bold")
        for label in category["tasks"]:
            told = found["tasks"][label]
            made.add_row(
                one_line(label).removeprefix("bigbench_"),
                f"{told['items']:,}",
                _percent(told["accuracy"]),
                f"{_percent(told['low'])} {_percent(told['high'])}",
                _percent(told["normalised_accuracy"]),
                _percent(told["normalised_one_answer"]),
                f"{told['gold_bpb']:.3f}",
                "" if told["margin"] is None else f"{told['margin']:+.3f}",
            )
    return made


def _categories(found: dict[str, Any]) -> Any:
    made = table("normalised accuracy", "", "norm", "interval", "one", "bits", "margin", "tasks")
    rows = in_order(found["categories"])
    if found["average"] is not None:
        rows.append((f"average of {found['average_over']}", found["average"]))
    for name, told in rows:
        absent = told.get("absent", [])
        count = f"{len(told['tasks'])} of {len(told['tasks']) + len(absent)}" if absent else ""
        made.add_row(
            one_line(name).replace("_", " "),
            _percent(told["normalised_accuracy"]),
            f"{_percent(told['normalised_low'])} {_percent(told['normalised_high'])}",
            _percent(told["normalised_one_answer"]),
            f"{told['gold_bpb']:.3f}",
            "" if told["margin"] is None else f"{told['margin']:+.3f}",
            count or str(len(told.get("tasks", [])) or ""),
            style="bold" if name.startswith("average of") else None,
        )
    return made


def _outside(found: dict[str, Any]) -> Any:
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    made = table(packages, "", "version", "shots", "metric", "value")
    for task, told in found["results"].items():
        for key, value in told.items():
            if isinstance(value, float) and "_stderr" not in key:
                version, shots = (str(found[k].get(task, "")) for k in ("versions", "shots"))
                made.add_row(one_line(task), version, shots, one_line(key), f"{value:.4f}")
    return made


def _text(found: dict[str, Any]) -> Any:
    made = table("bits per byte", "", "bits")
    for name, bits in found["domains"].items():
        made.add_row(one_line(name), f"{bits:.4f}")
    made.add_row("plain mean of the domains", f"{found['macro']:.4f}", style="bold")
    made.add_row("all text", f"{found['original_mix']:.4f}")
    return made


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
