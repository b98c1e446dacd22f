"""Write the pages of docs/ that say what the code says: one home for each fact.

python docs/generate.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlxprune.commands.recipes import takes
from mlxprune.config.schema import Config, TrainTokenizer
from mlxprune.config.slices import Slice
from mlxprune.planning.recipes import read_recipe, recipe_costs, recipe_names
from mlxprune.run.event_kinds import KINDS
from mlxprune_tui.shell import keys

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import formats_page  # noqa: E402

RECIPES = """\
# Recipes

Made by `python docs/generate.py` from `recipes/`; a test keeps it current.

A recipe is one of the paper's questions (arXiv 2405.20541, or of work since) as a study: a
commented configuration, or two that are compared. `mlxprune recipes` lists them, `mlxprune
recipes NAME` shows one.

    mlxprune init --recipe paper-small corpus/ --gauntlet llm-foundry   # with the paper's tasks
    mlxprune init --recipe two-corpora corpus/ --web cc    # cc: most of the text
    mlxprune init --recipe data-constrained --smallest      # a try, on text of this Python

`init` writes the paths and keys of your data into it and, where you have less text than the
recipe is meant for, makes its budgets smaller by as much, and says so. Mixes of domains are
composed of yours. Then `mlxprune plan` says what it takes on your machine. What the claims came
to when they were run: [evidence.md](evidence.md).

FLOPs and disk follow from the configuration at the stated text, tasks not counted. Hours are
those FLOPs at 30 % of what a machine's matrix products sustain
([performance.md](performance.md)): predicted, not measured.
"""


def config_page() -> str:
    lines = [
        "# Configuration",
        "",
        "Made by `python docs/generate.py` from `mlxprune/config/`; a test keeps it current.",
        "",
        "YAML 1.2: `no` is text and `1e-4` a number. Counts take `k`, `M`, `B`, `T`, in thousands.",
        "An unknown key is an error. `--set a.b=value` overrides the file. Relative `data.paths`",
        "are looked up beside the file, then in the current folder. Keys marked *speed* change no",
        "result.",
        "",
    ]
    top: list[tuple[str, Any]] = []
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            sections.append((name, kind))
        else:
            top.append((name, field))
    lines += ["| key | default | meaning |", "|---|---|---|", *(row(n, f) for n, f in top), ""]
    for name, section in sections:
        lines += [f"## {name}", "", "| key | default | meaning |", "|---|---|---|"]
        if name == "selection":
            lines += [row(n, f) for n, f in Slice.model_fields.items()]
            lines += [
                "| `slices` | `[{}]` | several slices of one pass: a list of tables of these keys, "
                "which share those beside it |",
                "",
                "`criterion` and `rate` may be lists: every combination is a slice. Or one by one:",
                "",
                "    selection: {rate: 0.5, slices: [{criterion: low}, {by: domain}]}",
                "",
                "`--set selection.rate=0.3` holds for every slice, whatever it says itself.",
                "`metric: progress` without `reference.snapshots` adds one at 0.25.",
            ]
        else:
            lines += [row(n, f) for n, f in section.model_fields.items()]
        lines.append("")
        if name == "tokenizer":
            lines += ["`train` holds:", "", "| key | default | meaning |", "|---|---|---|"]
            lines += [row(n, f) for n, f in TrainTokenizer.model_fields.items()]
            lines.append("")
    return "\n".join(lines)


def recipes_page() -> str:
    lines = [RECIPES]
    for name in recipe_names():
        recipe = read_recipe(name)
        facts = recipe.facts
        lines += [f"## {name}", "", facts.question, ""]
        lines += [
            f"- takes: {takes(recipe, recipe_costs(recipe))}",
            f"- expect: {facts.expect}",
            f"- found: {facts.found}",
            "",
        ]
    return "\n".join(lines)


def row(name: str, field: Any) -> str:
    default = "required" if field.is_required() else f"`{plain(field.default)}`"
    extra = field.json_schema_extra
    marked = " (*speed*)" if isinstance(extra, dict) and extra.get("speed") else ""
    choices = getattr(field.annotation, "__args__", ())
    listed = " or ".join(f"`{c}`" for c in choices if isinstance(c, str))
    meaning = "; ".join(part for part in (field.description, listed) if part)
    return f"| `{name}` | {default} | {meaning.replace('|', '/')}{marked} |"


def plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple) and len(value) == 1:
        return str(value[0])
    return str(value)


def events_page() -> str:
    lines = [
        "# Events",
        "",
        "Made by `python docs/generate.py` from `mlxprune/run/event_kinds.py`; a test keeps it",
        "current.",
        "",
        "A run's log is `events/<n>-<writer>.msgpack`: msgpack maps, appended, in segments. Every",
        "process opens a new segment, and again every 4 MiB; the first record of a segment is a",
        "snapshot of the folded state, so whoever asks how a run stands reads the newest segment",
        "alone. Segments that are not written to any more are compressed (`.msgpack.zst`, one",
        "Zstandard frame that states its size). A torn tail is the end of its file. Records of one",
        "writer are in the order of `seq`. Frequent kinds are written at most twice a second.",
        "",
        "Envelope: `v` (format version), `seq`, `t` (seconds since 1970), `writer`, `stage` (or",
        "null), `kind`, and last `sum`: the CRC-32 of the record without it, packed as msgpack.",
        "Records of version 1 have none. A reader leaves out a record whose `sum` differs, and",
        "ignores kinds and fields that it does not know.",
        "",
        "| kind | fields | frequent |",
        "|---|---|---|",
    ]
    for name, kind in KINDS.items():
        about = " ".join((kind.__doc__ or "").split())
        lines.append(f"| `{name}` | {about} | {'yes' if kind.frequent else ''} |")
    return "\n".join([*lines, ""])


PAGES = {
    "config.md": config_page,
    "events.md": events_page,
    "keys.md": keys.page,
    "formats.md": formats_page.page,
    "recipes.md": recipes_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
