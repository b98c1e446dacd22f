"""Watching: what is served is for pages of this machine alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")


def ask(headers: dict[str, str], place: str = "/") -> int:
    """The status of an answer of the server."""
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    from mlxprune.commands.watch import local_pages_only

    async def handle(request: Any) -> Any:
        return web.Response(text="the screen")

    async def go() -> int:
        app = web.Application(middlewares=[local_pages_only()])
        app.add_routes([web.get("/", handle), web.get("/ws", handle)])
        async with TestClient(TestServer(app)) as client:
            port = client.port
            told = {k: v.replace("PORT", str(port)) for k, v in headers.items()}
            answer = await client.get(place, headers={"Host": f"localhost:{port}", **told})
            return int(answer.status)

    return asyncio.run(go())


@pytest.mark.parametrize("place", ["/", "/ws"])
def test_pages_of_other_servers_are_refused(place: str) -> None:
    assert ask({}, place) == 200
    assert ask({"Origin": "http://localhost:PORT"}, place) == 200
    assert ask({"Origin": "http://127.0.0.1:PORT"}, place) == 200
    for origin in ("http://evil.example", "http://localhost:1", "null", "https://localhost:PORT"):
        assert ask({"Origin": origin}, place) == 403, origin
    # A name that its owner has let mean this machine.
    assert ask({"Host": "evil.example:PORT"}, place) == 403


def test_watch_and_tail_of_a_failed_run_say_why_and_exit_with_1(
    tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    run = str(tmp_path / "run")
    setting = ("--set", "tokenizer.train.vocab_size=60000")
    assert command("run", str(tiny_yaml), "--dir", run, "--quiet", *setting).returncode == 2
    for words in (("watch", run, "--plain"), ("tail", run), ("tail", run, "--json")):
        done = command(*words)
        assert done.returncode == 1, words
        assert "error: a vocabulary of 60000 is too large" in done.stderr
        assert "fix: lower it" in done.stderr
    assert "has failed" in command("watch", run, "--plain").stdout


def test_resume_says_where_there_is_nothing_to_resume(tiny_run: Any, command: Any) -> None:
    done = command("resume", str(tiny_run.path))
    assert done.returncode == 2 and "no process works on this run" in done.stderr
