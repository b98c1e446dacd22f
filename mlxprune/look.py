"""Look: the commands that look at runs, machines and speeds, and change no result."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune import lock, outlook, runs
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.options import AsJson, RunPath, app, print_json


@app.command()
def report(run_path: RunPath, as_json: AsJson = False) -> None:
    """Write report.html and report.json of a run anew."""
    from mlxprune import config as configs
    from mlxprune import events
    from mlxprune import report as reports

    run = runs.open_run(run_path)
    state = events.fold_folder(run.events)
    config = configs.load(run.config)
    reports.write(run, config, state)
    found = reports.result(run, config, state)
    runs.write_json(run.path / "report.json", found)
    if as_json:
        print_json(found)
    else:
        print(run.report)


def _status_of(run: runs.RunFolder) -> dict[str, Any]:
    from mlxprune import events

    state = events.fold_folder(run.events)
    now = time.time()
    holder = lock.owner(run)
    standing = lock.standing(run, state, now)
    left = outlook.finish(state, now) if state["state"] == "running" else None
    if standing in ("crashed", "unknown"):
        state["state"] = "crashed"
    state["standing"] = standing
    state["finish_seconds"] = left and {
        "early": left.early,
        "likely": left.likely,
        "late": left.late,
    }
    state["folder"] = str(run.path)
    state["pid"] = holder.pid if holder and state["state"] in ("running", "paused") else None
    for key in ("curves", "result", "recent", "memory"):
        state.pop(key)
    return state


@app.command()
def status(
    path: Annotated[
        Path, typer.Argument(metavar="[RUN|FOLDER]", help="a run or a folder of runs")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Say how a run stands, or every run under a folder."""
    from mlxprune import console

    if not path.exists():
        raise UsageError("no such folder", str(path), "name a run, or a folder of runs")
    if (path / "run.json").exists():
        found = _status_of(runs.RunFolder(path))
        if as_json:
            print_json(found)
        else:
            console.print_status(found)
        return
    all_runs = [_status_of(run) for run in runs.runs_under(path)]
    if as_json:
        print_json({"runs": all_runs})
    else:
        console.print_runs(all_runs)


@app.command()
def tail(
    run_path: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="wait for more")] = True,
    last: Annotated[int, typer.Option("-n", help="earlier events to show")] = 20,
) -> None:
    """Print the events of a run as they come."""
    from mlxprune import console, events

    run = runs.open_run(run_path)
    show = console.event_line if not as_json else (lambda e: json.dumps(e, ensure_ascii=True))
    seen = list(events.read_events(run.events))
    for event in seen[-last:] if last else []:
        print(show(event))
    reader = events.Reader(run.events)
    reader.to_end()
    while follow:
        for event in reader.read(1.0):
            if event.get("kind") == "snapshot":
                continue
            print(show(event), flush=True)
            if event.get("kind") == "run.end":
                return
        holder = lock.owner(run)
        if holder is None or holder.alive() is False:
            return
        time.sleep(0.25)


@app.command()
def explain(
    run_path: RunPath,
    document: Annotated[str, typer.Argument(metavar="DOC_ID", help="the id of a document")],
    losses: Annotated[
        bool, typer.Option("--losses", help="the loss of every token under the reference")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say why a document was kept or dropped, or what the reference makes of every token."""
    from mlxprune import config as configs
    from mlxprune import explain as explanations

    run = runs.open_run(run_path)
    if losses:
        _print_losses(explanations.token_losses(run, configs.load(run.config), document), as_json)
        return
    found = explanations.explain(run, configs.load(run.config), document)
    if as_json:
        print_json({"id": document, "documents": found})
        return
    shown = None
    for row in found:
        source, domain = one_line(row["source"]), one_line(row["domain"])
        if shown != (source, row["row"]):
            shown = (source, row["row"])
            print(f"{one_line(document)} ({source}, row {row['row']}, {domain})")
        print(f"  {row['reason']}")
        if "rank" in row:
            rank = f"rank {row['rank'] + 1:,} of {row['of']:,}, " if row["rank"] >= 0 else ""
            other = abs(row["figure"] - row["mean_nll"]) > 1e-12
            rank += f"score {row['figure']:.4f}, " if other else ""
            under = f" under {row['reference']}" if row["reference"] != "main" else ""
            told = f"{rank}perplexity {row['perplexity']:.2f}{under}"
            print(f"  {told}, {row['num_tokens']:,} tokens")


def _print_losses(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print(f"nats a token under {found['reference']}")
    for number, loss in zip(found["ids"], found["nll"], strict=True):
        print(f"{number:8d}  {'-' if loss is None else f'{loss:.4f}'}")


@app.command()
def clean(
    run_path: RunPath,
    keep: Annotated[
        str, typer.Option(help="report, or models (with the report), or scores")
    ] = "report",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove what a finished run no longer needs; the report always stays."""
    run = runs.open_run(run_path)
    holder = lock.owner(run)
    if holder is not None and holder.alive():
        raise UsageError(f"process {holder.pid} works on this run", str(run.path), "stop it first")
    kept = {
        "report": set(),
        "models": {"references", "final", "eval", "selection"},
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
    size = sum(runs.tree_bytes(p) if p.is_dir() else p.stat().st_size for p in doomed)
    if not doomed:
        print("nothing to remove")
        return
    print(f"removes {size / 1e6:,.1f} MB: {', '.join(p.name for p in doomed)}", file=sys.stderr)
    if not yes and not typer.confirm("go on?", err=True):
        raise typer.Exit(1)
    for path in doomed:
        runs.forget(path)
    print(f"removed {size / 1e6:,.1f} MB")


@app.command()
def doctor(
    selftest: Annotated[
        bool, typer.Option("--selftest", help="prove the numbers on this machine")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what this machine and installation are, and what is wrong with them."""
    from mlxprune import doctor as doctors

    facts = doctors.selftest() if selftest else doctors.examine()
    if as_json:
        print_json(facts)
    else:
        print("\n".join(doctors.lines(facts)))
    if facts["problems"] or not facts.get("ok", True):
        raise typer.Exit(1)


@app.command()
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
    from mlxprune import bench as benches

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = benches.measure(model, vocab_size, context, only or [], tune, say, seconds)
    if as_json:
        print_json(found)
    else:
        print("\n".join(benches.lines(found)))
