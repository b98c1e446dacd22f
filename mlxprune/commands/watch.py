"""The commands that look on while a run works: the app, and its twin in plain words."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune.commands.options import RunPath
from mlxprune.errors import MlxpruneError, UsageError
from mlxprune.run.event_kinds import RunStatus
from mlxprune.run.folder import RunFolder, existing_run, newest_run

FONT_LINK = re.compile(r"<link[^>]*fonts\.googleapis[^>]*>")


def watch(
    run_path: RunPath,
    plain: Annotated[
        bool, typer.Option("--plain", help="sentences, one a change, instead of the app")
    ] = False,
) -> None:
    """Watch a run: in the app, or with --plain in sentences for screen readers and logs."""
    from mlxprune.run.narration import follow_sentences

    run = existing_run(run_path)
    if not plain:
        open_app(run_path)
        return
    for sentence in follow_sentences(run):
        print(sentence, flush=True)
    leave_as_failed(run)


def leave_as_failed(run: RunFolder) -> None:
    """Say what a run that has failed failed of, and end with exit code 1."""
    from mlxprune.run.events import fold_log

    state = fold_log(run.events)
    if state.state != RunStatus.FAILED or state.error is None:
        return
    told = state.error
    error = MlxpruneError(str(told.problem), str(told.where or run.path), str(told.fix or ""))
    print(error.lines(), file=sys.stderr)
    raise typer.Exit(1)


def tui(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|FOLDER]",
            help="a run or a folder of runs; the newest run here without, and one that is not "
            "there yet is waited for",
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="in a browser on this machine; it only looks")
    ] = False,
    port: Annotated[int, typer.Option(help="of --serve")] = 8311,
    check: Annotated[
        bool, typer.Option("--check", help="print a test card of this terminal")
    ] = False,
    glyphs: Annotated[str | None, typer.Option(help="braille, block or ascii")] = None,
    theme: Annotated[str | None, typer.Option(help="a theme, such as ansi-dark")] = None,
    hertz: Annotated[float | None, typer.Option(help="pictures a second, 4 by default")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="send no commands")] = False,
) -> None:
    """Open the terminal app on a run or a folder of runs."""
    path = path or newest_run(Path.cwd()) or Path.cwd()
    if glyphs not in (None, "braille", "block", "ascii"):
        raise UsageError(f"no glyphs are called {glyphs!r}", "--glyphs", "braille, block or ascii")
    if hertz is not None and not 0.1 <= hertz <= 30:
        raise UsageError(f"{hertz} pictures a second", "--hertz", "give 0.1 to 30")
    if check:
        from mlxprune_tui.shell import settings
        from mlxprune_tui.shell.terminal_card import text

        print(text(settings.load().with_chosen(theme, glyphs, hertz)))
    elif serve:
        _refuse_nothing(path)
        _serve(path, port)
    else:
        _open(path, theme, glyphs, hertz, read_only)


def _refuse_nothing(path: Path) -> None:
    if not path.exists():
        fix = "name a run, or a folder of runs; mlxprune demo makes one"
        raise UsageError("no such folder", str(path), fix)


def open_app(path: Path) -> None:
    """The app on a run that is there or about to be. Raises UsageError where no terminal is."""
    _open(path, None, None, None, False)


def _open(
    path: Path, theme: str | None, glyphs: str | None, hertz: float | None, read_only: bool
) -> None:
    served = "TEXTUAL_DRIVER" in os.environ  # by textual-serve, which is no terminal
    refuse_terminal(path, served)
    if os.environ.get("SSH_TTY"):  # fewer pictures and no animation over a line
        os.environ.setdefault("TEXTUAL_FPS", "15")
        os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    for name in () if served else ("COLUMNS", "LINES"):  # they would hide that a window changes
        os.environ.pop(name, None)
    from mlxprune_tui.app import Monitor
    from mlxprune_tui.shell import settings

    kept = settings.load().with_chosen(theme, glyphs, hertz)
    Monitor(path, read_only or served, kept).run()


def refuse_terminal(path: Path, served: bool = False) -> None:
    """Raises UsageError where no screen can be drawn."""
    instead = f"mlxprune watch --plain {path}" if _is_run(path) else f"mlxprune status {path}"
    if os.environ.get("TERM", "") in ("dumb", "") and not served:
        raise UsageError("this terminal cannot draw (TERM=dumb)", "mlxprune tui", f"use {instead}")
    if not sys.stdout.isatty() and not served:
        raise UsageError("this is no terminal", "mlxprune tui", f"use {instead}")


def _is_run(path: Path) -> bool:
    return (path / "run.json").exists()


def _serve(path: Path, port: int) -> None:
    try:
        from textual_serve import server
    except ImportError:
        fix = "pip install 'mlxprune[serve]'"
        raise UsageError("textual-serve is not installed", "mlxprune tui --serve", fix) from None
    command = [sys.executable, "-m", "mlxprune", "tui", str(path.absolute()), "--read-only"]
    print(f"http://localhost:{port}: for this machine alone; Ctrl-C ends it", file=sys.stderr)
    # Its page asks a server elsewhere for a font: nothing is asked of anybody here.
    page = (Path(server.__file__).parent / "templates" / "app_index.html").read_text()
    with tempfile.TemporaryDirectory(prefix="mlxprune-serve-") as folder:
        (Path(folder) / "app_index.html").write_text(FONT_LINK.sub("", page))
        served = _guarded(server.Server)(
            shlex.join(command),
            host="localhost",
            port=port,
            title="mlxprune",
            templates_path=folder,
        )
        served.serve()


def local_pages_only() -> Any:
    """Of aiohttp, what answers only pages of its own server: any other that is open in a browser
    could read the screen, by a WebSocket to this machine, or by a name that it has let mean this
    machine."""
    from aiohttp import web

    @web.middleware
    async def of_here(request: Any, handler: Any) -> Any:
        origin = request.headers.get("Origin")
        here = {f"{name}:{request.url.port}" for name in ("localhost", "127.0.0.1", "[::1]")}
        if request.headers.get("Host", "") not in here:
            raise web.HTTPForbidden(text="asked for by another name than localhost")
        if origin is not None and origin not in {f"http://{host}" for host in here}:
            raise web.HTTPForbidden(text="asked for by a page of another server")
        return await handler(request)

    return of_here


def _guarded(kind: Any) -> Any:
    class Guarded(kind):  # type: ignore[misc]
        async def _make_app(self) -> Any:
            app = await super()._make_app()
            app.middlewares.append(local_pages_only())
            return app

    return Guarded
