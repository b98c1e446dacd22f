"""What if: what another slice of a scored pool would keep and cost. It never changes a run."""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.config.slices import ABSOLUTE_KEYS, Slice
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import MlxpruneError
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.budgets import effective_data
from mlxprune.experiment.records import read_arms
from mlxprune.files import write_atomic
from mlxprune.run import forecast
from mlxprune.run.folder import RunFolder
from mlxprune.selection.absolute import resolved
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import slice_preview
from mlxprune_tui.readers.document_text import Texts
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.slice_preview import Kept

GROUPS: list[Any] = ["corpus", "domain", ("domain", "length")]
CRITERIA = ("low", "medium", "high", "band")
STEP, LEAP = Decimal("0.01"), Decimal("0.1")
SWEEP = tuple(Decimal(n) / 100 for n in (1, 2, 5, *range(10, 100, 5), 98))


@dataclass(frozen=True)
class SliceCosts:
    """What a slice keeps of the pool, and what training on it takes: ``targets`` T, ``passes`` over
    its unique tokens, ``effective`` fresh tokens that teach as much; None: not known."""

    documents: int
    tokens: int
    all_documents: int
    all_tokens: int
    targets: int
    passes: float | None
    effective: float | None
    flops: float | None
    seconds: float | None


@dataclass(frozen=True)
class SweepPoint:
    """A rate, and what a slice of it comes to; ``domains`` the kept share of each one's tokens."""

    rate: float
    passes: float | None
    effective: float | None
    domains: np.ndarray


@dataclass(frozen=True)
class Scored:
    """What a what-if rests on: sorted scores, texts, document numbers, the slice resolved."""

    table: slice_preview.Table
    texts: Texts
    numbers: np.ndarray
    choice: Slice


def load(run: RunFolder, config: Config, choice: Slice) -> Scored:
    """Raises what reading files can raise: one may be being replaced, or of another version."""
    scores = RunArtifacts(run, config).scores(choice)
    texts = Texts(run)
    numbers = texts.numbers(scores.key)
    tokens = np.where(numbers >= 0, texts.tokens.lengths(np.maximum(numbers, 0)), scores.num_tokens)
    choice = resolved(choice, scores, tokens)
    table = slice_preview.Table(scores, tokens, config.seed, choice)
    table.sorted(choice)
    return Scored(table, texts, numbers, choice)


