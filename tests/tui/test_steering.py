from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest_tui import on

from mlxprune_tui import (
    overview,
    steering,
)


def test_only_a_live_run_hears_a_command(make_run: Callable[[str], Path]) -> None:
    live, crashed = (on(make_run(s), overview.Overview).desk.view for s in ("live", "crashed"))
    assert steering.why_not(live, "stop", False) is None
    assert "no process" in str(steering.why_not(crashed, "stop", False))
    assert steering.why_not(live, "resume", False) == "the run is not paused"
    live.standing = "paused"
    assert steering.why_not(live, "resume", False) is None
    live.standing = "running"
    live.state["stages"]["final"]["state"] = "running"
    checks = {c.name: c.told for c in live.leaving()}
    assert f"last checkpoint: {checks['checkpoint']}" in steering.consequences(live, "checkpoint")
    assert "goes on" in steering.consequences(live, "checkpoint")
