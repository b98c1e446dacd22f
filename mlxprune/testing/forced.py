"""For tests: what a GPU runs, forced on a CPU.

Metal and CUDA run the graph engine, in bfloat16, compiled, with one worker. ``forced_graph`` makes
this process and every child of it do the same on MLX's CPU backend, so that the path that users run
is seen whole on any machine. None of it says anything about the kernels of a GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def forced_graph(dtype: str = "bfloat16", compiled: bool = True) -> Iterator[None]:
    """The graph engine in ``dtype`` until the end of the context."""
    from mlxprune.engine import backend, hardware

    before = os.environ.get(hardware.FORCED)
    os.environ[hardware.FORCED] = dtype if compiled else f"{dtype},eager"
    backend.unsettle()
    try:
        yield
    finally:
        if before is None:
            del os.environ[hardware.FORCED]
        else:
            os.environ[hardware.FORCED] = before
        backend.unsettle()
