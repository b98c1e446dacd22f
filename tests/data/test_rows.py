"""What a row gives: chats, pairs and lists of keys as text; domains that mean something."""

from __future__ import annotations

from typing import Any

import pytest

from mlxprune.config.data import Data, SourceEntry
from mlxprune.data.rows import (
    Row,
    RowKeys,
    Skip,
    auto_domain,
    host_of,
    row_keys_of,
    row_of,
    text_at,
)


def read(row: Any, *text: str, **keys: Any) -> Row | Skip:
    return row_of("a.jsonl", "a.jsonl", RowKeys(text or ("text",), **keys), "file", 0, 0, row)


TURNS = [
    {"role": "system", "content": None},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": [{"type": "text", "text": "Because."}, {"type": "image"}]},
    {"role": "tool", "content": "  "},
]


def test_turns_are_joined_with_nothing_added() -> None:
    assert text_at({"messages": TURNS}, "messages") == "Why?\n\nBecause."
    old = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert text_at({"conversations": old}, "conversations") == "a\n\nb"
    row = read({"messages": TURNS}, "messages")
    assert isinstance(row, Row)
    assert row.text == "Why?\n\nBecause."


def test_pairs_are_joined_and_half_a_pair_is_what_there_is() -> None:
    assert text_at({"prompt": "p", "completion": "c"}, "prompt+completion") == "p\n\nc"
    assert text_at(
        {"instruction": "i", "input": "", "output": "o"}, "instruction+input+output"
    ) == ("i\n\no")
    assert text_at({"prompt": "p"}, "prompt+completion") == "p"
    row = read({"other": 1}, "prompt+completion")
    assert isinstance(row, Skip)
    assert row.reason == "missing_text"
    assert read({"a+b": "plain", "a": "x", "b": "y"}, "a+b").text == "plain"  # type: ignore[union-attr]


def test_the_first_key_that_a_row_has() -> None:
    keys = ("text", "content")
    for row, text in (
        ({"text": "t", "content": "c"}, "t"),
        ({"content": "c"}, "c"),
        ({"text": None, "content": "c"}, "c"),
    ):
        found = read(row, *keys)
        assert isinstance(found, Row)
        assert found.text == text
    for row, reason in (
        ({"text": None, "content": None}, "null_text"),
        ({"body": "b"}, "missing_text"),
        ({"text": 5, "content": "c"}, "text_not_a_string"),
    ):
        skip = read(row, *keys)
        assert isinstance(skip, Skip)
        assert skip.reason == reason
    assert read({"body": "b", "n": 1}, *keys).texts == (("body", 1), ("n", 0))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://www.Example.org:8080/a?b#c", "example.org"),
        ("http://a.b.example.co.uk/x", "a.b.example.co.uk"),
        ("example.org/page", "example.org"),
        ("//example.org", "example.org"),
        ("not an address", None),
        ("plain", None),
        ("https://[broken", None),
        ("", None),
    ],
)
def test_hosts_of_addresses(address: str, host: str | None) -> None:
    assert host_of(address) == host


def test_hosts_as_domains() -> None:
    keys = RowKeys(domain="url", host=True)
    rows: list[dict[str, Any]] = [
        {"text": "x", "url": "https://www.example.org/1"}, {"text": "x", "url": "?"}, {"text": "x"},
    ]  # fmt: skip
    found = [row_of("", "", keys, "url", 0, 0, row) for row in rows]
    assert [r.domain for r in found] == ["example.org", "(none)", "(none)"]


def test_auto_refuses_a_field_whose_values_nearly_all_differ() -> None:
    """Whether they are addresses, numbers or titles; a few rows do not tell."""
    different = [{"source": f"https://example.org/{i}"} for i in range(30)]
    assert auto_domain("a.jsonl", different) == ("file", ["source"])
    assert auto_domain("sub/a.jsonl", different) == ("path:1", ["source"])
    assert auto_domain("a.jsonl", different[:5]) == ("source", [])
    both = [{**row, "domain": i, "meta": {"pile_set_name": "C"}} for i, row in enumerate(different)]
    assert auto_domain("a.jsonl", both) == ("meta.pile_set_name", ["domain", "source"])
    few = [{"source": f"s{i % 9}"} for i in range(30)]
    assert auto_domain("a.jsonl", few) == ("source", [])


def test_an_entry_says_what_the_section_says_otherwise() -> None:
    data = Data(
        paths=[
            SourceEntry(path="a"),
            SourceEntry(path="b", text_key=("x", "y"), id_key="n", domain="web"),
            SourceEntry.model_validate({"path": "c", "domain_key": {"host": "u"}}),
        ],
        text_key=("body",),
        domain_key="file",
    )
    first, second, third = (row_keys_of(data, entry) for entry in data.paths)
    assert first == RowKeys(("body",), "id", "file")
    assert second == RowKeys(("x", "y"), "n", "file", None, False, "web")
    assert third == RowKeys(("body",), "id", "u", None, True)
    row = row_of("", "", second, "file", 0, 0, {"y": "t", "n": 5})
    assert isinstance(row, Row)
    assert (row.text, row.id, row.domain) == ("t", "5", "web")
