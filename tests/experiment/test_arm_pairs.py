"""Which arms are compared with which."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxprune.experiment.arm_pairs import pairs_of
from mlxprune.experiment.records import ArmRecord, StudyArms, read_arms, write_arms
from mlxprune.run.folder import RunFolder


def facts(arm: str, kind: str, **more: Any) -> ArmRecord:
    usual: dict[str, Any] = {
        "slice": None, "share": None, "rung": None, "seed": 0, "plain": True, "documents": 1,
        "unique_tokens": 1, "targets": 1, "passes": 1.0, "effective_tokens": 1, "branches": {},
    }  # fmt: skip
    return ArmRecord(arm=arm, kind=kind, **{**usual, **more})


def study_arms(*records: ArmRecord) -> StudyArms:
    named = {f"{record.arm}-s0": record for record in records}
    return StudyArms(targets=1, arms=named, left_out={}, order=list(named))


PLAN = study_arms(
    facts("high-50", "pruned", slice="high-50", share="50"),
    facts("low-25", "pruned", slice="low-25", share="25"),
    facts("random-50", "random", share="50"),
    facts("random-25", "random", share="25"),
    facts("matched.high-50", "matched", slice="high-50", share="50"),
    facts("zlib.low-25", "zlib", slice="low-25", share="25"),
    facts("shuffled.high-50", "shuffled", slice="high-50", share="50"),
    facts("none", "none"),
    facts("base-x2", "base", rung=2.0),
    facts("high-50-x2", "pruned", slice="high-50", rung=2.0),
    facts("base-x4", "base", rung=4.0),
    facts("high-50-x8", "pruned", slice="high-50", share="50", rung=8.0),
    facts("random-50-x8", "random", share="50", rung=8.0),
    facts("matched.high-50-x8", "matched", slice="high-50", share="50", rung=8.0),
)


def test_an_arm_meets_the_controls_of_its_size_slice_and_rung() -> None:
    found = {(p.arm, p.control) for p in pairs_of(PLAN)}
    assert found == {
        ("high-50", "random-50"),
        ("low-25", "random-25"),
        ("matched.high-50", "random-50"),
        ("high-50", "matched.high-50"),
        ("low-25", "zlib.low-25"),
        ("shuffled.high-50", "random-50"),
        ("high-50", "none"),
        ("low-25", "none"),
        ("high-50-x2", "base-x2"),
        ("high-50-x8", "random-50-x8"),
        ("high-50-x8", "matched.high-50-x8"),
        ("matched.high-50-x8", "random-50-x8"),
    }
    main = {p.arm for p in pairs_of(PLAN) if p.main}
    assert main == {"high-50", "low-25"}


def test_slices_of_one_share_meet_each_other_once_and_not_on_the_ladder() -> None:
    arms = study_arms(
        *PLAN.arms.values(),
        facts("low-50", "pruned", slice="low-50", share="50"),
        facts("low-50-x8", "pruned", slice="low-50", share="50", rung=8.0),
    )
    slices = [p for p in pairs_of(arms) if p.about == "slice against slice"]
    assert [(p.arm, p.control, p.main) for p in slices] == [("high-50", "low-50", False)]


def test_the_first_slice_is_the_first_that_was_written(tmp_path: Any) -> None:
    """arms.json is written with sorted keys; the order of the configuration is kept beside."""
    run = RunFolder(tmp_path)
    plan = study_arms(
        facts("low-50", "pruned", share="50"),
        facts("band-20-70", "pruned", share="20-70"),
        facts("random-50", "random", share="50"),
        facts("random-20-70", "random", share="20-70"),
    )
    write_arms(run, plan)
    found = read_arms(run)
    assert list(found.arms) == list(plan.arms) != sorted(plan.arms)
    assert [p.arm for p in pairs_of(found) if p.main] == ["low-50", "band-20-70"]


def test_shuffled_with_bounds_is_not_called_zero() -> None:
    arms = [
        msgspec.structs.replace(record, plain=record.kind != "shuffled")
        for record in PLAN.arms.values()
    ]
    told = {p.arm: p.about for p in pairs_of(study_arms(*arms))}
    assert told["shuffled.high-50"] == "bounds alone"
