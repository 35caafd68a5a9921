"""Finds and opens the compiled library, once per process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from qmp_sb3.native.structures import SIZES

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
"""As in ``src/processor.h``."""
FOLDER = Path(__file__).parent


def _open() -> ctypes.CDLL:
    for suffix in EXTENSION_SUFFIXES:
        file = FOLDER / f"_kernels{suffix}"
        if file.exists():
            library = ctypes.CDLL(str(file))
            library.update_memory_bytes.restype = ctypes.c_int64
            _refuse_other_sources(library, file)
            return library
    raise OSError(f"it was not built: no file _kernels{EXTENSION_SUFFIXES[0]} in {FOLDER}")


def _refuse_other_sources(library: ctypes.CDLL, file: Path) -> None:
    same = all(hasattr(library, name) and getattr(library, name)() == ctypes.sizeof(SIZES[name]) for name in SIZES)
    sources = sorted((FOLDER / "src").glob("*.[ch]"))  # none where only the built package is installed
    if sources and same:
        expected = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
        same = hasattr(library, "fingerprint") and _fingerprint(library) == int(expected, 16)
    if not same:
        raise OSError(f"{file} was built from other sources than these: install the package again")


def _fingerprint(library: ctypes.CDLL) -> int:
    library.fingerprint.restype = ctypes.c_uint64
    return library.fingerprint()


@cache
def _opened() -> tuple[ctypes.CDLL | None, str | None]:
    try:
        return _open(), None
    except OSError as error:
        logging.getLogger("qmp_sb3").warning("The compiled library is missing, PyTorch does its work: %s", error)
        return None, str(error)


def load() -> ctypes.CDLL | None:
    """The library, or None if it was not built or cannot be opened here, which is logged once."""
    return _opened()[0]


def unavailable() -> str | None:
    """Why there is no library; None if there is."""
    return _opened()[1]
