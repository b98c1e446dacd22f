"""The command line. Results go to stdout, progress and diagnostics to stderr.

Every command is thin: it reads its arguments, calls the engine, and prints. Heavy modules are
imported inside commands, so that --help and status start fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mlxprune.commands import (
    evaluate,
    files_out,
    results,
    single_stages,
    slices,
    steering,
    study,
    watch,
)
from mlxprune.commands.options import print_json
from mlxprune.errors import MlxpruneError, UsageError, one_line
from mlxprune.version import __version__


def _version(asked: bool) -> None:
    if asked:
        print(f"mlxprune {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


# Every command by its name, in the order of --help. Its docstring is its help.
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": study.demo,
    "init": study.init,
    "plan": study.plan,
    "run": study.run,
    "pause": steering.pause,
    "resume": steering.resume,
    "stop": steering.stop,
    "checkpoint": steering.checkpoint,
    "score": single_stages.score,
    "train": single_stages.train,
    "watch": watch.watch,
    "tui": watch.tui,
    "eval": evaluate.evaluate,
    "report": results.report,
    "status": results.status,
    "tail": results.tail,
    "explain": results.explain,
    "clean": results.clean,
    "doctor": results.doctor,
    "bench": results.bench,
    "select": slices.select,
    "stability": slices.stability,
    "export": files_out.export,
    "filter": files_out.filter_command,
}


def _app() -> typer.Typer:
    made = typer.Typer(
        help="Find the part of a text corpus that is worth training on.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_root,
    )
    for name, function in COMMANDS.items():
        made.command(name)(function)
    return made


app = _app()


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
        _leave_stdout()
        sys.exit(0)
    except SystemExit as ended:  # rich ends so where whoever read the output has gone
        sys.exit(0 if isinstance(ended.__context__, BrokenPipeError) else ended.code)
    except OSError as error:
        if debug:
            raise
        where = str(error.filename or "this command")
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EBADF):
            _leave_stdout()
            where = "standard output"
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
        try:
            print_json({"state": error.status, "error": error.as_json()})
        except (OSError, ValueError):  # stdout is full or closed; people read stderr
            _leave_stdout()
    print(error.lines(), file=sys.stderr)


def _leave_stdout() -> None:
    """What is still in its buffer is not tried again when the process ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
