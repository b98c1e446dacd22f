"""Commands about recipes: the list of them, one in full, and ``init --recipe``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxprune.commands.options import AsJson, print_json, run_name
from mlxprune.errors import UsageError, one_line
from mlxprune.files import write_atomic
from mlxprune.units import size

if TYPE_CHECKING:
    from mlxprune.planning.recipes import Recipe, RecipeChoices, RecipeCosts

LONG = 100  # hours, from which on days are told
DEMO_DATA = "demo-corpus"  # what a recipe without data is written for
DEMO_BYTES = 3_000_000  # of a domain of it, where this Python has so many


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="one, in full")] = None,
    as_json: AsJson = False,
) -> None:
    """List the studies that are shipped: what each answers and takes; or show one of them."""
    from mlxprune.planning.recipes import read_recipe, recipe_costs, recipe_names

    found = [read_recipe(one) for one in ([name] if name else recipe_names())]
    costs = {one.name: recipe_costs(one) for one in found}
    if as_json:
        print_json([_as_json(one, costs[one.name]) for one in found])
    elif name is not None:
        _print_one(found[0], costs[name])
    else:
        _print_list(found, costs)


def _as_json(recipe: Recipe, costs: RecipeCosts) -> dict[str, Any]:
    from mlxprune.records import plain

    facts = recipe.facts.model_dump(exclude={"smallest", "scaled", "mixes"})
    return {"name": recipe.name, **facts, "takes": plain(costs), "studies": recipe.studies}


def _print_list(found: list[Recipe], costs: dict[str, RecipeCosts]) -> None:
    from rich.console import Console as Rich
    from rich.text import Text

    rich = Rich(highlight=False)
    for recipe in found:
        rich.print(Text(recipe.name, style="bold"))
        rich.print(Text(f"  {recipe.facts.question}"))
        rich.print(Text(f"  {takes(recipe, costs[recipe.name])}"))
    rich.print()
    rich.print("mlxprune recipes NAME             shows one: what to expect, what was found")
    rich.print("mlxprune init --recipe NAME DATA  writes it for your data")
    rich.print("mlxprune init --recipe NAME --smallest   a try in minutes, on text of this Python")


def takes(recipe: Recipe, costs: RecipeCosts) -> str:
    """``22 models, 4.4e+15 FLOPs, ...`` at the size that the recipe is meant for."""
    shown = list(costs.hours.items())
    if shown[0][1] < LONG:  # then one Mac will do
        shown = shown[:2]
    hours = ", ".join(f"{_hours(hours)} on {machine}" for machine, hours in shown)
    return (
        f"{size(recipe.facts.text)} of text; {costs.models} models, "
        f"{costs.flops:.1e} FLOPs: about {hours}; disk {size(costs.disk_bytes)}"
    )


def _hours(hours: float) -> str:
    if hours > LONG:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.1f} hours" if hours > 1.5 else f"{60 * hours:.0f} minutes"


def _print_one(recipe: Recipe, costs: RecipeCosts) -> None:
    from rich.console import Console as Rich
    from rich.text import Text

    rich = Rich(highlight=False)
    facts = recipe.facts
    told = {
        "answers": facts.question,
        "takes": f"{takes(recipe, costs)} (hours on Macs are predicted, docs/performance.md; "
        "mlxprune plan measures this machine)",
        "expect": facts.expect,
        "found": facts.found,
    }
    for what, text in told.items():
        rich.print(Text(f"{what:<8} {text}"))
    rich.print()
    for study in recipe.studies:
        print(study.rstrip())
        print()


def init_recipe(
    name: str, data: list[str], output: Path | None, force: bool, choices: RecipeChoices
) -> None:
    """Look at the data; write the configurations of a recipe for them."""
    from mlxprune.commands.data_table import print_look
    from mlxprune.config.loading import resolve_path
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.planning.draft_config import look_at_data
    from mlxprune.planning.recipes import read_recipe, write_recipe

    recipe = read_recipe(name)
    target = output or Path(f"{name}.yaml")
    stem = run_name(target)
    several = len(recipe.studies) > 1
    files = [
        target.with_name(f"{stem}-{config.name}.yaml") if several else target
        for config in recipe.configs
    ]
    for file in files:
        if file.exists() and not force:
            raise UsageError("the file exists", str(file), "choose another -o, or --force")
    if not data:
        corpus = target.parent / DEMO_DATA
        if not corpus.exists():
            write_demo_corpus(corpus, DEMO_BYTES)
        print(f"data       none named: text of this Python, in {corpus}", file=sys.stderr)
        data = [str(corpus)]
    seen = look_at_data([resolve_path(entry, Path.cwd()) for entry in data])
    print_look(seen)
    written = write_recipe(recipe, seen, target.parent, stem, choices)
    for file, study in zip(files, written, strict=True):
        write_atomic(file, study.text)
        for note in study.notes:
            print(f"note       {one_line(note)}", file=sys.stderr)
    print(f"wrote {', '.join(map(str, files))}: {recipe.facts.question}")
    runs = [f"runs/{study.name}" for study in written]
    for step in ("plan", "run"):
        for file in files:
            print(f"  mlxprune {step} {shlex.quote(str(file))}")
    if recipe.facts.after is not None:
        print(f"  {recipe.facts.after.format(runs=' '.join(runs))}")
