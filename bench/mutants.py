"""Every check is taken out of a copy of the project, and its tests must fail.

    python bench/mutants.py [NAME...]

A mutant is (name, file, what stands there, what stands there instead, the tests that hold it). One
that its tests do not notice is an error, and so is one whose text is not in the file any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("mlxprune", "models", "recipes", "tui", "tests", "bench", "docs")


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    right: str
    wrong: str
    tests: str


MUTANTS = (
    Mutant(
        "checksums of files", "mlxprune/checksums.py",
        "return path.stat().st_size == wanted.size and file_sum(path) == wanted",
        "return path.exists()", "tests/test_checksums.py tests/test_damage.py",
    ),
    Mutant(
        "checksums of objects", "mlxprune/checksums.py",
        "if told is not None and told != _tree_sum(tree):", "if False:", "tests/test_checksums.py",
    ),
    Mutant(
        "checksums of arrays", "mlxprune/checksums.py",
        "if xxhash.xxh3_128(body).digest() != told:", "if False:",
        "tests/test_checksums.py tests/scoring/test_units.py",
    ),
    Mutant(
        "checksums of checkpoints", "mlxprune/training/checkpoints.py",
        "return state if all(is_whole(path / name, files[name]) for name in files) else None",
        "return state", "tests/training/test_checkpoints.py",
    ),
    Mutant(
        "checksums of events", "mlxprune/run/segments.py",
        "same = zlib.crc32(msgpack.packb(record)) == told", "same = True",
        "tests/run/test_segments.py",
    ),
    Mutant(
        "artifacts when a stage takes them", "mlxprune/execution/stage.py",
        "    damaged = damaged_files(place)\n", "    damaged = []\n",
        "tests/test_damage.py",
    ),
    Mutant(
        "artifacts when a reader takes them", "mlxprune/run/markers.py",
        "    damaged = damaged_files(place, most_bytes=most_bytes)\n", "    damaged = []\n",
        "tests/test_damage.py",
    ),
    Mutant(
        "models that are taken over", "mlxprune/pipeline/train_arms.py",
        "if takes and equal is not None and not damaged_files(equal):",
        "if takes and equal is not None:", "tests/test_damage.py",
    ),
    Mutant(
        "finite weights of a checkpoint", "mlxprune/training/checkpoints.py",
        "if not all(mx.all(mx.isfinite(array)).item() for array in weights.values()):",
        "if False:", "tests/training/test_checkpoints.py",
    ),
    Mutant(
        "finite weights of a model", "mlxprune/model/weights.py",
        "        if mx.all(finite).item():\n", "        if True:\n", "tests/model/test_weights.py",
    ),
    Mutant(
        "finite losses", "mlxprune/training/loop.py",
        "if not (math.isfinite(loss) and math.isfinite(norm)):", "if False:",
        "tests/training/test_loop.py",
    ),
    Mutant(
        "regular checkpoints of a roll-back", "mlxprune/training/checkpoints.py",
        "if only_regular and state.step % recipe.checkpoint_every:", "if False:",
        "tests/training/test_loop.py",
    ),
    Mutant(
        "divergence", "mlxprune/training/summary.py", "    if last > uniform:\n",
        "    if False:\n", "tests/training/test_loop.py",
    ),
    Mutant(
        "tensors on the same bytes", "mlxprune/model/model_checks.py",
        "if not before <= first <= end:", "if False:", "tests/model/test_model_checks.py",
    ),
    Mutant(
        "whole identities of models", "mlxprune/files.py",
        "return [[p.name, p.stat().st_size, full_hash(p)] for p in files]",
        "return [[p.name, p.stat().st_size, edges_hash(p)] for p in files]", "tests/test_files.py",
    ),
    Mutant(
        "a share of one", "mlxprune/config/field_types.py",
        "if type(found) is int and 0 < found < LEAST_BUDGET and not has_suffix:", "if False:",
        "tests/config/test_schema.py",
    ),
    Mutant(
        "aliases in YAML", "mlxprune/config/yaml_file.py",
        "if left[0] < 0 or depth > MOST_LEVELS:", "if False:", "tests/config/test_schema.py",
    ),
    Mutant(
        "the length of a line", "mlxprune/data/decompression.py",
        "        if self.size <= self.most:\n", "        if True:\n",
        "tests/data/test_decompression.py",
    ),
    Mutant(
        "what a codec gives at once", "mlxprune/data/decompression.py",
        "out = stream.decompress(data, UNPACKED_BYTES)", "out = stream.decompress(data)",
        "tests/data/test_decompression.py",
    ),
    Mutant(
        "rows of a table by bytes", "mlxprune/data/tables.py",
        "return max(1, min(BATCH_ROWS, int(HELD_BYTES / widest)))", "return BATCH_ROWS",
        "tests/data/test_tables.py",
    ),
    Mutant(
        "commands of other users", "mlxprune/run/folder.py",
        "if verb in COMMANDS and user in (os.geteuid(), 0):", "if verb in COMMANDS:",
        "tests/run/test_folder.py",
    ),
    Mutant(
        "the place of a series", "mlxprune/tracking/trackers.py",
        'parts = [safe_name(part) for part in series.split("/") if part.strip(".")]',
        "parts = [series]", "tests/tracking/test_track.py",
    ),
    Mutant(
        "the origin of a page", "mlxprune/commands/watch.py",
        "if origin is not None and origin not in", "if False and origin not in",
        "tests/commands/test_watch.py",
    ),
    Mutant(
        "half a record", "mlxprune/run/events.py", "os.ftruncate(fd, before)", "pass",
        "tests/run/test_segments.py",
    ),
    Mutant(
        "the folder that is gone", "mlxprune/execution/control.py",
        "if not self.run.events.exists():", "if False:", "tests/test_damage.py",
    ),
    Mutant(
        "the second copy of what a folder is for", "mlxprune/run/markers.py",
        'for name in (TOWARDS, f".{TOWARDS}"):\n        with contextlib',
        "for name in (TOWARDS,):\n        with contextlib", "tests/run/test_markers.py",
    ),
)  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:]
    missed = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in COPIED:
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
            shutil.copy(ROOT / part, place / part)
        (place / "mlxprune_models").symlink_to("models")
        (place / "mlxprune_recipes").symlink_to("recipes")
        (place / "mlxprune_tui").symlink_to("tui")
        environment = {**os.environ, "PYTHONPATH": str(place)}
        for mutant in MUTANTS:
            if wanted and mutant.name not in wanted:
                continue
            path = place / mutant.file
            text = path.read_text()
            if text.count(mutant.right) != 1:
                missed.append(f"{mutant.name}: {mutant.file} has changed")
                continue
            path.write_text(text.replace(mutant.right, mutant.wrong))
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-m", "slow or not slow",
                 "-p", "no:cacheprovider",
                 *mutant.tests.split()],
                cwd=place, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            path.write_text(text)
            failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
            seen = done.returncode == 1 and bool(failed)
            print(
                f"{'noticed' if seen else 'MISSED'}: {mutant.name}"
                f"{': ' + failed[0].split(' - ')[0][7:] if failed else ''}",
                flush=True,
            )
            missed += [] if seen else [f"{mutant.name}\n{done.stdout[-800:]}"]
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
