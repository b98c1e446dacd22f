from __future__ import annotations

import dataclasses
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlxprune import machine
from mlxprune.run.event_kinds import Device


def test_a_sample_has_the_fields_of_a_device_event(tmp_path: Path) -> None:
    found = machine.sample(tmp_path)
    assert found.memory_bytes > 1 << 20
    assert 0 < found.memory_used <= found.memory_total
    assert 0 < found.disk_free <= found.disk_total
    assert {f.name for f in dataclasses.fields(found)} <= {*Device.__struct_fields__}


def test_a_battery_and_heat_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    battery = namedtuple("battery", "percent power_plugged")
    reading = namedtuple("reading", "current")
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery(40, False), raising=False)
    heat = {"cpu": [reading(60.0), reading(71.5)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: heat, raising=False)
    found = machine.sample(tmp_path)
    assert (found.power, found.battery, found.heat) == ("battery", 0.4, 71.5)


def test_what_a_system_does_not_tell_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no such thing")

    for name in ("swap_memory", "sensors_battery", "sensors_temperatures"):
        monkeypatch.setattr(psutil, name, broken, raising=False)
    found = machine.sample(tmp_path / "gone")
    for key in ("swap_used", "power", "battery", "heat", "disk_free"):
        assert getattr(found, key) is None
