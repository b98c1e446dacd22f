"""Conclusion: what a study found, why, and the next command, in plain sentences."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from mlxprune.errors import one_line
from mlxprune.experiment.comparisons import ON, Comparison, best_slice, mix_alone
from mlxprune.experiment.costs import NetSaving
from mlxprune.experiment.measure import DomainShare
from mlxprune.experiment.records import Screening
from mlxprune.experiment.trust import TrustFacts
from mlxprune.inference.verdict import PairedDifference, Verdict
from mlxprune.records import Record
from mlxprune.selection.manifest import SliceManifest
from mlxprune.units import plural, short_count

UNFINISHED = "Run it to the end to compare the slice with a random one of equal size."
LOST_SHARE = 0.5  # of its part of the pool, under which a domain has lost more than it should
MORE_TEST = "0.15"  # of the corpus, proposed where the test part is too small


class Conclusion(Record):
    """``lead`` is what was found; the others are None where there is nothing to say."""

    lead: str
    why: str | None
    saving: str | None
    next_step: str | None
    command: str | None
    odd: str | None = None  # held-out loss is worse and tasks are better, as the paper found

    @property
    def reasons(self) -> list[str]:
        """What stands behind the lead, in the order in which it is told."""
        return [said for said in (self.why, self.saving, self.odd) if said]


def conclude(
    place: str,
    primary: str,
    comparisons: list[Comparison],
    manifests: Mapping[str, SliceManifest],
    saving: NetSaving | None = None,
    screening: Screening | None = None,
    trust: TrustFacts | None = None,
) -> Conclusion:
    """Of the best slice of a run that lies at ``place``."""
    best = best_slice(comparisons)
    if best is None:
        return Conclusion(lead=UNFINISHED, why=None, saving=None, next_step=None, command=None)
    manifest = manifests.get(best.arm)
    step, command = _next(place, best, manifest)
    return Conclusion(
        lead=_which(comparisons, best, screening) + _lead(best, primary) + _over(trust, primary),
        why=_why(comparisons, best, manifest),
        saving=saving_sentence(best, saving),
        next_step=step,
        command=command,
        odd=odd_sentence([best, *(c for c in comparisons if c.main)], primary),
    )


def odd_sentence(comparisons: list[Comparison], primary: str) -> str | None:
    """The pair that the paper found odd: a slice that is worse on held-out text (as it was before
    pruning, or the mean over its domains) and better on the tasks' right answers. Of several slices
    one of which both are decided, or else the first that shows it."""
    found: list[tuple[bool, str]] = []
    for compared in comparisons:
        gold = compared.gold_bpb
        losses: list[tuple[str, PairedDifference | Comparison | None]]
        losses = [("on the mix before pruning", compared.original_mix)]
        losses += [(ON[primary], compared)] if primary == "macro" else []
        for where, loss in losses:
            if loss is None or gold is None or loss.difference <= 0 or gold.difference >= 0:
                continue
            both = (loss.verdict, gold.verdict) == (Verdict.WORSE, Verdict.BETTER)
            sure = "both are decided" if both else "not both are decided, so it may be chance"
            said = (
                f"Held-out loss and tasks part, as they do in the paper: {compared.arm} is "
                f"{loss.difference:.4f} bits per byte worse than {compared.control} {where}, and "
                f"{-gold.difference:.4f} better on the tasks' right answers ({sure})."
            )
            found.append((both, said))
    return max(found, key=lambda one: one[0])[1] if found else None


def verdict_sentence(comparisons: list[Comparison], primary: str) -> str:
    """What was found, in one plain sentence."""
    return conclude("RUN", primary, comparisons, {}).lead


def _which(comparisons: list[Comparison], best: Comparison, screening: Screening | None) -> str:
    """Of how many slices this is the best, and on which text."""
    main = [c for c in comparisons if c.main]
    if screening is not None:
        return (
            f"Of {len(screening.slices)} slices {best.arm} was ranked first with one seed on the "
            f"validation part, and trained again with {_seeds(best)}. "
        )
    if len(main) < 2:
        return ""
    ranked = "validation" if best.on_validation is not None else "test"
    return f"Of {len(main)} slices {best.arm} is ranked first on the {ranked} part. "


def _lead(best: Comparison, primary: str) -> str:
    low, high = best.interval
    size = f"{abs(best.difference):.4f} bits per byte"
    if best.control_figure:
        size += f" ({100 * abs(best.difference) / best.control_figure:.1f} %)"
    shown = f"95 %: {low:+.4f} to {high:+.4f}, {_seeds(best)}"
    where = ON[primary]
    side = "lower" if best.difference < 0 else "higher"
    seen = f"{best.arm} ends {size} {side} than {best.control} {where}"
    if best.verdict == Verdict.BETTER:
        return f"Pruning pays: {seen} ({shown})."
    if best.verdict == Verdict.WORSE:
        return f"Pruning did not pay: {seen} ({shown})."
    if best.verdict == Verdict.ONE_SEED:
        return f"No verdict, one seed: {seen}; one seed does not tell how much is chance."
    if best.verdict == Verdict.TOO_FEW:
        return f"No verdict, too few test documents: {seen} ({shown})."
    able = ""
    if best.smallest is not None:
        able = f"; a difference of {best.smallest:.3f} could have been decided"
    plain = f"{best.arm} minus {best.control} is {best.difference:+.4f} bits per byte {where}"
    return f"Undecided: {plain} ({shown}){able}."


def _over(trust: TrustFacts | None, primary: str) -> str:
    """Where domains are too small to count alone, how macro counts them."""
    if trust is None or primary != "macro" or not (trust.test_pooled or trust.test_left_out):
        return ""
    said = f" Macro is over {plural(len(trust.test_documents), 'domain')}"
    if trust.test_pooled:
        said += f", and {plural(len(trust.test_pooled), 'small domain')} that count as one"
    if trust.test_left_out:
        said += f", without {plural(len(trust.test_left_out), 'domain')} of too few test documents"
    return f"{said}."


def _seeds(compared: Comparison) -> str:
    return plural(len(compared.seeds), "seed")


def _why(
    comparisons: list[Comparison], best: Comparison, manifest: SliceManifest | None
) -> str | None:
    """Which domains win and lose, what the slice kept of them, and how much of it is mix."""
    domains = best.domains or []
    if len(domains) < 2:
        return _mix_part(comparisons, best)
    better = [d for d in domains if d.adds < 0]
    worst, gain = max(domains, key=lambda d: d.adds), min(domains, key=lambda d: d.adds)
    said = f"{best.arm} beats {best.control} in {len(better)} of {len(domains)} domains"
    if worst.adds > 0:
        said += (
            f" and loses {worst.arm - worst.control:.2f} bits in {one_line(worst.domain)}, "
            f"{_part_of(worst, best)}{_kept(worst, manifest)}"
        )
    elif gain.adds < 0:
        said += (
            f", most in {one_line(gain.domain)} ({gain.arm - gain.control:+.2f} bits)"
            f"{_kept(gain, manifest)}"
        )
    mix = _mix_part(comparisons, best)
    return f"{said}. {mix}" if mix else f"{said}."


def _part_of(worst: DomainShare, best: Comparison) -> str:
    if best.difference > 0 and worst.adds >= best.difference:
        return "which is all of the loss"
    if best.difference > 0:
        return f"which is {worst.adds / best.difference:.0%} of the loss"
    return f"which takes {worst.adds:.3f} from the mean"


def _kept(domain: DomainShare, manifest: SliceManifest | None) -> str:
    """`` and of which it keeps 0.4 %``."""
    rate = _keep_rate(domain.domain, manifest)
    return "" if rate is None else f", and of which the slice keeps {100 * rate:.1f} %"


def _keep_rate(name: str, manifest: SliceManifest | None) -> float | None:
    rows = (manifest.domains or []) if manifest is not None else []
    found = [row for row in rows if row.domain == name and row.tokens]
    return found[0].kept_tokens / found[0].tokens if found else None


def _mix_part(comparisons: list[Comparison], best: Comparison) -> str | None:
    """What the matched control, the same mix drawn blind, has of the difference."""
    mix = mix_alone(comparisons, best)
    if mix is None:
        return None
    within = best.difference - mix.difference
    return (
        f"The mix of domains and lengths alone is {mix.difference:+.3f} of the "
        f"{best.difference:+.3f}, the choice within them {within:+.3f}."
    )


def saving_sentence(best: Comparison, saving: NetSaving | None) -> str | None:
    """What training on the slice saves; never where the verdict is not decided."""
    rho = best.rho
    if rho is None or not rho.decided:
        return None
    low, high = (_times(value) for value in rho.interval)
    if rho.share is None or rho.share >= 1:
        needs = f"needs {_times(rho.share)} the targets for what {best.control} ends with"
        if rho.share is None:
            needs = f"never reaches what {best.control} ends with"
        return f"No saving: {best.arm} {needs} ({low} to {high})."
    said = (
        f"{best.arm} reaches the end of {best.control} at {100 * rho.share:.0f} % of its targets "
        f"({low} to {high})"
    )
    if saving is None:
        return f"{said}."
    net = f"{said}; with the reference and its scores the net saving is {100 * saving.net:+.0f} %"
    if saving.break_even is None:
        return f"{net}, and it never pays for them."
    return f"{net}, and they are paid for from {short_count(round(saving.break_even))} targets on."


def _times(share: float | None) -> str:
    return "never" if share is None else f"{share:.2f} times"


def _next(
    place: str, best: Comparison, manifest: SliceManifest | None
) -> tuple[str | None, str | None]:
    """What to do next, and the command for it."""
    again = ["mlxprune", "run", f"{place}/config.yaml", "--dir"]
    if best.verdict == Verdict.TOO_FEW:
        command = [*again, f"{place}-more-test", "--set", f"split.test={MORE_TEST}"]
        return "Hold more text out for the test, in a new run:", shlex.join(command)
    if best.verdict == Verdict.ONE_SEED:
        command = [*again, place, "--set", "final.seeds=[0, 1, 2]"]
        return "Add seeds; what is trained is kept:", shlex.join(command)
    if best.verdict == Verdict.BETTER:
        words = ["--slice", best.arm, "--to", "jsonl", "--out", best.arm]
        return "Take the kept text:", shlex.join(["mlxprune", "export", place, *words])
    worst = max(best.domains or [], key=lambda d: d.adds, default=None)
    if worst is not None and worst.adds > 0 and best.difference > 0 and manifest is not None:
        rate, whole = _keep_rate(worst.domain, manifest), _whole_rate(manifest)
        if rate is not None and whole and rate < LOST_SHARE * whole and not _ranks_inside(manifest):
            command = [*again, place, "--set", "selection.by=domain"]
            return "Rank inside each domain; the scores are reused:", shlex.join(command)
    if best.verdict == Verdict.UNDECIDED:
        if best.seeds_needed is not None and best.seeds_needed > len(best.seeds):
            seeds = [*best.seeds]
            while len(seeds) < best.seeds_needed:
                seeds.append(max(seeds) + 1)
            command = [*again, place, "--set", f"final.seeds={seeds}"]
            return (
                f"{best.seeds_needed} seeds would decide a difference of this size:",
                shlex.join(command),
            )
        if best.document_sd > best.standard_error / 2:
            command = [*again, f"{place}-more-test", "--set", f"split.test={MORE_TEST}"]
            return "More seeds would not tell, more test documents may:", shlex.join(command)
        return "So small a difference is not worth more seeds; more targets may enlarge it.", None
    command = [*again, place, "--set", "selection.criterion=[low, medium, high]"]
    return "Try the other criteria; the scores are reused:", shlex.join(command)


def _whole_rate(manifest: SliceManifest) -> float | None:
    if not manifest.pool_tokens or manifest.kept_tokens is None:
        return None
    return manifest.kept_tokens / manifest.pool_tokens


def _ranks_inside(manifest: SliceManifest) -> bool:
    return manifest.slice.get("by", "corpus") != "corpus"
