"""Scoring time per token as a corpus grows: it must not.

    python bench/growth.py --documents 1000 10000 100000

Synthetic documents (lognormal lengths) under a tiny random model, unit by unit as a worker scores
them, with the parts on disk and their joining at the end. Small sizes are scored several times a
round, and the sizes take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    import mlxprune  # noqa: F401  (first, so that MLX gets its BLAS)
    from mlxprune.engine import backend
    from mlxprune.model.architecture import full_config, preset_of
    from mlxprune.model.weights import initialise_model
    from mlxprune.run.markers import forget
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.units import joined_parts, unit_bytes, work_units, write_part
    from mlxprune.scoring.windows import resolve_policy
    from mlxprune.tokenization.token_file import Tokens

    config = full_config(preset_of("pico"), 512, 128, 1, 1)
    model = initialise_model(config, 0)
    model.set_dtype(backend.detect().score_dtype)
    cases = {}
    for count in arguments.documents:
        generator = np.random.default_rng(count)
        lengths = np.clip(np.exp(generator.normal(3.4, 0.8, count)), 1, 2000).astype(np.int64)
        ids = generator.integers(2, 512, lengths.sum()).astype(np.uint16)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = Tokens(ids, offsets, 512, 1, 1)
        # About 4 bytes a token, as text has: units of the size that a run has.
        policy = resolve_policy(lengths, config, 128)
        units = work_units(lengths * 4, unit_bytes(policy))
        cases[count] = (tokens, units, policy, int(lengths.sum()))
    taken: dict[int, list[float]] = {count: [] for count in cases}
    largest = max(case[3] for case in cases.values())
    with tempfile.TemporaryDirectory() as name:
        for _ in range(arguments.rounds):
            for count, (tokens, units, policy, total) in cases.items():
                repeats = max(1, min(20, largest // total // 4))
                began = time.perf_counter()
                for _ in range(repeats):
                    parts = Path(name) / "parts"
                    parts.mkdir()
                    for number, (first, stop) in enumerate(units):
                        positions = np.zeros((2, policy.context))
                        found = score_documents(
                            model, tokens, np.arange(first, stop), policy, positions=positions
                        )
                        write_part(parts, number, found, positions)
                    joined_parts(parts, len(units), policy.context)
                    forget(parts)
                taken[count].append((time.perf_counter() - began) / (repeats * total))
    base = statistics.median(taken[min(taken)])
    rows = [
        {
            "documents": count,
            "tokens": cases[count][3],
            "seconds_per_million": 1e6 * statistics.median(found),
            "of_the_smallest": statistics.median(found) / base,
        }
        for count, found in taken.items()
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['documents']:>8} documents, {row['tokens']:>9} tokens: "
            f"{row['seconds_per_million']:7.2f} s a million, {row['of_the_smallest']:.3f}x"
        )


if __name__ == "__main__":
    main()
