"""Evidence: the claims of the paper, tested by the recipes at a size of minutes.

    python bench/evidence.py --dir evidence            # runs the studies on the demo's text
    python bench/evidence.py --show runs/a runs/b      # the tables of any finished runs

The first writes a corpus out of this Python, the configurations of the recipes and their runs into
a folder, goes on where it was stopped, and puts tables and pictures into docs/evidence.md. The
second prints the tables alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlxprune.checksums import read_sealed
from mlxprune.config.loading import load_config
from mlxprune.experiment.arm_styles import style_of
from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import PairedDifference
from mlxprune.records import record_of
from mlxprune.report.answer import fewer_words
from mlxprune.report.answer_pictures import slices_by_run
from mlxprune.report.figures import new_figure, svg_of
from mlxprune.report.run_table import run_table
from mlxprune.units import duration, short_count

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- tables of bench/evidence.py -->\n", "<!-- end of the tables -->\n"
# Recipe, settings beside its smallest size: budgets as large as the demo's text allows.
STUDIES: dict[str, list[str]] = {
    "paper-small": ["split.test=0.15", "reference.tokens=400k", "final.tokens=300k"],
    "two-corpora": ["split.test=0.15", "reference.tokens=300k", "final.tokens=300k"],
    "data-constrained": [
        "split.test=0.04", "split.validation=0.02", "reference.tokens=300k", "final.tokens=100k",
        "final.ladder=[1, 2, 4, 8]", "final.arms=[pruned, random]", "selection.criterion=low",
    ],
}  # fmt: skip
SHORT = [
    "split.test=0.02", "split.validation=0.02", "reference.tokens=20k", "final.tokens=20k",
    "final.seeds=[0, 1]", "final.arms=[pruned, random]", "final.branches=[]",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path("evidence"), help="where to work")
    parser.add_argument("--show", type=Path, nargs="+", metavar="RUN", help="finished runs")
    parser.add_argument("--recipes", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--short", action="store_true", help="two corpora for a minute; prints")
    asked = parser.parse_args()
    if asked.show:
        print("\n".join(tables(asked.show)))
        return
    if asked.short:
        with tempfile.TemporaryDirectory(prefix="mlxprune-evidence-") as folder:
            lines = tables(run_recipe("two-corpora", Path(folder), SHORT))
            print("\n".join(lines))
            assert any("(b)" in line for line in lines)
        return
    runs = [run for name in asked.recipes for run in run_recipe(name, asked.dir, STUDIES[name])]
    text = "\n".join([*tables(runs), *pictures(runs)])
    page = DOCS / "evidence.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}{text}\n{END}{after}", encoding="utf-8")
    print(f"wrote {page}")


def run_recipe(name: str, folder: Path, study: list[str]) -> list[Path]:
    """The runs of a recipe, made by the commands that anybody would type."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlxprune"]
    written = sorted(folder.glob(f"{name}*.yaml"))
    if not written:
        subprocess.run(
            [*command, "init", "--recipe", name, "--smallest"], cwd=folder, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        written = sorted(folder.glob(f"{name}*.yaml"))
    settings = [word for setting in study for word in ("--set", setting)]
    for config in written:
        subprocess.run([*command, "run", config.name, *settings, "--quiet"], cwd=folder, check=True)
    return [folder / "runs" / load_config(config).name for config in written]


def tables(runs: list[Path]) -> list[str]:
    """Every claim that the runs say something of, as Markdown."""
    held = {run: result_of(run) for run in runs}
    lines: list[str] = []
    for run, result in held.items():
        lines += ["", f"### {run.name}", "", f"{costs(result)}", ""]
        for title, rows in claims(result):
            if rows:
                lines += [title, "", *rows, ""]
    corpora: dict[str, Path] = {}
    for run, result in held.items():
        if any(c.about == "slice against slice" for c in result.comparisons):
            corpora.setdefault(run.name, run)
    several = list(corpora.values())
    for number, one in enumerate(several):
        for other in several[number + 1 :]:
            found = run_table([one, other]).by_corpus
            if found is not None:
                lines += [f"(b) {sentence}" for sentence in found.sentences] + [""]
    return lines


def result_of(run: Path) -> StudyResult:
    return record_of(read_sealed(run / "report.json"), StudyResult)


def costs(result: StudyResult) -> str:
    found = result.costs
    if found is None:
        return ""
    arm = next(iter(result.arms.values()))
    return (
        f"{found.models} final models of {short_count(arm.tokens)} targets, "
        f"{found.final_flops + found.overhead:.1e} FLOPs, {duration(found.seconds)} in all"
    )


def claims(result: StudyResult) -> Iterator[tuple[str, list[str]]]:
    """(which claim, its table) for each of the paper's that a study can say something of."""
    by_about = {row.about: [c for c in result.comparisons if c.about == row.about]
                for row in result.comparisons}  # fmt: skip
    selection = by_about.get("selection", [])
    rungs = {name: arm.rung for name, arm in result.arms.items()}
    whole = [c for c in selection if rungs[c.arm] is None]
    yield "(a) Slices against random at equal tokens:", table(whole, lambda c: c)
    within = [c for c in by_about.get("within domains", []) if rungs[c.arm] is None]
    yield (
        "(c) What is left after the mix of domains and lengths is matched:",
        table(within, lambda c: c),
    )
    asked = [c for c in whole if c.gold_bpb is not None]
    yield "(d) Held-out bits per byte on the original mix:", table(whole, lambda c: c.original_mix)
    yield "(d) Bits per byte of the tasks' right answers:", table(asked, lambda c: c.gold_bpb)
    against_none = by_about.get("against no pruning", [])
    yield "(a) Slices against no pruning:", table(against_none, lambda c: c)
    ladder = [
        c for about in ("at this rung", "selection", "within domains")
        for c in by_about.get(about, []) if rungs[c.arm] is not None
    ]  # fmt: skip
    ladder.sort(key=lambda c: (rungs[c.arm] or 0, c.arm, c.control))
    yield (
        "(e) By passes over the base (x1, x2 ...), against base, random and matched:",
        table(ladder, lambda c: c),
    )
    told = result.conclusion
    best = next((c for c in whole if c.rho is not None), None)
    if told is not None and best is not None and result.costs is not None:
        share = result.costs.overhead / result.costs.model_flops
        saving = told.saving or "No saving is told: the verdict is not decided."
        rows = [f"- {saving}", f"- Reference and scores cost {100 * share:.0f} % of one model."]
        if best.fewer_targets is not None:
            rows.append(f"- {best.arm}, fewer targets: {fewer_words(best.fewer_targets)}.")
        yield "(f) Net of reference and scoring:", rows
    if told is not None:
        yield "The report's sentence:", [f"> {line}" for line in (told.lead, *told.reasons)]


def table(rows: list[Comparison], of: Callable[[Comparison], Any]) -> list[str]:
    found: list[tuple[Comparison, Comparison | PairedDifference]] = [
        (row, value) for row in rows if (value := of(row)) is not None
    ]
    if not found:
        return []
    lines = [
        "| arm - control | difference | 95 % | verdict | could have decided |",
        "|---|---|---|---|---|",
    ]
    for row, value in found:
        low, high = value.interval
        smallest = getattr(value, "smallest", None)
        able = "" if smallest is None else f"{smallest:.3f}"
        lines.append(
            f"| {row.arm} - {row.control} | {value.difference:+.4f} | {low:+.4f} to {high:+.4f} "
            f"| {value.verdict.short} | {able} |"
        )
    return lines


def pictures(runs: list[Path]) -> list[str]:
    """Slices by corpus, and the ladder; as files beside the page."""
    held = {run: result_of(run) for run in runs}
    lines = []
    several = [run for run in runs if run.name.startswith("two-corpora")]
    if len(several) == 2:
        (DOCS / "evidence-corpora.svg").write_text(
            standing(slices_by_run(run_table(several).slices))
        )
        lines += ["![Slices minus random on two corpora, with intervals](evidence-corpora.svg)", ""]
    rungs = [run for run in runs if any(a.rung is not None for a in held[run].arms.values())]
    if rungs:
        drawn = ladder_picture({run.name: held[run] for run in rungs})
        (DOCS / "evidence-ladder.svg").write_text(standing(drawn))
        lines += ["![What selection does by passes over the base](evidence-ladder.svg)", ""]
    return lines


def standing(svg: Any) -> str:
    """A picture of a page as a file of its own."""
    text = str(svg)
    return (
        text
        if "xmlns=" in text
        else text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    )


def ladder_picture(results: dict[str, StudyResult]) -> Any:
    """Slice minus the base, and minus random of the same base, by passes over the base."""
    figure, _ = new_figure(8, 3.4)
    figure.clear()
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    told = []
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(0, color="#333333", linewidth=1)
        for kind, shift in (("base", 0.97), ("random", 1.03)):
            rows = [
                (result.arms[c.arm].rung or 0, c)
                for c in result.comparisons
                if result.arms[c.arm].rung is not None
                and result.arms[c.arm].kind == "pruned" and result.arms[c.control].kind == kind
            ]  # fmt: skip
            rows.sort(key=lambda row: row[0])
            style = style_of("none" if kind == "base" else "pruned")
            for rung, row in rows:
                axes.plot([rung * shift] * 2, row.interval, color=style.colour, linewidth=1.4)
                told.append(f"{name} x{rung:g} minus {kind} {row.difference:+.3f}")
            axes.plot(
                [rung * shift for rung, _ in rows], [row.difference for _, row in rows],
                color=style.colour, linestyle=style.line, marker=style.marker, markersize=5,
                label=f"slice minus {kind}",
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        ticks = sorted({a.rung for a in result.arms.values() if a.rung is not None})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_title(name, fontsize=9, loc="left")
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("bits per byte; below 0 is better")
    figure.supxlabel("passes over the unpruned base", fontsize=9)
    return svg_of(figure, "; ".join(told))


if __name__ == "__main__":
    main()
