"""Recipes: studies that are shipped with what they answer, take, expect and found, and how one is
written out as configurations for somebody's own data."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mlxprune.config.field_types import Bytes, parse_count
from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.config.yaml_file import parse_value
from mlxprune.data import split
from mlxprune.errors import UsageError, closest
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.planning.cost_model import CorpusTokens, estimate_costs, vocabulary_of
from mlxprune.planning.draft_config import DataLook, count_text, relative_path
from mlxprune.records import Record

# What training reaches of the rate of MLX's matrix products, and that rate in FLOP/s, of Macs as
# docs/performance.md predicts it, of an H100 as it was measured (docs/log.md). What several
# machines lose to each other is not in it.
UTILISATION = 0.3
MACHINES = {"an M1": 2e12, "an M4 Max": 15e12, "four M4 Max": 60e12, "eight H100": 8 * 474e12}
HELD_OUT = 400_000  # tokens of test and of validation that are read, about
WEB_SHARE = 0.8  # of a corpus that is mostly one domain
OTHERS = 4  # domains beside it
FEWEST = 3  # domains of a mix of many
LEAST_TOKENS = 50_000  # a budget is not scaled below it
Tree = dict[str, Any]


class RecipeFacts(BaseModel):
    """The head of a recipe. ``text``: bytes that its budgets are meant for, in so many bytes of
    which ``scaled`` keys keep their size; ``mixes``: how each study is composed where the data have
    other domains; ``smallest``: what takes the place of its sizes for a try; ``after``: a command
    over all its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    text: Bytes
    expect: str
    found: str
    scaled: list[str] = []
    after: str | None = None
    mixes: dict[str, Literal["many", "one"]] = {}
    smallest: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe:
    """A shipped file: its head, and one configuration a study, as text with its comments."""

    name: str
    facts: RecipeFacts
    studies: list[str]

    @property
    def configs(self) -> list[Config]:
        return [validate_config(parse_value(text), self.name) for text in self.studies]


class RecipeCosts(Record):
    """What all studies of a recipe take at the size that they are meant for, tasks not counted."""

    models: int
    targets: int  # of one final model
    flops: float
    disk_bytes: int
    hours: dict[str, float]  # by machine, predicted


@dataclass(frozen=True)
class RecipeChoices:
    """How a recipe is written out: at its ``smallest``; with the tasks of a ``gauntlet``, and
    without any where that is None; ``web`` names the domain that is to be most of the text."""

    smallest: bool = False
    gauntlet: str | None = None
    web: str | None = None


@dataclass(frozen=True)
class WrittenStudy:
    """A configuration to write, and what was changed in it for these data."""

    name: str
    text: str
    notes: list[str]


