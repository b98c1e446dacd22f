"""Pictures: what the report draws, as SVG without scripts."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.errors import one_line
from mlxprune.experiment.arm_styles import style_of
from mlxprune.experiment.data_efficiency import BudgetPoint
from mlxprune.experiment.study_result import ArmResult
from mlxprune.experiment.task_results import MeanFigures
from mlxprune.selection.composition import CompositionRow, DomainRow
from mlxprune.selection.manifest import SliceManifest
from mlxprune.training.summary import TrainingSummary

BLUE, ORANGE, GREY = "#00695c", "#a33c00", "#6b6b6b"  # kept; a cut; a boundary
MOST_DOMAINS = 24
SMOOTHED = 40  # a line of several is smoothed over a fortieth of its points


def new_figure(width: float = 8.0, height: float = 3.0) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg_of(figure: Any, told: str) -> Any:
    """The picture with ``told`` for whoever does not see it."""
    import markupsafe
    import matplotlib

    out = io.StringIO()
    # Ids of a page differ, also of one picture in two sizes: a hidden one gives no patterns.
    unlike = f"{told} {figure.get_size_inches()}"
    salt = hashlib.blake2b(unlike.encode(), digest_size=6).hexdigest()
    with (
        matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        # Text stays text in the picture: whoever shows it has the letters that are missing here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, format="svg", metadata={"Date": None})
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", drawn)  # figure_1, axes_1: the same in all
    label = markupsafe.escape(told)
    return markupsafe.Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def _end_labels(axes: Any, ends: list[tuple[float, str, str]]) -> None:
    """Names at the right ends of lines, (height, name, colour), pushed apart where they meet."""
    low, high = axes.get_ylim()
    step = 0.052 * (high - low) * 3.2 / axes.figure.get_figheight()
    placed: list[float] = []
    ordered = sorted(ends)
    for height, _, _ in ordered:
        placed.append(max(height, placed[-1] + step) if placed else height)
    over = placed[-1] - high if placed else 0.0
    if over > 0:
        placed = [height - over for height in placed]
    for height, (_, name, colour) in zip(placed, ordered, strict=True):
        axes.annotate(
            label_of(name), (1.01, (height - low) / (high - low)), xycoords="axes fraction",
            color=colour, fontsize=8, va="center", annotation_clip=False,
        )  # fmt: skip


def label_of(text: str) -> str:
    """A name from data, safe for matplotlib, which reads formulas between dollar signs."""
    short = one_line(text)
    return (short if len(short) <= 28 else short[:27] + "\N{HORIZONTAL ELLIPSIS}").replace(
        "$", r"\$"
    )


def histogram(
    mean: np.ndarray, tokens: np.ndarray, kept: np.ndarray, choice: Slice, manifest: SliceManifest
) -> Any:
    """Tokens by mean NLL, what is kept apart from what is dropped."""
    low, high = np.quantile(mean, [0.001, 0.999])
    edges = np.linspace(low, high + 1e-9, 81)
    weights = tokens / 1e6
    figure, axes = new_figure(8, 3.2)
    axes.hist(
        [mean[kept], mean[~kept]],
        edges,
        weights=[weights[kept], weights[~kept]],
        stacked=True,
        color=[BLUE, "#d8d8d8"],
        label=[f"kept: {manifest.name}", "dropped"],
    )
    for value, side in ((manifest.lowest, "lowest kept"), (manifest.highest, "highest kept")):
        if _cut_is_drawn(choice) and low < value < high:
            axes.axvline(value, color=ORANGE, linestyle="--", linewidth=1.2)
            axes.annotate(
                f" {side}: {math.exp(min(value, 700)):.4g}",
                (value, 0.97),
                xycoords=("data", "axes fraction"),
                va="top",
                color=ORANGE,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
            )
    axes.set_xlabel("log perplexity (mean negative log-likelihood, nats a token)")
    axes.set_ylabel("million tokens")
    axes.legend(frameon=False)
    share = float(tokens[kept].sum() / tokens.sum())
    return svg_of(
        figure,
        f"Histogram of tokens by log perplexity. {manifest.name} keeps {share:.0%} of the tokens, "
        f"from {manifest.lowest:.2f} to {manifest.highest:.2f}.",
    )


def mix(table: list[DomainRow]) -> Any:
    rows = sorted(table, key=lambda r: -r.share_before)[:MOST_DOMAINS]
    figure, axes = new_figure(8, 0.9 + 0.36 * len(rows))
    at = np.arange(len(rows))
    axes.barh(at - 0.2, [100 * r.share_before for r in rows], 0.38, color="#b8b8b8", label="pool")
    axes.barh(at + 0.2, [100 * r.share_after for r in rows], 0.38, color=BLUE, label="kept")
    axes.set_yticks(at, [label_of(r.domain) for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share of tokens, %")
    axes.legend(frameon=False, loc="lower right")
    told = "; ".join(
        f"{one_line(r.domain)} {100 * r.share_before:.1f} to {100 * r.share_after:.1f}"
        for r in rows
    )
    return svg_of(figure, f"Share of the tokens by domain, in the pool and kept: {told}.")


def _cut_is_drawn(choice: Slice) -> bool:
    """Whether the slice is an interval of what the histogram shows."""
    plain = choice.metric == "perplexity" and choice.by == "corpus"
    bounded = choice.protect or choice.floor is not None or choice.cap is not None
    whole = choice.reference is None and choice.criterion != "soft" and not bounded
    return bool(plain and whole)


def spread(rows: Sequence[CompositionRow], labels: list[str], what: str) -> Any:
    """The 10, 50 and 90 % quantiles of a figure, one line a row."""
    figure, axes = new_figure(8, 0.9 + 0.3 * len(rows))
    at = np.arange(len(rows))
    low, middle, high = np.array([r.quantiles for r in rows]).T
    axes.hlines(at, low, high, color=BLUE, alpha=0.35, linewidth=7)
    axes.plot(middle, at, "o", color=BLUE, markersize=5)
    axes.set_yticks(at, [label_of(label) for label in labels])
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{what}: median, and 10 to 90 % of the documents")
    told = "; ".join(f"{one_line(n)} {m:.2f}" for n, m in zip(labels, middle, strict=True))
    return svg_of(figure, f"Spread of {what}. Medians: {told}.")


def ladder(rungs: list[tuple[str, ArmResult]]) -> Any:
    """Held-out bits per byte against passes over the unpruned base, one line an arm; arms by the
    name that they share on all rungs."""
    figure, axes = new_figure(8, 3.2)
    ends = []
    for family in dict.fromkeys(name for name, _ in rungs):
        mine = sorted((r.rung or 0.0, r.test_macro) for name, r in rungs if name == family)
        style = style_of(next(r.kind for name, r in rungs if name == family))
        axes.plot(
            *zip(*mine, strict=True), linestyle=style.line, marker=style.marker, color=style.colour
        )
        ends.append((mine[-1][1] or 0.0, family, style.colour))
    axes.set_xscale("log", base=2)
    ticks = sorted({r.rung or 0.0 for _, r in rungs})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlabel("passes over the unpruned base")
    axes.set_ylabel("held-out bits per byte")
    _end_labels(axes, ends)
    told = "; ".join(f"{name} {height:.3f}" for height, name, _ in ends)
    return svg_of(figure, f"Held-out bits per byte by passes over the base. At the most: {told}.")


def curves(by_arm: dict[str, list[TrainingSummary]], kinds: dict[str, str]) -> Any:
    """Training loss; of several arms the mean over seeds, smoothed, so that they can be told
    apart. ``kinds`` of the arms."""
    if not by_arm:
        return None
    figure, axes = new_figure(8, 3.4)
    shown, ends = [], []
    for number, (arm, seeds) in enumerate(by_arm.items()):
        style = style_of(kinds.get(arm, "pruned"))
        recipe = seeds[0].recipe
        size = recipe.batch_size * recipe.context / 1e6
        points = min(len(t.history.train) for t in seeds)
        steps = np.array([p.step for p in seeds[0].history.train[:points]])
        losses = np.mean([[p.loss for p in t.history.train[:points]] for t in seeds], axis=0)
        width = max(1, points // SMOOTHED) if len(by_arm) > 1 else 1
        losses = np.convolve(losses, np.ones(width) / width, mode="valid")
        steps = steps[width - 1 :]
        axes.plot(steps * size, losses, linestyle=style.line, color=style.colour, linewidth=1.2)
        shown.append(losses)
        ends.append((float(losses[-1]), arm, style.colour))
        if number == 0:  # arms of one share have passes of one length
            boundary = seeds[0].unique_tokens / 1e6
            for ended in range(1, min(int(seeds[0].passes + 1e-9), 40) + 1):
                if ended * boundary < steps[-1] * size:
                    axes.axvline(ended * boundary, color=GREY, linestyle=":", linewidth=0.9)
    lowest = min(float(line.min()) for line in shown)
    starts = np.sort(np.concatenate([line[5:] for line in shown]))
    highest = starts[int(0.98 * (len(starts) - 1))] if len(starts) else lowest + 1
    axes.set_ylim(lowest - 0.1, highest + 0.3)
    axes.set_xlabel("million targets (dotted: a pass over the unique tokens ends)")
    axes.set_ylabel("training loss, nats a token")
    _end_labels(axes, ends)
    told = "; ".join(f"{name} {height:.2f}" for height, name, _ in ends)
    return svg_of(figure, f"Training loss by targets. At the end: {told}.")


def deciles(rows: dict[str, list[float]], control: str, kinds: dict[str, str]) -> Any:
    """Bits per byte of every arm minus its control's, by tenth of the reference's scores."""
    figure, axes = new_figure(8, 3.2)
    base = np.array(rows[control], float)
    at = np.arange(1, len(base) + 1)
    axes.axhline(0, color=style_of("random").colour, linewidth=1, linestyle="--")
    ends = []
    for arm, bits in rows.items():
        if arm == control:
            continue
        style, values = style_of(kinds.get(arm, "pruned")), np.array(bits, float) - base
        axes.plot(
            at, values, linestyle=style.line, marker=style.marker, color=style.colour, markersize=4
        )
        ends.append((float(values[-1]), arm, style.colour))
    axes.set_xticks(at, [str(n) for n in at])
    axes.set_xlabel("tenth of the test documents by the reference's perplexity, lowest first")
    axes.set_ylabel(f"bits per byte minus {label_of(control)}")
    _end_labels(axes, ends)
    told = "; ".join(f"{name} {height:+.3f}" for height, name, _ in ends)
    return svg_of(
        figure, f"Bits per byte minus {control} by tenth of perplexity. In the highest: {told}."
    )


def budgets(arms: dict[str, list[BudgetPoint]], kinds: dict[str, str]) -> Any:
    """The primary figure of every arm against its targets, each end decayed."""
    figure, axes = new_figure(8, 3.2)
    names = []
    for arm, ends in arms.items():
        style = style_of(kinds.get(arm, "pruned"))
        axes.plot(
            [end.targets / 1e6 for end in ends],
            [end.primary for end in ends],
            linestyle=style.line,
            marker=style.marker,
            color=style.colour,
            markersize=4,
        )
        names.append((ends[-1].primary or 0.0, arm, style.colour))
    ticks = sorted({end.targets / 1e6 for ends in arms.values() for end in ends})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("million targets")
    axes.set_ylabel("bits per byte")
    _end_labels(axes, names)
    told = "; ".join(f"{name} {height:.3f}" for height, name, _ in names)
    return svg_of(figure, f"Bits per byte by targets, every end decayed. At the last: {told}.")


def normalised_accuracies(
    categories: list[str], arms: dict[str, dict[str, MeanFigures]], kinds: dict[str, str]
) -> Any:
    """Normalised accuracy of every arm in every category, with 95 % intervals of the items."""
    figure, axes = new_figure(8, 0.9 + (0.16 * len(arms) + 0.22) * len(categories))
    at = np.arange(len(categories), dtype=float)
    first = next(iter(arms.values()))
    constant = [100 * (first[name].normalised_one_answer or 0.0) for name in categories]
    axes.scatter(constant, at, marker="|", s=160, color=ORANGE, label="one answer to all", zorder=1)
    for number, (arm, told) in enumerate(arms.items()):
        values, low, high = (
            np.array([100 * getattr(told[name], key) for name in categories])
            for key in ("normalised_accuracy", "normalised_low", "normalised_high")
        )
        offset = (number - (len(arms) - 1) / 2) * 0.7 / max(len(arms), 2)
        axes.errorbar(
            values,
            at + offset,
            xerr=[values - low, high - values],
            fmt=style_of(kinds.get(arm, "pruned")).marker,
            markersize=4,
            linewidth=1.2,
            color=style_of(kinds.get(arm, "pruned")).colour,
            label=arm,
        )
    axes.axvline(0, color="#cccccc", linewidth=1, zorder=0)
    axes.set_yticks(at, [label_of(name.replace("_", " ")) for name in categories])
    axes.invert_yaxis()
    axes.set_xlabel("normalised accuracy (0: guessing, 100: all right)")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    named = ", ".join(name.replace("_", " ") for name in categories)
    return svg_of(figure, f"Normalised accuracy of every arm in {named}; the table below has it.")
