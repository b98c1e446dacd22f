"""Machine: what the system says of itself while a run works. Nothing else asks it.

What a system does not tell is None, never a guess.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import psutil


def sample(folder: Path) -> dict[str, Any]:
    """The fields of a ``device`` event (mlxprune/events.py); sizes in bytes."""
    memory = psutil.virtual_memory()
    return {
        "memory_bytes": _resident(),
        "memory_used": memory.total - memory.available,
        "memory_total": memory.total,
        "swap_used": _swap(),
        "cpu_share": psutil.cpu_percent(interval=None) / 100,
        **_disk(folder),
        **_power(),
        "heat": _heat(),
    }


def _resident() -> int:
    """Of this process and its children, which score."""
    total = 0
    with contextlib.suppress(psutil.Error, OSError):
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # a child may be gone by now
                total += process.memory_info().rss
    return total


def _swap() -> int | None:
    try:
        return int(psutil.swap_memory().used)
    except (OSError, RuntimeError):
        return None


def _disk(folder: Path) -> dict[str, Any]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return {"disk_free": None, "disk_total": None}
    return {"disk_free": usage.free, "disk_total": usage.total}


def _power() -> dict[str, Any]:
    """No battery, no word: a desktop is plugged in, but so a system says that tells nothing."""
    battery = None
    with contextlib.suppress(OSError, AttributeError, RuntimeError):
        battery = psutil.sensors_battery()
    if battery is None or battery.power_plugged is None:
        return {"power": None, "battery": None}
    return {
        "power": "plugged" if battery.power_plugged else "battery",
        "battery": None if battery.percent is None else battery.percent / 100,
    }


def _heat() -> float | None:
    """The hottest sensor; macOS has none that needs no extra rights."""
    try:
        groups = psutil.sensors_temperatures()
    except (AttributeError, OSError, RuntimeError):
        return None
    found = [entry.current for entries in groups.values() for entry in entries]
    readings = [degrees for degrees in found if degrees is not None]
    return max(readings, default=None)
