"""The conclusion: what is told, why, what it saves, and the next command."""

from __future__ import annotations

from typing import Any

import pytest

from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.conclusion import conclude
from mlxprune.experiment.costs import StudyCosts, net_saving
from mlxprune.experiment.data_efficiency import Rho
from mlxprune.experiment.measure import DomainShare
from mlxprune.experiment.trust import TrustFacts
from mlxprune.inference.verdict import PairedDifference, Verdict
from mlxprune.selection.composition import DomainRow, domain_auc
from mlxprune.selection.manifest import SliceManifest


def compared(**more: Any) -> Comparison:
    usual: dict[str, Any] = {
        "arm": "high-50", "control": "random-50", "about": "selection", "main": True,
        "seeds": [0, 1, 2], "difference": 0.18, "interval": (0.07, 0.29),
        "by_seed": [0.1, 0.2, 0.24],
        "probability": 0.001, "verdict": Verdict.WORSE, "seed_sd": 0.01, "pooled": 1,
        "document_sd": 0.04, "document_degrees": 90.0, "degrees": 80.0, "standard_errors": 2.0,
        "control_figure": 2.0, "smallest": 0.12, "on_validation": 0.2,
    }  # fmt: skip
    return Comparison(**{**usual, **more})


def domain(name: str, adds: float) -> DomainShare:
    return DomainShare(domain=name, documents=50, arm=2 + 2 * adds, control=2.0, adds=adds)


NOTES = [domain("notes", 0.8), *(domain(n, -0.12) for n in ("a", "b", "c", "d", "e"))]


def manifest(by: str = "corpus") -> SliceManifest:
    rows = [
        DomainRow(
            domain=name, documents=100, kept_documents=kept, tokens=1000, kept_tokens=10 * kept,
            bytes=1, kept_bytes=1, share_before=0.1, share_after=0.1, keep_rate=kept / 100,
        )
        for name, kept in (("notes", 1), ("a", 60), ("b", 60))
    ]  # fmt: skip
    return SliceManifest(
        name="high-50", slice={"by": by}, seed=0, kept_documents=121, kept_tokens=1210,
        kept_bytes=1, pool_documents=300, pool_tokens=3000, pool_bytes=1, lowest=0.0, highest=9.0,
        domains=rows,
    )  # fmt: skip


def measured(difference: float, verdict: Verdict) -> PairedDifference:
    spread = (difference - 0.01, difference + 0.01)
    return PairedDifference(
        difference, spread, [difference] * 3, 0.01, verdict, 0.01, 1, 0.01, 90.0, 80.0, 2.0
    )


@pytest.mark.parametrize(
    ("loss", "gold", "said"),
    [
        ((0.02, Verdict.WORSE), (-0.03, Verdict.BETTER), "(both are decided)"),
        ((0.02, Verdict.UNDECIDED), (-0.03, Verdict.BETTER), "not both are decided"),
        ((-0.02, Verdict.BETTER), (-0.03, Verdict.BETTER), None),
        ((0.02, Verdict.WORSE), (0.03, Verdict.WORSE), None),
    ],
)
def test_worse_held_out_loss_with_better_tasks_is_pointed_at(
    loss: tuple[float, Verdict], gold: tuple[float, Verdict], said: str | None
) -> None:
    pair = compared(
        original_mix=measured(*loss), gold_bpb=measured(*gold), difference=-0.1, interval=(-1, 1)
    )
    odd = conclude("runs/x", "macro", [pair], {}).odd
    if said is None:
        assert odd is None
    else:
        assert odd is not None and said in odd
        assert "0.0200 bits per byte worse" in odd and "0.0300 better" in odd
        assert odd in conclude("runs/x", "macro", [pair], {}).reasons
    assert conclude("runs/x", "macro", [compared()], {}).odd is None  # no tasks were asked


def test_of_two_held_out_figures_the_one_that_is_decided_is_told() -> None:
    """The mix before pruning has too few documents here; the mean over the domains is decided."""
    mix, gold = measured(0.05, Verdict.TOO_FEW), measured(-0.03, Verdict.BETTER)
    told = conclude("runs/x", "macro", [compared(original_mix=mix, gold_bpb=gold)], {}).odd
    assert told is not None and "0.1800 bits per byte worse" in told and "both are decided" in told
    told = conclude("runs/x", "tasks", [compared(original_mix=mix, gold_bpb=gold)], {}).odd
    assert told is not None and "0.0500" in told and "not both" in told


def test_the_domain_that_loses_is_named_with_what_the_slice_kept_of_it() -> None:
    found = conclude("runs/x", "macro", [compared(domains=NOTES)], {"high-50": manifest()})
    assert "did not pay" in found.lead and "9.0 %" in found.lead
    assert "5 of 6 domains" in str(found.why)
    assert "notes" in str(found.why) and "keeps 1.0 %" in str(found.why)
    assert found.command == "mlxprune run runs/x/config.yaml --dir runs/x --set selection.by=domain"


