"""Trust: what the verdict of a study rests on, in figures, and what speaks against it."""

from __future__ import annotations

import msgspec
import numpy as np

from mlxprune.evaluation.bits_per_byte import macro_domains
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.controls import EQUAL_TOKENS
from mlxprune.experiment.records import read_screening, read_test_reads
from mlxprune.experiment.scorers import scorers_of
from mlxprune.experiment.task_results import contaminated_rows
from mlxprune.inference.document_noise import LEAST_DEGREES
from mlxprune.model.architecture import parameter_counts
from mlxprune.records import SparseRecord, read_record
from mlxprune.run.markers import is_current
from mlxprune.selection.composition import domain_auc
from mlxprune.selection.manifest import SliceManifest
from mlxprune.training.summary import TrainingSummary

MOSTLY_DOMAINS = 0.85  # an AUC above which a slice is mostly a choice of domains
LONG_DOCUMENT = 0.02  # a share of U above which one document moves it
TOKENS_A_PARAMETER = 10.0
SETTLED = 0.9  # a rank correlation with the validation before, below which ranks still moved


class TrustFacts(SparseRecord):
    """Figures beside the verdict; ``doubts`` are sentences on those that weaken it."""

    seeds: int
    test_documents: dict[str, int]  # of each domain that macro counts alone
    test_pooled: list[str]  # small domains that count as one
    test_left_out: list[str]  # not in macro
    effective_documents: float  # as many of one size would tell as much, the least of any domain
    document_degrees: float  # with which the noise of documents is known
    tokens_a_parameter: float | None  # of the first reference that was trained here
    stability: float | None  # rank correlation of its losses with those of the validation before
    contaminated_items: float | None  # of the tasks, in the documents of the arm with most
    unique_tokens: tuple[int, int]  # the least and the most of any arm
    longest_document: float  # its share of U
    overlap: float | None  # of the matched control with the slice
    slices_tried: list[str]
    test_reads: int
    domain_auc: float | None  # how well the domain alone tells kept from dropped
    doubts: list[str]
    marks: list[str] = msgspec.field(default_factory=list)  # trainings that went back or diverged


def trust_facts(
    held: RunArtifacts, compared: Comparison, manifests: dict[str, SliceManifest]
) -> TrustFacts:
    """Of the comparison that the verdict is on."""
    documents = held.test_documents()
    index = held.corpus.index[documents]
    domains = macro_domains(index["domain"].astype(np.int64), held.corpus.domains)
    _, parts = domains.mean_of(index["bytes"])
    counts = np.bincount(index["domain"], minlength=len(held.corpus.domains))
    by_name = dict(zip(held.corpus.domains, counts.tolist(), strict=True))
    effective = parts.effective_units()
    arms = held.arms  # read once
    own = arms.firsts()[compared.arm]
    slice_name = own.slice or compared.arm
    rows = contaminated_rows(held.run)
    same = [
        record
        for record in arms.arms.values()
        if record.rung is None and record.kind not in ("none", "all")
        and record.share == own.share
    ]  # fmt: skip
    unique = [record.unique_tokens for record in same]
    matched = [r.overlap for r in same if r.kind == "matched" and r.slice == slice_name]
    known = [share for share in matched if share is not None]
    parameters, stability = _reference(held)
    manifest = manifests.get(slice_name)
    reads, screening = read_test_reads(held.run), read_screening(held.run)
    longest = int(held.tokens().lengths(held.pool).max()) + 1
    facts = TrustFacts(
        seeds=len(compared.seeds),
        test_documents={name: by_name[name] for name in domains.alone},
        test_pooled=domains.pooled,
        test_left_out=domains.left_out,
        effective_documents=float(effective[effective > 0].min()),
        document_degrees=compared.document_degrees,
        tokens_a_parameter=parameters,
        stability=stability,
        contaminated_items=None
        if rows is None
        else max((sum(map(len, found.values())) for found in rows.values()), default=0),
        unique_tokens=(min(unique), max(unique)),
        longest_document=longest / min(unique),
        overlap=float(np.mean(known)) if known else None,
        slices_tried=sorted({*reads.slices, *(screening.slices if screening else ())}),
        test_reads=len(reads.reads),
        domain_auc=domain_auc(manifest.domains or []) if manifest is not None else None,
        marks=_marks(held),
        doubts=[],
    )
    facts.doubts = list(_doubts(facts))
    return facts


def _reference(held: RunArtifacts) -> tuple[float | None, float | None]:
    """(targets a parameter, the last rank correlation) of the first reference."""
    name = next(s.name for s in scorers_of(held.config) if s.snapshot is None)
    path = held.run.reference(name) / "training.json"
    if not is_current(held.run, held.run.reference(name)) or not path.exists():
        return None, None
    summary = read_record(path, TrainingSummary)
    body, _ = parameter_counts(summary.recipe.config)
    ranks = [p.rank_correlation for p in summary.history.validation if p.rank_correlation]
    return summary.targets / max(body, 1), ranks[-1] if ranks else None


def _marks(held: RunArtifacts) -> list[str]:
    """Of every current training of a reference or an arm what a reader must know of it."""
    folders = [held.run.reference(s.name) for s in scorers_of(held.config)]
    folders += [held.run.final(name) for name in held.arms.arms]
    found = []
    for folder in folders:
        path = folder / "training.json"
        if is_current(held.run, folder) and path.exists():
            found += [f"{folder.name} {m}" for m in read_record(path, TrainingSummary).marks]
    return found


def _doubts(facts: TrustFacts) -> list[str]:
    found = [*facts.marks]
    if facts.seeds == 1:
        found.append("one seed tells nothing of the noise of seeds")
    if facts.document_degrees < LEAST_DEGREES:
        found.append("too few test documents for a verdict: raise split.test")
    if facts.test_pooled:
        found.append(f"{len(facts.test_pooled)} small domains count as one")
    if facts.test_left_out:
        found.append(f"{len(facts.test_left_out)} domains are not in macro: too few test documents")
    if facts.tokens_a_parameter is not None and facts.tokens_a_parameter < TOKENS_A_PARAMETER:
        seen = f"{facts.tokens_a_parameter:.1f}"
        found.append(f"the reference saw {seen} tokens a parameter, under {TOKENS_A_PARAMETER:.0f}")
    if facts.stability is not None and facts.stability < SETTLED:
        found.append(f"the ranks of the reference still moved (correlation {facts.stability:.2f})")
    if facts.contaminated_items:
        found.append(f"{facts.contaminated_items:,.0f} task items stand in an arm's documents")
    least, most = facts.unique_tokens
    if most > (1 + EQUAL_TOKENS) * least:
        found.append(f"arms hold {least:,} to {most:,} unique tokens")
    if facts.longest_document > LONG_DOCUMENT:
        share = f"{facts.longest_document:.0%}"
        found.append(f"the longest document is {share} of an arm's tokens")
    if facts.domain_auc is not None and facts.domain_auc > MOSTLY_DOMAINS:
        found.append(
            f"mostly a choice of domains: the domain alone tells kept from dropped "
            f"(AUC {facts.domain_auc:.2f})"
        )
    if facts.overlap is not None and facts.overlap > 0.5:
        share = f"{facts.overlap:.0%}"
        found.append(
            f"the matched control holds {share} of the slice, which dilutes slice - matched"
        )
    if facts.test_reads > 1:
        found.append(f"the test part was read {facts.test_reads} times")
    return found
