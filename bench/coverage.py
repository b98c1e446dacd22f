"""The verdict as an instrument: whole studies with a known truth, through the shipped function.

    python bench/coverage.py                        # 10,000 studies a cell, an hour or two
    python bench/coverage.py --studies 300 --seeds 3 --slices 1 3

Each study has S seeds and K slices against one random control that is drawn anew for each seed.
Printed for each cell: how often all K intervals hold the truth (joint coverage; 95 % is promised),
how often some slice is called better or worse where nothing differs (family-wise error), how often
a slice that is better by four true standard errors of its difference is found (power), beside it
what the interval of t(S - 1) over both noises and Holm's rule find on the same studies, and the
median half-width over that of the same interval with known variances.

What is simulated was measured in real studies (docs/log.md, 2026-11-28: twelve domains of
minipile-small, five slices, three seeds, pico, 400k targets): the standard deviation of a slice
over seeds, 0.015 bits per byte, and of its random control, 0.035 for half of the pool and 0.14 for
a quarter (so differences from one control correlate at 0.7 to 0.99); the spread of the logarithm of
bytes in every domain, 0.65 to 1.7; what a document adds to a slice's difference, 0.04 to 0.3 bits
per byte by domain, of one sign for low and of the other for high slices. ``noisy`` makes the seed
noise of one slice 25 times as large.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.evaluation.bits_per_byte import macro_domains
from mlxprune.experiment.data_efficiency import ArmEnds, rho_of
from mlxprune.inference.document_noise import influences
from mlxprune.inference.verdict import ArmPair, Verdict, compare_paired
from mlxprune.stats import GroupedMean

SLICE_SD = 0.015
CONTROL_SD = {"half": 0.035, "quarter": 0.14}
# Of every domain: documents of the test part at 5 %, standard deviation of log bytes, of what one
# document adds.
DOMAINS = {
    "wikipedia": (33, 0.65, 0.12), "news": (19, 1.05, 0.05), "techdocs": (7, 1.32, 0.15),
    "stackexchange": (7, 0.88, 0.05), "legal": (6, 1.25, 0.25), "math": (5, 0.75, 0.3),
    "biomed": (5, 0.69, 0.1), "books": (5, 1.41, 0.1), "code": (5, 1.2, 0.3),
    "web": (2, 0.76, 0.1), "irc": (1, 1.48, 0.2), "parliament": (1, 1.69, 0.1),
}  # fmt: skip
CONTROL_PART = 0.4  # a random control's share of what a document adds
COMMON_PART = 0.9  # of a slice's, with one sign for low, the other for high
EFFECT = 4.0  # true standard errors
RESAMPLES = 2000  # a study; the command takes 10,000
T_QUANTILE = {1: 12.706204736, 2: 4.302652730, 4: 2.776445105}
BITS = 3.0  # a byte, of the control


@dataclass(frozen=True)
class Cell:
    seeds: int
    slices: int
    control: str  # how large the slices are
    noise: str  # equal, noisy
    documents: str  # effective-50, fifty, as-split


@dataclass
class Counts:
    """Sums over the studies of a cell."""

    studies: int = 0
    covered: int = 0
    errors: int = 0
    forbidden: int = 0
    found: int = 0
    found_before: int = 0
    errors_before: int = 0
    covered_before: int = 0
    savings: int = 0
    widths: list[float] | None = None
    degrees: list[float] | None = None


def layout(documents: str) -> tuple[np.ndarray, list[str]]:
    """(the domain of every test document, names)."""
    counts = []
    for few, spread, _ in DOMAINS.values():
        if documents == "as-split":
            counts.append(few)
        elif documents == "fifty":
            counts.append(50)
        else:  # the effective number of lognormal sizes is n exp(-spread^2), and less by chance
            counts.append(math.ceil(70 * math.exp(spread**2)))
    return np.repeat(np.arange(len(counts)), counts), list(DOMAINS)


class Studies:
    """Draws studies of one cell."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell = cell
        self.generator = np.random.default_rng(seed)
        self.domain, self.names = layout(cell.documents)
        spreads, adds = np.array([(s, a) for _, s, a in DOMAINS.values()]).T
        self.spread, self.adds = spreads[self.domain], adds[self.domain]
        self.macro = macro_domains(self.domain, self.names)
        self.inside = self.macro.groups >= 0
        self.sd = np.full(cell.slices, SLICE_SD)
        if cell.noise == "noisy":
            self.sd[0] *= 25
        sign = np.where(np.arange(cell.slices) % 2 == 0, 1.0, -1.0)
        self.loading = COMMON_PART * sign

    def sizes(self) -> np.ndarray:
        return np.exp(7 + self.spread * self.generator.standard_normal(len(self.domain)))

    def values(
        self, sizes: np.ndarray, ends: int = 1
    ) -> tuple[list[list[list[np.ndarray]]], list[np.ndarray]]:
        """Bits of every document: [slices][ends][seeds] of the slices, [seeds] of the control."""
        cell, generator = self.cell, self.generator
        count = len(sizes)
        common = generator.standard_normal(count)
        own = generator.standard_normal((cell.slices, count))
        alone = math.sqrt(1 - COMMON_PART**2)
        added = self.adds * (self.loading[:, None] * common + alone * own)
        of_control = self.adds * CONTROL_PART * generator.standard_normal(count)
        control = [
            sizes * (BITS + of_control + CONTROL_SD[cell.control] * generator.standard_normal())
            for _ in range(cell.seeds)
        ]
        slices = []
        for number in range(cell.slices):
            moved = generator.standard_normal((ends, cell.seeds)) * self.sd[number]
            lost = 0.3 * np.log(np.array(ENDS[-ends:]))  # bits a factor e of targets
            slices.append(
                [
                    [sizes * (BITS - lost[e] + added[number] + moved[e, s])
                     for s in range(cell.seeds)]
                    for e in range(ends)
                ]
            )  # fmt: skip
        return slices, control

    def pairs(
        self, slices: list[list[list[np.ndarray]]], control: list[np.ndarray]
    ) -> list[ArmPair]:
        seeds = list(range(self.cell.seeds))
        return [
            ArmPair(
                [v[self.inside] for v in one[-1]], [v[self.inside] for v in control],
                seeds, "pruned - random", "random", True,
            )
            for one in slices
        ]  # fmt: skip

    def parts(self, sizes: np.ndarray) -> GroupedMean:
        return self.macro.mean_of(sizes)[1]


