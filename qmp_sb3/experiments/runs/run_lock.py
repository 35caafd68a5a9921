"""One process at a time writes a run directory, on one machine or on many that share a disk.

The kernel's lock on the file says on one machine whether the holder lives, and is gone when it is killed. Other
machines may not see that lock, depending on the file system; they see that the holder writes a sign of life every
:data:`BEAT` seconds, and take the run over when there was none for :data:`PATIENCE` seconds, as after a node's loss.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

BEAT = 10.0  # s
PATIENCE = 120.0  # s; network file systems show changes up to a minute late
POLL_SECONDS = 1.0  # between two checks of another machine's signs of life
_SIZE = 512
_LOG = logging.getLogger(__name__)


class RunInUse(BlockingIOError):
    """Another process writes this run directory."""


class RunLock:
    """Held from the construction on, until :meth:`release` or the end of the process.

    :param path: the lock's file, in a folder that exists
    :raises RunInUse: if another process holds it, naming it; after up to :data:`PATIENCE` seconds where it is said to
        be on another machine
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._holder = {
            "host": socket.gethostname(),
            "kernel": _kernel(),
            "pid": os.getpid(),
            "token": uuid.uuid4().hex,
        }
        self._ended = threading.Event()
        self._file = self._opened()
        try:
            self._check_holder()
            self._beat(0)
        except BaseException:
            os.close(self._file)
            raise
        self._thread = threading.Thread(target=self._live, daemon=True, name="signs of life of a run")
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`RunInUse` if another machine took the run over because it saw no sign of life from this one."""
        other = self._other()
        if other is not None:
            raise RunInUse(
                f"{self.path.parent} was taken over by {_named(other)}, which saw no sign of life from this one"
            )

    def release(self) -> None:
        """Let others have it; safe to call twice."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        if _holder(self.path).get("token") == self._holder["token"]:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _opened(self) -> int:
        """The file, locked for this process as far as this machine sees."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                raise RunInUse(f"{self.path.parent} is being written by {_named(_holder(self.path))}") from None
            except OSError:  # a file system without locks: the signs of life must suffice
                return file
            if os.path.exists(self.path) and os.path.samestat(os.fstat(file), os.stat(self.path)):
                return file
            os.close(file)  # its last holder has removed it in the meantime

    def _check_holder(self) -> None:
        """Wait for a sign of life of a holder on another machine, as long as there may be one."""
        holder = _holder(self.path)
        if not self.path.stat().st_size:
            return
        if (holder.get("host"), holder.get("kernel")) != (self._holder["host"], self._holder["kernel"]):
            while (waited := self._age()) < PATIENCE:
                time.sleep(min(POLL_SECONDS, PATIENCE - waited))
                if _holder(self.path) != holder:
                    raise RunInUse(f"{self.path.parent} is being written by {_named(_holder(self.path))}")
        _LOG.warning("%s was left by %s, which is gone: taking it over", self.path.parent, _named(holder))

    def _age(self) -> float:
        """Seconds since the last sign of life, by the clock of the disk that it is on."""
        # Not by a name of half-written files: the holder may be removing those.
        now = self.path.with_name(f"{self.path.name}-{self._holder['token']}")
        now.touch()
        try:
            return now.stat().st_mtime - self.path.stat().st_mtime
        finally:
            now.unlink(missing_ok=True)

    def _beat(self, number: int) -> None:
        # Of one length, so that a reader in between finds the one or the other.
        text = json.dumps(self._holder | {"beat": number}).encode().ljust(_SIZE)
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        os.fsync(self._file)

    def _live(self) -> None:
        number = 0
        while not self._ended.wait(BEAT):
            if self._other() is not None:
                return  # the next check tells
            number += 1
            try:
                self._beat(number)
            except OSError as error:
                _LOG.warning("no sign of life could be written to %s (%s): trying again", self.path, error)

    def _other(self) -> dict[str, Any] | None:
        """Who has the run instead of this one; None while this one has it, or where nothing says otherwise.

        A file that cannot be read or is cut, as network file systems have it for a moment, says nothing. One that is
        gone does: whoever took over was done and has removed it.
        """
        holder = _holder(self.path)
        if "token" in holder:
            return None if holder["token"] == self._holder["token"] else holder
        try:
            self.path.stat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            _LOG.warning("%s cannot be read (%s): trying again", self.path, error)
        return None


def _kernel() -> str:
    """Tells apart running systems of the same name; empty where nothing does."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.is_file() else ""


def _holder(path: Path) -> dict[str, Any]:
    """What the lock's file says; nothing where that cannot be read."""
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder.keys() >= {"host", "pid"}:
        return "a process that left no name"
    return f"process {holder['pid']} on {holder['host']}"
