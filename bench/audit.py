"""What is installed with mlxprune: licences, and vulnerabilities that are known.

    python bench/audit.py [--extras]

Exits with 1 where a licence is not one of those that we take, or pip-audit finds something. Without
pip-audit (``pip install pip-audit``) or a network, vulnerabilities are not asked for, and that is
said.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys

TAKEN = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|Zlib|HPND|CNRI|0BSD"
    r"|Public Domain|CC0",
    re.IGNORECASE,
)
REFUSED = re.compile(r"(?<!L)(?<!Lesser )\bA?GPL|Affero", re.IGNORECASE)


def needed(extras: bool) -> list[str]:
    """Every package that an installation brings, by name."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = ["mlxprune"]
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            told = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(key)
        wanted = told.metadata.get_all("Provides-Extra") if extras and key == "mlxprune" else None
        for text in told.requires or ():
            need = Requirement(text)
            environments = [{"extra": e} for e in wanted or ()] + [{"extra": ""}]
            if need.marker is None or any(need.marker.evaluate(e) for e in environments):
                waiting.append(need.name)
    return sorted(found - {"mlxprune"})


def licence_of(name: str) -> str:
    told = importlib.metadata.metadata(name)
    stated = told.get("License-Expression")
    classes = [
        c.rpartition(" :: ")[2]
        for c in told.get_all("Classifier") or ()
        if c.startswith("License ::")
    ]
    text = (told.get("License") or "").strip().splitlines()
    return stated or ", ".join(classes) or (text[0][:60] if text else "not stated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", action="store_true", help="with all that is optional")
    asked = parser.parse_args()
    names, odd = needed(asked.extras), []
    for name in names:
        licence = licence_of(name)
        mark = " "
        if REFUSED.search(licence) or not TAKEN.search(licence):
            mark = "?"
            odd.append(name)
        print(f"{mark} {name:<28} {importlib.metadata.version(name):<12} {licence}")
    print(f"{len(names)} packages; to look at: {', '.join(odd) or 'none'}")
    wanted = "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in names)
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "-r", "/dev/stdin"]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if "No module named" in said:
        print("vulnerabilities: not asked for; pip install pip-audit")
    elif done.returncode and "vulnerabilit" not in said:
        print(f"vulnerabilities: not known, the list cannot be reached\n{said[-300:]}")
    else:
        print(said)
    if any(REFUSED.search(licence_of(name)) for name in odd) or "known vulnerabilit" in said:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
