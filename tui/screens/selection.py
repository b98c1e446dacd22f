"""Selection: what another criterion, rate, unit or grouping would keep. It never changes a run."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable
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
from mlxprune.units import clock, count
from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.text import cut, fit, line_of
from mlxprune_tui.readers import slice_preview
from mlxprune_tui.readers.document_text import Texts
from mlxprune_tui.screens import slice_panes
from mlxprune_tui.screens.page import (
    SHORT,
    TALL,
    WIDE,
    Answer,
    Ask,
    Layout,
    Page,
    Pane,
    Split,
    empty,
    say,
)

GROUPS: list[Any] = ["corpus", "domain", ("domain", "length")]
CRITERIA = ("low", "medium", "high", "band")
STEP, LEAP = Decimal("0.01"), Decimal("0.1")


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


class Selection(Page):
    name = "selection"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.number = 0  # which slice of the run it began from
        self.choice: Slice | None = None
        self.table: slice_preview.Table | None = None
        self.kept: slice_preview.Kept | None = None
        self.texts: Texts | None = None
        self.numbers: np.ndarray | None = None
        self.trouble: str | None = None
        self.loading: Any = None
        self._own_kept: slice_preview.Kept | None = None  # of the slice that it began from
        self.upper, self.skip = True, 0

    # --- what it rests on

    def ready(self) -> bool:
        """Whether the scores are at hand; else they are fetched, aside."""
        found = self.in_hand()
        if isinstance(found, str):
            self.trouble = found
            return False
        view, config = found
        choice = config.slices[self.number % len(config.slices)]
        name = choice.reference or config.primary_reference.name
        try:
            written = view.run.scores(name).stat().st_mtime_ns
        except OSError:
            self.trouble = "no document is scored yet"
            return self.table is not None
        wanted = (self.number, written)
        if self.loading != wanted:
            self.loading, self.trouble = wanted, None
            self.context.later(lambda: _load(view.run, config, choice), self._loaded)
        return self.table is not None

    def _loaded(self, found: Any) -> None:
        if isinstance(found, str):
            self.trouble = found
            return
        self.table, self.texts, self.numbers, self.choice = found
        self._own_kept = None
        if self.table.scores.domain is not None:  # the other groupings, before a key asks for them
            table, choice = self.table, self.choice
            wanted = [choice.model_copy(update={"by": by}) for by in GROUPS]
            self.context.later(lambda: [table.sorted(one) for one in wanted], lambda found: None)
        self._ask()

    def _ask(self) -> None:
        assert self.table is not None
        assert self.choice is not None
        self.kept = self.table.ask(self.choice)

    @property
    def config(self) -> Config:
        assert self.context.view is not None
        config = self.context.view.config
        assert config is not None
        return config

    @property
    def own(self) -> Slice:
        """The slice of the run that this began from."""
        return self.config.slices[self.number % len(self.config.slices)]

    def layout(self, cells: int, rows: int) -> Layout:
        if not self.ready():
            if self.trouble:
                return empty(
                    f"What-if waits: {line_of(self.trouble)}.",
                    "Once the stage score is done, every key here answers at once.",
                )
            return empty("Sorting the scores; it takes a moment for each million documents ...")
        picture = Pane(self._title(), self._picture)
        kept = Pane("Kept, and what training on it takes", self.draw_facts)
        mix = Pane("Domain mix, share of tokens", self._mix)
        assert self.choice is not None
        of = "" if self.choice.by == "corpus" else " of the largest group"
        around = Pane(f"Around the {self._edge_name()} edge{of}", self.draw_around)
        if cells >= WIDE:
            left = Split(False, [(0.55, picture), (0.45, around)])
            right = Split(False, [(11, kept), (1.0, mix)])
            return Split(True, [(0.64, left), (0.36, right)])
        if rows >= TALL:
            return Split(False, [(0.4, picture), (10, kept), (0.35, mix), (0.25, around)])
        below = Split(True, [(0.55, kept), (0.45, mix)])
        if rows < SHORT:
            return Split(False, [(1.0, picture), (5, below)])
        return Split(False, [(1.0, picture), (8, below), (5, around)])

    def _title(self) -> str:
        assert self.choice is not None
        told = "as the run does" if self.choice == self.own else f"the run: {self.own.label}"
        return f"What if? {_words(self.choice)}  ({told})"

    def _edge_name(self) -> str:
        return "upper" if self._is_upper() else "lower"

    def _is_upper(self) -> bool:
        """Which edge is looked around: that in hand, or the only one there is."""
        assert self.choice is not None
        return {"high": False, "low": True}.get(self.choice.criterion, self.upper)

    def _picture(self, cells: int, rows: int) -> list[Line]:
        assert self.table is not None
        assert self.choice is not None
        assert self.kept is not None
        return slice_panes.bars(
            self.table, self.choice, self.kept, cells, rows, self.context.glyphs
        )

    def draw_facts(self, cells: int, rows: int) -> list[Line]:
        found = self.costs()
        before = self.costs(self.own)
        targets = count(found.targets)
        glance: list[tuple[str, float | None, float | None, Callable[[float], str]]] = [
            ("docs", found.documents, before.documents, lambda v: f"{v:,}"),
            ("tokens", found.tokens, before.tokens, lambda v: f"{v:,}"),
            ("passes", found.passes, before.passes, lambda v: f"{v:.2f} over {targets}"),
            ("worth", found.effective, before.effective, lambda v: f"{count(v)} tokens, predicted"),
            ("cost", found.flops, before.flops, lambda v: f"{v:.2e} FLOPs"),
            ("time", found.seconds, before.seconds, lambda v: f"about {clock(v)}"),
        ]
        whole = {"docs": found.all_documents, "tokens": found.all_tokens}
        pairs = []
        for name, value, usual, form in glance:
            told = form(value) if value is not None else "not known yet"
            if name in whole and value is not None:
                told += f"  {100 * value / max(1, whole[name]):.1f} %"
            if usual and value is not None and self.choice != self.own:
                before_words = form(usual).split(" over")[0].split(" tokens")[0].split(" FLOPs")[0]
                more = f"  (run: {before_words})"
                told += more if len(told) + len(more) <= cells - 7 else ""
            style = "warn" if name == "passes" and value is not None and value > 4 else ""
            pairs.append((name, told, style))
        if self.context.view is not None and not self.context.view.state.forecast:
            pairs = [(n, "this log has no forecast" if t == "not known yet" else t, s)
                     for n, t, s in pairs]  # fmt: skip
        if rows > len(pairs):
            pairs.append(("", "cost, time: all arms anew", "dim"))
        return say(pairs[:rows], cells)

    def costs(self, choice: Slice | None = None) -> SliceCosts:
        """Of a slice; that in hand by default."""
        assert self.table is not None
        chosen = choice or self.choice
        assert chosen is not None
        if choice is not None and self._own_kept is None:
            self._own_kept = self.table.ask(choice)
        kept = self.kept if choice is None else self._own_kept
        assert kept is not None
        unique = kept.all_tokens + kept.all_documents  # each closed by end-of-text
        targets, flops = self.targets(max(1, unique))
        view = self.context.view
        pace = forecast.pace(view.state) if view is not None else None
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
        config, view = self.config, self.context.view
        if view is None:
            return 0, None
        planned = view.state.forecast.get("final")
        before = int(config.final.tokens or 0)
        with contextlib.suppress(MlxpruneError):  # damaged: the report says so
            before = read_arms(view.run).targets or before
        if config.final.passes is None:
            return before, planned
        targets = round(config.final.passes * unique)
        return targets, planned * targets / before if planned and before else None

    def _mix(self, cells: int, rows: int) -> list[Line]:
        assert self.table is not None
        assert self.kept is not None
        return slice_panes.mix(self.table, self.kept, cells, rows)

    def draw_around(self, cells: int, rows: int) -> list[Line]:
        assert self.table is not None
        assert self.choice is not None
        assert self.kept is not None
        assert self.texts is not None
        assert self.numbers is not None
        found = self.table.around(self.choice, self.kept, self._is_upper(), rows, self.skip)
        if not found:
            return [[("this slice has no edge to look around", "dim")]]
        lines: list[Line] = []
        for row, inside in found:
            domain = line_of(self.table.domains[int(self.table.domain[row])])
            head = f"{self.table.values[row]:7.3f} {'K' if inside else 'D'} {fit(domain, 10)} "
            document = int(self.numbers[row])
            text = self.texts.text(document, 0, 60) if document >= 0 else "(not in the corpus)"
            style = "kept" if inside else "dim"
            words = cut(line_of(text), max(0, cells - len(head)))
            lines.append([(head, style), (words, "" if inside else "dim")])
        return lines

    # --- keys

    def why_not(self, action: str) -> str | None:
        if self.table is None or self.choice is None:
            return self.trouble or "the scores are not sorted yet"
        if action in ("edge_down", "edge_up") and self.choice.criterion != "band":
            return "edges move one by one in a band: c chooses it; left and right move the rate"
        if action in ("less", "more", "much_less", "much_more") and self.choice.band:
            return "a band has edges: , and . move the one in hand, b takes the other"
        if action == "criterion" and self.choice.criterion == "soft":
            return "this slice is drawn by lot: s takes another"
        if action == "group" and self.table.scores.domain is None:
            return "these scores name no domain"
        if action == "group" and self._next_group() not in self.table.held:
            return "that grouping is being sorted: a moment"
        if action == "slice" and len(self.config.slices) < 2:
            return "the run has one slice"
        return None

    def change(self, **fields: Any) -> str | None:
        assert self.choice is not None
        told = {**self.choice.model_dump(exclude={"name", *ABSOLUTE_KEYS}), **fields}
        told["criterion"] = "band" if told["criterion"] == "range" else told["criterion"]
        try:
            self.choice = Slice.model_validate(told)
            self._ask()
        except (ValueError, MlxpruneError) as error:  # bounds of the run's slice
            return line_of(str(error).splitlines()[-1] if str(error) else "not possible")
        return None

    def do_criterion(self) -> str | None:
        assert self.choice is not None
        at = CRITERIA.index(self.choice.criterion) if self.choice.criterion in CRITERIA else 0
        following = CRITERIA[(at + 1) % len(CRITERIA)]
        rate = self.rate()
        if following == "band":
            low = (1 - rate) / 2
            return self.change(criterion="band", rate=None, band=(low, low + rate))
        return self.change(criterion=following, rate=rate, band=None)

    def rate(self) -> Decimal:
        assert self.choice is not None
        if self.choice.band is not None:
            return self.choice.band[1] - self.choice.band[0]
        return self.choice.rate or Decimal("0.5")

    def _move(self, step: Decimal) -> str | None:
        return self.change(rate=min(Decimal(1), max(STEP, self.rate() + step)))

    def do_less(self) -> str | None:
        return self._move(-STEP)

    def do_more(self) -> str | None:
        return self._move(STEP)

    def do_much_less(self) -> str | None:
        return self._move(-LEAP)

    def do_much_more(self) -> str | None:
        return self._move(LEAP)

    def do_edge_down(self) -> str | None:
        return self._edge(-STEP)

    def do_edge_up(self) -> str | None:
        return self._edge(STEP)

    def _edge(self, step: Decimal) -> str | None:
        assert self.choice is not None
        assert self.choice.band is not None
        low, high = self.choice.band
        if self.upper:
            high = min(Decimal(1), max(low + STEP, high + step))
        else:
            low = max(Decimal(0), min(high - STEP, low + step))
        return self.change(band=(low, high))

    def do_edge(self) -> None:
        self.upper = not self.upper

    def do_unit(self) -> str | None:
        assert self.choice is not None
        other = "documents" if self.choice.unit == "tokens" else "tokens"
        return self.change(unit=other, rule="exact")

    def _next_group(self) -> Any:
        assert self.choice is not None
        at = GROUPS.index(self.choice.by) if self.choice.by in GROUPS else 0
        return GROUPS[(at + 1) % len(GROUPS)]

    def do_group(self) -> str | None:
        return self.change(by=self._next_group())

    def do_sample(self) -> None:
        self.skip = (self.skip * 3 + 1) % 1000

    def do_slice(self) -> None:
        self.number += 1
        self.table = self.kept = self.choice = self.loading = None

    def do_reset(self) -> None:
        self.choice = self.own
        self.skip = 0
        self._ask()

    def command(self) -> str:
        """What makes it so: the run goes on from its scores with this slice."""
        view = self.context.view
        assert view is not None
        words = ["mlxprune", "run", str(view.run.config), "--dir", str(view.run.path)]
        for setting in settings_of(self.choice or self.own):
            words += ["--set", setting]
        return shlex.join(words)

    def copied(self) -> str | None:
        return self.command() if self.choice is not None else None

    def do_write(self) -> Answer:
        assert self.choice is not None
        name = f"{self.config.name}-{self.choice.label}"
        return Ask(
            "Write a configuration with this slice to",
            f"{name}.yaml",
            lambda given: self.write(Path(given).expanduser(), name),
            "the run in hand stays as it is; mlxprune run FILE makes a new one",
        )

    def write(self, path: Path, name: str) -> str:
        tree = self.config.model_dump(mode="json")
        assert self.choice is not None
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


def _words(choice: Slice) -> str:
    by = {"corpus": "", "domain": ", by domain"}.get(str(choice.by), ", by domain and length")
    if choice.absolute:
        return f"{choice.label}{by}"
    return f"{choice.criterion} {choice.share} % of {choice.unit}{by}"


def _load(run: RunFolder, config: Config, choice: Slice) -> Any:
    """(table, texts, document numbers, the slice), or why not."""
    try:
        scores = RunArtifacts(run, config).scores(choice)
        texts = Texts(run)
    except Exception as error:  # a file that is being replaced, or of another version
        return str(error) or type(error).__name__
    numbers = texts.numbers(scores.key)
    tokens = np.where(numbers >= 0, texts.tokens.lengths(np.maximum(numbers, 0)), scores.num_tokens)
    choice = resolved(choice, scores, tokens)
    found = slice_preview.Table(scores, tokens, config.seed, choice)
    found.sorted(choice)
    return found, texts, numbers, choice