ENDS = (0.5, 0.65, 0.8, 1.0)


def truth(cell: Cell) -> tuple[np.ndarray, float]:
    """(true standard errors of the differences, half-width in them of the joint interval that knows
    the variances), over fresh studies."""
    studies = Studies(cell, 999)
    found = []
    for _ in range(4000):
        sizes = studies.sizes()
        slices, control = studies.values(sizes)
        parts = studies.parts(sizes)
        found.append(
            [
                np.mean(
                    [
                        parts.mean((a - c)[studies.inside])
                        for a, c in zip(one[-1], control, strict=True)
                    ]
                )
                for one in slices
            ]
        )
    drawn = np.array(found)
    errors = drawn.std(axis=0)
    ranks = np.abs(drawn / errors)
    return errors, float(np.quantile(ranks.max(axis=1), 0.95))


def before(pairs: list[ArmPair], parts: GroupedMean) -> list[tuple[float, float, float]]:
    """(difference, half-width, p) of t(S - 1) over the seeds' and the plain documents' noise."""
    degrees = len(pairs[0].seeds) - 1
    found = []
    size = np.bincount(parts.groups, weights=parts.sizes, minlength=len(parts.weights))
    share = parts.sizes / size[parts.groups]
    for pair in pairs:
        each = [parts.mean(a - c) for a, c in zip(pair.arm, pair.control, strict=True)]
        mean = np.mean([a - c for a, c in zip(pair.arm, pair.control, strict=True)], axis=0)
        # A bootstrap inside domains sees (n - 1) / n of the plain variance of residuals.
        plain = influences(mean[None], parts)[0] * (1 - share)
        variance = float((plain**2).sum())
        error = math.sqrt(np.var(each, ddof=1) / len(each) + variance)
        t = abs(float(np.mean(each))) / error
        found.append((float(np.mean(each)), T_QUANTILE[degrees] * error, tail(t, degrees)))
    return found


def tail(t: float, degrees: int) -> float:
    """P(|T| >= t) of Student's t with 1, 2 or 4 degrees of freedom."""
    if degrees == 1:
        return 1 - 2 / math.pi * math.atan(t)
    if degrees == 2:
        return 1 - t / math.sqrt(2 + t * t)
    x = t * t / (4 + t * t)
    return 1 - math.sqrt(x) * (1 + (1 - x) / 2)


def holm(probabilities: list[float]) -> list[bool]:
    """Which are below 5 % together."""
    order = sorted(range(len(probabilities)), key=lambda n: probabilities[n])
    decided = [False] * len(probabilities)
    for done, number in enumerate(order):
        if probabilities[number] * (len(probabilities) - done) >= 0.05:
            break
        decided[number] = True
    return decided


