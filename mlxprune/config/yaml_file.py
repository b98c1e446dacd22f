"""YAML 1.2, as configurations and presets are written in it: `no` is text, `1e-4` a number."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mlxprune.errors import ConfigError, one_line
from mlxprune.files import refuse_odd_file

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
        raise ConfigError(f"not YAML: {one_line(error)}", str(path), "mend the line") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError("the top level is not a table of keys", str(path), "see docs/config.md")
    return tree


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
