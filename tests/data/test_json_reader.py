"""The objects of a JSON text of any shape, cut anywhere, against the standard library."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mlxprune.data.json_reader import JsonReader

DRAW = random.Random()


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def value(depth: int = 0) -> Any:
    kind = DRAW.randint(0, 7 if depth < 3 else 5)
    if kind == 6:
        return {f"k{i}": value(depth + 1) for i in range(DRAW.randint(0, 4))}
    if kind == 7:
        return [value(depth + 1) for _ in range(DRAW.randint(0, 4))]
    text = "".join(DRAW.choices('ab"\\{}[],: \n\té\u2028\U0001f600', k=DRAW.randint(0, 20)))
    return (None, True, DRAW.randint(-(10**25), 10**25), DRAW.random(), text, -0.5e-7)[kind]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_are_those_of_the_library(size: int, indent: int | None) -> None:
    for _ in range(20):
        rows = [{"text": "x", "v": value()} for _ in range(DRAW.randint(0, 12))]
        plain = {"indent": indent, "ensure_ascii": DRAW.random() < 0.5}
        array = json.dumps(rows, **plain).encode()  # type: ignore[arg-type]
        assert [*JsonReader(chunks(array, size)).rows("array")] == rows
        between = DRAW.choice(["\n", "", " \r\n"])
        listed = between.join(json.dumps(row, **plain) for row in rows).encode()  # type: ignore[arg-type]
        assert [*JsonReader(chunks(listed, size)).rows("")] == rows
        half = len(rows) // 2
        tree = {"info": value(), "train": rows[:half], "n": [1], "test": rows[half:], "more": "x"}
        whole = b"\xef\xbb\xbf" + json.dumps(tree, **plain).encode()  # type: ignore[arg-type]
        assert [*JsonReader(chunks(whole, size)).rows("lists")] == rows


def test_what_json_lines_take_is_taken() -> None:
    """NaN, leading commas in lines, integers of any size."""
    text = b'[\n{"a": NaN}\n,{"a": -Infinity}\n,{"a": 123456789012345678901234567890}]'
    first, second, third = JsonReader(chunks(text, 5)).rows("array")
    assert first["a"] != first["a"]
    assert second["a"] == float("-inf")
    assert third["a"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    "text",
    ['[{"a": 1},]', '[{"a": 1}', '[{"a": 1} {"a": 2}]', '[{"a": tru}]', '[{"a": 1}] more', '[{"a'],
)
def test_broken_text_is_an_error_and_not_read_to_the_end(text: str) -> None:
    filler = "x" * 300_000
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for chunk in chunks((text + " " * 200 + filler * 20).encode(), 1 << 15):
            read += len(chunk)
            yield chunk

    with pytest.raises(ValueError):
        list(JsonReader(counted()).rows("array"))
    if text != '[{"a':
        assert read < 1 << 20
    with pytest.raises(ValueError):
        list(JsonReader(chunks(b'[{"a": "\xff"}]', 3)).rows("array"))
