"""Bench: how fast this machine multiplies, scores, trains, tokenizes and selects.

Every section runs in processes of its own, because a batch that is too large can end one. Documents
and weights are random: speed does not depend on them. bench/ in the repository has the programs
that compare with other tools.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from mlxprune.errors import RunError, UsageError, closest, one_line
from mlxprune.model.architecture import flops_per_token, full_config, preset_of
from mlxprune.model.weights import initialise_model
from mlxprune.records import Json, SparseRecord, plain, record_of

T = TypeVar("T")
SECTIONS = ("peak", "scoring", "training", "tokenizing", "selection")
SECONDS = 4.0  # of work that a figure rests on, at least
MEDIAN_LENGTH, SPREAD, LONGEST = 350, 1.0, 8192  # of documents: lognormal, as on the web
UNIT = 1000  # documents of about 2 MB, which a run scores at a time
SELECTED = 2_000_000


class Workload(SparseRecord):
    """What the sections measure, each for about ``seconds``."""

    model: str
    vocab_size: int
    context: int
    seconds: float
    batch_tokens: int | None = None  # of scoring; None: as a run would choose, like the next
    accumulate: int | None = None  # micro-batches of a training step


class PeakFigures(SparseRecord):
    """A large matrix product, and what the machine lets a run have."""

    device: str
    backend: str
    dtype: str
    score_workers: int
    memory_for_batches: int
    flops_per_second: float
    utilisation: float | None = None


class ScoringFigures(SparseRecord):
    """``tokens_per_second`` and ``flops_per_second`` of all processes together."""

    tokens_per_second: float
    flops_per_second: float
    padding_share: float
    input_wait_share: float
    batch_tokens: int
    shapes: int
    peak_memory_bytes: int
    processes: int | None = None
    utilisation: float | None = None


class TrainingFigures(SparseRecord):
    tokens_per_second: float
    flops_per_second: float
    batch: tuple[int, int]  # sequences, targets of each
    accumulate: int
    peak_memory_bytes: int
    utilisation: float | None = None


class TokenizingFigures(SparseRecord):
    bytes_per_second: float
    library_bytes_per_second: float
    of_the_library: float


class SelectionFigures(SparseRecord):
    documents_per_second: float
    documents: int


class MachineFigures(SparseRecord):
    """What ``bench --json`` prints; ``tune``: what was tried, and the fastest values by key."""

    what: Workload
    peak: PeakFigures | None = None
    scoring: ScoringFigures | None = None
    training: TrainingFigures | None = None
    tokenizing: TokenizingFigures | None = None
    selection: SelectionFigures | None = None
    tune: Json | None = None


def measure_machine(
    model: str,
    vocab_size: int,
    context: int,
    only: list[str],
    tune: bool,
    say: Callable[[str], None] = lambda line: None,
    seconds: float = SECONDS,
) -> MachineFigures:
    """The figures of the sections ``only``, or of all, each from about ``seconds`` of work; with
    ``tune`` also the fastest of several batch values."""
    for name in only:
        if name not in SECTIONS:
            raise UsageError(f"no section {name!r}", "--only", closest(name, SECTIONS))
    preset_of(model)
    what = Workload(model=model, vocab_size=vocab_size, context=context, seconds=seconds)
    chosen = only or list(SECTIONS)
    peak = _child("peak", what, PeakFigures)
    figures = MachineFigures(what=what)
    if "peak" in chosen:
        say("peak ...")
        figures.peak = msgspec.structs.replace(peak, utilisation=1.0)
    if "scoring" in chosen:
        say("scoring ...")
        scoring = _scoring_together(what, peak)
        scoring.utilisation = scoring.flops_per_second / peak.flops_per_second
        figures.scoring = scoring
    if "training" in chosen:
        say("training ...")
        training = _child("training", what, TrainingFigures)
        training.utilisation = training.flops_per_second / peak.flops_per_second
        figures.training = training
    if "tokenizing" in chosen:
        say("tokenizing ...")
        figures.tokenizing = _child("tokenizing", what, TokenizingFigures)
    if "selection" in chosen:
        say("selection ...")
        figures.selection = _child("selection", what, SelectionFigures)
    if tune:
        figures.tune = _tune(what, peak, say)
    return figures


def _scoring_together(what: Workload, peak: PeakFigures) -> ScoringFigures:
    """Scoring runs in as many processes as a run would use, and its rates add up."""
    children = [start_section("scoring", what) for _ in range(peak.score_workers)]
    try:
        parts = [finish_section("scoring", child, ScoringFigures) for child in children]
    finally:
        for child in children:
            child.kill()
    return msgspec.structs.replace(
        parts[0],
        tokens_per_second=sum(part.tokens_per_second for part in parts),
        flops_per_second=sum(part.flops_per_second for part in parts),
        processes=len(parts),
    )


def _tune(what: Workload, peak: PeakFigures, say: Callable[[str], None]) -> Json:
    """The batch values that were fastest here, to put into a configuration."""
    tried: dict[str, dict[str, float]] = {"score.batch_tokens": {}, "final.accumulate": {}}
    for batch in (1024, 4096, 16_384, 65_536):
        if batch >= what.context:
            say(f"scoring, {batch} tokens a batch ...")
            given = msgspec.structs.replace(what, batch_tokens=batch)
            rate = _rate(functools.partial(_scoring_together, given, peak))
            tried["score.batch_tokens"][str(batch)] = rate
    steps_differ = peak.backend != "cpu"  # there a step is cut into chunks anyway
    for parts in (1, 2, 4, 8) if steps_differ else ():
        say(f"training, {parts} micro-batches a step ...")
        given = msgspec.structs.replace(what, accumulate=parts)
        rate = _rate(functools.partial(_child, "training", given, TrainingFigures))
        tried["final.accumulate"][str(parts)] = rate
    best = {
        key: int(max(rates, key=lambda n: rates[n]))
        for key, rates in tried.items()
        if any(rates.values())
    }
    return {"tried": tried, **best}


def _rate(measure: Callable[[], ScoringFigures | TrainingFigures]) -> float:
    """Tokens a second, or 0 where the process died: most often the memory ran out."""
    try:
        return measure().tokens_per_second
    except RunError:
        return 0.0


def start_section(name: str, what: Workload) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "mlxprune.diagnostics.benchmark",
        name,
        json.dumps(plain(what)),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_section(name: str, child: subprocess.Popen[str], kind: type[T]) -> T:
    try:
        out, err = child.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        child.kill()
        raise RunError(
            f"{name} took more than 15 minutes", "bench", "try a smaller --model"
        ) from None
    if child.returncode:
        last = one_line(err.strip().splitlines()[-1] if err.strip() else f"exit {child.returncode}")
        raise RunError(
            f"the section {name} died: {last}", "bench", "a smaller --model or --context"
        )
    return record_of(json.loads(out.strip().splitlines()[-1]), kind)


def _child(name: str, what: Workload, kind: type[T]) -> T:
    return finish_section(name, start_section(name, what), kind)


def _peak(what: Workload) -> PeakFigures:
    from mlxprune.engine import backend

    device = backend.detect()
    return PeakFigures(
        device=device.device,
        backend=device.name,
        dtype=str(device.train_dtype).removeprefix("mlx.core."),
        score_workers=device.score_workers,
        memory_for_batches=device.memory_bytes,
        flops_per_second=backend.peak_flops(),
    )


def _random_model(what: Workload) -> tuple[Any, Json]:
    from mlxprune.engine import backend

    shape = preset_of(what.model)
    config = full_config(shape, what.vocab_size, what.context, 1, 1)
    model = initialise_model(config, 0)
    model.set_dtype(backend.detect().score_dtype)
    return model, config


def _scoring(what: Workload) -> ScoringFigures:
    from mlxprune.config.schema import Score
    from mlxprune.engine import backend
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.windows import batches_of, resolve_policy, windows_of
    from mlxprune.tokenization.token_file import Tokens

    device = backend.detect()
    if device.on_cpu:
        backend.set_threads(1)
    backend.limit_memory()
    model, config = _random_model(what)
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(MEDIAN_LENGTH), SPREAD, 4000)).astype(np.int64)
    lengths = np.clip(lengths, 1, LONGEST)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(2, what.vocab_size, offsets[-1]).astype(np.uint32)
    tokens = Tokens(ids, offsets, what.vocab_size, 1, 1)
    settings = Score(batch_tokens=what.batch_tokens)
    policy = resolve_policy(lengths, config, what.context, settings=settings)
    score_documents(model, tokens, np.arange(4), policy)  # warm-up
    unit, _ = windows_of(lengths[:UNIT], policy)  # as many as a run scores at a time
    slots = sum(len(rows) * edge for edge, _, rows in batches_of(unit, policy))
    sums = {"tokens": 0, "waited": 0.0}
    flops = 0.0

    def between(scored: int, _: int, waited: float) -> None:
        sums["tokens"] += scored
        sums["waited"] += waited

    began, at, size = time.perf_counter(), 0, 250
    while (elapsed := time.perf_counter() - began) < what.seconds:
        documents = np.arange(at, at + size) % len(lengths)
        score_documents(model, tokens, documents, policy, between)
        found, _ = windows_of(lengths[documents], policy)
        for length, count in zip(
            *np.unique(found.stop - found.first, return_counts=True), strict=True
        ):
            flops += int(length * count) * flops_per_token(config, int(length))
        at += size
    elapsed = time.perf_counter() - began
    return ScoringFigures(
        tokens_per_second=sums["tokens"] / elapsed,
        flops_per_second=flops / elapsed,
        padding_share=1 - int((unit.stop - unit.first).sum()) / slots,
        input_wait_share=sums["waited"] / elapsed,
        batch_tokens=policy.batch_tokens,
        shapes=len(policy.edges),
        peak_memory_bytes=backend.peak_memory(),
    )


def _training(what: Workload) -> TrainingFigures:
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.memory_bounds import memory_plan

    backend.limit_memory()
    shape = preset_of(what.model)
    context = what.context
    config = full_config(shape, what.vocab_size, context, 1, 1)
    model = initialise_model(config, 0)
    batch = max(1, 4096 // context // 8) * 8
    parts = what.accumulate or memory_plan(config, context).micro_batches(batch, "adamw", False)
    its = make_optimizer("adamw", 1e-4, 0.1)
    its.init(model.trainable_parameters())
    step = backend.step_function(model, its, parts, 1.0)
    ids = np.random.default_rng(0).integers(0, what.vocab_size, (batch, context + 1))
    ids = ids.astype(np.int32)
    step(ids[:, :-1], ids[:, 1:], 1e-4)()
    steps, began = 0, time.perf_counter()
    while steps < 3 or time.perf_counter() - began < what.seconds:
        step(ids[:, :-1], ids[:, 1:], 1e-4)()
        steps += 1
    rate = steps * batch * context / (time.perf_counter() - began)
    return TrainingFigures(
        tokens_per_second=rate,
        flops_per_second=3 * rate * flops_per_token(config, context),
        batch=(batch, context),
        accumulate=parts,
        peak_memory_bytes=backend.peak_memory(),
    )


def _tokenizing(what: Workload) -> TokenizingFigures:
    """The texts of this Python's installation: through the library alone, and from file to file."""
    from mlxprune import machine
    from mlxprune.config.data import Data
    from mlxprune.config.schema import TrainTokenizer
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.data.index import open_corpus
    from mlxprune.data.indexing import build_index
    from mlxprune.data.sources import find_sources
    from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
    from mlxprune.tokenization.token_file import encode_corpus
    from mlxprune.tokenization.tokenizer import load_tokenizer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo_corpus(folder / "texts", 2_000_000)
        data = Data.model_validate({"paths": [str(folder / "texts")]})
        for part in ("corpus", "tokenizer", "tokens"):
            (folder / part).mkdir()
        build_index(data, find_sources(data), folder / "corpus")
        found = open_corpus(folder / "corpus", data)
        everything = np.ones(len(found), bool)
        texts = [text for _, text in found.texts(everything)]
        settings = TrainTokenizer(vocab_size=min(what.vocab_size, 4096), max_bytes=4_000_000)
        train_tokenizer(settings, iter(texts), machine.cores(), folder / "tokenizer")
        loaded = load_tokenizer(folder / "tokenizer")
        size = sum(len(t.encode()) for t in texts)
        seconds: dict[str, list[float]] = {"library": [], "ours": []}
        for _ in range(3):
            began = time.perf_counter()
            loaded.encode(texts)
            seconds["library"].append(time.perf_counter() - began)
            began = time.perf_counter()
            encode_corpus(
                found, everything.astype(np.uint8), 0, loaded, folder / "tokens", lambda a, b: None
            )
            seconds["ours"].append(time.perf_counter() - began)
    library, ours = (sorted(seconds[n])[1] for n in ("library", "ours"))
    return TokenizingFigures(
        bytes_per_second=size / ours,
        library_bytes_per_second=size / library,
        of_the_library=library / ours,
    )


