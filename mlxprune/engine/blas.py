"""Give MLX's Linux CPU backend a fast BLAS.

The Linux wheel of MLX binds ``cblas_sgemm`` and friends to a reference BLAS (about 4 GFLOP/s).
The ``scipy-openblas32`` wheel carries a fast one, but under other names (``scipy_cblas_sgemm``).
So we write a shared object of two pages, in memory, that exports the plain names as jumps into
OpenBLAS, and load it globally before MLX: the dynamic linker then binds MLX's calls to it. Nothing
is compiled, nothing is written to disk, and OpenBLAS itself stays private to this module, so NumPy
and other libraries keep the BLAS they came with.

The order matters: CPython binds every symbol of an extension module when it is imported, so a load
after ``import mlx.core`` has no effect. ``mlxprune/__init__.py`` calls ``load()`` first thing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import struct
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

NAMES = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
SLOTS_SYMBOL = "mlxprune_blas_slots"
DATA_PAGE = 0x1000


@dataclass(frozen=True)
class Blas:
    """What MLX's matrix products run on: ``library`` (a path or a name), ``how`` it got there."""

    library: str
    how: str
    fast: bool


_loaded: Blas | None = None
openblas: ctypes.CDLL | None = None


def load() -> Blas:
    """Make a fast BLAS visible to MLX. Idempotent; warns once when it comes too late."""
    global _loaded
    if _loaded is None:
        _loaded = _load()
    return _loaded


def set_num_threads(threads: int) -> None:
    """Bound the threads of the BLAS that ``load`` brought; no effect on any other BLAS."""
    if openblas is not None:
        openblas.scipy_openblas_set_num_threads(threads)


def _load() -> Blas:
    if sys.platform != "linux":
        return Blas("Accelerate" if sys.platform == "darwin" else "unknown", "system", True)
    if "mlx.core" in sys.modules:
        warnings.warn(
            "mlx was imported before mlxprune, so MLX keeps its slow reference BLAS on the CPU: "
            "import mlxprune first",
            RuntimeWarning,
            stacklevel=4,
        )
        return Blas("reference BLAS of the mlx wheel", "mlx was imported first", False)
    chosen = os.environ.get("MLXPRUNE_BLAS")
    if chosen == "none":
        return Blas("reference BLAS of the mlx wheel", "MLXPRUNE_BLAS=none", False)
    if chosen:
        try:
            ctypes.CDLL(chosen, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            warnings.warn(f"MLXPRUNE_BLAS={chosen}: {error}", RuntimeWarning, stacklevel=4)
        else:
            return Blas(chosen, "MLXPRUNE_BLAS", True)
    library = _scipy_openblas()
    if library is not None and platform.machine() == "x86_64":
        _interpose(library)
        return Blas(str(library), "scipy-openblas32, plain names by a shim in memory", True)
    return Blas("reference BLAS of the mlx wheel", "no scipy-openblas32 for this machine", False)


def _scipy_openblas() -> Path | None:
    found = importlib.util.find_spec("scipy_openblas32")
    if found is None or not found.submodule_search_locations:
        return None
    library = Path(found.submodule_search_locations[0]) / "lib" / "libscipy_openblas.so"
    return library if library.exists() else None


def _interpose(library: Path) -> None:
    global openblas
    openblas = ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)
    fd = os.memfd_create("mlxprune-blas")
    try:
        os.write(fd, shim_bytes(NAMES))
        shim = ctypes.CDLL(f"/proc/self/fd/{fd}", mode=ctypes.RTLD_GLOBAL)
    finally:
        os.close(fd)
    slots = (ctypes.c_void_p * len(NAMES)).in_dll(shim, SLOTS_SYMBOL)
    for index, name in enumerate(NAMES):
        target = getattr(openblas, f"scipy_{name}")
        slots[index] = ctypes.cast(target, ctypes.c_void_p).value


# Over 60 lines: it is a file written field by field, in the order of its format.
def shim_bytes(names: tuple[str, ...]) -> bytes:
    """An x86-64 ELF shared object: each name is ``jmp *slot``, the slots are one exported array.

    Layout after the System V ABI: header, program headers, dynamic symbols, strings, hash table and
    code in one read-execute page; the dynamic table and the slots in one read-write page.
    """
    symbols = (*names, SLOTS_SYMBOL)
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    header_size = 64 + 4 * 56
    symbol_table = header_size
    string_table = symbol_table + 24 * (len(symbols) + 1)
    hash_table = -(-(string_table + len(strings)) // 8) * 8
    hash_words = [1, len(symbols) + 1, 1, 0, *range(2, len(symbols) + 1), 0]
    code = -(-(hash_table + 4 * len(hash_words)) // 16) * 16
    assert code + 8 * len(names) <= DATA_PAGE
    dynamic_size = 16 * 6
    slots = DATA_PAGE + dynamic_size
    end = slots + 8 * len(names)

    image = bytearray(end)
    image[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9), 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0,
    )  # fmt: skip
    load, dynamic, stack = 1, 2, 0x6474E551
    read, write, execute = 4, 2, 1
    segments = [
        (load, read | execute, 0, code + 8 * len(names), DATA_PAGE),
        (load, read | write, DATA_PAGE, end - DATA_PAGE, DATA_PAGE),
        (dynamic, read | write, DATA_PAGE, dynamic_size, 8),
        (stack, read | write, 0, 0, 16),
    ]
    for index, (kind, flags, at, size, align) in enumerate(segments):
        struct.pack_into(
            "<IIQQQQQQ", image, 64 + 56 * index, kind, flags, at, at, at, size, size, align
        )

    name_at = 1
    for index, name in enumerate(symbols):
        is_code = name != SLOTS_SYMBOL
        value, size = (code + 8 * index, 8) if is_code else (slots, 8 * len(names))
        info = (1 << 4) | (2 if is_code else 1)  # global function or object
        entry = symbol_table + 24 * (index + 1)
        struct.pack_into("<IBBHQQ", image, entry, name_at, info, 0, 1, value, size)
        name_at += len(name) + 1
    image[string_table : string_table + len(strings)] = strings
    struct.pack_into(f"<{len(hash_words)}I", image, hash_table, *hash_words)

    for index in range(len(names)):
        at = code + 8 * index
        image[at : at + 2] = b"\xff\x25"  # jmp *[rip + offset]
        struct.pack_into("<i", image, at + 2, slots + 8 * index - (at + 6))

    dt_hash, dt_strtab, dt_symtab, dt_strsz, dt_syment, dt_null = 4, 5, 6, 10, 11, 0
    table = [
        (dt_hash, hash_table), (dt_strtab, string_table), (dt_symtab, symbol_table),
        (dt_strsz, len(strings)), (dt_syment, 24), (dt_null, 0),
    ]  # fmt: skip
    for index, (tag, value) in enumerate(table):
        struct.pack_into("<QQ", image, DATA_PAGE + 16 * index, tag, value)
    return bytes(image)
