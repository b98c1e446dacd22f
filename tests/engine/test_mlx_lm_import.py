"""mlx-lm asks for more open files than some systems allow."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

PROBE = """
import resource, sys
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, hard), hard))
from mlxprune.engine.mlx_lm_import import ready_mlx_lm
ready_mlx_lm()
import mlx_lm
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("hard", [512, 4096])
def test_it_gets_what_there_is(hard: int) -> None:
    """Up to the hard limit, which stays."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this shell allows fewer open files")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(hard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(min(2048, hard)), str(hard)]
