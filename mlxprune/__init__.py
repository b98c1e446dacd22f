"""mlxprune: find the part of a text corpus that is worth training on.

What other programs may use is listed in ``__all__`` and loaded when it is first asked for;
docs/api.md shows it. Importing this package before MLX gives MLX a fast BLAS on Linux (see
``mlxprune/engine/blas.py``), and float32 products that are float32: by default MLX rounds them to
TF32 where a GPU can, which keeps 10 of 23 bits.
"""

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

_called = [*getattr(sys, "argv", []), ""][0]
if (
    os.path.basename(_called) == "mlxprune" or sys.orig_argv[1:3] == ["-m", "mlxprune"]  # noqa: PTH119
) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Started as a program: Ctrl-C ends it at once, without a traceback of what is being imported,
    # until its main listens (cli.py).
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from mlxprune.engine import blas  # noqa: E402
from mlxprune.version import __version__  # noqa: E402

os.environ["MLX_ENABLE_TF32"] = "0"

if TYPE_CHECKING:
    from mlxprune.config.loading import load_config, validate_config
    from mlxprune.config.schema import Config
    from mlxprune.config.slices import Slice
    from mlxprune.errors import MlxpruneError
    from mlxprune.experiment.artifacts import RunArtifacts, open_run
    from mlxprune.experiment.study_result import StudyResult
    from mlxprune.exporting.export import export
    from mlxprune.filtering.filter import filter  # noqa: A004
    from mlxprune.pipeline.runner import run_study
    from mlxprune.run.folder import RunFolder
    from mlxprune.scoring.score_file import Scores, read_scores
    from mlxprune.selection.selector import select_slice
    from mlxprune.standalone.score_texts import TextScores, score_texts

__all__ = [
    "Config",
    "MlxpruneError",
    "RunArtifacts",
    "RunFolder",
    "Scores",
    "Slice",
    "StudyResult",
    "TextScores",
    "__version__",
    "export",
    "filter",
    "load_config",
    "open_run",
    "read_scores",
    "run_study",
    "score_texts",
    "select_slice",
    "validate_config",
]

_HOMES = {
    "Config": "mlxprune.config.schema",
    "MlxpruneError": "mlxprune.errors",
    "RunArtifacts": "mlxprune.experiment.artifacts",
    "RunFolder": "mlxprune.run.folder",
    "Scores": "mlxprune.scoring.score_file",
    "Slice": "mlxprune.config.slices",
    "StudyResult": "mlxprune.experiment.study_result",
    "TextScores": "mlxprune.standalone.score_texts",
    "export": "mlxprune.exporting.export",
    "filter": "mlxprune.filtering.filter",
    "load_config": "mlxprune.config.loading",
    "open_run": "mlxprune.experiment.artifacts",
    "read_scores": "mlxprune.scoring.score_file",
    "run_study": "mlxprune.pipeline.runner",
    "score_texts": "mlxprune.standalone.score_texts",
    "select_slice": "mlxprune.selection.selector",
    "validate_config": "mlxprune.config.loading",
}

blas.load()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
