"""The app in a browser on this machine, looked at with a real one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxprune.commands.watch import FONT_LINK
from mlxprune.run.folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
aiohttp = pytest.importorskip("aiohttp", reason="textual-serve is not installed")
pytest.importorskip("textual_serve", reason="textual-serve is not installed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


async def answer(url: str, seconds: float) -> Any:
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as found:
                    return await found.text()
            except aiohttp.ClientError:
                assert time.monotonic() < end, url
                await asyncio.sleep(0.2)


async def shown(page: str, debugging: int, words: list[bytes]) -> None:
    """A browser opens the page; what reaches it holds the words, and it draws."""
    await answer(f"http://localhost:{debugging}/json/version", 30)
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://localhost:{debugging}/json/new?about:blank") as found:
            target = (await found.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(target, max_msg_size=0) as browser:
            await browser.send_json({"id": 1, "method": "Network.enable"})
            await browser.send_json({"id": 2, "method": "Page.navigate", "params": {"url": page}})
            end, sent, drawn, number = time.monotonic() + 40, b"", "", 2
            while not (all(w in sent for w in words) and "-first-byte|true" in drawn):
                assert time.monotonic() < end, (sent[-2000:], drawn)
                number += 1
                script = "document.body.className + '|' + !!document.querySelector('canvas')"
                asked = {"expression": script, "returnByValue": True}
                await browser.send_json(
                    {"id": number, "method": "Runtime.evaluate", "params": asked}
                )
                told = {}
                while told.get("id") != number:
                    told = await browser.receive_json(timeout=20)
                    if told.get("method") == "Network.webSocketFrameReceived":
                        frame = told["params"]["response"]
                        data = frame["payloadData"]
                        sent += base64.b64decode(data) if frame["opcode"] == 2 else data.encode()
                drawn = told.get("result", {}).get("result", {}).get("value") or ""
                await asyncio.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_the_run(tiny_run: RunFolder, tmp_path: Path) -> None:
    port, debugging = free_port(), free_port()
    serve = [sys.executable, "-m", "mlxprune", "tui", str(tiny_run.path), "--serve"]
    home = {"MLXPRUNE_CONFIG_HOME": str(tmp_path / "home"), "TERM": "dumb"}
    browse = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "about:blank",
        f"--remote-debugging-port={debugging}", f"--user-data-dir={tmp_path / 'chromium'}",
        "--window-size=1300,900",
    ]  # fmt: skip

    async def go() -> None:
        page = await answer(f"http://localhost:{port}/", 30)
        assert "googleapis" not in page
        await shown(f"http://localhost:{port}/", debugging, [b"DONE", b"Stages", b"corpus"])

    with started([*serve, "--port", str(port)], home), started(browse, {}):
        asyncio.run(go())


def test_only_the_link_to_a_font_elsewhere_is_left_out() -> None:
    from textual_serve import server

    page = (Path(server.__file__).parent / "templates" / "app_index.html").read_text()
    assert "googleapis" not in FONT_LINK.sub("", page)
    assert len(FONT_LINK.findall(page)) == 1