def recipe_names() -> list[str]:
    folder = files("mlxprune_recipes")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def read_recipe(name: str) -> Recipe:
    """Raises UsageError: no such recipe."""
    if name not in recipe_names():
        raise UsageError(f"no recipe is called {name!r}", "--recipe", closest(name, recipe_names()))
    text = (files("mlxprune_recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    head, *studies = re.split(r"(?m)^---\n", text)
    facts = RecipeFacts.model_validate(parse_value(head))
    return Recipe(name, facts, studies)


def recipe_costs(recipe: Recipe) -> RecipeCosts:
    """From sizes alone."""
    models, flops, disk, targets = 0, 0.0, 0.0, 0
    for config in recipe.configs:
        plain = config.evaluation.model_copy(update={"tasks": [], "primary": "macro"})
        tokens = recipe.facts.text / split.bytes_per_token(config)
        reference = 1.1 * sum(r.tokens for r in config.scorers if not r.pretrained)
        held_out = min(HELD_OUT, 0.05 * tokens)
        train = max(0.0, tokens - reference - 2 * held_out)
        sizes = CorpusTokens(tokens, reference, train, held_out, held_out)
        found = estimate_costs(config.model_copy(update={"evaluation": plain}), sizes, False)
        models += found.models + len(config.scorers)
        targets = found.targets
        flops += found.flops
        disk += 4 * tokens + found.models * 2 * _model_bytes(config)
    return RecipeCosts(
        models=models,
        targets=targets,
        flops=flops,
        disk_bytes=round(disk),
        hours={
            name: flops / (UTILISATION * products) / 3600 for name, products in MACHINES.items()
        },
    )


def _model_bytes(config: Config) -> float:
    """Of a final model with its optimizer, in float32."""
    shape = {**preset_of(config.final.model).config, "vocab_size": vocabulary_of(config)}
    return 12.0 * sum(parameter_counts(shape))


def write_recipe(
    recipe: Recipe, seen: DataLook, beside: Path, stem: str, choices: RecipeChoices
) -> list[WrittenStudy]:
    """The configurations of a recipe over these data, with its comments, for a folder ``beside``.
    Raises UsageError: the data have too few domains for its mixes, or not the one that is named."""
    written = []
    for text in recipe.studies:
        tree = _round_trip().load(text)
        own = str(tree["name"])
        name = stem if len(recipe.studies) == 1 else f"{stem}-{own}"
        tree["name"] = name
        notes = _put_data(tree, seen, beside)
        available = seen.bytes
        if own in recipe.facts.mixes:
            available, said = _put_mix(tree, seen, recipe.facts.mixes[own], choices.web)
            notes += said
        if choices.smallest:
            _put(tree, recipe.facts.smallest)
            notes.append("its smallest size: a try, whose figures say nothing of the question")
        else:
            notes += _scale(tree, recipe.facts, available)
        notes += _put_tasks(tree, choices.gauntlet)
        out = io.StringIO()
        _round_trip().dump(tree, out)
        head = f"# Written by `mlxprune init --recipe {recipe.name}`.\n"
        head += "".join(f"# {note}\n" for note in notes)
        validate_config(parse_value(out.getvalue()), name)
        written.append(WrittenStudy(name, head + out.getvalue(), notes))
    return written


def _round_trip() -> Any:
    from ruamel.yaml import YAML

    yaml: Any = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _put(tree: Tree, values: Mapping[str, Any]) -> None:
    """Values into a tree of keys; what they are an alternative to goes."""
    for key, value in values.items():
        if key == "train":
            tree.pop("pretrained", None)
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _put(tree[key], value)
        else:
            tree[key] = value
    if "tokens" in values and "per_parameter" in tree:
        del tree["per_parameter"]


def _put_data(tree: Tree, seen: DataLook, beside: Path) -> list[str]:
    data = seen.data.model_dump(mode="json", exclude_defaults=True)
    entries = []
    for entry in data["paths"]:
        own = entry if isinstance(entry, dict) else {"path": entry}
        own = {**own, "path": relative_path(own["path"], beside)}
        entries.append(own if len(own) > 1 else own["path"])
    data["paths"] = entries
    for key in ("text_key", "id_key", "domain_key"):
        tree["data"].pop(key, None)
    _put(tree["data"], data)
    return [f"not used: {p.path}: {p.problem}" for p in seen.problems]


def domain_bytes(seen: DataLook) -> dict[str, float]:
    """Bytes of text of every domain, about, the largest first."""
    sizes: Counter[str] = Counter()
    for look in seen.files:
        rows = sum(look.domains.values())
        for name, count in look.domains.items():
            sizes[name] += round(look.bytes * count / rows)
    return dict(sizes.most_common())


def _put_mix(
    tree: Tree, seen: DataLook, kind: Literal["many", "one"], web: str | None
) -> tuple[float, list[str]]:
    """The mix of a study: as it stands where the data have its domains, or one of their own;
    (bytes that it uses, about; what to say of it)."""
    sizes = domain_bytes(seen)
    shares = {str(name): float(share) for name, share in tree["data"]["mix"].items()}
    notes = []
    if web is not None or not {*shares} <= {*sizes}:
        shares = mix_of(sizes, kind, web)
        tree["data"]["mix"] = dict(shares)
        notes.append("data.mix was composed of the domains that were found: put your own in")
    used = min(sizes[name] / share for name, share in shares.items())
    return used, notes


def mix_of(
    sizes: dict[str, float], kind: Literal["many", "one"], web: str | None
) -> dict[str, float]:
    """``many``: equal shares of as many domains as give the most text; ``one``: most of it from one
    domain, ``web`` or the largest, and the rest from some others. ``sizes``: bytes by domain."""
    able = {name: size for name, size in sizes.items() if size > 0}
    if web is not None and web not in able:
        raise UsageError(f"no domain is called {web!r}", "--web", closest(web, list(able)))
    if len(able) < FEWEST:
        fix = "name data of several domains, or tell them apart with data.domain_key"
        raise UsageError(f"a mix needs {FEWEST} domains, and there are {len(able)}", "DATA", fix)
    ordered = sorted(able, key=lambda name: -able[name])
    if kind == "many":
        count = max(range(FEWEST, len(ordered) + 1), key=lambda n: n * able[ordered[n - 1]])
        return {name: round(1 / count, 4) for name in ordered[:count]}
    most = web or ordered[0]
    rest = [name for name in ordered if name != most][:OTHERS]
    return {most: WEB_SHARE, **{name: round((1 - WEB_SHARE) / len(rest), 4) for name in rest}}


def _scale(tree: Tree, facts: RecipeFacts, available: float) -> list[str]:
    """Budgets that are meant for more text than there is become smaller by as much."""
    share = available / facts.text
    if share >= 1 or not facts.scaled:
        return []
    for key in facts.scaled:
        *parents, last = key.split(".")
        place = tree
        for parent in parents:
            place = place[parent]
        before = int(parse_count(place[last]))  # type: ignore[arg-type, call-overload]
        place[last] = count_text(max(LEAST_TOKENS, before * share))
    return [
        f"{', '.join(facts.scaled)}: {share:.2g} times the recipe's, whose text is "
        f"{facts.text / 1e6:,.0f} MB and yours {available / 1e6:,.0f} MB"
    ]


def _put_tasks(tree: Tree, gauntlet: str | None) -> list[str]:
    asked = tree.get("evaluation") or {}
    if "gauntlet" not in asked:
        return []
    if gauntlet is not None:
        asked["gauntlet"] = gauntlet
        return []
    for key in ("tasks", "gauntlet", "limit"):
        asked.pop(key, None)
    if asked.get("primary") == "tasks":
        asked["primary"] = "macro"
    return ["without the paper's tasks: --gauntlet DIR, a clone of llm-foundry, adds them"]
