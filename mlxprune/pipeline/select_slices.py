"""The stage ``selection``: every slice of the study, and what it does to the corpus."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.experiment.artifacts import (
    open_run_corpus,
    open_run_tokens,
    pool_documents,
    slice_scores,
    validation_part,
)
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import fingerprint_of, folder_in_the_making, read_json, write_json
from mlxprune.run.stage import Artifact, RunContext, run_stage
from mlxprune.scoring.score_file import read_scores
from mlxprune.selection.composition import (
    agreement,
    composition_columns,
    domain_table,
    length_table,
    lost_domains,
)
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import kept_ranks, rank_band
from mlxprune.selection.selector import SELECTION_VERSION, select_slice, slice_manifest, write_kept


def select_slices(work: RunContext) -> None:
    config, run = work.config, work.run
    shared = {
        "version": SELECTION_VERSION,
        "seed": config.seed,
        "score": work.fingerprint("score"),
        "tokens": work.fingerprint("tokens"),
    }
    chosen = {choice.label: choice.results() for choice in config.slices}
    one = next(iter(chosen.values()))
    work.inputs["selection"] = {**shared, "selection": one if len(chosen) == 1 else chosen}
    pieces = [
        _slice(work, choice, fingerprint_of(shared, chosen[choice.label]))
        for choice in config.slices
    ]
    run_stage(work, "selection", pieces)
    for choice in config.slices:
        facts = read_json(run.selection(choice.label) / "manifest.json")
        lost = lost_domains(facts["domains"])
        if lost:
            more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
            work.warn("selection", f"{choice.label}: {', '.join(lost[:4])}{more}")


def _slice(work: RunContext, choice: Slice, fingerprint: str) -> Artifact:
    config, run = work.config, work.run
    folder = run.selection(choice.label)

    def build() -> dict[str, Any]:
        scores = slice_scores(run, config, choice)
        pool = pool_documents(run, config)
        final_tokens = open_run_tokens(run).lengths(pool)
        kept = select_slice(scores, choice, config.seed, final_tokens)
        facts = slice_manifest(scores, choice, kept, final_tokens, config.seed)
        names = open_run_corpus(run, config)
        domain = names.index["domain"][pool].astype(np.int64)
        of = composition_columns(
            domain,
            len(names.domains),
            scores.num_tokens,
            final_tokens,
            scores.num_bytes,
            metric_values(scores, choice),
        )
        facts["domains"] = domain_table(domain, names.domains, of, kept.mask)
        facts["lengths"] = length_table(scores.num_tokens, of, kept.mask)
        if config.split.cross:
            facts["agreement"] = _agreement(work, choice)
        with folder_in_the_making(folder) as partial:
            ranks = kept_ranks(scores, choice, kept, config.seed)
            file = run.scores(choice.reference or config.scorers[0].name)
            write_kept(file, kept, ranks, partial / "kept.parquet")
            np.save(partial / "kept.npy", kept.mask)
            np.save(partial / "tokens.npy", final_tokens)
            write_json(partial / "manifest.json", facts)
        return {k: v for k, v in facts.items() if isinstance(v, int | str | float)}

    return Artifact(folder, fingerprint, build)


def _agreement(work: RunContext, choice: Slice) -> dict[str, Any]:
    """How far the folds' references agree on the validation part, which all of them scored."""
    held_out = validation_part(work.run, work.config)
    shared = np.sort(open_run_corpus(work.run, work.config).index["key"][held_out])
    own, common = [], []
    for scorer in scorers_of(work.config):
        found = read_scores(work.run.scores(scorer.name))
        inside = np.isin(found.key, shared)
        own.append(found.take(~inside))
        common.append(found.take(inside))
    low, high = (float(b) for b in rank_band(choice))
    plain = choice.model_copy(update={"metric": "perplexity"})
    return agreement(own, common, low, high, plain)
