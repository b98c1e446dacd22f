"""The command line. Results go to stdout, progress and diagnostics to stderr.

Every command is thin: it reads its arguments, calls the engine, and prints. Heavy modules are
imported inside commands, so that --help and status start fast.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxprune.commands.options import (
    AsJson,
    ConfigPath,
    Memory,
    Pool,
    Quiet,
    Set,
    listeners,
    print_json,
    run_name,
)
from mlxprune.errors import ConfigError, UsageError, closest, one_line
from mlxprune.execution.sleep import KEPT_AWAKE, kept_awake
from mlxprune.files import write_atomic
from mlxprune.run import lock
from mlxprune.run.folder import STAGES, RunFolder

if TYPE_CHECKING:
    from mlxprune.config.schema import Config


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="where to work")] = Path(
        "mlxprune-demo"
    ),
    watch: Annotated[
        bool, typer.Option("--watch", help="run it in the background and open the app on it")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build a corpus out of this Python installation and run the whole loop on a tiny model."""
    from mlxprune.config.loading import load_config
    from mlxprune.data.demo_corpus import prepare_demo
    from mlxprune.pipeline.runner import run_study
    from mlxprune.report.terminal import print_result

    run = RunFolder(folder / "run")
    if watch:
        _watch_demo(folder, run)
        return
    path = prepare_demo(folder)
    config = load_config(path)
    told = listeners(quiet, "" if as_json else _watching(run))
    result = run_study(config, run, listeners=told)
    if as_json:
        print_json(result)
    else:
        print_result(result, str(run.report))
        print("on your files: mlxprune init YOUR-FILES... --hours 8")


def _watching(target: RunFolder) -> str:
    """How to look on, for whoever has another terminal."""
    return f"watch it: mlxprune tui {target.path}"


def _watch_demo(folder: Path, run: RunFolder) -> None:
    """The demo in a process that outlives the app, unless one works on it already."""
    from mlxprune.commands.watch import open_app, refuse_terminal

    refuse_terminal(run.path)
    holder = lock.owner(run)
    if holder is None or not holder.alive():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "console.log").open("ab") as out:
            subprocess.Popen(
                [sys.executable, "-m", "mlxprune", "demo", str(folder)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
    open_app(run.path)


def init(
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA...", help="files, folders, hf://...", show_default=False),
    ] = None,
    hours: Annotated[float, typer.Option(help="the time that the run may take")] = 8.0,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="the file to write: mlxprune.yaml, or the recipe's"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="a study that is shipped: mlxprune recipes")
    ] = None,
    smallest: Annotated[
        bool, typer.Option("--smallest", help="with --recipe: a try that ends in minutes")
    ] = False,
    gauntlet: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", envvar="MLXPRUNE_GAUNTLET",
            help="with --recipe: a clone of llm-foundry, whose tasks are then asked",
        ),
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(metavar="DOMAIN", help="with --recipe: the domain that is most of the text"),
    ] = None,
) -> None:  # fmt: skip
    """Look at the data and the machine; write a commented configuration that fits the time."""
    if recipe is not None:
        from mlxprune.commands.recipes import init_recipe
        from mlxprune.planning.recipes import RecipeChoices

        init_recipe(recipe, data or [], output, force, RecipeChoices(smallest, gauntlet, web))
        return
    if smallest or web is not None:
        fix = "mlxprune recipes lists them"
        raise UsageError("--smallest and --web go with --recipe", "mlxprune init", fix)
    if not data:
        fix = "mlxprune init DATA..., or --recipe NAME, which brings data of its own"
        raise UsageError("no data is named", "mlxprune init", fix)
    _draft(data, hours, output or Path("mlxprune.yaml"), force)


def _draft(data: list[str], hours: float, output: Path, force: bool) -> None:
    from mlxprune.commands.data_table import print_look
    from mlxprune.config.loading import resolve_path
    from mlxprune.planning.draft_config import choose_sizes, look_at_data, write_draft

    if output.exists() and not force:
        raise UsageError("the file exists", str(output), "choose another -o, or --force")
    _refuse_hours(hours)
    paths = [resolve_path(entry, Path.cwd()) for entry in data]
    seen = look_at_data(paths)
    print_look(seen)
    print("machine    measuring for a few seconds ...", file=sys.stderr, flush=True)
    sizes = choose_sizes(seen.bytes, hours)
    print(
        f"sizes      reference {sizes.reference}, final {sizes.final}: "
        f"about {sizes.hours:.1f} of {hours:g} hours",
        file=sys.stderr,
    )
    write_atomic(output, write_draft(seen, sizes, output.parent, run_name(output), hours))
    print(f"wrote {output}: next, mlxprune plan {output}")


def _refuse_hours(hours: float) -> None:
    if not 0 < hours <= 10_000:
        fix = "give a number above 0, up to 10000"
        raise UsageError(f"{hours} is no number of hours to plan for", "--hours", fix)


