"""The pipeline: read this file first.

    corpus -> split -> tokenizer -> tokens -> reference -> score -> selection -> final
           -> evaluation -> report

Every arrow is a file in the run folder. A stage is a function that names its inputs and its pieces;
a piece whose fingerprint already stands in its marker is reused, anything else is built, and the
marker comes last. So a run that is started again does what is missing or out of date, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import (
    accounting,
    assess,
    corpus,
    costs,
    finals,
    lock,
    plan,
    readers,
    references,
    runs,
    selection,
    split,
    study,
)
from mlxprune import model as models
from mlxprune import scores as score_files
from mlxprune import sources as source_files
from mlxprune import tokenizer as tokenizers
from mlxprune import tokens as tokens_module
from mlxprune.config import Config
from mlxprune.control import Control
from mlxprune.errors import DataError
from mlxprune.events import EventLog
from mlxprune.keys import mix
from mlxprune.runs import STAGES, RunFolder
from mlxprune.slices import Slice
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
            need = costs.disk_bytes(config, sum(f["size"] for f in facts))
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
    found = study.open_corpus(work.run, work.config)
    for choice in work.config.slices:
        score_files.refuse_unknown_domains(choice, tuple(found.domains))
    for reason, count in found.summary["skipped"].items():
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
            return split.build(work.config, study.open_corpus(work.run, work.config), partial)

    run_stage(work, "split", [Piece(work.run.split, work.fingerprint("split"), build)])
    found = split.open_split(work.run.split)
    table = found.table
    if found.beyond_need:
        left = f"{found.beyond_need:,} documents are left out: the budgets need no larger pool"
        work.warn("split", f"{left} (--pool all, in a new run, takes them)")
    for part in ("train", "test", "validation"):
        if not table[part]["documents"]:
            fix = "give more documents, or set split shares by hand"
            raise DataError(f"the {part} part has no document", str(work.run.split), fix)
    for choice in work.config.slices:
        selection.refuse_nothing(choice, table["train"]["documents"])
    missing = split.without(table, "test")
    if missing:
        count = len(table["test"]["domains"])
        names = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        held = f"macro is over {count - len(missing)} of {count} domains"
        work.warn("split", f"no test document in {names}: {held}")
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
            texts = _texts_to_learn_from(work, settings.train.max_bytes)
            return tokenizers.train(settings.train, texts, cores(), partial)

    run_stage(work, "tokenizer", [Piece(folder, work.fingerprint("tokenizer"), build)])


def _texts_to_learn_from(work: Work, most: int) -> Iterator[str]:
    """The reference part, or with cross-scoring the pool; of more text than is read, a sample."""
    which = split.TRAIN if work.config.split.cross else split.REFERENCE
    members = split.open_split(work.run.split).members(which)
    if not len(members):
        fix = "set split.reference, or use tokenizer.pretrained"
        raise DataError("no reference document to train on", str(work.run.split), fix)
    names = study.open_corpus(work.run, work.config)
    size = int(names.index["bytes"][members].sum())
    if size > most:
        drawn = mix(names.index["key"][members], f"tokenizer {work.config.seed}")
        members = members[drawn.astype(np.float64) / 2.0**64 < 1.05 * most / size]
    wanted = np.zeros(len(names), bool)
    wanted[members] = True
    return (text for _, text in names.texts(wanted))


def _tokens(work: Work) -> None:
    work.inputs["tokens"] = {
        "version": tokens_module.VERSION,
        "split": work.fingerprint("split"),
        "tokenizer": work.fingerprint("tokenizer"),
    }
    pieces = [_tokens_piece(work, "main", work.run.tokenizer)]
    for scorer in study.scorers_of(work.config):
        if scorer.reference.pretrained:  # it scores with its own tokenizer
            source = models.fetch(scorer.reference.pretrained)
            pieces.append(_tokens_piece(work, scorer.tokenizer, source))
    run_stage(work, "tokens", pieces)
    held = study.open_tokens(work.run)
    facts = runs.read_json(work.run.tokens() / "tokens.json")["parts"]
    parts = (
        facts.get(str(p), 0) for p in (split.REFERENCE, split.TRAIN, split.VALIDATION, split.TEST)
    )
    sizes = costs.Sizes(len(held.ids), *parts)
    flops = costs.estimate(work.config, sizes, False)["stage_flops"]
    work.log.emit("tokens", "forecast", flops=flops)


def _tokens_piece(work: Work, name: str, tokenizer_folder: Path) -> Piece:
    folder = work.run.tokens(name)
    identity = runs.files_identity(tokenizer_folder, tokenizers.TOKENIZER_FILES)

    def build() -> dict[str, Any]:
        with runs.folder_in_the_making(folder) as partial:
            return tokens_module.build(
                study.open_corpus(work.run, work.config),
                split.open_split(work.run.split).part,
                split.LEFT_OUT,
                tokenizers.load(tokenizer_folder),
                partial,
                progress(work, "tokens", "bytes"),
            )

    return Piece(folder, runs.fingerprint(work.fingerprint("tokens"), identity), build)


def _selection(work: Work) -> None:
    config, run = work.config, work.run
    shared = {
        "version": selection.VERSION,
        "seed": config.seed,
        "score": work.fingerprint("score"),
        "tokens": work.fingerprint("tokens"),
    }
    chosen = {choice.label: choice.results() for choice in config.slices}
    one = next(iter(chosen.values()))
    work.inputs["selection"] = {**shared, "selection": one if len(chosen) == 1 else chosen}
    pieces = [
        _slice(work, choice, runs.fingerprint(shared, chosen[choice.label]))
        for choice in config.slices
    ]
    run_stage(work, "selection", pieces)
    for choice in config.slices:
        facts = runs.read_json(run.selection(choice.label) / "manifest.json")
        lost = accounting.lost_domains(facts["domains"])
        if lost:
            more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
            work.warn("selection", f"{choice.label}: {', '.join(lost[:4])}{more}")


def _slice(work: Work, choice: Slice, fingerprint: str) -> Piece:
    config, run = work.config, work.run
    folder = run.selection(choice.label)

    def build() -> dict[str, Any]:
        scores = study.slice_scores(run, config, choice)
        pool = study.pool_documents(run, config)
        final_tokens = study.open_tokens(run).lengths(pool)
        kept = selection.select(scores, choice, config.seed, final_tokens)
        facts = selection.manifest(scores, choice, kept, final_tokens, config.seed)
        names = study.open_corpus(run, config)
        domain = names.index["domain"][pool].astype(np.int64)
        of = accounting.columns(
            domain,
            len(names.domains),
            scores.num_tokens,
            final_tokens,
            scores.num_bytes,
            score_files.metric(scores, choice),
        )
        facts["domains"] = accounting.domain_table(domain, names.domains, of, kept.mask)
        facts["lengths"] = accounting.length_table(scores.num_tokens, of, kept.mask)
        if config.split.cross:
            facts["agreement"] = _agreement(work, choice)
        with runs.folder_in_the_making(folder) as partial:
            ranks = selection.ranks(scores, choice, kept, config.seed)
            file = run.scores(choice.reference or config.scorers[0].name)
            selection.write_kept(file, kept, ranks, partial / "kept.parquet")
            np.save(partial / "kept.npy", kept.mask)
            np.save(partial / "tokens.npy", final_tokens)
            runs.write_json(partial / "manifest.json", facts)
        return {k: v for k, v in facts.items() if isinstance(v, int | str | float)}

    return Piece(folder, fingerprint, build)


def _agreement(work: Work, choice: Slice) -> dict[str, Any]:
    """How far the folds' references agree on the validation part, which all of them scored."""
    held_out = study.validation_documents(work.run, work.config)
    shared = np.sort(study.open_corpus(work.run, work.config).index["key"][held_out])
    own, common = [], []
    for scorer in study.scorers_of(work.config):
        found = score_files.read_scores(work.run.scores(scorer.name))
        inside = np.isin(found.key, shared)
        own.append(found.take(~inside))
        common.append(found.take(inside))
    low, high = (float(b) for b in selection.bounds(choice))
    plain = choice.model_copy(update={"metric": "perplexity"})
    return accounting.agreement(own, common, low, high, plain)


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
    "reference": references.train_references,
    "score": references.score_pool,
    "selection": _selection,
    "final": finals.train_arms,
    "evaluation": assess.evaluate_arms,
    "report": _report,
}
