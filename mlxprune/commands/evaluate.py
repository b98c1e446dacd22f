"""The commands that judge models: eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune.commands.options import (
    AsJson,
    DomainKey,
    IdKey,
    Memory,
    Quiet,
    TextKey,
    listeners,
    print_json,
)
from mlxprune.errors import UsageError

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        metavar="NAME|PATH",
        help="gauntlet, a category or a task of it, own files or folders; repeatable, commas too",
    ),
]


# Over 60 lines: every option of the command is a parameter with its help.
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a folder or a hub id")],
    tasks: Names = None,
    gauntlet: Annotated[
        str | None,
        typer.Option(metavar="DIR", envvar="MLXPRUNE_GAUNTLET", help="a clone of llm-foundry"),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="PATH", help="bits per byte on this; repeatable"),
    ] = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", metavar="TASK", help="of lm-evaluation-harness; repeatable"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="with own task YAML files for --lm-eval; repeatable"),
    ] = None,
    shots: Annotated[int | None, typer.Option(help="examples, for --lm-eval")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="eval-<model> by default")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="items a task; all by default")] = None,
    seed: Annotated[int, typer.Option(help="which items --limit draws")] = 0,
    context: Annotated[int | None, typer.Option(help="the model's, at most 2048")] = None,
    memory: Memory = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask a model the paper's tasks, your own, or lm-eval's; score your own text."""
    from mlxprune.config.loading import resolve_path, validate_config
    from mlxprune.report.terminal_tasks import print_lm_eval, print_suite, print_text
    from mlxprune.standalone.evaluate import LmEvalRequest, evaluate_model

    names, others = _listed(tasks), _listed(lm_eval)
    if not names and not text and not others:
        fix = "name --tasks gauntlet --gauntlet DIR, or --tasks my-tasks/, or --text FILES"
        raise UsageError("there is nothing to evaluate", "eval", fix)
    paths = [resolve_path(entry, Path.cwd()) for entry in text or []]
    section: dict[str, Any] = {"tasks": names, "gauntlet": gauntlet, "limit": limit}
    tree = {
        "seed": seed,
        "memory": memory,
        "data": {
            "paths": paths or ["-"], "text_key": text_key, "id_key": id_key,
            "domain_key": domain_key,
        },
        "evaluation": section,
    }  # fmt: skip
    target = out or Path(f"eval-{Path(model).expanduser().resolve().name}")
    config = validate_config(tree, "command line")
    outside = LmEvalRequest(others, include or [], shots) if others else None
    evaluation = evaluate_model(
        model, config, bool(text), outside, target, context, listeners(quiet)
    )
    if as_json:
        print_json(evaluation)
    else:
        if (answers := evaluation.answers) is not None:
            print_suite(answers, evaluation.context)
        if evaluation.lm_eval is not None:
            print_lm_eval(evaluation.lm_eval)
        if evaluation.text is not None:
            print_text(evaluation.text)
        print(f"details: {target}")


def _listed(given: list[str] | None) -> list[str]:
    return [name for names in given or [] for name in names.split(",") if name]
