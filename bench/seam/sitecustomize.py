"""The seam of bench/torture.py: on PYTHONPATH it counts what a process does to files, and does harm
there. Nothing of mlxprune is imported.

SEAM names a JSON file: ``root`` (only what is done below it counts), ``trace`` (a file that every
operation is appended to), and perhaps ``op``, ``path`` (a part of it), ``nth`` (in all processes),
``when`` (before, after), ``later`` (starts of paths: it ends there, too) and ``how``:

    kill    the whole run ends there, this process and the one that leads it
    child   only this process ends there
    torn    half of what is to be written is written, and the run ends
    eio, enospc    the operation fails
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

OPERATIONS = (
    "replace", "rename", "fsync", "unlink", "mkdir", "rmdir", "link", "write", "ftruncate",
)  # fmt: skip


def _install(plan: dict) -> None:
    root = plan["root"]
    trace = os.open(plan["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.environ.setdefault("SEAM_LEADER", str(os.getpid()))
    real = {name: getattr(os, name) for name in OPERATIONS}
    counter = plan["trace"] + ".count"
    later = tuple(plan.get("later") or ("\0",))

    def place(arguments: tuple) -> str | None:
        """The path of an operation below the root; that of a descriptor by its name."""
        found = (
            arguments[1]
            if len(arguments) > 1 and isinstance(arguments[1], str | os.PathLike)
            else arguments[0]
        )
        if isinstance(found, int):
            try:
                found = os.readlink(f"/proc/self/fd/{found}")  # noqa: PTH115
            except OSError:
                return None
        text = os.path.abspath(os.fspath(found))  # noqa: PTH100
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        inside = text == root or text.startswith(root + "/")
        return text[len(root) + 1 :] if inside else None

    def is_due(name: str, path: str) -> bool:
        if plan.get("how") is None or plan["op"] != name or plan["path"] not in path:
            return False
        # Across processes: every hit adds a byte, and the size says which one it is.
        fd = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        real["write"](fd, b".")
        size = os.fstat(fd).st_size
        os.close(fd)
        return size == plan["nth"]

    def end() -> None:
        leader = int(os.environ["SEAM_LEADER"])
        if plan["how"] != "child" and leader != os.getpid():
            os.kill(leader, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def wrap(name: str) -> None:
        do = real[name]

        def call(*arguments, **more):
            path = place(arguments) if arguments else None
            if path is None or (name == "write" and arguments[0] < 3):
                return do(*arguments, **more)
            if path.startswith(later):  # it has gone past the place that was meant
                end()
            due = is_due(name, path)
            if due and plan["how"] in ("eio", "enospc"):
                number = errno.EIO if plan["how"] == "eio" else errno.ENOSPC
                raise OSError(number, os.strerror(number), path)
            if due and plan["how"] == "torn" and name == "write":
                do(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                end()
            if due and plan["when"] == "before":
                end()
            noted = _state(arguments) if name == "fsync" else None
            result = do(*arguments, **more)
            line = json.dumps([name, path, noted, os.getpid()]) + "\n"
            real["write"](trace, line.encode())
            if due:
                end()
            return result

        setattr(os, name, call)

    def _state(arguments: tuple) -> list[int]:
        found = os.fstat(arguments[0])
        return [found.st_ino, found.st_size, found.st_mtime_ns]

    for name in OPERATIONS:
        wrap(name)


if os.environ.get("SEAM") and not any("site-packages/pip" in part for part in sys.argv[:1]):
    with open(os.environ["SEAM"]) as file:  # noqa: PTH123
        _install(json.load(file))
