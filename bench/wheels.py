"""Whether every dependency installs as a wheel on macOS arm64, for each Python that we support.

    python bench/wheels.py [--pythons 3.11 3.12] [--extras lm-eval]

Asks the package index through pip, downloads nothing, and prints what has no wheel. Exit code 1
where a default dependency has none.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLATFORMS = ("macosx_14_0_arm64", "macosx_13_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64")
MAC = re.compile(r"""sys_platform\s*==\s*['"]darwin['"]""")


def requirements(extra: str | None = None) -> list[str]:
    """Those of a Mac, without their markers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    found = []
    for line in listed:
        name, _, marker = line.partition(";")
        if not marker or MAC.search(marker):
            found.append(name.strip())
    return found


def resolved(wanted: list[str], python: str) -> tuple[list[str], str]:
    """(what pip would install, with all that they need; its complaint where it cannot)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--dry-run", "--ignore-installed", "--only-binary=:all:", "--no-compile",
            "--implementation", "cp", "--python-version", python, "--target", folder,
            "--report", str(report), "-c", str(ROOT / "constraints.txt"), *wanted,
        ]  # fmt: skip
        for platform in PLATFORMS:
            command += ["--platform", platform]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return [], " ".join(lines)[:300] or done.stderr[-300:]
        items = json.loads(report.read_text())["install"]
        return sorted(f"{i['metadata']['name']} {i['metadata']['version']}" for i in items), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pythons", nargs="*", default=["3.11", "3.12", "3.13", "3.14"])
    parser.add_argument("--extras", nargs="*", default=[])
    arguments = parser.parse_args()
    failed = False
    for python in arguments.pythons:
        found, why = resolved(requirements(), python)
        failed |= bool(why)
        print(f"Python {python}: {why or f'{len(found)} packages, all as wheels'}")
        for extra in arguments.extras:
            for name in requirements(extra):
                found, why = resolved([name], python)
                print(f"  {extra}: {name}: {why or f'{len(found)} packages, all as wheels'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
