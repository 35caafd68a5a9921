"""Where the rows of a replay buffer are kept: in memory, in a file, or on the device that learns."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import psutil
import torch as th

from qmp_sb3.common.devices import to_device

Shape = tuple[int, int, int]
"""Rows of each task, tasks, numbers in a row."""


class Table(ABC):
    """Rows of float32.

    ``values`` is the array or tensor ``(rows of each task, tasks, numbers in a row)`` itself.

    :param shape: of ``values``
    :param device: where what is read goes
    """

    values: Any
    where: str
    _rows: th.Tensor  # the same memory, all tasks' rows in one line

    def __init__(self, shape: Shape, device: th.device) -> None:
        self.shape, self.device = shape, device

    @abstractmethod
    def write(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Put rows ``(n, width)`` at ``places`` ``(n,)``, which count through all tasks' rows."""

    @abstractmethod
    def read(self, places: np.ndarray) -> th.Tensor:
        """A copy of the rows at ``places``, ``(n, width)``, on the device."""

    @property
    def home(self) -> th.device:
        """Where the rows themselves are."""
        return self._rows.device

    def take(self, places: th.Tensor) -> th.Tensor:
        """As :meth:`read`, for places that are where the rows are."""
        return to_device(self._rows.index_select(0, places), self.device)

    def column(self, places: th.Tensor, column: int) -> th.Tensor:
        """One number of each row at ``places``, of any shape, where the rows are."""
        return self._rows[places, column]

    def put(self, places: np.ndarray, column: int, numbers: np.ndarray) -> None:
        """Change one number of each row at ``places`` ``(n,)``."""
        numbers = numbers.astype(np.float32)
        self._rows[to_device(places, self.home), column] = to_device(numbers, self.home)

    def on_host(self, places: np.ndarray) -> np.ndarray:
        """As :meth:`read`, but on the host, ``(n, width)``."""
        return self._rows.index_select(0, to_device(places, self.home)).cpu().numpy()

    @abstractmethod
    def first(self, rows: int) -> np.ndarray:
        """The first rows of all tasks, ``(rows, tasks, width)``, on the host."""

    @abstractmethod
    def fill(self, rows: np.ndarray) -> None:
        """The reverse of :meth:`first`."""


class HostTable(Table):
    """Rows in the host's memory."""

    where = "in memory"

    def __init__(self, shape: Shape, device: th.device) -> None:
        super().__init__(shape, device)
        self.values = self._made()
        self._flat = self.values.reshape(-1, shape[-1])
        self._rows = th.from_numpy(self._flat)

    def _made(self) -> np.ndarray:
        # np.zeros maps memory only when it is written to, so an unfilled buffer costs nothing.
        return np.zeros(self.shape, dtype=np.float32)

    def write(self, places: np.ndarray, rows: np.ndarray) -> None:
        self._flat[places] = rows

    def read(self, places: np.ndarray) -> th.Tensor:
        return to_device(self._rows.index_select(0, th.from_numpy(places)), self.device)

    def first(self, rows: int) -> np.ndarray:
        return self.values[:rows]

    def fill(self, rows: np.ndarray) -> None:
        self.values[: len(rows)] = rows


class FileTable(HostTable):
    """Rows in a file without a name, which is gone when the table is, however the process ends.

    The operating system keeps in memory what it has room for. The whole file is claimed at once where the system can
    do that: a write to a mapped file on a disk that has filled up since would end the process.

    :param directory: where the file is
    :raises ValueError: if there is no room
    """

    def __init__(self, shape: Shape, device: th.device, directory: str) -> None:
        self.directory = directory
        self.where = f"in a file in {directory}"
        super().__init__(shape, device)

    def _made(self) -> np.ndarray:
        with tempfile.TemporaryFile(dir=self.directory) as file:
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(file.fileno(), 0, size_of(self.shape))
                except OSError as error:
                    raise ValueError(f"{size_of(self.shape) / 1e9:.2f} GB {self.where}: {error.strerror}") from error
            return np.asarray(np.memmap(file, dtype=np.float32, mode="w+", shape=self.shape))


class DeviceTable(Table):
    """Rows on the device: they are written by copies that nobody waits for, and gathered there."""

    def __init__(self, shape: Shape, device: th.device) -> None:
        super().__init__(shape, device)
        self.where = f"on {device}"
        self.values = th.zeros(shape, device=device)
        self._rows = self.values.view(-1, shape[-1])

    def write(self, places: np.ndarray, rows: np.ndarray) -> None:
        self._rows.index_copy_(0, to_device(places, self.device), to_device(rows, self.device))

    def read(self, places: np.ndarray) -> th.Tensor:
        return self._rows.index_select(0, to_device(places, self.device))

    def first(self, rows: int) -> np.ndarray:
        return self.values[:rows].cpu().numpy()

    def fill(self, rows: np.ndarray) -> None:
        self.values[: len(rows)].copy_(th.from_numpy(rows))


def make_table(shape: Shape, device: th.device, storage: str | os.PathLike[str] | None) -> Table:
    """An empty table where it was asked for.

    :param storage: ``"memory"``, ``"device"``, or a directory; None for the device if that is a GPU where the rows
        take at most half of the free memory, else memory
    :raises ValueError: if there is no such place, or the rows do not fit there
    """
    if storage is None:
        storage = "device" if device.type == "cuda" and 2 * size_of(shape) <= _of_gpu(device)[0] else "memory"
    if storage == "memory" or (storage == "device" and device.type == "cpu"):
        refuse_too_large(shape, *host_memory(), "memory")
        return HostTable(shape, device)
    if storage == "device":
        memory = (
            _of_gpu(device) if device.type == "cuda" else host_memory()
        )  # Apple's processors have one memory for all
        refuse_too_large(shape, *memory, f"memory on {device}")
        return DeviceTable(shape, device)
    directory = os.fspath(storage)
    if not os.path.isdir(directory):
        raise ValueError(
            f"storage={directory!r}: give 'memory', 'device' or a directory that exists, to keep the rows in a file"
        )
    free = shutil.disk_usage(directory).free
    refuse_too_large(shape, free, free, f"disk in {directory}")
    return FileTable(shape, device, directory)


def size_of(shape: Shape) -> int:
    """Bytes of a table that is full."""
    return 4 * int(np.prod(shape, dtype=np.int64))


def host_memory() -> tuple[int, int]:
    """Bytes that are free, and that there are."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _of_gpu(device: th.device) -> tuple[int, int]:
    return th.cuda.mem_get_info(device)


def refuse_too_large(shape: Shape, available: int, total: int, kind: str) -> None:
    """Warn where a full table needs more than is available now, raise where it needs more than there is.

    :param available: bytes that are free
    :param total: bytes that there are
    :param kind: of what
    """
    rows, tasks, width = shape
    needed = size_of(shape)
    if needed <= available:
        return
    fits = f"buffer_size={available // (4 * tasks * width):,} fits"
    need = f"the replay buffers of {tasks} task(s), {rows:,} transitions each, take {needed / 1e9:.2f} GB when full"
    if needed > total:
        elsewhere = ", or keep them in a file: replay_buffer_kwargs={'storage': directory}" if kind == "memory" else ""
        raise ValueError(f"{need}, but there are {total / 1e9:.2f} GB of {kind}; {fits}{elsewhere}")
    warnings.warn(f"{need}, but only {available / 1e9:.2f} GB of {kind} are available now; {fits}", stacklevel=5)
