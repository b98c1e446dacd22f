"""YAML 1.2, as configurations and presets are written in it: `no` is text, `1e-4` a number."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mlxprune.errors import ConfigError, one_line
from mlxprune.files import refuse_odd_file

# What the parser calls where it is.
PLACES = {
    "while parsing a flow sequence": "in a list",
    "while parsing a flow mapping": "in a table in braces",
    "while parsing a block mapping": "in a table of keys",
    "while parsing a block collection": "in a list of lines",
    "while scanning a simple key": "in a key",
    "while scanning a quoted scalar": "in a quoted text",
    "while scanning for the next token": "in what",
}
MOST_VALUES, MOST_LEVELS = 100_000, 50  # of a configuration


def read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        refuse_odd_file(path)
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        _refuse_expansion(tree)
    except FileNotFoundError:
        fix = "mlxprune init DATA writes one"
        raise ConfigError("no such configuration file", str(path), fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read it: {one_line(error)}", str(path), "check it") from None
    except RecursionError:
        fix = "a configuration has few levels"
        raise ConfigError("it is nested too deeply", str(path), fix) from None
    except (YAMLError, ValueError) as error:
        raise _not_yaml(error, path) from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError("the top level is not a table of keys", str(path), "see docs/config.md")
    return tree


def _not_yaml(error: Exception, path: Path) -> ConfigError:
    """With the line, what it holds, and where what is not closed began."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ConfigError(f"not YAML: {one_line(error)}", str(path), "mend the file")
    said = str(getattr(error, "problem", None) or "it cannot be read")
    began = getattr(error, "context_mark", None)
    doing = getattr(error, "context", None)
    if doing and began is not None and began.line != mark.line:
        said += f", {PLACES.get(doing, doing)} that begins in line {began.line + 1}"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = lines[mark.line].strip() if mark.line < len(lines) else "the end of the file"
    where = f"{path}, line {mark.line + 1}"
    return ConfigError(f"not YAML: {one_line(said)}", where, f"mend it: {one_line(shown)[:80]}")


def line_of(path: Path, key: list[str]) -> int | None:
    """The line, from 1, in which a key of a configuration stands, or the last of its parents that
    is there; None without one, and of a file that cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        place: Any = YAML(typ="rt", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError, RecursionError):
        return None
    line = None
    for part in key:
        number = int(part) if part.isdigit() and isinstance(place, list) else part
        try:
            line = place.lc.data[number][0] + 1
            place = place[number]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def parse_value(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(text)
        _refuse_expansion(value)
        return value
    except (YAMLError, ValueError, RecursionError):  # a value that only looks like a date, say
        return text


def _refuse_expansion(tree: Any) -> None:
    """Raises ValueError where a tree has more values than anybody writes: an alias stands for all
    that it names, and names of names grow without bound."""
    left = [MOST_VALUES]

    def look(value: Any, depth: int) -> None:
        left[0] -= 1
        if left[0] < 0 or depth > MOST_LEVELS:
            raise ValueError("it holds more values or levels than a configuration has")
        parts = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            for part in parts:
                look(part, depth + 1)

    look(tree, 0)


def write_yaml(tree: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
