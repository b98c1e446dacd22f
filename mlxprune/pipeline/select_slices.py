"""The stage ``selection``: every slice of the study, and what it does to the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mlxprune.config.slices import Slice
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.artifacts import RunArtifacts, StudyExecution
from mlxprune.experiment.scorers import scorers_of
from mlxprune.files import folder_in_the_making
from mlxprune.records import Json, plain, read_record, write_record
from mlxprune.scoring.score_file import places_of, read_scores
from mlxprune.selection.absolute import resolved
from mlxprune.selection.composition import (
    Agreement,
    agreement,
    composition_columns,
    domain_table,
    length_table,
    lost_domains,
)
from mlxprune.selection.manifest import SliceManifest, slice_manifest
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import Kept, kept_ranks, rank_band
from mlxprune.selection.selector import SELECTION_VERSION, select_slice, write_kept


def select_slices(study: StudyExecution) -> None:
    config, run = study.config, study.run
    shared = {
        "version": SELECTION_VERSION,
        "seed": config.seed,
        "score": study.fingerprint("score"),
        "tokens": study.fingerprint("tokens"),
    }
    settings = {choice.label: choice.results() for choice in config.slices}
    artifacts = [
        Artifact(
            run.selection(choice.label),
            (shared, settings[choice.label]),
            lambda choice=choice: _select(study.held, choice),  # type: ignore[misc]
        )
        for choice in config.slices
    ]
    one = next(iter(settings.values()))
    run_stage(
        study,
        "selection",
        artifacts,
        {**shared, "selection": one if len(settings) == 1 else settings},
    )
    study.held.resolve_slices()
    for choice in config.slices:
        manifest = read_record(run.selection(choice.label) / "manifest.json", SliceManifest)
        lost = lost_domains(manifest.domains or [])
        if lost:
            more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
            study.warn("selection", f"{choice.label}: {', '.join(lost[:4])}{more}")


def _select(held: RunArtifacts, choice: Slice) -> Json:
    """Write the slice's folder; what people are told are its plain figures."""
    config, run, corpus, pool = held.config, held.run, held.corpus, held.pool
    scores = held.scores(choice)
    final_tokens = held.tokens().lengths(pool)
    choice = resolved(choice, scores, final_tokens)
    kept = select_slice(scores, choice, config.seed, final_tokens)
    domain = corpus.index["domain"][pool].astype(np.int64)
    columns = composition_columns(
        domain,
        len(corpus.domains),
        scores.num_tokens,
        final_tokens,
        scores.num_bytes,
        metric_values(scores, choice),
    )
    manifest = slice_manifest(
        scores,
        choice,
        kept,
        final_tokens,
        config.seed,
        domains=domain_table(domain, corpus.domains, columns, kept.mask),
        lengths=length_table(scores.num_tokens, columns, kept.mask),
        agreement=_agreement(held, choice) if config.split.cross else None,
    )
    with folder_in_the_making(run.selection(choice.label)) as partial:
        ranks = kept_ranks(scores, choice, kept, config.seed)
        file = run.scores(choice.reference or config.primary_reference.name)
        write_kept(file, _in_file(file, held, kept), ranks, partial / "kept.parquet")
        np.save(partial / "kept.npy", kept.mask)
        np.save(partial / "tokens.npy", final_tokens)
        write_record(partial / "manifest.json", manifest)
    return {k: v for k, v in plain(manifest).items() if isinstance(v, int | str | float)}


def _in_file(scores: Path, held: RunArtifacts, kept: Kept) -> Kept:
    """The same as a mask over the rows of a scores file, which may hold documents that another
    model could not score."""
    keys = pq.read_table(scores, columns=["key"]).column("key").to_numpy()
    if len(keys) == len(kept.mask):
        return kept
    mask = np.zeros(len(keys), bool)
    mask[places_of(keys, held.corpus.index["key"][held.pool[kept.mask]])] = True
    return Kept(mask, kept.first)


def _agreement(held: RunArtifacts, choice: Slice) -> Agreement:
    """How far the folds' references agree on the validation part, which all of them scored."""
    found = [read_scores(held.run.scores(scorer.name)) for scorer in scorers_of(held.config)]
    shared = np.sort(held.corpus.index["key"][held.validation])
    for scores in found:  # some may have no score under one of them
        shared = shared[np.isin(shared, scores.key)]
    own, common = [], []
    for scores in found:
        inside = np.isin(scores.key, shared)
        own.append(scores.take(~inside))
        common.append(scores.take(inside))
    low, high = (float(b) for b in rank_band(choice))
    by_perplexity = choice.model_copy(update={"metric": "perplexity"})
    return agreement(own, common, low, high, by_perplexity)
