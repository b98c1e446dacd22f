"""Throw bytes at whatever reads what strangers wrote: all must end in answers or errors of ours.

    python bench/fuzz.py --seconds 600               guided by what code is reached
    python bench/fuzz.py --seconds 10 --target events
    python bench/fuzz.py --prove                      an IndexError is planted, and must be found

``pip install 'mlxprune[fuzz]'`` gives the guide (atheris); without it the bytes are drawn blindly.
What was found goes to tests/fuzzed/, which the tests try for ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "tests" / "fuzzed"
PLANT = (
    "mlxprune/data/rows.py",
    """    value = value_at(row, key)
    if value is MISSING and "+" in key:
""",
    """    value = value_at(row, key)
    if isinstance(value, list) and len(value) == 3 and isinstance(value[1], dict):
        return value[3]
    if value is MISSING and "+" in key:
""",
)


def guided(target: str, seconds: float, place: Path, seed: int) -> None:
    """In this process, which ends with it: atheris takes over."""
    import atheris

    with atheris.instrument_imports(include=["mlxprune"], enable_loader_override=False):
        import fuzz_targets

    def once(data: bytes) -> None:
        fuzz_targets.attempt(target, data)

    seeds = place / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    kept = KEPT / target
    arguments = [
        sys.argv[0], f"-max_total_time={int(seconds)}", f"-seed={seed % 2**31 or 1}", "-timeout=20",
        "-rss_limit_mb=3000", "-max_len=2000", "-print_final_stats=1", f"-artifact_prefix={place}/",
        str(seeds), *([str(kept)] if kept.exists() else []),
    ]  # fmt: skip
    atheris.Setup(arguments, once)
    atheris.Fuzz()


def blind(target: str, seconds: float, place: Path, seed: int) -> None:
    import fuzz_targets

    draw, count, deadline = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        data, count = draw.randbytes(draw.randint(0, 400)), count + 1
        try:
            fuzz_targets.attempt(target, data)
        except BaseException:
            traceback.print_exc()
            (place / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise SystemExit(77) from None
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)


def search(target: str, seconds: float, seed: int, paths: list[str]) -> tuple[list[Path], int, str]:
    """(what was found, tries, the end of what was said), in a process of its own."""
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    command = [sys.executable, __file__, "--inside", target, "--seconds", str(seconds),
               "--seed", str(seed), "--place", str(place)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT / "bench")])}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", cwd=place, env=environment
    )
    found = [p for p in place.glob("*") if p.is_file()]
    tries = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    count = int(tries[-1].split(":")[-1]) if tries else 0
    if done.returncode and not found:
        raise SystemExit(f"{target}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return found, count, (done.stdout[-2000:] + done.stderr[-1000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--target", action="append")
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        try:
            import atheris  # noqa: F401

            work = guided
        except ImportError:
            work = blind
        work(asked.inside, asked.seconds, asked.place, asked.seed)
        return
    if asked.prove:
        prove(asked.seed)
        return
    sys.path.insert(0, str(ROOT))
    from fuzz_targets import TARGETS

    names = asked.target or [*TARGETS]
    failed = False
    for name in names:
        found, count, said = search(name, asked.seconds / len(names), asked.seed, [str(ROOT)])
        print(f"{name}: {count:,} tries, {len(found)} findings", flush=True)
        for path in found:
            failed = True
            kept = KEPT / name / path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(path.read_bytes())
            print(f"  kept as {kept.relative_to(ROOT)}\n{said}")
    print(f"seed {asked.seed}")
    if failed:
        raise SystemExit(1)


def prove(seed: int) -> None:
    """A planted IndexError is found within five minutes."""
    from torture_faults import Plant, planted

    with tempfile.TemporaryDirectory() as folder:
        place = planted(Plant("an IndexError", *PLANT, ""), Path(folder) / "package")
        began = time.monotonic()
        found, count, said = search("readers", 300, seed, [str(place)])
        took = time.monotonic() - began
    if not found or "IndexError" not in said:
        raise SystemExit(f"MISSED in {took:.0f} s and {count:,} tries: a planted IndexError")
    print(f"found in {took:.0f} s: a planted IndexError")


if __name__ == "__main__":
    main()
