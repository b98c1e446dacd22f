"""Result: what became of new text, domain by domain, and how far it lies from the study's."""

from __future__ import annotations

import math

from mlxprune.experiment.document_account import DocumentAccount
from mlxprune.filtering.basis import FilterBasis
from mlxprune.filtering.cuts import Cuts
from mlxprune.filtering.order import PERCENTILES, DomainCounts
from mlxprune.records import SparseRecord

LEAST_SHARE = 1e-4  # of a tenth, in the index of stability
SHIFTED, FAR = 0.1, 0.25  # above which a distribution has moved a little, and much
ENOUGH = 200  # documents on both sides: with fewer, chance alone gives an index of 0.1 and more


class FilteredDomain(SparseRecord):
    """A domain of the new text. ``study_share``: of its tokens, what the study kept; None for a
    domain that it never saw. ``median_at``: the percentile of the study's figures at which the
    median of the new ones stands; ``shift``: the population stability index over the study's tenths
    (0 alike, above 0.25 another distribution)."""

    domain: str
    documents: int
    tokens: int
    bytes: int
    kept_documents: int
    kept_tokens: int
    kept_bytes: int
    share: float  # of the tokens, kept
    study_share: float | None = None
    median_at: float | None = None
    shift: float | None = None


class FilterResult(SparseRecord):
    """filter.json. ``cut``: score, where the study cut, or exact, by the ranks of the new text."""

    identity: str
    by: str  # the run or model
    slice: str
    cut: str
    metric: str  # that the slice ranks by
    account: DocumentAccount  # of every row
    whole: FilteredDomain
    domains: list[FilteredDomain]
    cuts: Cuts | None  # the limits, in the figure that is ranked by; None of an exact rate
    limits: list[float | None]  # of the whole study, in perplexity where that is ranked by
    notes: list[str]
    warnings: list[str]
    kept_files: int
    new_domains: list[str]  # that the study never saw


def filtered_domain(name: str, counts: DomainCounts, study: DomainCounts | None) -> FilteredDomain:
    """A row of the table."""
    places = counts.places
    enough = study is not None and min(counts.documents, study.documents) >= ENOUGH
    return FilteredDomain(
        domain=name,
        documents=counts.documents,
        tokens=counts.tokens,
        bytes=counts.bytes,
        kept_documents=counts.kept_documents,
        kept_tokens=counts.kept_tokens,
        kept_bytes=counts.kept_bytes,
        share=counts.kept_tokens / max(counts.tokens, 1),
        study_share=None if study is None else study.kept_tokens / max(study.tokens, 1),
        median_at=_median_at(places) if places else None,
        shift=stability_index(places) if places and enough else None,
    )


def _median_at(places: list[int]) -> float:
    """The percentile of the study below which half of the documents lie, to a percentile."""
    half, below = sum(places) / 2, 0
    for at, count in enumerate(places):
        if below + count >= half:
            inside = (half - below) / count if count else 0.0
            return min(float(PERCENTILES), max(0.0, at - 1 + inside))
        below += count
    return float(PERCENTILES)


def stability_index(places: list[int]) -> float:
    """sum (q - p) ln(q / p) over the tenths of the study, p = 0.1 each (Siddiqi 2006, Credit Risk
    Scorecards); what lies outside of its figures counts with the tenth beside it."""
    total, tenth = max(sum(places), 1), PERCENTILES // 10
    inner = places[1:-1]
    counts = [sum(inner[i : i + tenth]) for i in range(0, PERCENTILES, tenth)]
    counts[0] += places[0]
    counts[-1] += places[-1]
    shares = [max(count / total, LEAST_SHARE) for count in counts]
    return sum((q - 0.1) * math.log(q / 0.1) for q in shares)


def warnings_on(
    basis: FilterBasis, domains: list[FilteredDomain], whole: FilteredDomain
) -> list[str]:
    """What a reader should know before training on what is kept."""
    found = []
    if whole.shift is not None and whole.shift > FAR:
        found.append(
            f"the new text scores unlike the study's (stability index {whole.shift:.2f}, above "
            f"{FAR}): what the study found may not hold of it"
        )
    seen = [d for d in domains if d.study_share is not None]
    if basis.study and domains and not seen:
        found.append("the study never saw any of these domains")
    moved = [d.domain for d in seen if d.shift is not None and d.shift > FAR]
    if moved and not found:
        more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
        found.append(f"these domains score unlike the study's: {', '.join(moved[:4])}{more}")
    return found


def limits_of(basis: FilterBasis) -> list[float | None]:
    """The ends of the cut over the whole study, as people say the figure."""
    if basis.cuts is None:
        return [None, None]
    ends = (basis.cuts.whole.low, basis.cuts.whole.high)
    if basis.choice.metric != "perplexity":
        return [*ends]
    return [None if end is None else math.exp(min(end, 700.0)) for end in ends]
