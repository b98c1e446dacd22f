"""Answer: what stands on the first page of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlxprune.errors import one_line
from mlxprune.experiment.comparisons import Comparison, best_slice, mix_alone
from mlxprune.experiment.conclusion import Conclusion
from mlxprune.experiment.data_efficiency import FewerTargets
from mlxprune.experiment.study_result import StudyResult
from mlxprune.experiment.trust import MOSTLY_DOMAINS, SETTLED, TOKENS_A_PARAMETER
from mlxprune.inference.document_noise import LEAST_DEGREES
from mlxprune.inference.power import MOST_SEEDS
from mlxprune.inference.verdict import Verdict
from mlxprune.report import answer_pictures
from mlxprune.report.task_tables import kinds_of
from mlxprune.units import duration, short_count

GOOD, DOUBT = "\N{CHECK MARK}", "!"


@dataclass(frozen=True)
class Part:
    """A slice's difference from random as what its mix does and what the choice within it does."""

    slice: str
    whole: float
    mix: float
    within: float


@dataclass(frozen=True)
class Fact:
    """A line of the trust strip or of the costs: ``sign`` says whether it speaks for the result."""

    name: str
    value: str
    sign: str = ""


@dataclass(frozen=True)
class Answer:
    """Everything on the first page. Pictures are drawn for a wide and for a narrow page."""

    conclusion: Conclusion
    tone: str  # better, worse, undecided
    word: str
    forests: list[Any]
    waterfalls: list[Any]
    about: str  # what the waterfall is of
    together: int  # slices that are decided together; 0: one
    parts: list[Part]
    costs: list[Fact]
    trust: list[Fact]
    doubts: list[str]


def answer_of(result: StudyResult) -> Answer | None:
    """None before there is a comparison."""
    best = best_slice(result.comparisons)
    if best is None or result.conclusion is None:
        return None
    kinds = kinds_of(result)
    decided = best.verdict in (Verdict.BETTER, Verdict.WORSE)
    tones = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}
    slices = sum(c.main for c in result.comparisons)
    waterfalls = [answer_pictures.waterfall(best, narrow) for narrow in (False, True)]
    return Answer(
        conclusion=result.conclusion,
        tone=tones.get(best.verdict, "undecided"),
        word=answer_pictures.verdict_word(best),
        forests=[
            answer_pictures.forest(result.comparisons, kinds, narrow) for narrow in (False, True)
        ],
        waterfalls=[picture for picture in waterfalls if picture is not None],
        about=f"{best.arm} minus {best.control}",
        together=slices if slices > 1 else 0,
        parts=list(_parts(result.comparisons)),
        costs=list(_costs(result, best, decided)),
        trust=list(_trust(result)),
        doubts=result.trust.doubts if result.trust is not None else [],
    )


def _parts(comparisons: list[Comparison]) -> list[Part]:
    found = []
    for whole in comparisons:
        mix = mix_alone(comparisons, whole)
        if whole.main and mix is not None:
            within = whole.difference - mix.difference
            found.append(Part(whole.arm, whole.difference, mix.difference, within))
    return found


