"""The command line. Results go to stdout, progress and diagnostics to stderr.

Every command is thin: it reads its arguments, calls the engine, and prints. Heavy modules are
imported inside commands, so that --help and status start fast.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from mlxprune.commands import (
    comparing,
    configuration,
    evaluate,
    files_out,
    recipes,
    results,
    single_stages,
    slices,
    steering,
    study,
    watch,
)
from mlxprune.commands.options import print_json
from mlxprune.errors import MlxpruneError, RunError, UsageError, one_line
from mlxprune.version import __version__


def _version(asked: bool) -> None:
    if asked:
        print(f"mlxprune {__version__}")
        raise typer.Exit


def _spec(asked: bool) -> None:
    if asked:
        command = typer.main.get_command(app)
        print_json(configuration.spec_of(command, GROUPS, __version__))
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
    spec: Annotated[
        bool,
        typer.Option("--spec", callback=_spec, is_eager=True, help="all commands as JSON"),
    ] = False,
) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """A command: its docstring is its help, with an example behind; or an app of several."""

    function: Callable[..., None] | typer.Typer
    example: str


# Every command by its name, in the groups and the order of --help.
GROUPS: dict[str, dict[str, Command]] = {
    "A study": {
        "demo": Command(study.demo, "mlxprune demo"),
        "init": Command(study.init, "mlxprune init corpus/*.jsonl.zst mail.parquet --hours 8"),
        "recipes": Command(recipes.recipes, "mlxprune recipes paper-small"),
        "plan": Command(study.plan, "mlxprune plan mlxprune.yaml --sample"),
        "run": Command(
            study.run, "mlxprune run mlxprune.yaml --set selection.criterion=medium --detach"
        ),
        "config": Command(configuration.app, "mlxprune config show mlxprune.yaml"),
        "report": Command(results.report, "mlxprune report runs/mlxprune"),
        "compare": Command(comparing.compare, "mlxprune compare runs/a runs/b --html both.html"),
        "explain": Command(results.explain, "mlxprune explain runs/mlxprune doc-17"),
        "stability": Command(slices.stability, "mlxprune stability runs/a runs/b"),
        "verify": Command(results.verify, "mlxprune verify runs/mlxprune --subset 1/4"),
        "clean": Command(results.clean, "mlxprune clean runs/mlxprune --keep models"),
    },
    "The text": {
        "export": Command(
            files_out.export, "mlxprune export runs/mlxprune --to parquet --out kept"
        ),
        "filter": Command(
            files_out.filter_command, "mlxprune filter runs/mlxprune --data new/ --out new-kept"
        ),
    },
    "Watch and steer": {
        "tui": Command(watch.tui, "mlxprune tui runs/mlxprune"),
        "watch": Command(watch.watch, "mlxprune watch runs/mlxprune --plain"),
        "status": Command(results.status, "mlxprune status runs --json"),
        "tail": Command(results.tail, "mlxprune tail runs/mlxprune"),
        "track": Command(results.track, "mlxprune track runs/mlxprune --to tensorboard"),
        "pause": Command(steering.pause, "mlxprune pause runs/mlxprune"),
        "resume": Command(steering.resume, "mlxprune resume runs/mlxprune"),
        "stop": Command(steering.stop, "mlxprune stop runs/mlxprune"),
        "checkpoint": Command(steering.checkpoint, "mlxprune checkpoint runs/mlxprune"),
    },
    "One stage alone": {
        "score": Command(
            single_stages.score, "mlxprune score --model MODEL --data corpus/ --out scores"
        ),
        "select": Command(
            slices.select, "mlxprune select scores --criterion low --rate 0.3 --out slices"
        ),
        "train": Command(single_stages.train, "mlxprune train --data corpus/ --out model"),
        "eval": Command(evaluate.evaluate, "mlxprune eval MODEL --text held-out.jsonl"),
    },
    "This machine": {
        "doctor": Command(results.doctor, "mlxprune doctor --selftest"),
        "bench": Command(results.bench, "mlxprune bench --tune"),
    },
}


VERIFY = "mlxprune verify RUN names it; mlxprune run makes it again"
FIXES = {
    errno.EIO: "check the disk, and run again: what is finished is kept",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), and run again",
    errno.ENOSPC: "free some space, and run again: what is finished is kept",
    errno.EMFILE: "raise the limit on open files (ulimit -n), and run again",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "choose a folder that can be written to",
    errno.EINVAL: "name a regular file",
}


def _app() -> typer.Typer:
    made = typer.Typer(
        help="Find the part of a text corpus that is worth training on.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_root,
    )
    for group, commands in GROUPS.items():
        for name, command in commands.items():
            epilog = f"Example: {command.example}"
            if isinstance(command.function, typer.Typer):
                made.add_typer(command.function, name=name, rich_help_panel=group, epilog=epilog)
            else:
                made.command(name, rich_help_panel=group, epilog=epilog)(command.function)
    return made


app = _app()


def main() -> None:
    """Entry point: exit codes as documented, never a traceback unless --debug."""
    quiet = signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # set while this was imported
    if quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _obey()
    finally:
        if quiet:  # what Python does at its end is interrupted without a word, too
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _obey() -> None:
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    try:
        command = typer.main.get_command(app)
        code = command.main(
            [a for a in arguments if a != "--debug"], prog_name="mlxprune", standalone_mode=False
        )
        sys.exit(code if isinstance(code, int) else 0)
    except MlxpruneError as error:
        if debug:
            raise
        _fail(error, as_json)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt) as ended:
        if isinstance(ended.__cause__ or ended.__context__, EOFError):  # of a file, not a prompt
            _fail(RunError("a file of the run ends early", "the run", VERIFY), as_json)
            sys.exit(1)
        sys.exit(130)
    except BrokenPipeError:
        _leave_stdout()
        sys.exit(0)
    except SystemExit as ended:  # rich ends so where whoever read the output has gone
        sys.exit(0 if isinstance(ended.__context__, BrokenPipeError) else ended.code)
    except OSError as error:
        if debug:
            raise
        where = str(error.filename or "this command")
        fix = FIXES.get(error.errno or 0, "check the path")
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EBADF):
            _leave_stdout()
            where = "standard output"
        _fail(UsageError(one_line(error.strerror or error), where, fix), as_json)
        sys.exit(2)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the click that typer carries
            fix = " ".join(["mlxprune", *_known_command(arguments), "--help"])
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


def _known_command(arguments: list[str]) -> list[str]:
    """The command that was meant, to ask for its help."""
    names = [name for commands in GROUPS.values() for name in commands]
    return difflib.get_close_matches(arguments[0], names, n=1) if arguments else []


def _fail(error: MlxpruneError, as_json: bool) -> None:
    if as_json:
        try:
            print_json({"state": error.status, "error": error.as_json()})
        except (OSError, ValueError):  # stdout is full or closed; people read stderr
            _leave_stdout()
    print(error.lines(), file=sys.stderr)


def _leave_stdout() -> None:
    """What is still in its buffer is not tried again when the process ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
