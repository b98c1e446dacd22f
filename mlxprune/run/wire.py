"""Wire: how a record of the log becomes an event.

A reader takes unknown kinds and damaged records as ``Unknown`` and goes on.
"""

from __future__ import annotations

import contextlib
import math

import msgspec

from mlxprune.run.event_kinds import KINDS, Event, Unknown, Wire

NAME_LENGTH = 64  # of a kind that this version does not know
MOST_NUMBER = 10**18


def _sound(wire: Wire, kind: type[Event]) -> Wire:
    """The fields of an event that are of its kind, each by itself."""
    kept: Wire = {"kind": wire["kind"]}
    for key, value in wire.items():
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert({"kind": wire["kind"], key: value}, kind, strict=False)
            kept[str(key)] = value
    return kept


def _is_odd(value: object) -> bool:
    """Numbers that no figure can be made of: they are left out, as unknown."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, int) and abs(value) > MOST_NUMBER


def event_of(wire: Wire) -> Event:
    """The event that a record of the log is; never raises."""
    kind = str(wire.get("kind"))[:NAME_LENGTH]
    known = KINDS.get(kind)
    wire = {key: value for key, value in wire.items() if not _is_odd(value)}
    if known is not None:
        try:
            return msgspec.convert(wire, known, strict=False)
        except msgspec.ValidationError:
            pass
        with contextlib.suppress(msgspec.ValidationError):  # one odd field takes no other along
            return msgspec.convert(_sound(wire, known), known, strict=False)
    v, t = (x if isinstance(x, int | float) else None for x in (wire.get("v"), wire.get("t")))
    stage = wire.get("stage")
    return Unknown(
        name=kind,
        damaged=known is not None,
        v=None if v is None else int(v),
        t=t,
        stage=stage if isinstance(stage, str) else None,
    )
