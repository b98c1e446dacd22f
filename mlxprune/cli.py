"""The command line. Results go to stdout, progress and diagnostics to stderr.

Every command is thin: it reads its arguments, calls the engine, and prints. Heavy modules are
imported inside commands, so that --help and status start fast.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune import lock, runs
from mlxprune.errors import ConfigError, MlxpruneError, UsageError, closest, one_line
from mlxprune.options import (
    AsJson,
    ConfigPath,
    Data,
    DomainKey,
    IdKey,
    Memory,
    More,
    Pool,
    Quiet,
    RunPath,
    Set,
    TextKey,
    app,
    listeners,
    print_json,
)  # fmt: skip
from mlxprune.version import __version__


def main() -> None:
    """Entry point: exit codes as documented, never a traceback unless --debug."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    command = typer.main.get_command(app)
    try:
        code = command.main(
            [a for a in arguments if a != "--debug"], prog_name="mlxprune", standalone_mode=False
        )
        sys.exit(code if isinstance(code, int) else 0)
    except MlxpruneError as error:
        if debug:
            raise
        _fail(error, as_json)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        where = str(error.filename or "this command")
        _fail(UsageError(one_line(error.strerror or error), where, "check the path"), as_json)
        sys.exit(2)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the click that typer carries
            fix = " ".join(["mlxprune", *arguments[:1], "--help"])
            _fail(UsageError(one_line(error.format_message()), "command line", fix), as_json)
            sys.exit(2)
        if debug:
            raise
        told = MlxpruneError(
            f"{type(error).__name__}: {one_line(error)}",
            "mlxprune itself",
            "run again with --debug and report what it prints",
        )
        _fail(told, as_json)
        sys.exit(1)


def _fail(error: MlxpruneError, as_json: bool) -> None:
    if as_json:
        state = "stopped" if error.exit_code in (3, 130, 143) else "failed"
        print_json({"state": state, "error": error.as_json()})
    print(error.lines(), file=sys.stderr)


def _version(asked: bool) -> None:
    if asked:
        print(f"mlxprune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="where to work")] = Path(
        "mlxprune-demo"
    ),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build a corpus out of this Python installation and run the whole loop on a tiny model."""
    from mlxprune import config, console, pipeline
    from mlxprune import demo as demo_corpus

    path = demo_corpus.prepare(folder)
    run = runs.RunFolder(folder / "run")
    found = pipeline.run(config.load(path), run, listeners=listeners(quiet))
    if as_json:
        print_json(found)
    else:
        console.print_result(found, str(run.report))


@app.command()
def init(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="files, folders, hf://...")],
    hours: Annotated[float, typer.Option(help="the time that the run may take")] = 8.0,
    output: Annotated[Path, typer.Option("-o", "--output", help="the file to write")] = Path(
        "mlxprune.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
) -> None:
    """Look at the data and the machine; write a commented configuration that fits the time."""
    from mlxprune import draft
    from mlxprune.config import resolve_path

    if output.exists() and not force:
        raise UsageError("the file exists", str(output), "choose another -o, or --force")
    _refuse_hours(hours)
    paths = [resolve_path(entry, Path.cwd()) for entry in data]
    seen = draft.look(paths)
    told = sys.stderr
    forms = ", ".join(f"{n} {form}" for form, n in seen["forms"].items())
    print(f"data       {forms}; about {seen['bytes'] / 1e6:,.1f} MB of text", file=told)
    if seen["left_out"]:
        print(f"           {seen['left_out']} other files in these folders are left out", file=told)
    print(f"keys       text: {seen['text_key']}, id: {seen['id_key']}", file=told)
    domains = ", ".join(f"{one_line(d)} {n}" for d, n in seen["domains"].items())
    print(f"domains    {domains} (in the rows looked at)", file=told)
    for identity, domain, text in seen["rows"]:
        print(f"           {one_line(identity or '-')} | {one_line(domain)} | {text}", file=told)
    print("machine    measuring for a few seconds ...", file=told, flush=True)
    sizes = draft.choose_sizes(seen["bytes"], hours)
    print(
        f"sizes      reference {sizes['reference']}, final {sizes['final']}: "
        f"about {sizes['hours']:.1f} of {hours:g} hours",
        file=told,
    )
    relative = [_relative(p, output.parent) for p in paths]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.stem).strip("-._")[:60] or "run"
    runs.write_atomic(output, draft.write(seen, sizes, relative, name))
    print(f"wrote {output}: next, mlxprune plan {output}")


def _refuse_hours(hours: float) -> None:
    if not 0 < hours <= 10_000:
        fix = "give a number above 0, up to 10000"
        raise UsageError(f"{hours} is no number of hours to plan for", "--hours", fix)


def _relative(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    try:
        return Path(path).relative_to(folder.absolute()).as_posix()
    except ValueError:
        return path


@app.command()
def plan(
    config: ConfigPath,
    overrides: Set = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="estimate from the head of each file")
    ] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="do not time this machine")] = False,
    hours: Annotated[float, typer.Option(help="the time that you have")] = 8.0,
    memory: Memory = None,
    pool: Pool = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run will do and take, and warn; does no work."""
    from mlxprune import config as configs
    from mlxprune import console
    from mlxprune import plan as plans

    overrides = _overrides(overrides, memory, pool)
    _refuse_hours(hours)
    found = plans.plan(configs.load(config, overrides), sample, not no_probe, hours)
    if as_json:
        print_json(found)
    else:
        console.print_plan(found)


