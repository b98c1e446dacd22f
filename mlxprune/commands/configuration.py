"""Commands about configurations: ``config show`` and ``config schema``; and ``--spec``, which says
all commands and options as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from mlxprune.commands.options import AsJson, ConfigPath, Set, print_json

if TYPE_CHECKING:
    from mlxprune.planning.origins import ResolvedKey

app = typer.Typer(
    help="Show a configuration with where each value comes from, or the schema for editors.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog="Example: mlxprune config show mlxprune.yaml --set final.seeds=[0]")
def show(config: ConfigPath, overrides: Set = None, as_json: AsJson = False) -> None:
    """Print every key with its value and where that comes from: file, --set, default, preset."""
    from mlxprune.planning.origins import resolved_keys

    found = resolved_keys(config, overrides or [])
    if as_json:
        print_json(found)
    else:
        print("\n".join(_lines(found)))


def _lines(found: list[ResolvedKey]) -> list[str]:
    """As YAML that could be read again, each value with its origin behind it."""
    above: list[str] = []
    shown: list[tuple[str, str]] = []
    for one in found:
        parents = one.key.split(".")[:-1]
        common = 0
        while common < min(len(parents), len(above)) and parents[common] == above[common]:
            common += 1
        shown += [("  " * n + f"{parents[n]}:", "") for n in range(common, len(parents))]
        above = parents
        margin, name = "  " * len(parents), one.key.rpartition(".")[2]
        if isinstance(one.value, list) and one.value and isinstance(one.value[0], dict):
            shown.append((f"{margin}{name}:", one.origin))
            shown += [(f"{margin}  - {_written(member)}", "") for member in one.value]
        else:
            shown.append((f"{margin}{name}: {_written(one.value)}", one.origin))
    width = min(60, max(len(text) for text, origin in shown if origin))
    return [f"{text:<{width}}  # {origin}" if origin else text for text, origin in shown]


def _written(value: Any) -> str:
    """As JSON, which YAML takes, on one line."""
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


@app.command(epilog="Example: mlxprune config schema -o mlxprune.schema.json")
def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the file to write, instead of stdout")
    ] = None,
) -> None:
    """Print the JSON schema of a configuration, which editors check and complete by."""
    from mlxprune.files import json_bytes, write_atomic
    from mlxprune.planning.origins import config_schema

    found = json_bytes(config_schema())
    if output is None:
        sys.stdout.buffer.write(found)
        return
    write_atomic(output, found)
    print(f"wrote {output}: begin a configuration with `# yaml-language-server: $schema={output}`")


def spec_of(command: Any, groups: dict[str, dict[str, Any]], version: str) -> dict[str, Any]:
    """All commands of the program, with their arguments and options, as plain values."""
    commands: dict[str, Any] = {}
    for group, members in groups.items():
        for name, known in members.items():
            told = _command(command.commands[name], known.function)
            commands[name] = {"group": group, "example": known.example, **told}
    return {"program": "mlxprune", "version": version, "commands": commands}


def _command(found: Any, function: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"help": (found.help or "").strip()}
    if isinstance(function, typer.Typer):
        inside = {one.callback.__name__: one.callback for one in function.registered_commands
                  if one.callback is not None}  # fmt: skip
        parts = {name: _command(one, inside[name]) for name, one in found.commands.items()}
        return {**told, "commands": parts}
    types = get_type_hints(function)
    shown = [_parameter(p, types[p.name]) for p in found.params if p.name in types]
    told["arguments"] = [one for one in shown if not one["flags"]]
    told["options"] = [one for one in shown if one["flags"]]
    return told


def _parameter(found: Any, hint: Any) -> dict[str, Any]:
    is_argument = found.param_type_name == "argument"
    plain = isinstance(found.default, str | int | float | bool | None)
    return {
        "name": found.name,
        "flags": [] if is_argument else [*found.opts, *found.secondary_opts],
        "help": found.help or "",
        "metavar": found.metavar,
        "type": _type_name(hint),
        "required": bool(found.required),
        "repeatable": bool(found.multiple or found.nargs == -1),
        "default": found.default if plain else str(found.default),
        "environment": found.envvar if isinstance(found.envvar, str) else None,
    }


def _type_name(hint: Any) -> str:
    """``text``, ``path``, ``integer``, ``number``, ``switch``."""
    inner = [one for one in get_args(hint) if one is not type(None)]
    if inner:
        return _type_name(inner[0])
    return {bool: "switch", int: "integer", float: "number", Path: "path"}.get(hint, "text")
