"""mlxprune: find the part of a text corpus that is worth training on.

Importing this package first gives MLX a fast BLAS on Linux (see ``mlxprune/engine/blas.py``).
"""

from mlxprune.engine import blas
from mlxprune.version import __version__

__all__ = ["__version__"]

blas.load()