def _selection(what: Workload) -> SelectionFigures:
    from mlxprune.config.slices import Slice
    from mlxprune.scoring.score_file import Scores
    from mlxprune.selection.selector import select_slice

    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 2000, SELECTED)
    nll = tokens * np.abs(generator.normal(4, 1, SELECTED))
    keys = generator.integers(0, 2**63, SELECTED).astype(np.uint64)
    scores = Scores(keys, nll, tokens, tokens)
    began = time.perf_counter()
    select_slice(scores, Slice(), 0)
    seconds = time.perf_counter() - began
    return SelectionFigures(documents_per_second=SELECTED / seconds, documents=SELECTED)


def benchmark_lines(figures: MachineFigures) -> list[str]:
    """The figures as a table for people."""
    what = figures.what
    shown = [f"{what.model}, vocabulary {what.vocab_size:,}, context {what.context}"]
    if (peak := figures.peak) is not None:
        rate = peak.flops_per_second / 1e9
        shown.append(f"peak        {rate:>12,.0f} GFLOP/s   {peak.device}, {peak.dtype}")
    if (scoring := figures.scoring) is not None:
        shown.append(
            f"scoring     {scoring.tokens_per_second:>12,.0f} tokens/s  "
            f"utilisation {scoring.utilisation or 0:.0%}, padding {scoring.padding_share:.1%}, "
            f"waiting for input {scoring.input_wait_share:.1%}, {scoring.processes} "
            f"process(es) of {scoring.peak_memory_bytes / 2**20:,.0f} MiB"
        )
    if (training := figures.training) is not None:
        batch, context = training.batch
        shown.append(
            f"training    {training.tokens_per_second:>12,.0f} targets/s "
            f"utilisation {training.utilisation or 0:.0%}, batch {batch} x {context} in "
            f"{training.accumulate} part(s), {training.peak_memory_bytes / 2**20:,.0f} MiB"
        )
    if (tokenizing := figures.tokenizing) is not None:
        shown.append(
            f"tokenizing  {tokenizing.bytes_per_second / 1e6:>12,.1f} MB/s      "
            f"{tokenizing.of_the_library:.0%} of what the library alone reaches"
        )
    if (selected := figures.selection) is not None:
        rate = selected.documents_per_second / 1e6
        shown.append(f"selection   {rate:>12,.1f} M documents/s")
    if (tune := figures.tune) is not None:
        shown += [
            "",
            "# fastest here; put this into the configuration",
            *(f"{k.replace('.', ': {')}: {v}}}" for k, v in tune.items() if k != "tried"),
        ]
    return shown


_CHILDREN: dict[str, Callable[[Workload], SparseRecord]] = {
    "peak": _peak,
    "scoring": _scoring,
    "training": _training,
    "tokenizing": _tokenizing,
    "selection": _selection,
}


if __name__ == "__main__":
    workload = record_of(json.loads(sys.argv[2]), Workload)
    print(json.dumps(plain(_CHILDREN[sys.argv[1]](workload))))
