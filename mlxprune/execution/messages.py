"""Messages: what a run and its child processes say to each other, over two pipes.

A message is four bytes of length and a msgpack map whose ``type`` names its class. Arrays travel as
their bytes and paths as text; nothing is unpickled.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlxprune.run.event_kinds import Wire

LENGTH = struct.Struct("<I")


class Begin(msgspec.Struct, tag=True):
    """The first message to a child: what the run has decided about the device."""

    train_dtype: str | None = None  # None: nothing is decided
    score_dtype: str | None = None
    part_flops: float | None = None
    peak_flops: float | None = None


class Call(msgspec.Struct, tag=True):
    """Work: a function of ours as module:name, called with a link and the packed ``argument``.
    ``threads`` of the CPU, 0 for all."""

    function: str
    argument: bytes
    threads: int


class Item(msgspec.Struct, tag=True):
    """One more piece of the work under way; None ends it."""

    value: int | None


class Hold(msgspec.Struct, tag=True):
    """Wait at the next edge between two batches."""


class Go(msgspec.Struct, tag=True):
    """Work on."""


class Save(msgspec.Struct, tag=True):
    """Write a checkpoint at the next edge, and say Saved."""


class Emitted(msgspec.Struct, tag=True):
    """An event for the log of the run."""

    stage: str | None
    event: Wire


class Told(msgspec.Struct, tag=True):
    """Something that the caller of the work understands, packed."""

    value: bytes


class Saved(msgspec.Struct, tag=True):
    pass


class Done(msgspec.Struct, tag=True):
    """The result of a call, packed, and the memory that it took at most."""

    value: bytes
    peak_memory_bytes: int


class Failed(msgspec.Struct, tag=True):
    """An exception: one of ours by its class, a full disk, or anything else."""

    kind: str
    problem: str
    where: str
    fix: str
    errno: int | None = None


class Ended(msgspec.Struct, tag=True):
    """Said by whoever reads for the parent: the child is gone."""


ToChild = Begin | Call | Item | Hold | Go | Save
ToParent = Emitted | Told | Saved | Done | Failed | Ended


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        kind = value.dtype.descr if value.dtype.names else value.dtype.str
        held = np.ascontiguousarray(value).tobytes()
        return {"dtype": kind, "shape": list(value.shape), "bytes": held}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"no message holds a {type(value).__name__}")


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is np.ndarray:
        described = value["dtype"]
        if isinstance(described, list):
            described = [tuple(field) for field in described]
        held = np.frombuffer(value["bytes"], np.dtype(described))
        return held.reshape(value["shape"]).copy()
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"no message holds a {kind.__name__}")


def pack(value: Any) -> bytes:
    """A record, dataclass or plain value, with arrays and paths in it."""
    return msgspec.msgpack.encode(value, enc_hook=_encode)


def unpack(data: bytes, kind: Any) -> Any:
    """What ``pack`` has packed, of this kind. Raises ValidationError where it is none."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_decode)


def write_message(fd: int, message: ToChild | ToParent) -> None:
    """Whole; the caller sees to it that one thread writes at a time. Raises BrokenPipeError."""
    data = msgspec.msgpack.encode(message)
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def read_message(fd: int, kind: Any) -> Any:
    """The next message, of the union ``kind``; None at the end."""
    head = _read(fd, LENGTH.size)
    data = _read(fd, LENGTH.unpack(head)[0]) if head else None
    return msgspec.msgpack.decode(data, type=kind) if data is not None else None


def _read(fd: int, count: int) -> bytes | None:
    """Exactly so many bytes; None where the other side is gone."""
    pieces = []
    while count:
        piece = os.read(fd, min(count, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
