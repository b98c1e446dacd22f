"""The section `data`: which files, which keys of them, and how they make up a corpus."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mlxprune.config.field_types import Real, Section, parse_bytes, parse_count


class HostKey(Section):
    """A domain key whose values are web addresses: the domain is the host of the address."""

    host: str = Field(description="the key of the address")


def _one_or_several(value: object) -> object:
    """One key may be written without a list."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(key, str) for key in value):
        raise ValueError("write a key, or a list of keys")
    if len(set(value)) < len(value) or not all(value):
        raise ValueError("write every key once, and none that is empty")
    return tuple(value)


TextKeys = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_several),
    PlainSerializer(lambda keys: keys[0] if len(keys) == 1 else list(keys)),
    Field(min_length=1),
]


def _as_text(value: object) -> object:
    """A year is a name, too."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _named_by_text(value: object) -> object:
    return {_as_text(k): v for k, v in value.items()} if isinstance(value, dict) else value


def _key_or_host(value: object) -> object:
    named = isinstance(value, dict) and [*value] == ["host"] and isinstance(value["host"], str)
    if value is not None and not named and not isinstance(value, str | HostKey):
        raise ValueError("write a key, or {host: key} for the hosts of addresses")
    return value


MOST_DOCUMENT_BYTES = 1 << 30
DocumentBytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1 << 10, lt=1 << 32)]
DomainKey = Annotated[str | HostKey, BeforeValidator(_key_or_host)]
Weight = Annotated[Real, Field(gt=0)]


def _refuse_level(value: str | HostKey | None) -> str | HostKey | None:
    is_level = isinstance(value, str) and value.startswith("path:")
    if is_level and not re.fullmatch(r"path:[1-9][0-9]?", str(value)):
        raise ValueError("path:N counts folder levels from 1, as in path:2")
    return value


class SourceEntry(Section):
    """An entry of `data.paths` with keys of its own; what it leaves out is as `data` says."""

    path: str = Field(description="a file, folder, glob or hf://datasets/...")
    text_key: TextKeys | None = Field(None, description="where the text of these files is")
    id_key: str | None = Field(None, description="where their ids are")
    domain_key: Annotated[str | HostKey | None, BeforeValidator(_key_or_host)] = Field(
        None, description="where their domains are"
    )
    domain: Annotated[str | None, BeforeValidator(_as_text)] = Field(
        None, min_length=1, description="instead of a key: the domain of all their documents"
    )
    weight: Weight | None = Field(None, description="share of the corpus, against other weights")

    @field_validator("domain_key")
    @classmethod
    def _level(cls, value: DomainKey | None) -> DomainKey | None:
        return _refuse_level(value)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | SourceEntry):
            raise ValueError("write a path, or a table such as {path: x.jsonl, text_key: body}")
        return {"path": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _written(self, usual: SerializerFunctionWrapHandler) -> Any:
        """A path alone as it was written."""
        found = {key: value for key, value in usual(self).items() if value is not None}
        return self.path if [*found] == ["path"] else found

    @property
    def has_keys(self) -> bool:
        """Whether it says more than a path."""
        return bool(self.model_dump(exclude={"path"}, exclude_none=True))

    @model_validator(mode="after")
    def _one_domain(self) -> SourceEntry:
        if self.domain is not None and self.domain_key is not None:
            raise ValueError("give `domain` or `domain_key`, not both")
        return self


class Data(Section):
    paths: list[SourceEntry] = Field(
        min_length=1,
        description="files, folders, globs, hf://datasets/..., or tables with `path` and own keys",
    )
    text_key: TextKeys = Field(
        ("text",),
        description="where the text is; a list: the first that a row has; a+b joins two; dotted "
        "keys reach into objects; chat turns are joined",
    )
    id_key: str = Field("id", description="where the id is; made from the text where missing")
    domain_key: DomainKey = Field("auto", description="a key, path:N, file, {host: key}, or auto")
    group_key: str | None = Field(None, description="documents of equal value share a split side")
    limit: str | None = Field(None, description="about so many tokens (200M), or `5000 docs`")
    mix: Annotated[dict[str, Weight] | None, BeforeValidator(_named_by_text)] = Field(
        None, description="shares of the corpus by domain, as {web: 0.75, code: 0.25}; no repeats"
    )
    max_bad: Real = Field(
        0.01, ge=0, le=1, description="share of bad rows above which to stop, of a file and of all"
    )
    max_document: DocumentBytes = Field(
        MOST_DOCUMENT_BYTES,
        description="a document or line of more bytes is skipped and counted; 512M, 2G",
    )
    duplicates: Literal["keep", "drop"] = Field("keep", description="what to do with equal texts")

    @field_validator("paths", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str | dict) else value

    @field_validator("domain_key")
    @classmethod
    def _level(cls, value: DomainKey) -> DomainKey | None:
        return _refuse_level(value)

    @field_validator("limit", mode="before")
    @classmethod
    def _limit(cls, value: object) -> object:
        if value is None:
            return None
        text = str(value)
        number = parse_count(text.removesuffix("docs").strip())
        if not isinstance(number, int) or number <= 0:
            raise ValueError("a limit is a positive count of tokens, or of documents with `docs`")
        return text

    @model_validator(mode="after")
    def _one_way_to_mix(self) -> Data:
        weights = [entry.weight for entry in self.paths]
        if any(weights) and not all(weights):
            raise ValueError("give every entry of paths a weight, or none")
        if any(weights) and self.mix:
            raise ValueError("give `mix` by domain or `weight` by source, not both")
        if self.mix is not None and not self.mix:
            raise ValueError("a mix names at least one domain")
        return self

    @property
    def mixes(self) -> bool:
        """Whether the corpus is composed to shares."""
        return self.mix is not None or any(e.weight for e in self.paths)

    def limit_documents(self) -> int | None:
        found = (self.limit or "").removesuffix("docs").strip()
        return int(str(parse_count(found))) if self._in_docs() else None

    def limit_tokens(self) -> int | None:
        return None if self.limit is None or self._in_docs() else int(str(parse_count(self.limit)))

    def _in_docs(self) -> bool:
        return self.limit is not None and self.limit.endswith("docs")

    def with_paths(self, paths: list[str]) -> Data:
        """The same with the paths of its entries replaced, one by one."""
        entries = [
            entry.model_copy(update={"path": path})
            for entry, path in zip(self.paths, paths, strict=True)
        ]
        return self.model_copy(update={"paths": entries})

    def identity(self) -> dict[str, Any]:
        """What of it changes the rows that are read, not where they lie nor how many bad ones are
        borne. Keys that are as they were before there were such keys are not in it."""
        plain = {k: v for k, v in self.results().items() if k not in ("paths", "max_bad")}
        if self.mix is None:
            del plain["mix"]
        if self.max_document == MOST_DOCUMENT_BYTES:
            del plain["max_document"]
        own = [
            entry.model_dump(mode="json", exclude={"path"}, exclude_none=True)
            for entry in self.paths
        ]
        return {**plain, "entries": own} if any(own) else plain
