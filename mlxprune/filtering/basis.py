"""Basis: what new text is filtered by: models, a slice, and where the study cut its documents."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import FREE_SCORES, Difference, Slice
from mlxprune.data import split
from mlxprune.errors import DataError, UsageError
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.chosen_slice import chosen_slice
from mlxprune.experiment.scorers import Scorer, scorers_of, scoring_context, snapshot_name
from mlxprune.files import files_identity, write_array
from mlxprune.filtering.cuts import Cuts, cuts_of_slice, range_interval
from mlxprune.filtering.order import PERCENTILES, DomainCounts, ScoringModel
from mlxprune.model.architecture import read_model_config
from mlxprune.model.device_choice import FILE as DEVICE_FILE
from mlxprune.model.model_checks import check_scoring_model, usual_context
from mlxprune.model.weights import MODEL_FILES, fetch_model
from mlxprune.records import Json, plain
from mlxprune.run.markers import is_current, read_marker
from mlxprune.scoring.model_free import unigram_losses
from mlxprune.scoring.score_file import Scores, places_of, window_start_of
from mlxprune.scoring.windows import resolve_policy, stored_policy, window_start
from mlxprune.selection.metric import metric_values, refuse_impossible
from mlxprune.selection.selector import apply_slice

LEAST_DOCUMENTS = 50  # of a domain whose percentiles are told
MOST_DOMAINS = 200
TYPICAL_LENGTHS = np.array([2**n for n in range(4, 13)])  # of text that nobody has seen yet


@dataclass(frozen=True)
class ModelNeed:
    """A model as far as it is known before the device is."""

    kind: str
    tokenizer: Path
    model: Path | None = None
    context: int = 0
    start: str = "last"
    lengths: np.ndarray = field(default_factory=lambda: TYPICAL_LENGTHS)


@dataclass(frozen=True)
class FilterBasis:
    """``study``: by domain what the study had and kept, none without one; ``notes``: what the
    slice means for text that the study never saw."""

    name: str
    choice: Slice
    seed: int
    config: Config
    needs: list[ModelNeed]
    cuts: Cuts | None
    identity: Json
    curve: np.ndarray | None = None
    overlap: int = 0
    percentiles: dict[str, list[float]] = field(default_factory=dict)
    study: dict[str, DomainCounts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    held: RunArtifacts | None = None

    def settle(self, out: Path) -> None:
        """The same choice of device as the study's, where it was made on this one."""
        if self.held is not None and not (out / DEVICE_FILE).exists():
            theirs = self.held.run.path / DEVICE_FILE
            if theirs.exists():
                shutil.copyfile(theirs, out / DEVICE_FILE)

    def models(self, work: Path) -> list[ScoringModel]:
        """The models, with shapes of batches that are stored before the first of them."""
        settings = self.config.score
        made = []
        for number, need in enumerate(self.needs):
            model = ScoringModel(need.kind, need.tokenizer, need.model)
            if need.kind == "unigram" and self.held is not None:
                path = work / "unigram.npy"
                write_array(path, _unigram(self.held))
                model = replace(model, losses=path)
            if need.model is not None:
                folder, context, start = need.model, need.context, need.start
                policy = stored_policy(
                    work / f"shapes-{number}.json",
                    lambda folder=folder, need=need, context=context, start=start: resolve_policy(  # type: ignore[misc]
                        need.lengths, read_model_config(folder), context, self.config.memory,
                        settings, start,
                    ),
                )  # fmt: skip
                model = replace(model, policy=policy)
            made.append(model)
        return made


def _unigram(held: RunArtifacts) -> np.ndarray:
    members = held.split.members(split.REFERENCE)
    return unigram_losses(held.tokens(), members if len(members) else held.candidates)


