"""The commands that look at runs, machines and speeds, and change no result."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxprune.checksums import Share, write_sealed
from mlxprune.commands.options import AsJson, RunPath, escaped, print_json, told_as_json
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.files import tree_bytes
from mlxprune.records import write_record
from mlxprune.run import lock
from mlxprune.run.folder import RunFolder, existing_run, runs_under

if TYPE_CHECKING:
    from mlxprune.experiment.document_explanation import RankedDocument, TokenLosses
    from mlxprune.run.event_kinds import Wire


def report(
    run_path: RunPath,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="without any text of the corpus, to share it")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write report.html and report.json of a run anew."""
    from mlxprune.experiment.artifacts import open_run
    from mlxprune.report.page import write_report
    from mlxprune.report.result import study_result
    from mlxprune.run.events import fold_log

    run = existing_run(run_path)
    state = fold_log(run.events)
    held = open_run(run.path)
    write_report(held, state, not no_samples)
    result = study_result(held, state)
    write_sealed(run.path / "report.json", result)
    if as_json:
        print_json(result)
    else:
        print(one_line(run.report))


def status(
    path: Annotated[
        Path, typer.Argument(metavar="[RUN|FOLDER]", help="a run or a folder of runs")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Say how a run stands, or every run under a folder."""
    from mlxprune.commands.console import print_runs, print_status
    from mlxprune.run.events import fold_log
    from mlxprune.run.status import status_json

    if not path.exists():
        raise UsageError("no such folder", str(path), "name a run, or a folder of runs")
    is_run = (path / "run.json").exists()
    now = time.time()
    runs_found = [
        (run, fold_log(run.events)) for run in ([RunFolder(path)] if is_run else runs_under(path))
    ]
    if as_json:
        told = [status_json(run, state, now) for run, state in runs_found]
        print_json(told[0] if is_run else {"runs": told})
    elif is_run:
        print_status(*runs_found[0], now)
    else:
        print_runs(runs_found, now)


def tail(
    run_path: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="wait for more")] = True,
    last: Annotated[int, typer.Option("-n", help="earlier events to show")] = 20,
) -> None:
    """Print the events of a run as they come."""
    from mlxprune.commands.console import event_line
    from mlxprune.commands.watch import leave_as_failed
    from mlxprune.run.events import last_records
    from mlxprune.run.following import at_end, new_records

    run = existing_run(run_path)
    show: Callable[[Wire], str] = event_line
    if as_json:
        show = _json_line
    for event in last_records(run.events, max(0, last)):
        print(show(event))
    for events in new_records(run, at_end(run)) if follow else ():
        for event in events:
            print(show(event), flush=True)
    leave_as_failed(run)


def _json_line(event: Wire) -> str:
    return json.dumps(told_as_json(event), ensure_ascii=True)


def track(
    run_path: RunPath,
    to: Annotated[
        str, typer.Option("--to", metavar="TRACKER", help="tensorboard, wandb or trackio")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="RUN/tracking/TRACKER by default")
    ] = None,
    project: Annotated[str, typer.Option(help="of wandb and trackio")] = "mlxprune",
    offline: Annotated[
        bool, typer.Option("--offline", help="wandb: on this disk, for `wandb sync`")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="go on until the run ends")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Tell an experiment tracker what the log of a run holds, now and as it grows."""
    from mlxprune.tracking.track import track_run

    run = existing_run(run_path)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    tracked = track_run(run, to, out, project, offline, follow, say)
    if as_json:
        print_json(tracked)
    else:
        series, points = len(tracked.points), sum(tracked.points.values())
        print(f"{points:,} new points of {series:,} series: {tracked.folder}")
        look = {
            "tensorboard": f"tensorboard --logdir {shlex.quote(tracked.folder)}",
            "wandb": f"wandb sync {shlex.quote(tracked.folder)}/wandb/offline-*" if offline else "",
            "trackio": f"TRACKIO_DIR={shlex.quote(tracked.folder)} trackio show",
        }[to]
        if look:
            print(f"next: {look}")


def explain(
    run_path: RunPath,
    document: Annotated[str, typer.Argument(metavar="DOC_ID", help="the id of a document")],
    losses: Annotated[
        bool, typer.Option("--losses", help="the loss of every token under the reference")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say why a document was kept or dropped, or what the reference makes of every token."""
    from mlxprune.experiment.artifacts import open_run
    from mlxprune.experiment.document_explanation import (
        RankedDocument,
        document_token_losses,
        explain_document,
    )

    run = existing_run(run_path)
    held = open_run(run.path)
    if losses:
        _print_losses(document_token_losses(held, document), as_json)
        return
    explained = explain_document(held, document)
    if as_json:
        print_json({"id": document, "documents": explained})
        return
    shown = None
    for row in explained:
        source, domain = one_line(row.source), one_line(row.domain)
        if shown != (source, row.row):
            shown = (source, row.row)
            print(f"{one_line(document)} ({source}, row {row.row}, {domain})")
        print(f"  {row.reason}")
        if isinstance(row, RankedDocument):
            print(f"  {_ranked_words(row)}")


def _ranked_words(row: RankedDocument) -> str:
    rank = f"rank {row.rank + 1:,} of {row.of:,}, " if row.rank >= 0 else ""
    is_other = abs(row.figure - row.mean_nll) > 1e-12
    score = f"score {row.figure:.4f}, " if is_other else ""
    under = f" under {row.reference}" if row.reference != "main" else ""
    return f"{rank}{score}perplexity {row.perplexity:.2f}{under}, {row.num_tokens:,} tokens"


LOSS_CELLS = 12  # a nat is one


def _print_losses(losses: TokenLosses, as_json: bool) -> None:
    if as_json:
        print_json(losses)
        return
    print(f"{one_line(losses.id)}: nats a token under {losses.reference}, and the token")
    for text, loss in zip(losses.texts, losses.nll, strict=True):
        shown = "-" if loss is None else f"{loss:.4f}"
        bar = "#" * min(LOSS_CELLS, round(loss or 0.0))
        print(f"{shown:>9}  {bar:<{LOSS_CELLS}}  {escaped(json.dumps(text, ensure_ascii=False))}")


def verify(
    run_path: RunPath,
    subset: Annotated[
        str | None,
        typer.Option("--subset", metavar="N/T", help="the n-th of t shares of every large file"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold every byte of a run against its checksum; exit code 1 where one differs."""
    from mlxprune.commands.console import byte_progress
    from mlxprune.experiment.verification import verify_run

    run = existing_run(run_path)
    found = verify_run(run, _share(subset), byte_progress("verify"))
    if as_json:
        print_json(found)
    else:
        print(f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB, share {found.share}")
        for one in found.damaged:
            print(f"damaged: {one_line(one.file)}; {one.then}")
        if found.without:
            shown = ", ".join(map(one_line, found.without[:6]))
            more = ", ..." if len(found.without) > 6 else ""
            print(f"without a checksum: {len(found.without)} ({shown}{more})")
        print("all as they were written" if found.ok else f"{len(found.damaged)} damaged")
        if not found.ok:
            command = ["mlxprune", "run", str(run.config), "--dir", str(run.path)]
            print(f"next: {shlex.join(command)}")
    if not found.ok:
        raise typer.Exit(1)


def _share(told: str | None) -> Share:
    part, _, parts = (told or "1/1").partition("/")
    if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) < 10_000:
        return Share(int(part), int(parts))
    raise UsageError(f"{one_line(told)!r} is no share", "--subset", "give it as 1/4, 2/4, ...")


def clean(
    run_path: RunPath,
    keep: Annotated[
        str, typer.Option(help="report, or models (with the report), or scores")
    ] = "report",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove what a finished run no longer needs; the report always stays."""
    from mlxprune.run.markers import forget

    run = existing_run(run_path)
    holder = lock.owner(run)
    if holder is not None and holder.alive():
        raise UsageError(f"process {holder.pid} works on this run", str(run.path), "stop it first")
    kept = {
        "report": set(),
        "models": {"references", "final", "eval", "selection", "arms"},
        "scores": {"scores", "selection", "corpus", "split", "eval"},
    }
    if keep not in kept:
        raise UsageError(f"unknown --keep {keep!r}", "command line", closest(keep, kept))
    always = {
        "report.html",
        "report.json",
        "config.yaml",
        "run.json",
        "events",
        ".lock",
        "console.log",
    }
    doomed = [p for p in sorted(run.path.iterdir()) if p.name not in always | kept[keep]]
    size = sum(tree_bytes(p) if p.is_dir() else p.stat().st_size for p in doomed)
    if not doomed:
        print("nothing to remove")
        return
    print(
        f"removes {size / 1e6:,.1f} MB: {', '.join(one_line(p.name) for p in doomed)}",
        file=sys.stderr,
    )
    if not yes and not typer.confirm("go on?", err=True):
        raise typer.Exit(1)
    for path in doomed:
        forget(path)
    print(f"removed {size / 1e6:,.1f} MB")


def doctor(
    selftest: Annotated[
        bool, typer.Option("--selftest", help="prove the numbers on this machine")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="with --selftest: measure, too, into a JSON to share",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what this machine and installation are, and what is wrong with them."""
    from mlxprune.diagnostics.doctor import doctor_lines, examine_machine
    from mlxprune.diagnostics.evidence import evidence_lines, gather_evidence
    from mlxprune.diagnostics.selftest import run_selftest

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if report is not None and not selftest:
        raise UsageError("a report is of a self-test", "--report", "add --selftest")
    if report is not None:
        evidence = gather_evidence(say)
        write_record(report, evidence)
        facts, more = evidence.facts, evidence_lines(evidence)
        if not evidence.ok:
            facts.ok = False
    else:
        facts, more = run_selftest(say=say) if selftest else examine_machine(), []
    if as_json:
        print_json(facts)
    else:
        print("\n".join([*doctor_lines(facts), *more]))
    if report is not None:
        print(f"wrote {report}", file=sys.stderr)
    if facts.problems or facts.ok is False:
        raise typer.Exit(1)


def bench(
    model: Annotated[str, typer.Option(help="a preset, or a config.json")] = "nano",
    vocab_size: Annotated[int, typer.Option(help="size of the vocabulary", min=256)] = 8192,
    context: Annotated[int, typer.Option(help="context length", min=8)] = 512,
    only: Annotated[
        list[str] | None, typer.Option(help="one section; repeatable", metavar="SECTION")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="try batch values, print the best")] = False,
    seconds: Annotated[float, typer.Option(help="of work behind each figure")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: matrix products, scoring, training, tokenizing, selection."""
    from mlxprune.diagnostics.benchmark import benchmark_lines, measure_machine

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    figures = measure_machine(model, vocab_size, context, only or [], tune, say, seconds)
    if as_json:
        print_json(figures)
    else:
        print("\n".join(benchmark_lines(figures)))
