"""References: the stages that train the models which score, and that score the pool with them."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlxprune import arms, cleaning, free, runs, score, split, study, train, workers
from mlxprune import model as models
from mlxprune import scores as score_files
from mlxprune import tokens as tokens_module
from mlxprune.config import Reference
from mlxprune.errors import DataError
from mlxprune.study import Scorer
from mlxprune.work import Piece, Work, progress, run_stage

MERGE_VERSION = 1
ONLY_UNIGRAM = 0.97  # a rank correlation with token frequency above which a reference adds little
SETTLED = 0.9  # a rank correlation of the last two validations under which ranks still move


def train_references(work: Work) -> None:
    """The stage ``reference``: every model that scores, its early copies first."""
    work.inputs["reference"] = {}
    pieces = [
        _pretrained(work, scorer) if scorer.reference.pretrained else _trained(work, scorer)
        for scorer in study.scorers_of(work.config)
    ]
    run_stage(work, "reference", pieces)
    _warn_about_ranks(work)


def _pretrained(work: Work, scorer: Scorer) -> Piece:
    folder, source = (
        work.run.reference(scorer.name),
        models.fetch(scorer.reference.pretrained or ""),
    )
    facts = runs.files_identity(source, models.MODEL_FILES)
    described = {"pretrained": scorer.reference.pretrained, "files": facts}
    work.inputs["reference"][scorer.name] = described

    def point() -> dict[str, Any]:
        with runs.folder_in_the_making(folder) as partial:
            runs.write_json(partial / "pretrained.json", {"folder": str(source)})
        return {"pretrained": scorer.reference.pretrained}

    return Piece(folder, runs.fingerprint(described), point)


def _trained(work: Work, scorer: Scorer) -> Piece:
    settings = scorer.reference
    folder = work.run.reference(scorer.name)
    tokens = study.open_tokens(work.run)
    members = _documents(work, scorer)
    shape = models.shape_of(settings.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    seed = work.config.seed if settings.seed is None else settings.seed
    recipe = arms.recipe_of(settings, shape, vocabulary, settings.tokens, seed)
    stop = None if scorer.snapshot is None else max(1, round(scorer.snapshot * recipe.steps))
    if scorer.snapshot is None and scorer.fold in (None, 0):
        _warn_about_size(work, scorer, recipe, tokens, members)
    described: dict[str, Any] = {
        "version": [train.VERSION, models.VERSION],
        "recipe": train.identity(recipe),
        "tokens": work.fingerprint("tokens"),
    }
    described |= (
        {} if scorer.fold is None else {"fold": scorer.fold, "folds": work.config.split.cross}
    )
    described |= {} if stop is None else {"stop": stop}
    work.inputs["reference"][scorer.name] = described
    fingerprint = runs.fingerprint(described)
    earlier = tuple(
        work.run.reference(study.snapshot_name(settings.name, share))
        for share in settings.snapshots
        if scorer.fold is None and (scorer.snapshot is None or share < scorer.snapshot)
    )

    def build() -> dict[str, Any]:
        summary = study.train_model(
            work, "reference", settings, recipe, members, folder, fingerprint, stop, earlier
        )
        return {**arms.summary_of(summary), "final_loss": summary["final_loss"]}

    return Piece(folder, fingerprint, build)


def _documents(work: Work, scorer: Scorer) -> np.ndarray:
    """What a reference trains on: its part, or with cross-scoring the pool without its fold."""
    parts = split.open_split(work.run.split)
    if scorer.fold is None:
        members = parts.members(split.REFERENCE)
        problem, fix = "the reference part has no document", "raise split.reference"
    else:
        members = parts.members(split.TRAIN)
        members = members[study.folds_of(work.run, work.config, members) != scorer.fold]
        problem, fix = "the other folds have no document", "lower split.cross"
    if not len(members):
        raise DataError(problem, str(work.run.split), f"{fix} or give more text")
    return members


def score_pool(work: Work) -> None:
    """The stage ``score``: a scores file for every model, and those that need no model."""
    work.inputs["score"] = {}
    pieces = []
    without = cleaning.clean(work)
    pool = study.pool_documents(work.run, work.config)
    for scorer in study.scorers_of(work.config):
        documents = pool
        if scorer.fold is not None:  # its own fold, and the held-out part that all of them score
            mine = study.folds_of(work.run, work.config, pool) == scorer.fold
            held_out = study.validation_documents(work.run, work.config)
            documents = np.union1d(pool[mine], held_out)
        pieces.append(_scored(work, scorer, documents, without))
    if work.config.split.cross:
        pieces.append(_merged(work))
    pieces += [_free(work, name, without) for name in study.free_scores(work.config)]
    run_stage(work, "score", pieces)
    _warn_about_unigram(work)


def _context(work: Work, reference: Reference) -> int:
    if work.config.score.context is not None:
        return work.config.score.context
    if reference.pretrained:
        return reference.context or 512
    shape = models.shape_of(reference.model)
    return int(models.training_defaults(reference, shape)["context"])


def _scored(work: Work, scorer: Scorer, documents: np.ndarray, without: dict[str, Any]) -> Piece:
    settings = work.config.score
    context = _context(work, scorer.reference)
    described: dict[str, Any] = {
        "version": [score.VERSION, score.METRIC_VERSION],
        "score": {**settings.results(), "context": context},
        "reference": runs.fingerprint(work.inputs["reference"][scorer.name]),
        "tokens": work.fingerprint("tokens"),
    }
    described |= ({} if scorer.fold is None else {"fold": scorer.fold}) | without
    work.inputs["score"][scorer.name] = described
    fingerprint = runs.fingerprint(described)
    target = work.run.scores(scorer.name)
    several = len(study.scorers_of(work.config)) > 1

    def build() -> dict[str, Any]:
        parts = target.with_name(target.stem + ".parts")
        runs.set_aside(parts, fingerprint)
        runs.claim(parts, fingerprint)
        names = study.open_corpus(work.run, work.config)
        source = work.run.tokens(scorer.tokenizer)
        np.save(parts / "documents.npy", documents)
        model = study.model_folder(work.run, scorer.name)
        tokens = tokens_module.open_tokens(source)
        stated = runs.read_json(model / "config.json")
        memory = work.config.memory
        policy = score.policy_in(
            parts / "shapes.json",
            lambda: score.resolve_policy(
                tokens.lengths(documents), stated, context, memory, settings
            ),
        )
        unit_list = workers.units(names.index["bytes"][documents])
        task = workers.Task(
            str(model), str(source), str(parts), str(parts / "documents.npy"), policy, unit_list
        )
        what = scorer.name if several else None
        processes = settings.workers or workers.usual_number()
        workers.score_pool(task, names, processes, work.log, work.control, what)
        metadata = {
            "reference": described["reference"],
            "tokenizer": work.fingerprint("tokenizer"),
            "prefix": str(tokens.prefix),
            **score.policy_metadata(policy),
        }
        summary = score.write_scores(
            target, names, documents, *workers.joined(parts, len(unit_list)), metadata
        )
        runs.mark(target, "score", fingerprint, summary=summary)
        shutil.rmtree(parts)
        return summary

    return Piece(target, fingerprint, build)


def _merged(work: Work) -> Piece:
    """The pool's scores under cross-scoring: each document's by the reference that has not seen
    it."""
    name = work.config.scorers[0].name
    described = {"version": MERGE_VERSION, "folds": dict(work.inputs["score"])}
    work.inputs["score"][name] = described
    fingerprint, target = runs.fingerprint(described), work.run.scores(name)

    def build() -> dict[str, Any]:
        pool = study.pool_documents(work.run, work.config)
        keys = study.open_corpus(work.run, work.config).index["key"]
        fold = study.folds_of(work.run, work.config, pool)
        rows = np.zeros(len(pool), score.PART)
        positions: Any = 0
        metadata: dict[str, str] = {}
        for scorer in study.scorers_of(work.config):
            path = work.run.scores(scorer.name)
            table = pq.read_table(path, columns=["key", "nll_sum", "num_tokens", "truncated"])
            mine = np.flatnonzero(fold == scorer.fold)
            at = score_files.places(table.column("key").to_numpy(), keys[pool[mine]])
            for column in score.PART.names or ():
                rows[column][mine] = table.column(column).to_numpy()[at]
            positions = positions + score.positions_of(path)
            told = pq.read_schema(path).metadata
            metadata = {k.decode(): v.decode() for k, v in told.items() if k.startswith(b"policy.")}
        metadata |= {"prefix": str(study.open_tokens(work.run).prefix)}
        names = study.open_corpus(work.run, work.config)
        summary = score.write_scores(target, names, pool, rows, positions, metadata, fold)
        runs.mark(target, "score", fingerprint, summary=summary)
        return summary

    return Piece(target, fingerprint, build)


def _free(work: Work, name: str, without: dict[str, Any]) -> Piece:
    described = {"version": free.VERSION, "tokens": work.fingerprint("tokens")}
    described |= {"pool": sorted({s.tokenizer for s in study.scorers_of(work.config)})} | without
    first = work.config.scorers[0].name
    if name == "unigram":  # it is held against the reference's ranks
        described |= {"against": runs.fingerprint(work.inputs["score"][first])}
    work.inputs["score"][name] = described
    fingerprint, target = runs.fingerprint(described), work.run.scores(name)

    def build() -> dict[str, Any]:
        names, tokens = study.open_corpus(work.run, work.config), study.open_tokens(work.run)
        pool = study.pool_documents(work.run, work.config)
        if name == "zlib":
            rows = free.zlib_scores(names, tokens, pool, progress(work, "score", "bytes"))
        else:
            members = split.open_split(work.run.split).members(split.REFERENCE)
            rows = free.unigram_scores(tokens, pool, members if len(members) else pool)
        none = np.zeros((2, 1))
        summary = score.write_scores(target, names, pool, rows, none, {"free": name})
        if name == "unigram":
            own = score_files.read_scores(work.run.scores(first))
            summary["rank_correlation"] = score_files.spearman(
                score_files.metric(own, "perplexity"), rows["nll_sum"] / rows["num_tokens"]
            )
        runs.mark(target, "score", fingerprint, summary=summary)
        return summary

    return Piece(target, fingerprint, build)


# --- warnings ---------------------------------------------------------------------------------


def _warn_about_size(
    work: Work,
    scorer: Scorer,
    recipe: train.Recipe,
    tokens: tokens_module.Tokens,
    members: np.ndarray,
) -> None:
    which = "the reference" if len(work.config.scorers) == 1 else f"reference {scorer.name}"
    body, tables = models.parameter_counts(recipe.config)
    if recipe.targets < 10 * body:
        ratio = recipe.targets / body
        work.warn("reference", f"{which} sees {ratio:.1f} tokens a parameter (20 is usual)")
    if tables > 0.35 * (body + tables):
        share = tables / (body + tables)
        work.warn("reference", f"{share:.0%} of {which} is embedding: a smaller vocabulary?")
    unique = int(tokens.lengths(members).sum()) + len(members)
    if recipe.targets > 1.05 * unique:
        passes = recipe.targets / max(unique, 1)
        work.warn("reference", f"the text of {which} is short: {passes:.1f} passes over it")


def _warn_about_ranks(work: Work) -> None:
    """Ranks that still move between the last two validations are not settled."""
    for scorer in study.scorers_of(work.config):
        path = work.run.reference(scorer.name) / "training.json"
        if scorer.snapshot is not None or not path.exists():
            continue
        history = runs.read_json(path)["history"]["validation"]
        settled = history[-1][2] if history and len(history[-1]) > 2 else None
        if settled is not None and settled < SETTLED:
            work.warn(
                "reference",
                f"the ranks under {scorer.name} still move: {settled:.2f} rank correlation with "
                "those one tenth of the training earlier; raise reference.tokens",
            )


def _warn_about_unigram(work: Work) -> None:
    summary = (runs.marker(work.run.scores("unigram")) or {})["summary"]
    correlation = summary["rank_correlation"]
    if correlation is not None and correlation > ONLY_UNIGRAM:
        work.warn(
            "score",
            f"the ranks are nearly those of token frequency (rank correlation {correlation:.3f}): "
            "this reference adds little; train it longer or take a larger one",
        )