def basis_of_run(
    held: RunArtifacts, slice_name: str | None, new_domains: str, exact: bool, rate: str | None
) -> FilterBasis:
    """What a study filters by. ``exact``: by the ranks of the new text, at the slice's rate or at
    ``rate``. Raises UsageError and DataError: nothing is selected, or the slice has no cut."""
    chosen = chosen_slice(held, slice_name)
    if chosen is None:
        fix = f"mlxprune run {held.run.config} --dir {held.run.path} --until selection"
        raise UsageError("the run has selected nothing yet", str(held.run.path), fix)
    choice, seed = chosen.choice, chosen.manifest.seed
    if rate is not None:
        choice = _at_rate(choice, rate)
    scores = held.scores(choice)
    refuse_impossible(scores, choice)
    tokens = held.tokens().lengths(places_of(held.corpus.index["key"], scores.key))
    kept = apply_slice(scores, choice, seed, tokens).mask
    cuts = None if exact else cuts_of_slice(scores, choice, kept, seed, tokens, new_domains)
    needs = [_need(held, name) for name in _names(held.config, choice)]
    values = metric_values(scores, choice)
    identity = {
        "slice": choice.model_dump(mode="json"),
        "seed": seed,
        "cuts": plain(cuts),
        "models": [_identity(held, need) for need in needs],
        "score": held.config.score.results(),
        **held.config.dtype_identity,
    }
    return FilterBasis(
        name=held.config.name,
        choice=choice,
        seed=seed,
        config=held.config,
        needs=needs,
        cuts=cuts,
        identity=identity,
        curve=scores.curve if choice.metric == "adjusted" else None,
        overlap=scores.overlap,
        percentiles=_percentiles(scores, values),
        study=_study_counts(scores, tokens, kept),
        notes=_meaning(held, choice, exact, new_domains),
        held=held,
    )


def _at_rate(choice: Slice, rate: str) -> Slice:
    if choice.criterion not in ("low", "medium", "high"):
        fix = "give a slice of criterion low, medium or high"
        raise UsageError(f"{choice.label} has no rate to change", "--rate", fix)
    tree = choice.model_dump(mode="json", exclude={"name", "tokens", "band", "min", "max"})
    try:
        return Slice.model_validate({**tree, "rate": rate})
    except ValueError:
        fix = "give a share above 0, up to 1"
        raise UsageError(f"{rate!r} is no rate", "--rate", fix) from None


def _names(config: Config, choice: Slice) -> list[str]:
    """The models whose losses a slice needs, the one that counts first."""
    own = choice.reference or config.primary_reference.name
    if isinstance(choice.metric, Difference):
        return [*choice.metric.difference]
    if choice.metric == "progress":
        reference = next(r for r in config.scorers if r.name == own)
        return [own, snapshot_name(own, reference.snapshots[0])]
    return [own]


def _need(held: RunArtifacts, name: str) -> ModelNeed:
    run, config = held.run, held.config
    if name in FREE_SCORES:
        return ModelNeed(name, run.tokenizer)
    scorer = _scorer(config, name)
    model = held.model_folder(scorer.name)
    if not is_current(run, run.reference(scorer.name)) or not model.exists():
        fix = f"mlxprune run {run.config} --dir {run.path} --until score"
        raise UsageError(f"the run has no model of the name {scorer.name}", str(run.path), fix)
    return ModelNeed(
        kind="model",
        tokenizer=run.tokenizer if scorer.tokenizer == "main" else model,
        model=model,
        context=scoring_context(config, scorer.reference),
        start=window_start_of(run.scores(scorer.name)),
        lengths=held.tokens(scorer.tokenizer).lengths(held.pool),
    )


def _scorer(config: Config, name: str) -> Scorer:
    """Of cross-scoring the first fold's."""
    scorers = scorers_of(config)
    if config.split.cross:
        return next(s for s in scorers if s.fold == 0)
    return next(s for s in scorers if s.name == name)


def _identity(held: RunArtifacts, need: ModelNeed) -> Json:
    if need.model is None:
        told = read_marker(held.run.tokens())
        return {"kind": need.kind, "tokens": "" if told is None else told.fingerprint}
    weights = files_identity(need.model, MODEL_FILES)
    return {"weights": weights, "context": need.context, "start": need.start}