class WhatIf:
    """The slice in hand, of a scored pool; ``own`` is the one of the run that it began from."""

    def __init__(self, view: View, config: Config, found: Scored) -> None:
        self.view, self.config, self.table = view, config, found.table
        self.texts, self.numbers = found.texts, found.numbers
        self.own = self.choice = found.choice
        self.own_kept = self.kept = self.table.ask(self.choice)
        self.held: tuple[Slice, Kept] | None = None  # the one called A
        self.upper = True  # the edge in hand
        self._swept: tuple[Any, list[SweepPoint]] | None = None

    # --- changes

    def take(self, choice: Slice) -> None:
        self.choice = choice
        self.kept = self.table.ask(choice)

    def change(self, **fields: Any) -> str | None:
        """Another slice; why not, where it cannot be."""
        told = {**self.choice.model_dump(exclude={"name", *ABSOLUTE_KEYS}), **fields}
        told["criterion"] = "band" if told["criterion"] == "range" else told["criterion"]
        try:
            self.take(Slice.model_validate(told))
        except (ValueError, MlxpruneError) as error:  # bounds of the run's slice
            return line_of(str(error).splitlines()[-1] if str(error) else "not possible")
        return None

    @property
    def rate(self) -> Decimal:
        if self.choice.band is not None:
            return self.choice.band[1] - self.choice.band[0]
        return self.choice.rate or Decimal("0.5")

    def move(self, step: Decimal) -> str | None:
        return self.change(rate=min(Decimal(1), max(STEP, self.rate + step)))

    def next_criterion(self) -> str | None:
        at = CRITERIA.index(self.choice.criterion) if self.choice.criterion in CRITERIA else 0
        following = CRITERIA[(at + 1) % len(CRITERIA)]
        if following == "band":
            low = (1 - self.rate) / 2
            return self.change(criterion="band", rate=None, band=(low, low + self.rate))
        return self.change(criterion=following, rate=self.rate, band=None)

    def next_group(self) -> Any:
        at = GROUPS.index(self.choice.by) if self.choice.by in GROUPS else 0
        return GROUPS[(at + 1) % len(GROUPS)]

    def move_edge(self, step: Decimal) -> str | None:
        assert self.choice.band is not None
        low, high = self.choice.band
        if self.upper:
            high = min(Decimal(1), max(low + STEP, high + step))
        else:
            low = max(Decimal(0), min(high - STEP, low + step))
        return self.change(band=(low, high))

    def drag_to(self, value: float) -> str | None:
        """The nearest edge to a value of the figure, to a whole percent of the documents. Where the
        slice has one edge, it is that one."""
        if self.choice.by != "corpus" or self.choice.rule == "paper":
            return "inside groups there is no one edge to drag"
        if self.choice.absolute or self.choice.criterion == "soft":
            return "this slice has no edge to drag: c takes one that has"
        share = Decimal(round(100 * self.share_below(value))) / 100
        share = min(Decimal("0.99"), max(STEP, share))
        if self.choice.criterion == "high":
            return self.change(rate=1 - share)
        if self.choice.criterion == "low":
            return self.change(rate=share)
        if self.choice.criterion == "medium":
            return self.change(rate=max(STEP, min(Decimal(1), 2 * abs(share - Decimal("0.5")))))
        assert self.choice.band is not None
        low, high = self.choice.band
        if abs(share - low) < abs(share - high):
            self.upper = False
            return self.change(band=(min(share, high - STEP), high))
        self.upper = True
        return self.change(band=(low, max(share, low + STEP)))

    def share_below(self, value: float) -> float:
        """The share of the unit of the slice that lies below a value, ranked in the corpus."""
        by = self.table.sorted(self.choice)
        at = int(np.searchsorted(by.values, value))
        if self.choice.unit == "tokens":
            return float(by.running[at] / max(1, by.running[-1]))
        return at / max(1, len(by.values))

    def reset(self) -> None:
        self.take(self.own)

    def hold(self) -> None:
        """This what-if is A from here on; asked again, none is."""
        same = self.held is not None and self.held[0] == self.choice
        self.held = None if same else (self.choice, self.kept)

    def overlap(self) -> float | None:
        """The share of the documents of this what-if that A keeps, too."""
        if self.held is None:
            return None
        mine, other = (self._mask(choice, kept) for choice, kept in
                       ((self.choice, self.kept), self.held))  # fmt: skip
        return float((mine & other).sum() / max(1, mine.sum()))

    def _mask(self, choice: Slice, kept: Kept) -> np.ndarray:
        mask = np.zeros(len(self.table.scores), bool)
        if kept.spans is None:
            return self.table.mask(choice)
        order = self.table.sorted(choice).order
        for first, stop in kept.spans.tolist():
            mask[order[first:stop]] = True
        return mask

    # --- what it comes to

    def costs(self, choice: Slice | None = None) -> SliceCosts:
        """Of the slice in hand, or of another."""
        kept = self.kept
        if choice is not None:
            kept = self.own_kept if choice == self.own else self.table.ask(choice)
        return self._costs(kept)

    def _costs(self, kept: Kept) -> SliceCosts:
        unique = kept.all_tokens + kept.all_documents  # each closed by end-of-text
        targets, flops = self.targets(max(1, unique))
        pace = forecast.pace(self.view.state)
        return SliceCosts(
            documents=kept.all_documents,
            tokens=kept.all_tokens,
            all_documents=int(self.table.all_documents.sum()),
            all_tokens=int(self.table.all_tokens.sum()),
            targets=targets,
            passes=targets / max(1, unique) if targets else None,
            effective=effective_data(max(1, unique), targets) if targets else None,
            flops=flops,
            seconds=flops / pace if pace and flops else None,
        )

    def targets(self, unique: int) -> tuple[int, float | None]:
        """T for so many unique tokens, and what all final models cost, from the run's forecast."""
        planned = self.view.state.forecast.get("final")
        before = int(self.config.final.tokens or 0)
        with contextlib.suppress(MlxpruneError):  # damaged: the report says so
            before = read_arms(self.view.run).targets or before
        if self.config.final.passes is None:
            return before, planned
        targets = round(self.config.final.passes * unique)
        return targets, planned * targets / before if planned and before else None

    def sweep(self) -> list[SweepPoint]:
        """The criterion in hand over all rates; empty where it has none."""
        choice = self.choice
        if choice.criterion not in ("low", "medium", "high") or choice.absolute:
            return []
        key = (choice.criterion, choice.by, choice.unit, choice.rule)
        if self._swept is None or self._swept[0] != key:
            points = []
            whole = np.maximum(self.table.all_tokens, 1)
            for rate in SWEEP:
                kept = self.table.ask(choice.model_copy(update={"rate": rate}))
                costs = self._costs(kept)
                points.append(
                    SweepPoint(float(rate), costs.passes, costs.effective, kept.tokens / whole)
                )
            self._swept = (key, points)
        return self._swept[1]

    # --- how to make it so

    def command(self) -> str:
        """The run goes on from its scores with this slice."""
        view = self.view
        words = ["mlxprune", "run", str(view.run.config), "--dir", str(view.run.path)]
        for setting in settings_of(self.choice):
            words += ["--set", setting]
        return shlex.join(words)

    def write(self, path: Path, name: str) -> str:
        """The configuration of a run of its own with this slice; a sentence on how that went."""
        tree = self.config.model_dump(mode="json")
        chosen = self.choice.model_dump(mode="json")
        tree["selection"] = {k: v for k, v in chosen.items() if v is not None}
        tree["name"] = name[:100]
        try:
            validate_config(tree, str(path))
        except MlxpruneError as error:
            return error.problem
        if path.exists():
            return f"{path} exists: choose another name"
        try:
            write_atomic(path, write_yaml(tree))
        except OSError as error:
            return f"cannot write {path}: {error.strerror or error}"
        return f"wrote {path}: mlxprune run {path}"


def settings_of(choice: Slice) -> list[str]:
    """The --set values that make a run's only slice this one."""
    told = {k: v for k, v in choice.model_dump(mode="json").items() if v is not None}
    if choice.absolute:  # the share that it is here follows from it
        told = {k: v for k, v in told.items() if k not in ("rate", "band")}
    return [f"selection={json.dumps(told)}"]


def words_of(choice: Slice) -> str:
    """A slice in plain words."""
    by = {"corpus": "", "domain": ", by domain"}.get(str(choice.by), ", by domain and length")
    if choice.absolute:
        return f"{choice.label}{by}"
    return f"{choice.criterion} {choice.share} % of {choice.unit}{by}"