@app.command()
def run(
    config: ConfigPath,
    overrides: Set = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="the run folder")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="stop after this stage")
    ] = None,
    force: Annotated[
        str | None, typer.Option(metavar="STAGE", help="redo this stage and all after it")
    ] = None,
    memory: Memory = None,
    pool: Pool = None,
    detach: Annotated[bool, typer.Option("--detach", help="go on in the background")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the loop, or what of it is missing or out of date."""
    from mlxprune import config as configs

    for option, stage in (("--until", until), ("--force", force)):
        if stage is not None and stage not in runs.STAGES:
            raise ConfigError(f"unknown stage {stage!r}", option, closest(stage, runs.STAGES))
    overrides = _overrides(overrides, memory, pool)
    loaded = configs.load(config, overrides)
    target = runs.RunFolder(folder or Path("runs") / loaded.name)
    if detach:
        _refuse_what_would_fail_at_once(loaded, target)
        _detach(target, config, overrides or [], until, force, as_json)
        return
    from mlxprune import console, pipeline

    found = pipeline.run(loaded, target, until, force, listeners(quiet))
    if as_json:
        print_json(found)
    elif until is None or until == "report":
        console.print_result(found, str(target.report))
    else:
        print(f"done up to {until}: {target.path}")


def _overrides(given: list[str] | None, memory: str | None, pool: str | None) -> list[str]:
    """--set, and the options that are short for one."""
    named = {"memory": memory, "split.pool": pool}
    return [*(given or []), *(f"{key}={value}" for key, value in named.items() if value)]


def _refuse_what_would_fail_at_once(config: Any, target: runs.RunFolder) -> None:
    from mlxprune import plan as plans
    from mlxprune.sources import find_sources

    plans.check_possible(config)
    find_sources(config.data.paths)
    holder = lock.owner(target)
    if holder is not None and holder.alive():
        fix = f"mlxprune tail {target.path}"
        raise UsageError(f"process {holder.pid} works on this run", str(target.path), fix)


def _detach(
    target: runs.RunFolder,
    config: Path,
    overrides: list[str],
    until: str | None,
    force: str | None,
    as_json: bool,
) -> None:
    command = [sys.executable, "-m", "mlxprune", "run", str(config), "--dir", str(target.path)]
    for override in overrides:
        command += ["--set", override]
    command += ["--until", until] if until else []
    command += ["--force", force] if force else []
    target.path.mkdir(parents=True, exist_ok=True)
    log = target.path / "console.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and child.poll() is None:
        holder = lock.owner(target)
        if holder is not None and holder.pid == child.pid:
            break
        time.sleep(0.1)
    if child.poll():
        print(log.read_text(errors="replace")[-2000:], file=sys.stderr, end="")
        raise typer.Exit(child.returncode)
    if as_json:
        print_json({"run": str(target.path), "state": "running", "pid": child.pid})
        return
    print(f"running in the background as process {child.pid}: {target.path}")
    print(f"watch it: mlxprune tail {target.path}")


def _command(verb: str) -> None:
    def send(run_path: RunPath) -> None:
        run = runs.open_run(run_path)
        holder = lock.owner(run)
        if holder is None or holder.alive() is False:
            fix = f"mlxprune run {run.config} --dir {run.path}"
            raise UsageError("no process works on this run", str(run.path), fix)
        runs.send_command(run, verb)
        print(f"asked process {holder.pid} to {verb}")

    does = {
        "pause": "Ask a run to save a checkpoint and wait.",
        "resume": "Let a paused run go on.",
        "stop": "Ask a run to save a checkpoint and end; it can be run again.",
        "checkpoint": "Ask a run to save a checkpoint now.",
    }
    app.command(verb, help=does[verb])(send)


for _verb in runs.COMMANDS:
    _command(_verb)


def _data_config(data: list[str], text_key: str, id_key: str, domain_key: str, **more: Any) -> Any:
    from mlxprune import config as configs

    paths = [configs.resolve_path(entry, Path.cwd()) for entry in data]
    keys = {"paths": paths, "text_key": text_key, "id_key": id_key, "domain_key": domain_key}
    return configs.validate({"data": keys, **more}, "command line")


@app.command()
def score(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="a folder or a hub id")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where scores.parquet goes")],
    more: More = None,
    context: Annotated[int | None, typer.Option(help="window length in tokens")] = None,
    overlap: Annotated[int, typer.Option(help="unscored tokens that lead later windows")] = 0,
    long_documents: Annotated[str, typer.Option(help="windows or truncate")] = "windows",
    workers: Annotated[int | None, typer.Option(help="processes that score")] = None,
    memory: Memory = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score every document of any data with any model that mlx-lm can load."""
    from mlxprune import jobs

    section = {
        "context": context, "overlap": overlap, "long_documents": long_documents,
        "workers": workers,
    }  # fmt: skip
    config = _data_config(
        [*data, *(more or [])], text_key, id_key, domain_key, score=section, memory=memory
    )
    found = jobs.score_data(config, model, out, config.score, listeners(quiet))
    if as_json:
        print_json(found)
    else:
        print(f"{found['documents']:,} documents, {found['tokens']:,} tokens: {found['scores']}")


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where the model goes")],
    more: More = None,
    model: Annotated[str, typer.Option(help="a preset, or a folder with a config.json")] = "nano",
    tokens: Annotated[str, typer.Option(help="targets to train on, such as 20M")] = "20M",
    context: Annotated[int, typer.Option(help="context length in tokens")] = 512,
    vocab_size: Annotated[int, typer.Option(help="of the tokenizer to train")] = 8192,
    tokenizer: Annotated[
        str | None, typer.Option(help="or a pretrained one: path or hub id")
    ] = None,
    seed: Annotated[int, typer.Option(help="of weights and order")] = 0,
    learning_rate: Annotated[float | None, typer.Option(help="peak rate")] = None,
    batch_size: Annotated[int | None, typer.Option(help="sequences a step")] = None,
    memory: Memory = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model from scratch on some data; a twentieth of it is held out for validation."""
    from mlxprune import jobs

    final = {
        "model": model, "tokens": tokens, "context": context, "seeds": [seed],
        "learning_rate": learning_rate, "batch_size": batch_size,
    }  # fmt: skip
    chosen = {"pretrained": tokenizer} if tokenizer else {"train": {"vocab_size": vocab_size}}
    paths = [*data, *(more or [])]
    config = _data_config(
        paths, text_key, id_key, domain_key, final=final, tokenizer=chosen, memory=memory
    )
    found = jobs.train_model(config, out, listeners(quiet))
    if as_json:
        print_json(found)
    else:
        passes = f"{found['passes']:.2f} passes"
        print(f"trained on {found['tokens']:,} targets, {passes}: {found['model']}")


from mlxprune import attend, judge, look, sift  # noqa: E402, F401  (their commands come after these)