def _percentiles(scores: Scores, values: np.ndarray) -> dict[str, list[float]]:
    """Of the whole study, and of its larger domains."""
    if scores.fold is not None:
        mine = scores.fold == scores.fold.min()
        scores, values = scores.take(mine), values[mine]
    shares = np.linspace(0, 1, PERCENTILES + 1)
    found = {"": np.quantile(values, shares).tolist()}
    if scores.domain is None:
        return found
    counts = np.bincount(scores.domain, minlength=len(scores.domains))
    for code in np.argsort(-counts, kind="stable")[:MOST_DOMAINS].tolist():
        if counts[code] >= LEAST_DOCUMENTS:
            mine = scores.domain == code
            found[scores.domains[code]] = np.quantile(values[mine], shares).tolist()
    return found


def _study_counts(scores: Scores, tokens: np.ndarray, kept: np.ndarray) -> dict[str, DomainCounts]:
    assert scores.domain is not None
    found = {}
    for code, name in enumerate(scores.domains):
        mine = scores.domain == code
        both = mine & kept
        found[name] = DomainCounts(
            documents=int(mine.sum()),
            tokens=int(tokens[mine].sum()),
            bytes=int(scores.num_bytes[mine].sum()),
            kept_documents=int(both.sum()),
            kept_tokens=int(tokens[both].sum()),
            kept_bytes=int(scores.num_bytes[both].sum()),
        )
    return found


WHAT_BECOMES = {
    "whole": "are cut where the slice would cut the whole study",
    "keep": "are kept whole",
    "drop": "are dropped whole",
}


def _meaning(held: RunArtifacts, choice: Slice, exact: bool, new_domains: str) -> list[str]:
    """What the slice means for new text, as sentences."""
    by = "corpus" if choice.by == "corpus" else "each domain"
    if choice.by == ("domain", "length"):
        by = "each domain and octave of length"
    if exact:
        counted = "documents" if choice.unit == "documents" else "tokens of the reference"
        where = "as a whole" if choice.by == "corpus" else f"inside {by}"
        notes = [f"The new text is ranked by itself, {where}; what is counted are {counted}."]
    elif choice.criterion == "range":
        notes = ["A document is kept where its figure lies in the range that the slice names."]
    elif choice.by == "corpus" and not choice.bounded:
        notes = ["One cut for all domains, where the slice cut the study's documents."]
        if new_domains != "whole":
            notes.append(f"Domains that the study never saw {WHAT_BECOMES[new_domains]}.")
    else:
        notes = [
            f"{by.capitalize() if by != 'corpus' else 'Each domain'} is cut where the slice cut it "
            f"in the study; domains that the study never saw {WHAT_BECOMES[new_domains]}."
        ]
    if choice.bounded and not exact:
        notes.append(
            "Floors and caps act as the limits that they came to in each domain of the study: "
            "shares of the new text are not held."
        )
    if isinstance(choice.metric, Difference) or choice.metric == "progress":
        notes.append("Two models score every document, and their difference is cut.")
    if held.config.split.cross:
        notes.append(
            "The study was cross-scored: its first fold's reference scores the new text, and the "
            "limits are those of that fold."
        )
    return notes


def basis_of_model(config: Config, model: str, choice: Slice) -> FilterBasis:
    """What a model and a range filter by, without a study."""
    if choice.criterion != "range":
        fix = "add --min or --max, or give a run"
        raise UsageError("a model alone has no cut", "mlxprune filter", fix)
    source, settings = fetch_model(model), config.score
    context = settings.context or usual_context(source)
    found = check_scoring_model(source, context, "--context")
    assert found.tokenizer is not None
    if choice.metric == "bpb" and settings.long_documents == "truncate":
        fix = "rank by perplexity, or leave --long-documents away"
        raise DataError("documents scored in part have no bits per byte", "--metric bpb", fix)
    start = window_start(settings, found.tokenizer)
    need = ModelNeed("model", source, source, context, start)
    identity = {
        "slice": choice.model_dump(mode="json"),
        "weights": files_identity(source, MODEL_FILES),
        "context": context,
        "start": start,
        "score": settings.results(),
        **config.dtype_identity,
    }
    return FilterBasis(
        name=Path(model).name,
        choice=choice,
        seed=0,
        config=config,
        needs=[need],
        cuts=Cuts(by="corpus", whole=range_interval(choice), groups={}),
        identity=identity,
        notes=[*found.warnings, "A document is kept where its figure lies in the range."],
    )
