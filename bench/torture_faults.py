"""Faults of durability, planted in a copy of the package: bench/torture.py must find each.

A plant is (what it is, file, what stands there, what stands there instead, how it is looked for).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Plant:
    """``search``: the kind of harm that shows it, as ``search`` in torture.py draws it."""

    name: str
    file: str
    right: str
    wrong: str
    search: str


PLANTS = (
    Plant(
        "a rename before the flush",
        "mlxprune/files.py",
        """        flush(file.fileno())
    os.replace(partial, path)
    flush_folder(path.parent)


def write_json""",
        """        pass
    os.replace(partial, path)
    with path.open("rb") as file:
        flush(file.fileno())
    flush_folder(path.parent)


def write_json""",
        "power",
    ),
    Plant(
        "a marker before its files",
        "mlxprune/training/loop.py",
        """    claim(job.folder, job.fingerprint)
    training = _trained(job, log, control)
""",
        """    claim(job.folder, job.fingerprint)
    training = _trained(job, log, control)
    mark_done(job.folder, job.stage, job.fingerprint)
""",
        "marker",
    ),
    Plant(
        "a part counted twice",
        "mlxprune/scoring/units.py",
        """        found = read_sealed_array(_positions_path(path))
""",
        """        found = read_sealed_array(_positions_path(path))
        import psutil
        if path.stat().st_mtime < psutil.Process().create_time():
            found = 2 * found
""",
        "score",
    ),
    Plant(
        "a cursor off by one after resume",
        "mlxprune/training/loop.py",
        """        return self.job.stream.batch(step + passed, recipe.batch_size, recipe.context)
""",
        """        late = 1 if self.first else 0
        return self.job.stream.batch(step + passed + late, recipe.batch_size, recipe.context)
""",
        "train",
    ),
    Plant(
        "a checksum not compared",
        "mlxprune/checksums.py",
        """            return path.stat().st_size == wanted.size and file_sum(path) == wanted
""",
        """            return path.stat().st_size == wanted.size
""",
        "damage",
    ),
)


def planted(plant: Plant, folder: Path) -> Path:
    """A copy of the package with the fault in it; what goes on PYTHONPATH."""
    for name, under in (("mlxprune", "mlxprune"), ("models", "mlxprune_models")):
        shutil.copytree(ROOT / name, folder / under, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / plant.file
    text = path.read_text()
    if text.count(plant.right) != 1:
        raise SystemExit(f"{plant.name}: {plant.file} has changed; mend bench/torture_faults.py")
    path.write_text(text.replace(plant.right, plant.wrong))
    return folder
