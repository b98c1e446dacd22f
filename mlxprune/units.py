"""Units: how numbers of seconds and of things are written for people."""

from __future__ import annotations

import math

LN2 = math.log(2.0)  # nats in a bit


SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))  # of counts


def short_count(number: float) -> str:
    """1234567 -> 1.2M."""
    for unit, suffix in SUFFIXES:
        if abs(number) >= unit:
            return f"{number / unit:.1f}{suffix}"
    return f"{number:.0f}"


def duration(seconds: float | None) -> str:
    """7 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short_duration(seconds: float | None) -> str:
    """42s, 9m34s, 1h02m, 3d04h: never to be taken for a time of day."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def count(number: float | None, cells: int = 6) -> str:
    """1,234 where it fits, else 1.2M."""
    if number is None or not math.isfinite(number):
        return "-"
    whole = f"{number:,.0f}"
    if len(whole) <= cells:
        return whole
    for unit, suffix in SUFFIXES:
        if abs(number) >= unit:
            value = number / unit
            return f"{value:.2f}{suffix}" if value < 10 else f"{value:.1f}{suffix}"
    return whole


def size(number: float | None) -> str:
    """Bytes as 1.2 GB."""
    if number is None or not math.isfinite(number):
        return "-"
    for unit, suffix in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= unit:
            return f"{number / unit:.1f} {suffix}"
    return f"{number:.0f} B"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def ago(seconds: float) -> str:
    """Seconds for people, coarser the longer."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
