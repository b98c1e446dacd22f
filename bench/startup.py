"""How long the command takes to say anything, against `import mlx_lm`, in turns.

python bench/startup.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "mlxprune --help": ["-m", "mlxprune", "--help"],
    "mlxprune status .": ["-m", "mlxprune", "status", "."],
    "import mlx_lm": ["-c", "import mlx_lm"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(parser.parse_args().rounds + 1):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            taken[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times[1:]) for name, times in taken.items()}
    for name, seconds in medians.items():
        share = seconds / medians["import mlx_lm"]
        print(f"{name:<20} {seconds:6.2f} s  {share:.2f} of import mlx_lm")


if __name__ == "__main__":
    main()
