"""Named arrays in memory that several processes see, without a name in the file system that could be left behind."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping

import numpy as np

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> shape and type of an array, in the order in which they lie in memory."""

ALIGNMENT = 64  # bytes: a cache line, so that no two arrays share one


def anonymous_file() -> int:
    """The descriptor of an empty file that exists as long as a process has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("qmp_envs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def shared_arrays(file: int, layout: Layout) -> dict[str, np.ndarray]:
    """The arrays of a layout; every process that calls this for the same file sees the same numbers."""
    sizes = [np.dtype(dtype).itemsize * int(np.prod(shape)) for shape, dtype in layout.values()]
    ends = np.cumsum([-(-size // ALIGNMENT) * ALIGNMENT for size in sizes], dtype=int)
    total = int(ends[-1]) if len(ends) else 0
    if os.fstat(file).st_size < total:
        os.ftruncate(file, total)
    memory = mmap.mmap(file, max(total, 1))
    starts = [0, *ends[:-1].tolist()]
    return {
        name: np.ndarray(shape, dtype, memory, start)
        for (name, (shape, dtype)), start in zip(layout.items(), starts, strict=True)
    }
