"""Filter order: what a process needs to filter blocks, and what it tells of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from mlxprune.checksums import FileSum, is_whole, read_sealed, sums_of, write_sealed
from mlxprune.config.slices import Slice
from mlxprune.data.row_counts import FileCounts
from mlxprune.data.sources import Source
from mlxprune.files import PARTIAL
from mlxprune.filtering.cuts import Cuts
from mlxprune.records import Json, Record, record_of
from mlxprune.scoring.windows import WindowPolicy

NO_TOKEN, NO_SCORE = "no_token", "no_score"  # reasons beside those of rows
PERCENTILES = 100


@dataclass(frozen=True)
class ScoringModel:
    """What gives documents a loss: a model under a policy of windows, zlib, or the ``losses`` of
    single ids. Its tokenizer counts the tokens."""

    kind: str  # model, zlib, unigram
    tokenizer: Path
    model: Path | None = None
    policy: WindowPolicy | None = None
    losses: Path | None = None


@dataclass(frozen=True)
class FilterOrder:
    """``models``: the one whose losses count, and of a difference or progress the other one.
    ``cuts`` is None where all scores come first; ``curve`` is for metric adjusted;
    ``percentiles``: the study's, by domain and, under the empty name, of the whole."""

    out: Path
    work: Path
    sources: list[Source]
    domain_keys: list[str]
    models: list[ScoringModel]
    slice: Json
    cuts: Cuts | None
    codec: str
    curve: np.ndarray | None = None
    overlap: int = 0
    percentiles: dict[str, list[float]] = field(default_factory=dict)

    @property
    def choice(self) -> Slice:
        return Slice.model_validate(self.slice)

    def block(self, number: int) -> Path:
        return self.work / "blocks" / f"{number:05d}.arrow"

    def summary(self, number: int) -> Path:
        return self.work / "done" / f"{number:05d}.json"

    def bad_rows(self, number: int) -> Path:
        return self.work / "bad" / f"{number:05d}.jsonl"

    def scores(self, number: int, decided: bool = True) -> Path:
        folder = self.out if decided else self.work
        return folder / "scores" / f"part-{number:05d}.parquet"

    def outputs(self, number: int) -> list[Path]:
        """What there is of a block that is done."""
        stem = f"part-{number:05d}"
        found = [*(self.out / "kept").glob(f"{stem}*"), self.bad_rows(number)]
        found += [self.scores(number, True), self.scores(number, False)]
        return [p for p in found if p.exists() and not p.name.endswith(PARTIAL)]

    def kept(self, number: int, suffix: str) -> Path:
        return self.out / "kept" / f"part-{number:05d}{suffix}"


class DomainCounts(Record):
    """Documents, tokens and bytes of text of a domain, and those that are kept; ``places``: how
    many of its documents lie between which percentiles of the study's figures, int [101]: the first
    below the lowest, the last above the highest."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    kept_documents: int = 0
    kept_tokens: int = 0
    kept_bytes: int = 0
    places: list[int] = msgspec.field(default_factory=list)

    def add(self, other: DomainCounts) -> None:
        for name in self.__struct_fields__:
            if name != "places":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        if len(other.places) == len(self.places):
            self.places = [a + b for a, b in zip(self.places, other.places, strict=True)]
        else:
            self.places = self.places or other.places


class BlockSummary(Record):
    """What a block held: rows by the number of their file, and scored documents by domain.
    ``whole`` has the places of all among the whole study's percentiles."""

    files: dict[int, FileCounts]
    domains: dict[str, DomainCounts]
    whole: DomainCounts
    unscored: dict[str, int] = msgspec.field(default_factory=dict)
    sums: dict[str, FileSum] = msgspec.field(default_factory=dict)  # of its outputs


def read_summary(order: FilterOrder, number: int) -> BlockSummary | None:
    """Of a block that is done; None where it is not, or where a byte of its outputs is not what
    it was."""
    try:
        summary = record_of(read_sealed(order.summary(number)), BlockSummary)
    except (OSError, ValueError):
        return None
    whole = all(is_whole(order.out / name, told) for name, told in summary.sums.items())
    return summary if whole else None


def write_summary(order: FilterOrder, number: int, summary: BlockSummary) -> None:
    """Says that a block is done, with checksums of what there is of it."""
    sums = sums_of(order.outputs(number), order.out)
    write_sealed(order.summary(number), msgspec.structs.replace(summary, sums=sums))


@dataclass(frozen=True)
class BlockDone:
    """What a process tells when a block is safe."""

    number: int
    documents: int
    memory: int  # bytes, at most so far
