"""Power forecast: the smallest difference that a planned study can decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.data.held_out import LEAST_DOCUMENTS, wanted_documents
from mlxprune.files import read_json
from mlxprune.inference.power import ExpectedNoise, decidable
from mlxprune.inference.verdict import Verdict
from mlxprune.records import Record

# Without an earlier run, bits per byte: what one seed's difference from a random slice moves by,
# and what one test document of a domain adds to it. Measured on twelve domains with pico models and
# 400k targets (docs/log.md, 2026-11-28); larger models and longer trainings are less noisy.
PRIOR_SEED_SD = 0.04
PRIOR_DOCUMENT_SD = 0.15
EFFECTIVE_PART = 0.4  # of documents whose sizes are lognormal, as many of one size tell as much


class PowerForecast(Record):
    """With 80 % power a study of so many ``seeds`` decides a difference of this size, in bits per
    byte; None with one seed. ``noise_from`` says whose noise that rests on."""

    difference: float | None
    seeds: int
    slices: int
    seed_sd: float
    document_sd: float
    noise_from: str


def power_forecast(
    config: Config, sizes: split.DomainSizes, runs: Path = Path("runs")
) -> PowerForecast:
    """From the noise of earlier runs under ``runs`` that trained a final model of this size, else
    from a stated prior."""
    documents = _test_documents(config, sizes)
    told = [_noise(path, config) for path in sorted(runs.glob("*/report.json"))]
    found = [noises for noises in told if noises is not None]
    if found:
        seed_sd, document_sd = (float(np.median(values)) for values in zip(*found, strict=True))
        named = f"{len(found)} comparisons of earlier runs in {runs}"
    else:
        seed_sd = PRIOR_SEED_SD
        alone = [count for count in documents.values() if count >= LEAST_DOCUMENTS] or [1.0]
        each = [PRIOR_DOCUMENT_SD**2 / (EFFECTIVE_PART * count) for count in alone]
        document_sd = float(np.sqrt(sum(each)) / len(alone))
        named = "a prior: no earlier run is here"
    confirmed = config.final.confirm or len(config.slices)
    noise = ExpectedNoise(seed_sd, document_sd, confirmed)
    seeds = len(config.final.seeds)
    return PowerForecast(
        difference=decidable(noise, seeds),
        seeds=seeds,
        slices=confirmed,
        seed_sd=seed_sd,
        document_sd=document_sd,
        noise_from=named,
    )


def _test_documents(config: Config, sizes: split.DomainSizes) -> dict[str, float]:
    tokens = {name: size / split.bytes_per_token(config) for name, size in sizes.bytes.items()}
    total = sum(tokens.values())
    return {
        name: wanted_documents(config.split.test, documents, tokens[name], total)
        for name, documents in sizes.documents.items()
    }


def _noise(path: Path, config: Config) -> tuple[float, float] | None:
    """(seed_sd, document_sd) of the verdict in a report of a study with such final models."""
    try:
        told = read_json(path)["verdict"]
        model = (path.parent / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(told, dict) or f"model: {config.final.model}\n" not in model:
        return None
    seed_sd, document_sd = told.get("seed_sd"), told.get("document_sd")
    decided = told.get("verdict") not in (Verdict.ONE_SEED, Verdict.TOO_FEW)
    if not decided or not isinstance(seed_sd, float) or not isinstance(document_sd, float):
        return None
    return seed_sd, document_sd
