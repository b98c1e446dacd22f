"""The pipeline: read this file first.

    corpus -> split -> tokenizer -> tokens -> reference -> score -> selection -> final
           -> evaluation -> report

Every arrow is a file in the run folder. A stage is a function that names its inputs and its pieces;
a piece whose fingerprint already stands in its marker is reused, anything else is built, and the
marker comes last. So a run that is started again does what is missing or out of date, and says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import (
    arms,
    corpus,
    evaluate,
    lock,
    plan,
    readers,
    runs,
    score,
    selection,
    split,
    train,
    workers,
)
from mlxprune import model as models
from mlxprune import sources as source_files
from mlxprune import tokenizer as tokenizers
from mlxprune import tokens as tokens_module
from mlxprune.config import Config
from mlxprune.control import Control
from mlxprune.errors import DataError
from mlxprune.events import EventLog
from mlxprune.runs import STAGES, RunFolder
from mlxprune.work import (
    Piece,
    Work,
    begin,
    cores,
    finish,
    inputs_before,
    progress,
    run_stage,
)


def run(
    config: Config,
    run_folder: RunFolder,
    until: str | None = None,
    force: str | None = None,
    listeners: list[Any] | None = None,
) -> dict[str, Any]:
    """Run the stages that are missing or out of date; return the result that --json prints."""
    plan.check_possible(config)
    runs.check_same_study(run_folder, study_of(config))
    sources, left_out = source_files.find_sources(config.data.paths)
    facts = corpus.input_facts(sources)
    with lock.locked(run_folder):
        _refuse_changed_inputs(config, run_folder, sources, facts)  # before anything is touched
        log = EventLog(run_folder.events)
        log.listeners += listeners or []
        with Control(run_folder, log) as control, runs.no_space_is_an_error(run_folder.path):
            runs.take_commands(run_folder)  # those of an earlier life
            forced = STAGES[STAGES.index(force) :] if force else ()
            work = Work(config, run_folder, log, control, forced)
            work.before = inputs_before(run_folder)
            need = plan.disk_bytes(config, sum(f["size"] for f in facts))
            begin(work, study_of(config), need)
            try:
                for name, stage in PIPELINE.items():
                    if name == "corpus":
                        _corpus(work, sources, left_out, facts)
                    else:
                        stage(work)
                    if name == until:
                        break
            except BaseException as error:
                finish(work, error)
                raise
            return finish(work, None)


def study_of(config: Config) -> str:
    """What a run folder belongs to for good: data (but not where it lies), seed, split."""
    data = {k: v for k, v in config.data.results().items() if k not in ("paths", "max_bad")}
    return runs.fingerprint(data, config.seed, config.split.results())


# --- the stages, in order ---------------------------------------------------------------------


def _corpus_inputs(config: Config, facts: list[dict[str, Any]]) -> dict[str, Any]:
    files = [[f["name"], f["size"], f["edges"]] for f in facts]
    aside = ("paths", "max_bad")  # where the files lie and how many bad rows are borne
    settings = {k: v for k, v in config.data.results().items() if k not in aside}
    return {"version": corpus.VERSION, "data": settings, "files": files}


def _refuse_changed_inputs(
    config: Config,
    run_folder: RunFolder,
    sources: list[source_files.Source],
    facts: list[dict[str, Any]],
) -> None:
    known = runs.marker(run_folder.corpus)
    if known is None:
        return
    if known["fingerprint"] != runs.fingerprint(_corpus_inputs(config, facts)):
        fix = "start a new run with another --dir; a run keeps its corpus"
        raise DataError("the input files changed since this run began", str(run_folder.path), fix)
    corpus.verify_inputs(run_folder.corpus, sources, facts)


def _corpus(
    work: Work, sources: list[source_files.Source], left_out: list[str], facts: list[dict[str, Any]]
) -> None:
    work.inputs["corpus"] = _corpus_inputs(work.config, facts)
    folder = work.run.corpus
    if runs.marker(folder) is not None:
        corpus.note_places(folder, sources)
    if left_out:
        names = ", ".join(Path(p).name for p in left_out[:5])
        more = ", ..." if len(left_out) > 5 else ""
        work.warn("corpus", f"{len(left_out)} other files are left out: {names}{more}")

    def build() -> dict[str, Any]:
        with runs.folder_in_the_making(folder) as partial:
            report = progress(work, "corpus", "files")
            return corpus.build(work.config.data, sources, left_out, partial, report)

    run_stage(work, "corpus", [Piece(folder, work.fingerprint("corpus"), build)])
    for reason, count in open_corpus(work).summary["skipped"].items():
        if reason not in readers.HARMLESS_REASONS:
            work.warn("corpus", f"{count} rows skipped: {reason} (corpus/bad-rows.jsonl)")


def _split(work: Work) -> None:
    work.inputs["split"] = {
        "version": split.VERSION,
        "seed": work.config.seed,
        "split": work.config.split.results(),
        "corpus": work.fingerprint("corpus"),
    }

    def build() -> dict[str, Any]:
        with runs.folder_in_the_making(work.run.split) as partial:
            return split.build(work.config, open_corpus(work), partial)

    run_stage(work, "split", [Piece(work.run.split, work.fingerprint("split"), build)])
    table = split.open_split(work.run.split).table
    for part in ("train", "test", "validation"):
        if not table[part]["documents"]:
            fix = "give more documents, or set split shares by hand"
            raise DataError(f"the {part} part has no document", str(work.run.split), fix)
    few = split.too_few(table, "test")
    if few:
        names = ", ".join(few[:8]) + (", ..." if len(few) > 8 else "")
        limit = split.HELD_OUT_DOCUMENTS
        work.warn("split", f"too few test documents (under {limit}) to say much about: {names}")


def _tokenizer(work: Work) -> None:
    settings = work.config.tokenizer
    inputs: dict[str, Any] = {"version": tokenizers.VERSION, "tokenizer": settings.results()}
    if settings.train:
        inputs["split"] = work.fingerprint("split")
    else:
        source = tokenizers.fetch(str(settings.pretrained))
        inputs["files"] = runs.files_identity(source, tokenizers.TOKENIZER_FILES)
    work.inputs["tokenizer"] = inputs
    folder = work.run.tokenizer

    def build() -> dict[str, Any]:
        with runs.folder_in_the_making(folder) as partial:
            if settings.pretrained:
                tokenizers.copy_files(source, partial)
                return {"pretrained": settings.pretrained}
            assert settings.train
            members = split.open_split(work.run.split).part == split.REFERENCE
            if not members.any():
                fix = "set split.reference, or use tokenizer.pretrained"
                raise DataError("no reference document to train on", str(work.run.split), fix)
            texts = (text for _, text in open_corpus(work).texts(members))
            return tokenizers.train(settings.train, texts, cores(), partial)

    run_stage(work, "tokenizer", [Piece(folder, work.fingerprint("tokenizer"), build)])


def _tokens(work: Work) -> None:
    work.inputs["tokens"] = {
        "version": tokens_module.VERSION,
        "split": work.fingerprint("split"),
        "tokenizer": work.fingerprint("tokenizer"),
    }
    pieces = [_tokens_piece(work, "main", work.run.tokenizer)]
    pretrained = work.config.reference.pretrained
    if pretrained:  # it scores with its own tokenizer
        pieces.append(_tokens_piece(work, "reference", models.fetch(pretrained)))
    run_stage(work, "tokens", pieces)


def _tokens_piece(work: Work, name: str, tokenizer_folder: Path) -> Piece:
    folder = work.run.tokens(name)
    identity = runs.files_identity(tokenizer_folder, tokenizers.TOKENIZER_FILES)

    def build() -> dict[str, Any]:
        with runs.folder_in_the_making(folder) as partial:
            return tokens_module.build(
                open_corpus(work),
                split.open_split(work.run.split).part,
                split.LEFT_OUT,
                tokenizers.load(tokenizer_folder),
                partial,
                progress(work, "tokens", "bytes"),
            )

    return Piece(folder, runs.fingerprint(work.fingerprint("tokens"), identity), build)


def _reference(work: Work) -> None:
    settings = work.config.reference
    folder = work.run.reference()
    if settings.pretrained:
        source = models.fetch(settings.pretrained)
        facts = runs.files_identity(source, models.MODEL_FILES)
        work.inputs["reference"] = {"pretrained": settings.pretrained, "files": facts}
        fingerprint = work.fingerprint("reference")

        def point() -> dict[str, Any]:
            with runs.folder_in_the_making(folder) as partial:
                runs.write_json(partial / "pretrained.json", {"folder": str(source)})
            return {"pretrained": settings.pretrained}

        run_stage(work, "reference", [Piece(folder, fingerprint, point)])
        return
    tokens = open_tokens(work)
    members = split.open_split(work.run.split).members(split.REFERENCE)
    if not len(members):
        fix = "raise split.reference or give more text"
        raise DataError("the reference part has no document", str(work.run.split), fix)
    shape = models.shape_of(settings.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    recipe = arms.recipe_of(settings, shape, vocabulary, settings.tokens, work.config.seed)
    _warn_about_reference(work, recipe, tokens, members)
    work.inputs["reference"] = {
        "version": [train.VERSION, models.VERSION],
        "recipe": train.identity(recipe),
        "tokens": work.fingerprint("tokens"),
    }
    fingerprint = work.fingerprint("reference")

    def build() -> dict[str, Any]:
        summary = _train(work, "reference", recipe, members, folder, fingerprint)
        return {**arms.summary_of(summary), "final_loss": summary["final_loss"]}

    run_stage(work, "reference", [Piece(folder, fingerprint, build)])


def _score(work: Work) -> None:
    settings, reference = work.config.score, work.config.reference
    context = settings.context or (
        train_context(work) if not reference.pretrained else reference.context or 512
    )
    work.inputs["score"] = {
        "version": [score.VERSION, score.METRIC_VERSION],
        "score": {**settings.results(), "context": context},
        "reference": work.fingerprint("reference"),
        "tokens": work.fingerprint("tokens"),
    }
    fingerprint = work.fingerprint("score")
    target = work.run.scores()

    def build() -> dict[str, Any]:
        parts = target.with_name(target.stem + ".parts")
        runs.set_aside(parts, fingerprint)
        runs.claim(parts, fingerprint)
        names = open_corpus(work)
        source = work.run.tokens("reference" if reference.pretrained else "main")
        pool = pool_documents(work, source)
        np.save(parts / "documents.npy", pool)
        model = reference_folder(work)
        lengths = tokens_module.open_tokens(source).lengths(pool)
        stated = runs.read_json(model / "config.json")
        memory = work.config.memory
        policy = score.policy_in(
            parts / "shapes.json",
            lambda: score.resolve_policy(lengths, stated, context, memory, settings),
        )
        unit_list = workers.units(names.index["bytes"][pool])
        task = workers.Task(
            str(model), str(source), str(parts), str(parts / "documents.npy"), policy, unit_list
        )
        workers.score_pool(task, settings.workers or workers.usual_number(), work.log, work.control)
        metadata = {
            "reference": work.fingerprint("reference"),
            "tokenizer": work.fingerprint("tokenizer"),
            "prefix": str(tokens_module.open_tokens(source).prefix),
            **score.policy_metadata(policy),
        }
        summary = score.write_scores(
            target, names, pool, *workers.joined(parts, len(unit_list)), metadata
        )
        runs.mark(target, "score", fingerprint, summary=summary)
        shutil.rmtree(parts)
        return summary

    run_stage(work, "score", [Piece(target, fingerprint, build)])


def _selection(work: Work) -> None:
    choice = work.config.selection
    work.inputs["selection"] = {
        "version": selection.VERSION,
        "selection": choice.results(),
        "seed": work.config.seed,
        "score": work.fingerprint("score"),
        "tokens": work.fingerprint("tokens"),
    }
    folder = work.run.selection(choice.name())

    def build() -> dict[str, Any]:
        scores_path = work.run.scores()
        scores = selection.read_scores(scores_path)
        pool = scored_documents(work)
        final_tokens = open_tokens(work).lengths(pool)
        kept = selection.select(scores, choice, work.config.seed, final_tokens)
        facts = selection.manifest(scores, choice, kept, final_tokens, work.config.seed)
        names = open_corpus(work)
        facts["domains"] = selection.domain_table(
            names.index["domain"][pool], names.domains, final_tokens, scores.num_bytes, kept.mask
        )
        with runs.folder_in_the_making(folder) as partial:
            ranks = selection.ranks(scores, choice, kept, work.config.seed)
            selection.write_kept(scores_path, kept, ranks, partial / "kept.parquet")
            np.save(partial / "kept.npy", kept.mask)
            np.save(partial / "tokens.npy", final_tokens)
            runs.write_json(partial / "manifest.json", facts)
        return {k: v for k, v in facts.items() if isinstance(v, int | str | float)}

    run_stage(work, "selection", [Piece(folder, work.fingerprint("selection"), build)])


def _final(work: Work) -> None:
    config = work.config
    tokens = open_tokens(work)
    pool = scored_documents(work)
    keys = open_corpus(work).index["key"][pool]
    lengths = tokens.lengths(pool) + 1  # with the closing end-of-text, as it is trained on
    kept = np.load(work.run.selection(config.selection.name()) / "kept.npy")
    unique = int(lengths[kept].sum())
    shape = models.shape_of(config.final.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    targets = arms.final_targets(config, shape, tokens.vocab_size, unique)
    passes = targets / unique
    if passes > 4:
        share = arms.effective_data(unique, targets) / targets
        work.warn("final", f"{passes:.1f} passes over the slice: worth {share:.0%} of fresh data")
    shared = {
        "version": [train.VERSION, models.VERSION],
        "tokens": work.fingerprint("tokens"),
        "primary": config.evaluation.primary,
    }
    pieces, described = [], {}
    for arm in arms.arms_of(config):
        recipe = arms.recipe_of(config.final, shape, vocabulary, targets, arm.seed)
        chosen_by: Any = work.fingerprint("selection")
        if arm.kind == "random":  # blind to scores: another slice of equal size shares it
            chosen_by = {"unique": unique, "seed": arm.seed, "pool": _pool_identity(work)}
        described[arm.name] = {**shared, "recipe": train.identity(recipe), "documents": chosen_by}
        documents = arms.documents_of(arm, pool, keys, lengths, kept)
        folder = work.run.final(arm.name)
        fingerprint = runs.fingerprint(described[arm.name])

        def build(
            recipe: train.Recipe = recipe,
            documents: np.ndarray = documents,
            folder: Path = folder,
            fingerprint: str = fingerprint,
        ) -> dict[str, Any]:
            return arms.summary_of(_train(work, "final", recipe, documents, folder, fingerprint))

        pieces.append(Piece(folder, fingerprint, build))
    work.inputs["final"] = described
    run_stage(work, "final", pieces)


def _evaluation(work: Work) -> None:
    names, tokens = open_corpus(work), open_tokens(work)
    members = split.open_split(work.run.split).members(split.TEST)
    documents = evaluate.test_documents(names, tokens, members, work.config.seed)
    if not len(documents):
        fix = "give more documents or raise split.test"
        raise DataError("the test part has no token", str(work.run.split), fix)
    context = models.training_defaults(work.config.final, models.shape_of(work.config.final.model))[
        "context"
    ]
    described, pieces = {}, []
    all_arms = arms.arms_of(work.config)
    size = int(tokens.lengths(documents).sum())
    for number, arm in enumerate(all_arms):
        folder, target = work.run.final(arm.name), work.run.evaluation(arm.name)
        described[arm.name] = {
            "version": [evaluate.VERSION, evaluate.METRIC_VERSION],
            "arm": runs.fingerprint(work.inputs["final"][arm.name]),
        }
        fingerprint = runs.fingerprint(described[arm.name])

        def build(
            folder: Path = folder,
            target: Path = target,
            fingerprint: str = fingerprint,
            number: int = number,
        ) -> dict[str, Any]:
            report = progress(work, "evaluation", "tokens")
            done = number * size

            def between(scored: int, slots: int, waited: float) -> None:
                nonlocal done
                done += scored
                report(done, len(all_arms) * size)

            return evaluate.evaluate_model(
                folder,
                names,
                tokens,
                documents,
                context,
                target,
                fingerprint,
                between,
                work.config.memory,
            )

        pieces.append(Piece(target, fingerprint, build))
    work.inputs["evaluation"] = described
    run_stage(work, "evaluation", pieces)


def _report(work: Work) -> None:
    from mlxprune import report

    work.inputs["report"] = {
        "version": report.VERSION,
        "evaluation": work.fingerprint("evaluation"),
        "selection": work.fingerprint("selection"),
        "report": work.config.report.model_dump(),
    }
    fingerprint = work.fingerprint("report")

    def build() -> dict[str, Any]:
        report.write(work.run, work.config, work.log.state)
        runs.mark(work.run.report, "report", fingerprint)
        return {"report": str(work.run.report)}

    run_stage(work, "report", [Piece(work.run.report, fingerprint, build)])


PIPELINE: dict[str, Callable[[Work], None]] = {
    "corpus": lambda work: None,  # it takes the sources, see run()
    "split": _split,
    "tokenizer": _tokenizer,
    "tokens": _tokens,
    "reference": _reference,
    "score": _score,
    "selection": _selection,
    "final": _final,
    "evaluation": _evaluation,
    "report": _report,
}


# --- what the stages share --------------------------------------------------------------------


def _train(
    work: Work,
    stage: str,
    recipe: train.Recipe,
    documents: np.ndarray,
    folder: Path,
    fingerprint: str,
) -> dict[str, Any]:
    names, tokens = open_corpus(work), open_tokens(work)
    stream = train.Stream(tokens, documents, names.index["key"][documents], recipe.seed)
    members = split.open_split(work.run.split).members(split.VALIDATION)
    # A forward pass costs a third of a step: all validations together stay near 5 % of the work.
    budget = min(1_000_000, max(20_000, int(0.15 * recipe.targets) // train.VALIDATIONS_PER_RUN))
    held_out = evaluate.validation_documents(names, tokens, members, work.config.seed, budget)
    settings = work.config.reference if stage == "reference" else work.config.final
    return train.train(
        recipe,
        stream,
        folder,
        fingerprint,
        work.run.tokenizer,
        evaluate.validator(
            names, tokens, held_out, recipe.config, recipe.context, work.config.memory
        ),
        stage,
        work.log,
        work.control,
        settings.gradient_checkpointing,
        work.config.memory,
    )


def open_corpus(work: Work) -> corpus.Corpus:
    return corpus.open_corpus(work.run.corpus, work.config.data)


def open_tokens(work: Work) -> tokens_module.Tokens:
    return tokens_module.open_tokens(work.run.tokens())


def pool_documents(work: Work, tokens_folder: Path) -> np.ndarray:
    """The scorable documents of the train part: those with at least one token."""
    members = split.open_split(work.run.split).members(split.TRAIN)
    lengths = tokens_module.open_tokens(tokens_folder).lengths(members)
    if not (lengths > 0).any():
        raise DataError("the pool has no token", str(work.run.split), "give more documents")
    return members[lengths > 0]


def scored_documents(work: Work) -> np.ndarray:
    name = "reference" if work.config.reference.pretrained else "main"
    return pool_documents(work, work.run.tokens(name))


def reference_folder(work: Work) -> Path:
    pointer = work.run.reference() / "pretrained.json"
    return Path(runs.read_json(pointer)["folder"]) if pointer.exists() else work.run.reference()


def train_context(work: Work) -> int:
    settings = work.config.reference
    return int(models.training_defaults(settings, models.shape_of(settings.model))["context"])


def _pool_identity(work: Work) -> str:
    return runs.fingerprint(work.fingerprint("split"), work.config.reference.pretrained)


def _warn_about_reference(
    work: Work, recipe: train.Recipe, tokens: tokens_module.Tokens, members: np.ndarray
) -> None:
    body, tables = models.parameter_counts(recipe.config)
    if recipe.targets < 10 * body:
        ratio = recipe.targets / body
        work.warn("reference", f"the reference sees {ratio:.1f} tokens a parameter (20 is usual)")
    if tables > 0.35 * (body + tables):
        share = tables / (body + tables)
        work.warn("reference", f"{share:.0%} of the reference is embedding: a smaller vocabulary?")
    unique = int(tokens.lengths(members).sum()) + len(members)
    if recipe.targets > 1.05 * unique:
        passes = recipe.targets / max(unique, 1)
        work.warn("reference", f"the reference part is short: {passes:.1f} passes over it")
