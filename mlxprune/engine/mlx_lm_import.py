"""The import of mlx-lm, which sets the limit of open files of the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def ready_mlx_lm() -> None:
    """Import mlx-lm where that has not been done. It asks for more open files than some systems
    allow, and fails there; so it gets what there is."""
    if "mlx_lm" in sys.modules:
        return
    with _bounded_limits():
        import mlx_lm  # noqa: F401


@contextmanager
def _bounded_limits() -> Iterator[None]:
    """Whoever sets limits meanwhile raises the soft one as far as the hard one, which stays."""
    import resource

    usual = resource.setrlimit

    def bounded(which: int, asked: Any) -> None:
        soft, hard = resource.getrlimit(which)
        wanted = asked[0] if hard == resource.RLIM_INFINITY else min(asked[0], hard)
        if soft != resource.RLIM_INFINITY and wanted > soft:
            usual(which, (wanted, hard))

    resource.setrlimit = bounded  # type: ignore[assignment]
    try:
        yield
    finally:
        resource.setrlimit = usual
