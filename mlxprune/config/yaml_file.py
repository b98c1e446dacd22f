"""YAML 1.2, as configurations and presets are written in it: `no` is text, `1e-4` a number."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mlxprune.errors import ConfigError, one_line


def read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "mlxprune init DATA writes one"
        raise ConfigError("no such configuration file", str(path), fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read it: {one_line(error)}", str(path), "check it") from None
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
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):  # a value that only looks like a date, say
        return text


def write_yaml(tree: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
