"""Pictures of every screen on a run folder that never changes, as SVG files beside this one.

pytest tests/tui/test_snapshots.py --snapshot-update     # after a change that is wanted: look at
them
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import time
from pathlib import Path
from types import ModuleType

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell.settings import Settings
from mlxprune_tui.testing import opened, show, until

GOLDEN = Path(__file__).parents[1] / "golden" / "make.py"
SHOWN = ("overview", "scoring", "selection", "training", "compare", "documents")
SIZES = (
    pytest.param((80, 24), marks=pytest.mark.slow, id="80x24"),
    pytest.param((120, 40), id="120x40"),
)


class Svg(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "svg"


@pytest.fixture
def pictures(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Svg)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture_of(app: Monitor) -> str:
    """As Textual exports it, without what differs from one time to the next, or is fetched."""
    svg = app.export_screenshot(simplify=True)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return re.sub(r"terminal-\d+", "terminal", svg)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SHOWN)
def test_it_looks_as_it_did(
    name: str, size: tuple[int, int], make: ModuleType, pictures: SnapshotAssertion,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    run: Path = make.copied(tmp_path)
    moment = make.now(run)

    async def go() -> str:
        kept = Settings(theme="textual-dark")
        app = Monitor(run, remember=False, kept=kept, now=lambda: moment)
        async with app.run_test(size=size) as pilot:
            await opened(app, pilot)
            await show(app, pilot, name)
            await until(pilot, lambda: app.page.nothing() is None)
            last, now = "", picture_of(app)
            while last != now:  # what is read aside, or laid out anew, is there by then
                last = now
                app.page.renew()
                await pilot.pause(0.4)
                now = picture_of(app)
            return now

    assert asyncio.run(go()) == pictures
