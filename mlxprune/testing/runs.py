"""For tests: what a finished run holds, as its own configuration says."""

from __future__ import annotations

from mlxprune.config.loading import load_config
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.run.folder import RunFolder


def open_artifacts(run: RunFolder) -> RunArtifacts:
    return RunArtifacts(run, load_config(run.config))
