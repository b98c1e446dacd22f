"""macOS: what its tools say, read without special rights. Nothing else starts them.

Every function that reads a text is pure; ``tests/test_macos.py`` has recorded outputs. What a tool
does not tell is None, never a guess.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

SECONDS = 2.0  # a tool that takes longer is not waited for
PRESSURE = {1: "normal", 2: "warning", 4: "critical"}  # xnu, kern_memorystatus_notify.c
# <libkern/OSThermalNotification.h>; from heavy on the system slows the processor down.
THERMAL = {0: "nominal", 1: "moderate", 2: "heavy", 3: "trapping", 4: "sleeping"}
OLDEST = (14,)  # macOS that MLX has wheels for


def ask(*command: str) -> str | None:
    """What a tool prints; None where it is not there, fails or takes too long."""
    if sys.platform != "darwin":
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def low_power_of(text: str | None) -> bool | None:
    """Of ``pmset -g``: Low Power Mode; the key is lowpowermode or powermode (1 is low)."""
    found = re.search(r"^\s*(?:low)?powermode\s+(\d)", text or "", re.MULTILINE)
    return found.group(1) == "1" if found else None


def display_sleep_of(text: str | None) -> int | None:
    """Of ``pmset -g``: minutes until the display sleeps, 0 for never."""
    found = re.search(r"^\s*displaysleep\s+(\d+)", text or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def thermal_of(text: str | None) -> str | None:
    """Of ``notifyutil -g com.apple.system.thermalpressurelevel``."""
    found = re.search(r"thermalpressurelevel\s+(\d+)", text or "")
    return THERMAL.get(int(found.group(1))) if found else None


def speed_limit_of(text: str | None) -> int | None:
    """Of ``pmset -g therm``: per cent of the processor's speed; None on Apple Silicon, whose notes
    say nothing about it."""
    found = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", text or "")
    return int(found.group(1)) if found else None


def pressure_of(text: str | None) -> str | None:
    """Of ``sysctl -n kern.memorystatus_vm_pressure_level``."""
    word = (text or "").strip().rpartition(" ")[2]
    return PRESSURE.get(int(word)) if word.isdigit() else None


def plugged_of(text: str | None) -> bool | None:
    """Of ``pmset -g batt``: its first line alone says where the power comes from."""
    found = re.search(r"Now drawing from '(\w+) Power'", text or "")
    return found.group(1) == "AC" if found else None


def is_translated(text: str | None) -> bool:
    """Of ``sysctl -n sysctl.proc_translated``: whether Rosetta runs this."""
    return (text or "").strip() == "1"


def graphics_of(text: str | None) -> dict[str, Any]:
    """Of ``system_profiler SPDisplaysDataType -json``: ``chip``, ``gpu_cores``, and whether every
    display is asleep."""
    try:
        cards = json.loads(text or "")["SPDisplaysDataType"]
        card = next(c for c in cards if c.get("sppci_device_type") == "spdisplays_gpu")
        cores = str(card.get("sppci_cores", ""))
        displays = card.get("spdisplays_ndrvs", [])
        asleep = [d.get("spdisplays_asleep") == "spdisplays_yes" for d in displays]
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError):
        return {}
    return {
        "chip": card.get("sppci_model"),
        "gpu_cores": int(cores) if cores.isdigit() else None,
        "displays": len(asleep),
        "displays_asleep": bool(asleep) and all(asleep),
    }


def why_unfit(system: str, machine: str, version: str, translated: bool) -> str | None:
    """Why mlxprune cannot run on this Mac, in a sentence with what to do; None where it can."""
    if system != "Darwin":
        return None
    if translated:
        return (
            "this Python is made for Intel and runs under Rosetta: install one for arm64, such as "
            "uv python install 3.12"
        )
    if machine != "arm64":
        return "MLX needs a Mac with Apple Silicon: this one has an Intel processor"
    numbers = tuple(int(n) for n in version.split(".") if n.isdigit())
    if numbers and numbers < OLDEST:
        return f"MLX needs macOS 14 or later: this is {version}"
    return None