def test_what_ranks_inside_domains_is_not_told_to_do_so() -> None:
    found = conclude("x", "macro", [compared(domains=NOTES)], {"high-50": manifest("domain")})
    assert "selection.by=domain" not in str(found.command)


@pytest.mark.parametrize(
    ("verdict", "more", "said", "command"),
    [
        (Verdict.BETTER, {"difference": -0.1, "interval": (-0.2, -0.01)}, "Pruning pays", "export"),
        (Verdict.UNDECIDED, {"seeds_needed": 6}, "Undecided", "final.seeds=[0, 1, 2, 3, 4, 5]"),
        (Verdict.UNDECIDED, {}, "could have been decided", "split.test"),
        (Verdict.ONE_SEED, {"seeds": [0], "seed_sd": None}, "No verdict, one seed", "final.seeds"),
        (Verdict.TOO_FEW, {}, "too few test documents", "split.test"),
    ],
)
def test_every_verdict_has_its_sentence_and_its_next_command(
    verdict: Verdict, more: dict[str, Any], said: str, command: str
) -> None:
    found = conclude("x", "macro", [compared(verdict=verdict, **more)], {})
    assert said in found.lead
    assert command in str(found.command)
    assert found.next_step


def test_of_several_slices_the_one_that_validation_ranks_first_is_told() -> None:
    others = [
        compared(arm="low-50", difference=0.01, on_validation=0.4),
        compared(arm="medium-50", difference=0.3, on_validation=-0.1),
    ]
    found = conclude("x", "macro", others, {})
    assert "Of 2 slices medium-50 is ranked first on the validation part" in found.lead


def rho(share: float | None, decided: bool) -> Rho:
    return Rho(share=share, interval=(0.7, 0.9), beyond=False, decided=decided)


COSTS = StudyCosts(
    reference_flops=20.0, score_flops=30.0, final_flops=800.0, model_flops=100.0, models=8,
    seconds=1.0, stage_seconds={},
)  # fmt: skip


def test_net_saving_by_hand() -> None:
    """1 - 0.8 - 50 / 100; paid for at 2.5 times the targets; the study's other models are 7.2."""
    found = net_saving(compared(verdict=Verdict.BETTER, rho=rho(0.8, True)), COSTS, 1000)
    assert found is not None
    assert found.gross == pytest.approx(0.2)
    assert found.net == pytest.approx(-0.3)
    assert found.break_even == pytest.approx(2500)
    assert found.of_study == pytest.approx(-0.3 - 7.2)
    assert found.reuses == pytest.approx((0.5 + 7.2) / 0.2)
    assert found.interval == pytest.approx((0.1, 0.3))


def test_what_loses_never_pays_and_what_is_undecided_saves_nothing() -> None:
    lost = net_saving(compared(rho=rho(1.3, True)), COSTS, 1000)
    assert lost is not None and lost.break_even is None and lost.reuses is None
    open_rho = rho(0.8, False)
    undecided = compared(verdict=Verdict.UNDECIDED, rho=open_rho)
    assert net_saving(undecided, COSTS, 1000) is None
    assert conclude("x", "macro", [undecided], {}).saving is None
    told = conclude("x", "macro", [compared(rho=rho(1.3, True))], {}, lost).saving
    assert str(told).startswith("No saving")


def test_how_well_a_domain_tells_kept_from_dropped() -> None:
    """By hand: all kept in one domain, all dropped in the other; or equal parts of both."""

    def rows(*kept: int) -> list[DomainRow]:
        return [
            DomainRow(
                domain=str(n), documents=10, kept_documents=k, tokens=1, kept_tokens=1, bytes=1,
                kept_bytes=1, share_before=0, share_after=0, keep_rate=k / 10,
            )
            for n, k in enumerate(kept)
        ]  # fmt: skip

    assert domain_auc(rows(10, 0)) == 1.0
    assert domain_auc(rows(5, 5)) == 0.5
    # Pairs of kept and dropped: 8 x 8 right, 8 x 2 and 2 x 8 equal, 2 x 2 wrong.
    assert domain_auc(rows(8, 2)) == pytest.approx((64 + 0.5 * 32) / 100)
    assert domain_auc(rows(10, 10)) is None


def test_the_lead_says_how_small_domains_count() -> None:
    trust = TrustFacts(
        seeds=3, test_documents={"a": 50, "b": 9}, test_pooled=["c", "d"], test_left_out=["e"],
        effective_documents=5.0, document_degrees=50.0, tokens_a_parameter=None, stability=None,
        contaminated_items=None, unique_tokens=(1, 1), longest_document=0.0, overlap=None,
        slices_tried=[], test_reads=1, domain_auc=None, doubts=[],
    )  # fmt: skip
    found = conclude("x", "macro", [compared()], {}, trust=trust)
    assert "over 2 domains, and 2 small domains that count as one, without 1 domain" in found.lead
    assert "over 2 domains" not in conclude("x", "tasks", [compared()], {}, trust=trust).lead
