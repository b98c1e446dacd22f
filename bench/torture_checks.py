"""What bench/torture.py compares: every file that a run leaves, with nothing of the engine.

Two runs of one configuration must leave the same files with the same bytes. What tells of times,
of processes or of places is left out, key by key.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

# Files that tell how it came about, not what came of it.
APART = re.compile(
    r"(^|/)(events/|commands/|\.lock$|lock$|console\.log$|device\.json$)|\.partial|(^|/)target/events"
)
# Keys that hold a time, a process, a place or how often something was tried.
PASSING = {
    "seconds", "spent", "pid", "started", "host", "device", "folder", "mtime_ns", "run", "sum",
    "stages", "costs", "memory_bytes", "peak_memory_bytes", "versions", "path", "report", "command",
}  # fmt: skip
# A marker holds the checksums of files whose own places or times are left out here.
SUMS = re.compile(r"(^|/)(\.report\.html\.stage\.json|corpus/stage\.json)$")
# Of finished things, what only a later loss would need: damaged, it need not be made again.
SPARE = re.compile(
    r"/checkpoints/step-|(^|/)\.?towards$|(^|/)shapes\.json$|README\.md$|\.parts/[a-z]+\.npy$"
)
LEFT_OVER = re.compile(r"\.partial|(^|/)\d{6}\.npy$|\.positions\.npy$")


def files_of(run: Path) -> dict[str, str]:
    """A hash of every file that counts, by its path."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if not APART.search(name):
            found[name] = hashlib.sha256(content_of(path, name)).hexdigest()
    return found


def content_of(path: Path, name: str) -> bytes:
    """The bytes of a file without what passes."""
    data = path.read_bytes()
    if name == "report.html":  # the figures are in report.json; the page tells of times
        return b"there" if len(data) > 10_000 and data.rstrip().endswith(b"</html>") else data
    if path.suffix != ".json" or name.startswith(("tokenizer/",)):
        return data
    try:
        tree = json.loads(data)
    except ValueError:
        return data
    if SUMS.search(name):
        tree.pop("files", None)
    return json.dumps(_lasting(tree), sort_keys=True).encode()


def _lasting(tree: object) -> object:
    if isinstance(tree, dict):
        return {k: _lasting(v) for k, v in tree.items() if k not in PASSING}
    return [_lasting(v) for v in tree] if isinstance(tree, list) else tree


def left_over(run: Path) -> list[str]:
    """Files of work that is finished, which nobody needs."""
    names = (p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file())
    return sorted(n for n in names if LEFT_OVER.search(n) and not n.startswith("eval/"))


def differences(
    expected: dict[str, str], found: dict[str, str], harmed: tuple[str, ...] = ()
) -> list[str]:
    """Files that are not alike, without spare ones that were harmed."""
    spare = {n.rpartition("/")[0] if "/checkpoints/" in n else n for n in harmed if SPARE.search(n)}
    names = sorted(expected.keys() | found.keys())
    return [
        n
        for n in names
        if expected.get(n) != found.get(n) and not any(n.startswith(s) for s in spare)
    ]


STAGES = (
    ("corpus", ("corpus/",)),
    ("split", ("split/",)),
    ("tokenizer", ("tokenizer/",)),
    ("tokens", ("tokens/",)),
    ("reference", ("references/",)),
    ("score", ("scores/", "cleaned/")),
    ("selection", ("selection/",)),
    ("final", ("final/", "arms/")),
    ("evaluation", ("eval/", "target/")),
    ("report", ("report.", ".report.")),
)


def stage_of(path: str) -> str | None:
    """The stage that works on a path of a run; None of what all of them touch."""
    bare = path.removesuffix(".partial")
    return next(
        (
            name
            for name, starts in STAGES
            if f"{bare}/".startswith(starts) or bare.startswith(starts)
        ),
        None,
    )