def _costs(result: StudyResult, best: Comparison, decided: bool) -> list[Fact]:
    costs, found = result.costs, []
    if decided and best.rho is not None:
        found.append(Fact("rho: share of the control's targets", str(best.rho)))
    elif best.rho is not None:
        found.append(Fact("rho: share of the control's targets", "not told: undecided"))
    if best.rho_accuracy is not None:
        told = str(best.rho_accuracy) if best.rho_accuracy.decided else "not told: undecided"
        found.append(Fact("rho on average accuracy", told))
    if best.rho_gold_bpb is not None:
        told = str(best.rho_gold_bpb) if best.rho_gold_bpb.decided else "not told: undecided"
        found.append(Fact("rho on bits per byte of right answers", told))
    if best.fewer_targets is not None:
        found.append(Fact("fewer targets, the paper's measure", fewer_words(best.fewer_targets)))
    if result.saving is not None:
        saving = result.saving
        found.append(Fact("net saving, reference and scores counted", f"{100 * saving.net:+.0f} %"))
        found.append(Fact("net saving, the whole study counted", f"{100 * saving.of_study:+.0f} %"))
        even = saving.break_even
        told = "never" if even is None else f"from {short_count(round(even))} targets on"
        found.append(Fact("pays for reference and scores", told))
        reuses = saving.reuses
        told = "never" if reuses is None else f"after {reuses:.0f} trainings of this length"
        found.append(Fact("pays for the whole study", told))
    if costs is not None:
        found.append(Fact("reference and scores", f"{costs.overhead:.2e} FLOPs"))
        models = f"{costs.final_flops:.2e} FLOPs, {costs.models} models"
        found.append(Fact("final models", models))
        found.append(Fact("time, all attempts", duration(costs.seconds)))
    if best.smallest is not None:
        found.append(Fact("could have decided", f"{best.smallest:.3f} bits per byte (80 % power)"))
    if best.verdict == Verdict.UNDECIDED:
        needed = best.seeds_needed
        told = f"more than {MOST_SEEDS}" if needed is None else str(needed)
        found.append(Fact("seeds that would decide a difference of this size", told))
    return found


def fewer_words(found: FewerTargets) -> str:
    """``1.31 times to the control's average accuracy, never to its bits of right answers``."""
    least = "at least " if found.at_least else ""
    told = [
        "never" if times is None else f"{least}{times:.2f} times"
        for times in (found.accuracy, found.gold_bpb)
    ]
    return (
        f"{told[0]} to the control's average accuracy, {told[1]} to its bits per byte of right "
        "answers (no interval)"
    )


def _trust(result: StudyResult) -> list[Fact]:
    facts = result.trust
    if facts is None:
        return []

    def sign(good: bool) -> str:
        return GOOD if good else DOUBT

    tests = facts.test_documents
    few = f"{min(tests.values(), default=0)} to {max(tests.values(), default=0)} in {len(tests)}"
    more = [f"{len(facts.test_pooled)} small ones as one"] if facts.test_pooled else []
    more += [f"{len(facts.test_left_out)} left out"] if facts.test_left_out else []
    found = [
        Fact("seeds", str(facts.seeds), sign(facts.seeds >= 3)),
        Fact(
            "test documents a domain",
            "; ".join([f"{few} domains", *more]),
            sign(not facts.test_left_out and facts.document_degrees >= LEAST_DEGREES),
        ),
        Fact(
            "unique tokens of the arms",
            " to ".join(dict.fromkeys(f"{n:,}" for n in facts.unique_tokens)),
            sign(not any("unique tokens" in doubt for doubt in facts.doubts)),
        ),
    ]
    if facts.tokens_a_parameter is not None:
        seen = facts.tokens_a_parameter
        found.append(
            Fact("reference, tokens a parameter", f"{seen:.1f}", sign(seen >= TOKENS_A_PARAMETER))
        )
    if facts.stability is not None:
        settled = facts.stability
        found.append(Fact("reference, ranks settled", f"{settled:.2f}", sign(settled >= SETTLED)))
    if facts.contaminated_items is not None:
        items = facts.contaminated_items
        found.append(Fact("task items in training documents", f"{items:,.0f}", sign(not items)))
    tried = ", ".join(map(one_line, facts.slices_tried))
    found.append(Fact("slices tried", tried, ""))
    found.append(Fact("test part read", _times(facts.test_reads), sign(facts.test_reads <= 1)))
    if facts.domain_auc is not None:
        few_domains = sign(facts.domain_auc <= MOSTLY_DOMAINS)
        auc = f"AUC {facts.domain_auc:.2f}"
        found.append(Fact("domain alone tells kept from dropped", auc, few_domains))
    return found


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
