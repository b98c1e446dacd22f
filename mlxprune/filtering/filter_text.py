"""Filter text: what a slice of a study would keep of text that the study never saw.

The input is cut into blocks, which processes filter one by one; a start that is killed goes on
behind the blocks that are done, and ends with the same bytes. With an exact rate the scores of all
blocks come first, then the rows are read once more.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune import machine
from mlxprune.config.data import Data
from mlxprune.data.accounts import Account, notes_on, refuse_bad_input
from mlxprune.data.hashing import hash_text, mix
from mlxprune.data.indexing import input_facts
from mlxprune.data.original_rows import domain_key_of
from mlxprune.data.output_file import SUFFIXES, ParquetFile
from mlxprune.data.sources import FoundFiles, Source, find_sources, notes_on_files
from mlxprune.errors import DamagedFile, UsageError
from mlxprune.execution.context import Execution
from mlxprune.execution.crew import share_out
from mlxprune.execution.lifecycle import alone
from mlxprune.execution.messages import unpack
from mlxprune.execution.progress import stage_progress
from mlxprune.execution.stage import tell_of_damage
from mlxprune.execution.supervision import supervised
from mlxprune.experiment.document_account import DocumentAccount
from mlxprune.files import PARTIAL, fingerprint_of, refuse_taken, write_atomic
from mlxprune.filtering.basis import FilterBasis
from mlxprune.filtering.blocks import Block, BlockReader, block_bytes, write_block
from mlxprune.filtering.cuts import groups_of
from mlxprune.filtering.exact_rank import ExactRank, RankedRows
from mlxprune.filtering.order import (
    BlockDone,
    BlockSummary,
    DomainCounts,
    FilterOrder,
    read_summary,
    write_summary,
)
from mlxprune.filtering.result import (
    FilterResult,
    filtered_domain,
    limits_of,
    warnings_on,
)
from mlxprune.filtering.worker import DECIDED, FILTER, write_kept_rows
from mlxprune.model.device_choice import settle_device
from mlxprune.records import read_record, write_record
from mlxprune.run.event_kinds import Progress, Reason, StageEnd, StageStart, StageStatus
from mlxprune.run.events import Listener
from mlxprune.scoring.workers import usual_workers
from mlxprune.tokenization.prepare import files_read

FILTER_VERSION = 1
RESULT, IDENTITY, WORK = "filter.json", "towards", "work"
BAD_ROWS_KEPT = 10_000


def filter_text(
    basis: FilterBasis,
    data: Data,
    out: Path,
    compress: str = "zstd",
    workers: int | None = None,
    listeners: list[Listener] | None = None,
) -> FilterResult:
    """Filter all of the data into ``out``: kept/ (rows as they stand in their files), scores/, and
    filter.json. Called again, it goes on, or says what it said before.

    Raises UsageError: a folder that holds something else; DataError: files that cannot be read.
    """
    if compress not in SUFFIXES:
        raise UsageError(f"--compress {compress} cannot be", "--compress", "zstd, gzip or none")
    out = out.absolute()
    found = find_sources(data)
    if found.problems:
        refuse_bad_input(data, [], found.problems)
    facts = input_facts(found.sources)
    _refuse_inside(out, data)
    read = files_read(data, found, facts)
    times = [file.mtime_ns for file in facts]  # a file that changes under way is another input
    identity = fingerprint_of(
        FILTER_VERSION, basis.identity, data.identity(), read, times, compress
    )
    if is_finished(out, identity):
        return read_record(out / RESULT, FilterResult)
    config = basis.config.model_copy(update={"data": data})
    with alone(config, out, listeners or []) as execution:
        write_atomic(out / WORK / IDENTITY, identity)
        filtering = _Filtering(execution, basis, found, compress, workers)
        result = filtering.run(identity)
        write_record(out / RESULT, result)
        shutil.rmtree(out / WORK)
        return result


def _refuse_inside(out: Path, data: Data) -> None:
    """Raises UsageError where what is kept would be read the next time."""
    for entry in data.paths:
        if "://" not in entry.path and out.is_relative_to(Path(entry.path).absolute()):
            raise UsageError("the folder lies inside the data", str(out), "choose another --out")


def is_finished(out: Path, identity: str) -> bool:
    """Whether all is done. Raises UsageError where the folder holds something else."""
    fix = "choose another --out"
    if (out / RESULT).exists():
        if read_record(out / RESULT, FilterResult).identity == identity:
            return True
        raise UsageError("the folder holds other filtered text", str(out), fix)
    try:
        begun = (out / WORK / IDENTITY).read_text(encoding="utf-8")
    except OSError:
        # A kill may leave a start that has not said yet what it is for.
        own = {"lock", ".lock", "events", "commands", WORK}
        if not out.is_dir() or {p.name.removesuffix(PARTIAL) for p in out.iterdir()} - own:
            refuse_taken(out)
        return False
    if begun != identity:
        fix = f"remove it, or {fix}"
        raise UsageError("the folder holds other text that is half filtered", str(out), fix)
    return False


@dataclass
class _Tally:
    """How far it is: bytes of the input files, of those that are done."""

    total: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    before: int = 0


class _Filtering:
    def __init__(
        self,
        execution: Execution,
        basis: FilterBasis,
        found: FoundFiles,
        codec: str,
        workers: int | None,
    ) -> None:
        self.execution, self.basis, self.found = execution, basis, found
        self.sources: list[Source] = found.sources
        out = execution.run.path
        work = out / WORK
        if any(need.kind == "model" for need in basis.needs):
            basis.settle(out)
            settle_device(execution)
            usual = usual_workers()
        else:
            usual = machine.cores()
        self.workers = workers or execution.config.score.workers or usual
        self.order = FilterOrder(
            out=out,
            work=work,
            sources=self.sources,
            domain_keys=[domain_key_of(source) for source in self.sources],
            models=basis.models(work),
            slice=basis.choice.model_dump(mode="json"),
            cuts=basis.cuts,
            codec=codec,
            curve=basis.curve,
            overlap=basis.overlap,
            percentiles=basis.percentiles,
        )
        self.size = block_bytes(self.sources)
        stored = sum(source.path.stat().st_size for source in self.sources)
        self.tally = _Tally(stored)
        self.stored: dict[int, int] = {}  # bytes of the input behind blocks under way
        self.told: dict[int, list[str]] = {}

    def run(self, identity: str) -> FilterResult:
        self.execution.log.emit("score", StageStart(why=Reason.ASKED))
        began = time.monotonic()
        supervised(
            self.execution.log,
            "score",
            "filtering",
            self._attempt,
            lambda: len(self._done()),
            self._smaller,
        )
        summaries = self._summaries()
        accounts = self._accounts(summaries)
        refuse_bad_input(self.execution.config.data, accounts, [])
        if self.basis.cuts is None:
            self._decide(len(summaries))
            summaries = self._summaries()
        self._write_bad_rows(len(summaries))
        ended = StageEnd(state=StageStatus.DONE, seconds=time.monotonic() - began)
        self.execution.log.emit("score", ended)
        return self._result(identity, summaries, accounts)

    def _smaller(self) -> str | None:
        """Batches of half the size, where there is a model."""
        models = []
        for model in self.order.models:
            policy = model.policy
            if policy is None or policy.batch_tokens // 2 < policy.context:
                return None
            halved = replace(policy, batch_tokens=policy.batch_tokens // 2)
            models.append(replace(model, policy=halved))
        self.order = replace(self.order, models=models)
        return f"{models[0].policy.batch_tokens:,} tokens a batch" if models[0].policy else None

    def _done(self) -> set[int]:
        """What is damaged is forgotten, with what was decided of it, and done again."""
        done = set()
        for path in self.order.summary(0).parent.glob("[0-9]*.json"):
            number = int(path.stem)
            if read_summary(self.order, number) is not None:
                done.add(number)
                continue
            path.unlink()
            (self.order.work / "decided" / f"{number:05d}").unlink(missing_ok=True)
            tell_of_damage(self.execution, "score", [path], "its block is filtered again")
        return done

    def _attempt(self) -> None:
        """Every block that is not done yet, by processes. Raises ChildEnded."""
        done = self._done()
        reader = BlockReader(self.sources, self.size, self.order.work, done)
        self.told = reader.told
        self.stored.clear()
        self.tally.done = self.tally.before = 0
        self.tally.began = time.monotonic()
        shutil.rmtree(self.order.block(0).parent, ignore_errors=True)
        units = self._put_down(reader, done)
        share_out(self.execution, FILTER, self.order, units, self.workers, self._hear)

    def _put_down(self, reader: BlockReader, done: set[int]) -> Iterator[int]:
        for block in reader.blocks():
            if block.number in done:
                self.tally.done += block.stored
                self.tally.before += block.stored
                continue
            self.stored[block.number] = block.stored
            write_block(block, self.order.block(block.number))
            yield block.number

    def _hear(self, value: bytes) -> bool:
        told: BlockDone = unpack(value, BlockDone)
        self.tally.done += self.stored.pop(told.number, 0)
        if not told.documents:
            self._refuse_early(told.number)
        elapsed = time.monotonic() - self.tally.began
        rate = (self.tally.done - self.tally.before) / elapsed if elapsed > 0 else 0.0
        left = self.tally.total - self.tally.done
        event = Progress(
            done=self.tally.done,
            total=self.tally.total,
            unit="bytes",
            rate=rate,
            eta_seconds=left / rate if rate else None,
            peak_memory_bytes=told.memory,
        )
        self.execution.log.emit("score", event)
        return True

    def _refuse_early(self, number: int) -> None:
        """Nobody waits a night to hear that a key is wrong: a block without a document is looked at
        as though its files were all that there is."""
        summary = self._summary(number)
        accounts = [Account(self.sources[code]) for code in summary.files]
        for account, part in zip(accounts, summary.files.values(), strict=True):
            account.add(part)
        if any(account.bad for account in accounts):
            refuse_bad_input(self.execution.config.data, accounts, [], sampled=True)

    def _summaries(self) -> list[BlockSummary]:
        numbers = sorted(self._done())
        return [self._summary(number) for number in numbers]

    def _summary(self, number: int) -> BlockSummary:
        found = read_summary(self.order, number)
        if found is None:
            fix = "run the same command again: it does it again"
            raise DamagedFile("the file is damaged", str(self.order.summary(number)), fix)
        return found

    def _accounts(self, summaries: list[BlockSummary]) -> list[Account]:
        accounts = [Account(source) for source in self.sources]
        for summary in summaries:
            for code, part in summary.files.items():
                accounts[code].add(part)
        for code, notes in self.told.items():
            accounts[code].notes += notes
        return accounts

    # --- an exact rate --------------------------------------------------------------------------

    def _scored(self, numbers: range) -> Iterator[RankedRows]:
        for number in numbers:
            yield _ranked_rows(pq.read_table(self.order.scores(number, False)))

    def _decide(self, count: int) -> None:
        """The second pass: what the ranks of all blocks keep of each."""
        rank = ExactRank(lambda: self._scored(range(count)), self.basis.choice, self.basis.seed)
        marks = self.order.work / "decided"
        decided = {int(path.name) for path in marks.glob("*")}
        reader = BlockReader(self.sources, self.size, marks.with_name("again"), decided)
        report, seen = stage_progress(self.execution, "selection", "bytes"), 0
        for block in reader.blocks():
            if block.number not in decided:
                self._decide_block(block, rank)
                write_atomic(marks / f"{block.number:05d}", "")
            seen += block.stored
            report(seen, self.tally.total)

    def _decide_block(self, block: Block, rank: ExactRank) -> None:
        order, number = self.order, block.number
        table = pq.read_table(order.scores(number, False))
        kept = rank.kept(_ranked_rows(table))
        chosen = table.filter(pa.array(kept))
        by_name = _rows_by_source(chosen)
        at: list[tuple[int, int]] = []
        for n, piece in enumerate(block.pieces):
            rows = by_name.get(self.sources[piece.source].name, np.zeros(0, np.int64))
            first = piece.raw.first
            inside = rows[(rows >= first) & (rows < first + len(piece.raw))] - first
            at += [(n, int(i)) for i in inside]
        places = np.array(at, np.int64).reshape(len(at), 2)
        write_kept_rows(order, number, block.pieces, places)
        out = ParquetFile(order.scores(number), DECIDED)
        decided = table.append_column("kept", pa.array(kept)).cast(DECIDED)
        for batch in decided.to_batches():
            out.write(batch)
        out.close()
        summary = self._summary(number)
        tokens, sizes = (chosen.column(n).to_numpy() for n in ("num_tokens", "num_bytes"))
        for name, mine in groups_of(chosen.column("domain").to_pylist(), tokens, "domain").items():
            counts = summary.domains[name]
            counts.kept_documents = len(mine)
            counts.kept_tokens, counts.kept_bytes = int(tokens[mine].sum()), int(sizes[mine].sum())
        write_summary(order, number, summary)

    # --- the end --------------------------------------------------------------------------------

    def _write_bad_rows(self, count: int) -> None:
        """bad-rows.jsonl of the whole; none where no row is bad."""
        paths = [p for p in map(self.order.bad_rows, range(count)) if p.exists()]
        lines = (line for path in paths for line in path.read_bytes().splitlines(keepends=True))
        if some := [*itertools.islice(lines, BAD_ROWS_KEPT)]:
            write_atomic(self.order.out / "bad-rows.jsonl", b"".join(some))

    def _result(
        self, identity: str, summaries: list[BlockSummary], accounts: list[Account]
    ) -> FilterResult:
        basis = self.basis
        domains: dict[str, DomainCounts] = {}
        whole = DomainCounts()
        unscored: dict[str, int] = {}
        for summary in summaries:
            for name, counts in summary.domains.items():
                domains.setdefault(name, DomainCounts()).add(counts)
            whole.add(summary.whole)
            for reason, count in summary.unscored.items():
                unscored[reason] = unscored.get(reason, 0) + count
        total = DomainCounts()
        study = DomainCounts()
        for counts in domains.values():
            total.add(msgspec.structs.replace(counts, places=[]))
        for counts in basis.study.values():
            study.add(counts)
        total.places = whole.places
        ranked = sorted(domains.items(), key=lambda item: (-item[1].tokens, item[0]))
        rows = [filtered_domain(name, counts, basis.study.get(name)) for name, counts in ranked]
        every = filtered_domain("all", total, study if basis.study else None)
        new = [row.domain for row in rows if basis.study and row.domain not in basis.study]
        return FilterResult(
            identity=identity,
            by=basis.name,
            slice=basis.choice.label,
            metric=basis.choice.metric_name,
            cut="score" if basis.cuts is not None else "exact",
            account=_account(accounts, total, unscored),
            whole=every,
            domains=rows,
            cuts=basis.cuts,
            limits=limits_of(basis),
            notes=[
                *basis.notes,
                *notes_on_files(self.found),
                *notes_on(accounts, {d.domain: d.documents for d in rows}),
            ],
            warnings=warnings_on(basis, rows, every),
            kept_files=len([*(self.order.out / "kept").glob("part-*")]),
            new_domains=new,
        )


def _account(
    accounts: list[Account], total: DomainCounts, unscored: dict[str, int]
) -> DocumentAccount:
    skipped: dict[str, int] = {}
    for account in accounts:
        for reason, count in account.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    dropped = total.documents - total.kept_documents
    return DocumentAccount(
        rows=sum(account.rows for account in accounts),
        skipped=dict(sorted(skipped.items())),
        left_out=unscored,
        used={"kept": total.kept_documents, "dropped": dropped},
    )


def _ranked_rows(table: pa.Table) -> RankedRows:
    # Copies share their key: where they stand tells them apart.
    names = table.column("source").to_pylist()
    place = {name: hash_text(name) for name in set(names)}
    files = np.fromiter((place[name] for name in names), np.uint64, len(names))
    rows = table.column("row").to_numpy().astype(np.uint64)
    keys = mix(mix(table.column("key").to_numpy(), "copies") ^ files, "files") + rows
    return RankedRows(
        table.column("figure").to_numpy(),
        keys,
        table.column("num_tokens").to_numpy(),
        table.column("domain").to_pylist(),
    )


def _rows_by_source(table: pa.Table) -> dict[str, np.ndarray]:
    rows = table.column("row").to_numpy()
    found = groups_of(table.column("source").to_pylist(), rows, "domain")
    return {name: np.sort(rows[members]) for name, members in found.items()}
