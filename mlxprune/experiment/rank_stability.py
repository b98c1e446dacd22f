"""Rank stability: how far the ranks of different references agree, and how small one is enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.config.slices import ABSOLUTE_KEYS, FREE_SCORES, Slice
from mlxprune.errors import UsageError
from mlxprune.experiment.artifacts import RunArtifacts, open_run
from mlxprune.experiment.scorers import Scorer, scorers_of, scoring_context
from mlxprune.files import read_json
from mlxprune.model.architecture import flops_per_token
from mlxprune.records import Json, Record, SparseRecord, read_record
from mlxprune.run.folder import existing_run
from mlxprune.run.markers import read_marker
from mlxprune.scoring.score_file import Scores, read_scores
from mlxprune.selection.ranking import ranked_values
from mlxprune.selection.selector import select_slice
from mlxprune.stats import spearman
from mlxprune.training.summary import TrainingSummary

ENOUGH = 0.9  # of the kept documents in common with the dearest reference's
LEAST_COMMON = 0.5  # of the documents; under it the runs are about different corpora


class Origin(SparseRecord):
    """What made a set of scores: nothing that was trained, a model from elsewhere, or one of the
    run's, with its targets and its seed."""

    free: bool | None = None
    pretrained: str | None = None
    model: str | None = None
    targets: int | None = None
    seed: int | UnsetType | None = UNSET  # None: that of the study


class ComparedScores(Origin, kw_only=True):
    """A set of scores held against the dearest: rank correlation, kept documents in common."""

    name: str
    flops: float
    share_of_cost: float
    spearman: float
    overlap: float


class Stability(Record):
    """How far sets of scores agree on a slice; ``scores`` with the dearest first, and of all pairs
    the rank correlation and the share of kept documents in common."""

    slice: str
    unit: str
    documents: int
    kept_by_chance: float
    scores: list[ComparedScores]
    names: list[str]
    spearman: list[list[float]]
    overlap: list[list[float]]
    enough: str | None  # the cheapest that keeps nearly what the dearest does


@dataclass(frozen=True)
class ScoreSet:
    """One set of scores and what it took to make."""

    name: str
    scores: Scores
    flops: float  # to train the reference and to score the pool
    origin: Origin


def compare_references(folders: list[Path], wanted: Json) -> Stability:
    """Spearman correlation and kept documents in common of all scores of the runs.

    ``wanted`` overrides keys of the first run's first slice. Raises UsageError: no run, fewer than
    two scores, runs over different corpora.
    """
    score_sets: list[ScoreSet] = []
    choice: Slice | None = None
    for folder in {f.resolve(): f for f in folders}.values():
        run = existing_run(folder)
        held = open_run(run.path)
        if choice is None:
            choice = _slice(held.config, wanted, str(folder))
        prefix = f"{folder.resolve().name}:" if len(folders) > 1 else ""
        score_sets += _of_run(held, prefix)
    assert choice is not None
    if len(score_sets) < 2:
        fix = "name several runs, or give `references:` or `reference.snapshots` in one"
        raise UsageError("there is only one set of scores", str(folders[0]), fix)
    ranked = _on_common_documents(score_sets, str(folders[-1]))
    ranked.sort(key=lambda r: -r.flops)
    return _compared(ranked, choice)


def _slice(config: Config, wanted: Json, where: str) -> Slice:
    first = config.slices[0]
    plain = first.metric if first.metric in ("perplexity", "bpb", "adjusted") else "perplexity"
    tree = first.model_dump(mode="json") | {"metric": plain, "reference": None, "name": None}
    if wanted:  # what is asked for takes the place of a band, a soft draw, the paper's rule
        criterion = "high" if first.criterion in ("band", "soft", "range") else first.criterion
        tree |= {"criterion": criterion, "rate": tree["rate"] or 0.5}
        tree |= {"band": None, "centre": None, "rule": "exact"}
        tree |= dict.fromkeys(ABSOLUTE_KEYS)
    elif first.absolute:  # as the share that it is
        tree |= dict.fromkeys(ABSOLUTE_KEYS)
        tree |= {"criterion": "band"} if first.band is not None else {}
    whole = {"data": {"paths": ["-"]}, "selection": {**tree, **wanted}}
    return validate_config(whole, where).slices[0]


def _of_run(held: RunArtifacts, prefix: str) -> list[ScoreSet]:
    run, config = held.run, held.config
    score_sets = []
    scorers = {s.name: s for s in scorers_of(config) if s.fold is None}
    names = [*scorers, *FREE_SCORES]
    if config.split.cross:
        names.insert(0, config.primary_reference.name)
    for name in dict.fromkeys(names):
        marker = read_marker(run.scores(name))
        if marker is None:
            continue
        own = scorers.get(name)
        folds = [s for s in scorers_of(config) if s.fold is not None]
        scored_by = (
            folds if name == config.primary_reference.name and folds else [own] if own else []
        )
        flops = sum(_flops(held, s) for s in scored_by)
        scores = read_scores(run.scores(name))
        origin = _origin(scored_by[0]) if scored_by else Origin(free=True)
        score_sets.append(ScoreSet(prefix + name, scores, flops, origin))
    return score_sets