def simulate(work: tuple[Cell, int, int, np.ndarray, float]) -> Counts:
    """Some studies of a cell."""
    cell, studies, seed, errors, known = work
    drawn = Studies(cell, seed)
    counts = Counts(widths=[], degrees=[])
    assert counts.widths is not None and counts.degrees is not None
    for number in range(studies):
        sizes = drawn.sizes()
        parts = drawn.parts(sizes)
        ends = len(ENDS) if cell.slices == 1 else 1
        slices, control = drawn.values(sizes, ends)
        pairs = drawn.pairs(slices, control)
        found = compare_paired(pairs, parts, number, resamples=RESAMPLES)
        counts.studies += 1
        counts.covered += all(f.interval[0] <= 0 <= f.interval[1] for f in found)
        counts.forbidden += any(f.verdict == Verdict.TOO_FEW for f in found)
        counts.errors += any(f.verdict in (Verdict.BETTER, Verdict.WORSE) for f in found)
        half = np.array([(f.interval[1] - f.interval[0]) / 2 for f in found])
        counts.widths += (half / (known * errors)).tolist()
        counts.degrees += [f.degrees for f in found]
        old = before(pairs, parts) if cell.seeds - 1 in T_QUANTILE else []
        counts.covered_before += all(abs(mean) <= width for mean, width, _ in old)
        counts.errors_before += any(holm([p for *_, p in old]))
        if ends > 1:
            curve = [[v[drawn.inside] for v in each] for each in slices[0]]
            last = [v[drawn.inside] for v in control]
            told = rho_of(ArmEnds(np.array(ENDS), curve, last), parts, found[0], number)
            counts.savings += told.decided and told.share is not None and told.share < 1
        # The same study with the last slice better by four true standard errors.
        shift = EFFECT * errors[-1]
        better = [v - shift * sizes[drawn.inside] for v in pairs[-1].arm]
        pairs[-1] = ArmPair(
            better, pairs[-1].control, pairs[-1].seeds, pairs[-1].kind, pairs[-1].against, True
        )
        again = compare_paired(pairs, parts, number, resamples=RESAMPLES)
        counts.found += again[-1].verdict == Verdict.BETTER
        if old:
            old = before(pairs, parts)
            counts.found_before += holm([p for *_, p in old])[-1] and old[-1][0] < 0
    return counts


def add(all_counts: list[Counts]) -> Counts:
    total = Counts(widths=[], degrees=[])
    for counts in all_counts:
        for name, value in vars(counts).items():
            setattr(total, name, getattr(total, name) + value)
    return total


def cells(arguments: argparse.Namespace) -> list[Cell]:
    whole = [
        Cell(seeds, slices, control, noise, "effective-50")
        for control, noise, seeds, slices in itertools.product(
            arguments.controls, ("equal", "noisy"), arguments.seeds, arguments.slices
        )
    ]
    fewer = [
        Cell(seeds, slices, "half", "equal", documents)
        for documents, seeds, slices in itertools.product(
            ("fifty", "as-split"), [s for s in arguments.seeds if s < 12], arguments.slices
        )
    ]
    return [*whole, *(fewer if arguments.small else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="of each cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 12])
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--controls", nargs="+", default=list(CONTROL_SD), choices=CONTROL_SD)
    parser.add_argument("--no-small", dest="small", action="store_false", help="large parts alone")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    print("documents    control noise  S K | cover  error  power  width  df   rho | before: cover "
          "error  power | no verdict")  # fmt: skip
    told = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for cell in cells(arguments):
            began = time.time()
            errors, known = truth(cell)
            each = max(1, arguments.studies // (4 * arguments.processes))
            work = [(cell, each, 1000 + n, errors, known) for n in range(4 * arguments.processes)]
            total = add(pool.map(simulate, work))
            n = total.studies
            figures = {
                **vars(cell), "studies": n, "coverage": total.covered / n,
                "family_error": total.errors / n, "power": total.found / n,
                "width": float(np.median(total.widths or [0])),
                "degrees": float(np.median(total.degrees or [0])),
                "savings_told": total.savings / n if cell.slices == 1 else None,
                "coverage_before": total.covered_before / n,
                "family_error_before": total.errors_before / n,
                "power_before": total.found_before / n, "no_verdict": total.forbidden / n,
                "seconds": time.time() - began,
            }  # fmt: skip
            told.append(figures)
            saved = figures["savings_told"]
            print(
                f"{cell.documents:<12} {cell.control:<7} {cell.noise:<6} {cell.seeds} "
                f"{cell.slices} | {figures['coverage']:.3f}  {figures['family_error']:.3f}  "
                f"{figures['power']:.3f}  {figures['width']:5.2f}  {figures['degrees']:4.0f}  "
                f"{'     ' if saved is None else f'{saved:.3f}'}|         "
                f"{figures['coverage_before']:.3f}  {figures['family_error_before']:.3f}  "
                f"{figures['power_before']:.3f} | {figures['no_verdict']:.2f}",
                flush=True,
            )
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