def plan(
    config: ConfigPath,
    overrides: Set = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="estimate from some rows of each file")
    ] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="do not time this machine")] = False,
    hours: Annotated[
        float | None, typer.Option(help="the time that you have; that of the configuration, or 8")
    ] = None,
    mac: Annotated[
        float | None,
        typer.Option(metavar="GB", help="say what fits on a Mac with so much memory", min=4),
    ] = None,
    memory: Memory = None,
    pool: Pool = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run will do and take, and warn; does no work."""
    from mlxprune.commands.console import print_plan
    from mlxprune.config.loading import load_config
    from mlxprune.planning.plan import plan_run

    overrides = _overrides(overrides, memory, pool)
    if hours is not None:
        _refuse_hours(hours)
    if mac is not None:  # its speed is not known here
        from mlxprune.engine import backend, hardware

        backend.pretend(hardware.a_mac(mac))
        no_probe = True
    planned = plan_run(load_config(config, overrides), sample, not no_probe, hours)
    if as_json:
        print_json(planned)
    else:
        print_plan(planned)


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
    no_awake: Annotated[
        bool, typer.Option("--no-awake", help="let a Mac sleep by itself while this runs")
    ] = False,
    accept_changed_input: Annotated[
        bool, typer.Option("--accept-changed-input", help="do all anew where input files changed")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the loop, or what of it is missing or out of date."""
    from mlxprune.config.loading import load_config

    for option, stage in (("--until", until), ("--force", force)):
        if stage is not None and stage not in STAGES:
            raise ConfigError(f"unknown stage {stage!r}", option, closest(stage, STAGES))
    overrides = _overrides(overrides, memory, pool)
    loaded = load_config(config, overrides)
    target = RunFolder(folder or Path("runs") / loaded.name)
    if detach:
        _refuse_what_would_fail_at_once(loaded, target)
        more = ["--no-awake"] if no_awake else []
        more += ["--accept-changed-input"] if accept_changed_input else []
        _detach(target, config, overrides or [], until, force, as_json, more)
        return
    from mlxprune.pipeline.runner import run_study
    from mlxprune.report.terminal import print_handover, print_result

    with kept_awake(not no_awake) as is_kept:
        if is_kept and not quiet:
            print(KEPT_AWAKE, file=sys.stderr)
        if loaded.split.seed:
            _run_repeats(loaded, target, until, force, quiet, as_json, accept_changed_input)
            return
        told = listeners(quiet, "" if as_json else _watching(target))
        result = run_study(loaded, target, until, force, told, accept_changed_input)
    if as_json:
        print_json(result)
    elif until is None or until == "report":
        print_result(result, str(target.report))
    else:
        print(f"done up to {until}: {target.path}")
        print_handover(result)


def _run_repeats(
    config: Config,
    target: RunFolder,
    until: str | None,
    force: str | None,
    quiet: bool,
    as_json: bool,
    accept_changed_input: bool,
) -> None:
    """The study once for every seed of ``split.seed``, in a folder of its own each; then the
    differences over them."""
    from mlxprune.commands.comparing import print_run_table
    from mlxprune.config.loading import validate_config
    from mlxprune.pipeline.runner import run_study
    from mlxprune.report.run_table import run_table

    folders, results = [], {}
    for seed in config.split.seed:
        folder = target.path.with_name(f"{target.path.name}-split-{seed}")
        tree = config.model_dump(mode="json")
        tree["split"]["seed"], tree["seed"] = [], seed
        tree["name"] = f"{config.name}-split-{seed}"
        if not quiet:
            print(f"study with seed {seed}: {folder}", file=sys.stderr)
        single = validate_config(tree, f"split.seed {seed}")
        results[str(seed)] = run_study(
            single, RunFolder(folder), until, force, listeners(quiet), accept_changed_input
        )
        folders.append(folder)
    whole = until in (None, "report") and len(folders) > 1
    table = run_table(folders) if whole else None
    if as_json:
        print_json({"studies": results, "table": table})
    elif table is not None:
        print_run_table(table)
    else:
        print(f"done up to {until or 'report'}: {', '.join(map(str, folders))}")


def _overrides(given: list[str] | None, memory: str | None, pool: str | None) -> list[str]:
    """--set, and the options that are short for one."""
    named = {"memory": memory, "split.pool": pool}
    return [*(given or []), *(f"{key}={value}" for key, value in named.items() if value)]


def _refuse_what_would_fail_at_once(config: Config, target: RunFolder) -> None:
    from mlxprune.data.accounts import refuse_bad_input
    from mlxprune.data.sources import find_sources
    from mlxprune.planning.possible import check_possible

    check_possible(config)
    found = find_sources(config.data)
    if found.problems:
        refuse_bad_input(config.data, [], found.problems)
    holder = lock.owner(target)
    if holder is not None and holder.alive():
        fix = f"mlxprune tail {target.path}"
        raise UsageError(f"process {holder.pid} works on this run", str(target.path), fix)


def _detach(
    target: RunFolder,
    config: Path,
    overrides: list[str],
    until: str | None,
    force: str | None,
    as_json: bool,
    more: list[str],
) -> None:
    command = [sys.executable, "-m", "mlxprune", "run", str(config), "--dir", str(target.path)]
    for override in overrides:
        command += ["--set", override]
    command += ["--until", until] if until else []
    command += ["--force", force] if force else []
    command += more
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
        for line in log.read_text(errors="replace")[-2000:].splitlines():
            print(one_line(line) if line.strip() else "", file=sys.stderr)
        raise typer.Exit(child.returncode)
    if as_json:
        print_json({"run": str(target.path), "state": "running", "pid": child.pid})
        return
    print(f"running in the background as process {child.pid}: {target.path}")
    print(_watching(target))