def _origin(scorer: Scorer) -> Origin:
    reference = scorer.reference
    if reference.pretrained:
        return Origin(pretrained=reference.pretrained)
    share = scorer.snapshot or 1.0
    targets = round(share * reference.tokens)
    return Origin(model=reference.model, targets=targets, seed=reference.seed)


def _flops(held: RunArtifacts, scorer: Scorer) -> float:
    folder = held.model_folder(scorer.name)
    stated = read_json(folder / "config.json")
    trained = 0
    context = scoring_context(held.config, scorer.reference)
    if (folder / "training.json").exists():
        training = read_record(folder / "training.json", TrainingSummary)
        trained, context = training.targets, training.recipe.context
    marker = read_marker(held.run.scores(scorer.name))
    scored = 0 if marker is None or marker.summary is None else int(marker.summary["tokens"])
    return flops_per_token(stated, context) * (3 * trained + scored)


def _on_common_documents(score_sets: list[ScoreSet], where: str) -> list[ScoreSet]:
    common = score_sets[0].scores.key
    for ranked in score_sets[1:]:
        common = np.intersect1d(common, ranked.scores.key)
    largest = max(len(r.scores) for r in score_sets)
    if len(common) < LEAST_COMMON * largest:
        fix = "runs to compare have the same data, seed and split"
        raise UsageError(f"the runs share {len(common):,} of {largest:,} documents", where, fix)
    result = []
    for ranked in score_sets:
        order = np.argsort(ranked.scores.key)
        at = order[np.searchsorted(ranked.scores.key, common, sorter=order)]
        result.append(replace(ranked, scores=ranked.scores.take(at)))
    return result


def _compared(ranked: list[ScoreSet], choice: Slice) -> Stability:
    """The table; the dearest scores come first and are what the others are held against."""
    lengths = ranked[0].scores.num_tokens  # one weight for all, or the slices differ by tokenizer
    values, kept = [], []
    for score_set in ranked:
        mine = choice
        if score_set.name.rpartition(":")[2] == "zlib":  # as the arm of this name ranks it
            mine = choice.model_copy(update={"metric": "bpb"})
        elif choice.metric == "adjusted" and score_set.scores.curve is None:
            mine = choice.model_copy(update={"metric": "perplexity"})
        values.append(ranked_values(score_set.scores, mine, 0)(slice(None)))
        kept.append(select_slice(score_set.scores, mine, 0, lengths).mask)
    count = len(ranked)
    correlation = np.eye(count)
    overlap = np.eye(count)
    for i in range(count):
        for j in range(i):
            correlation[i, j] = correlation[j, i] = spearman(values[i], values[j])
            shared = int((kept[i] & kept[j]).sum())
            sizes = int(kept[i].sum()) + int(kept[j].sum())
            overlap[i, j] = overlap[j, i] = 2 * shared / sizes
    rows = [
        ComparedScores(
            name=score_set.name,
            flops=score_set.flops,
            share_of_cost=score_set.flops / ranked[0].flops if ranked[0].flops else 0.0,
            spearman=float(correlation[0, i]),
            overlap=float(overlap[0, i]),
            **msgspec.structs.asdict(score_set.origin),
        )
        for i, score_set in enumerate(ranked)
    ]
    cheaper = [r for r in rows[1:] if r.flops < 0.99 * ranked[0].flops]
    enough = [r for r in cheaper if r.overlap >= ENOUGH]
    return Stability(
        slice=choice.label,
        unit=choice.unit,
        documents=len(lengths),
        kept_by_chance=float(np.mean([k.mean() for k in kept])),
        scores=rows,
        names=[r.name for r in ranked],
        spearman=correlation.tolist(),
        overlap=overlap.tolist(),
        enough=enough[-1].name if enough else None,
    )


def stability_lines(stability: Stability) -> list[str]:
    """The comparison as text: a table against the dearest reference, the matrix, one sentence."""
    rows = stability.scores
    width = max(24, *(len(r.name) for r in rows)) + 2
    lines = [
        f"{stability.documents:,} documents, slice {stability.slice} by {stability.unit}; "
        f"in common by chance {stability.kept_by_chance:.0%}",
        "",
        f"{'scores':<{width}} {'FLOPs*':>9} {'of dearest':>11} {'Spearman':>9} {'in common':>10}",
    ]
    for row in rows:
        cost = f"{row.flops:.1e}" if row.flops else "free"
        lines.append(
            f"{row.name:<{width}} {cost:>9} {row.share_of_cost:>11.1%} "
            f"{row.spearman:>9.3f} {row.overlap:>10.1%}"
        )
    if len(rows) > 2:
        lines += ["", "kept documents in common (above the diagonal) and Spearman (below)"]
        for i, name in enumerate(stability.names):
            cells = [
                "      -"
                if i == j
                else f"{stability.overlap[i][j]:>7.1%}"
                if j > i
                else f"{stability.spearman[i][j]:>7.3f}"
                for j in range(len(rows))
            ]
            lines.append(f"{name:<{width}} {' '.join(cells)}")
    lines += ["", "* to train the reference and to score the pool with it"]
    best = rows[0].name
    if stability.enough is None:
        lines.append(f"No cheaper scores keep {ENOUGH:.0%} of what {best} keeps.")
    else:
        lines.append(
            f"{stability.enough} is enough for this slice: the cheapest that keeps {ENOUGH:.0%} of "
            f"what {best} keeps."
        )
    return lines
