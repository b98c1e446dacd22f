"""Machine: what the system says of itself while a run works. Nothing else asks it.

What a system does not tell is None, never a guess.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from mlxprune import macos


def peak_resident_bytes() -> int:
    """The largest resident size of this process since its start or ``reset_peak_resident``.

    Linux: VmHWM, because ru_maxrss begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def reset_peak_resident() -> None:
    """Linux only; elsewhere the peak stays that of the whole life."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """The largest resident size of this process or a finished child."""
    scale = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale
    return max(peak_resident_bytes(), children)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


BUSY_LOAD = 0.5  # processes that want a core, for each core, from which on measured times are wrong


def busy_words() -> str | None:
    """That others work on this machine, with the load of the last minute; None where nobody does,
    or the system does not tell."""
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
    count = cores()
    if load <= BUSY_LOAD * count:
        return None
    return f"the machine is busy (load {load:.1f} on {count} {'core' if count == 1 else 'cores'})"


def import_path() -> str:
    """PYTHONPATH with which a child process imports what this process imports."""
    return os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)


PACKAGES = (
    "mlxprune", "mlx", "mlx-cpu", "mlx-cuda-13", "mlx-lm", "transformers", "tokenizers",
    "sentencepiece", "numpy", "pyarrow", "scipy-openblas32",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Versions of what can change a result."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


THERMAL_KEY = "com.apple.system.thermalpressurelevel"
PRESSURE_KEY = "kern.memorystatus_vm_pressure_level"


@cache
def boot_session() -> str | None:
    """What tells this start of the machine from every other one; a Mac's host name does not, it
    changes with the network. None where the system says nothing."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    with contextlib.suppress(OSError):
        return linux.read_text().strip() or None
    told = (macos.ask("sysctl", "-n", "kern.bootsessionuuid") or "").strip()
    return told or None


@dataclass(frozen=True)
class MachineSample:
    """The fields of a ``device`` event (mlxprune/run/event_kinds.py); sizes in bytes."""

    memory_bytes: int
    memory_used: int
    memory_total: int
    swap_used: int | None
    cpu_share: float
    disk_free: int | None
    disk_total: int | None
    power: str | None  # plugged, or battery
    battery: float | None  # share
    heat: float | None  # degrees Celsius
    thermal: str | None = None  # macOS: nominal, moderate, heavy, trapping, sleeping
    pressure: str | None = None  # macOS, of memory: normal, warning, critical
    low_power: bool | None = None  # macOS: Low Power Mode


def sample(folder: Path) -> MachineSample:
    """What the system says now; the disk is that of ``folder``."""
    memory = psutil.virtual_memory()
    free, total = _disk(folder)
    power, battery = _power()
    return MachineSample(
        memory_bytes=_resident(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        swap_used=_swap(),
        cpu_share=psutil.cpu_percent(interval=None) / 100,
        disk_free=free,
        disk_total=total,
        power=power,
        battery=battery,
        heat=_heat(),
        thermal=macos.thermal_of(macos.ask("notifyutil", "-g", THERMAL_KEY)),
        pressure=macos.pressure_of(macos.ask("sysctl", "-n", PRESSURE_KEY)),
        low_power=macos.low_power_of(macos.ask("pmset", "-g")),
    )


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


def _disk(folder: Path) -> tuple[int | None, int | None]:
    """(free, total)"""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None, None
    return usage.free, usage.total


def _power() -> tuple[str | None, float | None]:
    """(power, battery), None where the system tells of no battery: it may have one."""
    battery = None
    with contextlib.suppress(OSError, AttributeError, RuntimeError):
        battery = psutil.sensors_battery()
    if battery is None or battery.power_plugged is None:
        return None, None
    share = None if battery.percent is None else battery.percent / 100
    return "plugged" if battery.power_plugged else "battery", share


def _heat() -> float | None:
    """The hottest sensor; macOS has none that needs no extra rights."""
    try:
        groups = psutil.sensors_temperatures()
    except (AttributeError, OSError, RuntimeError):
        return None
    found = [entry.current for entries in groups.values() for entry in entries]
    readings = [degrees for degrees in found if degrees is not None]
    return max(readings, default=None)
