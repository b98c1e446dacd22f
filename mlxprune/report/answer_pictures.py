"""Answer pictures: every comparison with its interval, and a difference by domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlxprune.errors import one_line
from mlxprune.experiment.arm_styles import BETTER, NOISE, UNDECIDED, WORSE, style_of
from mlxprune.experiment.comparisons import Comparison
from mlxprune.inference.verdict import Verdict
from mlxprune.report.figures import label_of, new_figure, svg_of

if TYPE_CHECKING:
    from mlxprune.report.run_table import ComparedSlice

SIGNS = {
    Verdict.BETTER: "\N{BLACK DOWN-POINTING TRIANGLE}",
    Verdict.WORSE: "\N{BLACK UP-POINTING TRIANGLE}",
}
COLOURS = {Verdict.BETTER: BETTER, Verdict.WORSE: WORSE}
MOST_DOMAINS = 14


def verdict_word(compared: Comparison) -> str:
    """``▼ better``: the sign tells it where colours do not."""
    return f"{SIGNS.get(compared.verdict, '~')} {compared.verdict.short}"


def forest(comparisons: list[Comparison], kinds: dict[str, str], narrow: bool) -> Any:
    """Arms minus their random control, with intervals, on one axis; the band is what the control
    moves by from seed to seed."""
    rows = [c for c in comparisons if kinds.get(c.control) in ("random", "none", "base")]
    rows = rows or comparisons
    width = 4.2 if narrow else 8.0
    figure, axes = new_figure(width, 0.9 + (0.5 if narrow else 0.34) * len(rows))
    moved = [c.seed_sd for c in rows if c.main and c.seed_sd is not None]
    if moved:
        axes.axvspan(-max(moved), max(moved), color=NOISE, zorder=0)
    axes.axvline(0, color="#333333", linewidth=1)
    for place, row in enumerate(rows):
        style = style_of(kinds.get(row.arm, "pruned"))
        low, high = row.interval
        axes.plot([low, high], [place, place], linestyle="-", color=style.colour, linewidth=1.6)
        filled = style.colour if row.verdict in COLOURS else "white"
        axes.plot(
            row.difference, place, marker=style.marker, color=style.colour,
            markerfacecolor=filled, markersize=6, linestyle="none",
        )  # fmt: skip
        word = verdict_word(row)
        told = f"{row.difference:+.3f} {word[0] if narrow else word}"
        axes.annotate(
            told, (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
            color=COLOURS.get(row.verdict, UNDECIDED),
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [label_of(row.arm) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    control = rows[0].control if len({r.control for r in rows}) == 1 else "its control"
    unit = "bits per byte" if narrow else "bits per byte; left of zero is better"
    axes.set_xlabel(f"minus {label_of(control)}, {unit}")
    told = "; ".join(
        f"{r.arm} {r.difference:+.3f} ({r.interval[0]:+.3f} to {r.interval[1]:+.3f}) "
        f"{verdict_word(r)[2:]}"
        for r in rows
    )
    return svg_of(figure, f"Each arm minus its control with 95 % intervals: {told}.")


def slices_by_run(rows: Sequence[ComparedSlice]) -> Any:
    """A panel a run on one axis: every slice minus its random control, with intervals; slices stand
    in the same place in all."""
    runs = list(dict.fromkeys(row.run for row in rows))
    order = {"low": 0, "medium": 1, "high": 2}
    names = sorted({row.slice for row in rows}, key=lambda n: (order.get(n.split("-")[0], 3), n))
    figure, _ = new_figure(8.0, 0.9 + 0.34 * len(names))
    figure.clear()
    panels = figure.subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0]
    for axes, run in zip(panels, runs, strict=True):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.axvline(0, color="#333333", linewidth=1)
        for row in (row for row in rows if row.run == run):
            place, colour = names.index(row.slice), COLOURS.get(row.verdict, UNDECIDED)
            axes.plot(row.interval, [place, place], linestyle="-", color=colour, linewidth=1.6)
            filled = colour if row.verdict in COLOURS else "white"
            axes.plot(
                row.difference, place, marker="D" if row.best else "o", color=colour,
                markerfacecolor=filled, markersize=6, linestyle="none",
            )  # fmt: skip
        axes.set_title(label_of(run), fontsize=9, loc="left")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), [label_of(name) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("minus random, bits per byte; diamond: ranked first", fontsize=9)
    told = "; ".join(
        f"{r.run} {r.slice} {r.difference:+.3f} ({r.interval[0]:+.3f} to {r.interval[1]:+.3f})"
        for r in rows
    )
    return svg_of(figure, f"Slices minus random by corpus, with 95 % intervals: {told}.")


def waterfall(compared: Comparison, narrow: bool) -> Any:
    """What every domain adds to the difference, the largest first, up to the whole."""
    domains = sorted(compared.domains or [], key=lambda d: -abs(d.adds))
    rows = [(one_line(d.domain), d.adds) for d in domains[:MOST_DOMAINS]]
    if len(domains) > MOST_DOMAINS:
        rest = domains[MOST_DOMAINS:]
        rows.append((f"{len(rest)} more domains", sum(d.adds for d in rest)))
    if len(rows) < 2:
        return None
    width = 4.2 if narrow else 8.0
    figure, axes = new_figure(width, 0.9 + 0.3 * (len(rows) + 1))
    at = 0.0
    for place, (_, adds) in enumerate(rows):
        colour = BETTER if adds < 0 else WORSE
        axes.barh(
            place, adds, 0.62, left=at, color=colour, hatch="" if adds < 0 else "///",
            edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        at += adds
        axes.plot([at, at], [place - 0.31, place + 1.31], color="#555555", linewidth=0.7)
    axes.barh(len(rows), at, 0.62, color="#333333")
    for place, adds in enumerate([*(adds for _, adds in rows), at]):
        axes.annotate(
            f"{adds:+.3f}", (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip
    axes.axvline(0, color="#333333", linewidth=1)
    names = [label_of(name) for name, _ in rows]
    axes.set_yticks(range(len(rows) + 1), [*names, "together"])
    axes.set_ylim(len(rows) + 0.5, -0.5)
    axes.set_xlabel("adds to the difference, bits per byte")
    told = "; ".join(f"{name} {adds:+.3f}" for name, adds in rows)
    return svg_of(figure, f"{compared.arm} minus {compared.control}, {at:+.3f}, by domain: {told}.")
