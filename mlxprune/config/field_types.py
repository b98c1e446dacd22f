"""Field types: the kinds of values that a configuration holds, and how each is read from text."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from mlxprune.errors import one_line

LEAST_BUDGET = 1000  # tokens of a part that is given as a plain number
COUNT_SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def parse_count(value: object) -> object:
    """``26B`` -> 26_000_000_000. Suffixes count in thousands; anything else is left to pydantic."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kKmMbBtT]?)\s*", value)
        if not match:
            raise ValueError(f"{one_line(value)!r} is not a count such as 512, 512k, 20M or 26B")
        number, suffix = match.groups()
        scaled = Decimal(number.replace("_", "")) * COUNT_SUFFIXES.get(suffix.lower(), 1)
        if scaled != int(scaled):
            raise ValueError(f"{one_line(value)!r} is not a whole number")
        return int(scaled)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parse_decimal(value: object) -> object:
    """0.1 in a file means one tenth exactly, not the nearest binary fraction."""
    if isinstance(value, bool) or value is None:
        raise ValueError("not a number")
    try:
        result = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{one_line(value)!r} is not a number") from None
    if not result.is_finite():
        raise ValueError(f"{one_line(value)!r} is not a finite number")
    return result


MOST = 10**15  # of anything that is counted: more is a mistake
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0, le=MOST)]
Length = Annotated[int, BeforeValidator(parse_count), Field(gt=0, le=1 << 20)]  # of sequences
Exact = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    PlainSerializer(lambda d: int(d) if d == int(d) else float(d), when_used="always"),
]
Real = Annotated[
    float,
    BeforeValidator(lambda v: float(v) if type(v) is int else v),
    Field(allow_inf_nan=False),
]


def parse_share(value: object) -> object:
    """``auto``, a fraction below 1, or a token budget such as 2M. What is neither clearly, such as
    1.0, is refused: as a budget it would be one token."""
    if value == "auto":
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*0?\.[0-9]+\s*", value):
        return float(value)
    if isinstance(value, float) and 0 < value < 1:
        return value
    found = parse_count(value)
    has_suffix = isinstance(value, str) and value.strip()[-1:].isalpha()
    if type(found) is int and 0 < found < LEAST_BUDGET and not has_suffix:
        raise ValueError(
            f"{one_line(value)} is no share of the corpus below 1, and small for a budget of "
            "tokens: write 0.3, or 2M, or auto"
        )
    return found


Share = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(gt=0)],
    BeforeValidator(parse_share),
]


def speed(default: Any, description: str) -> Any:
    """A field that changes only speed or memory, never a result."""
    return Field(default, description=description, json_schema_extra={"speed": True})


def parse_bytes(value: object) -> object:
    """``8G`` -> 8 * 2^30. Suffixes k, M, G, T count in 1024s; B after them is allowed."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?\s*", value.lower())
        if not found:
            raise ValueError(f"{one_line(value)!r} is not a size such as 512M or 8G")
        return int(Decimal(found[1]) * 1024 ** " kmgt".index(found[2] or " "))
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=64 << 20, le=1 << 50)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def results(self) -> dict[str, Any]:
        """The keys that change results, as plain values: what a fingerprint hashes."""
        plain = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("speed"):
                del plain[name]
        return plain
