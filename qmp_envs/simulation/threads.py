"""Threads that help the calling one with the same work at the same time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue


class ThreadTeam:
    """``size`` threads, the calling one among them. They start at the first use and end with the team.

    A team is for work that releases the interpreter lock, and that the threads can share out among themselves, e.g.
    by taking it from one iterator. Waking a thread costs 20 to 50 microseconds; one that is still not awake when the
    calling thread is done, as on a busy machine, is not waited for.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._helpers: list[_Helper] = []
        self._process = 0

    def run(self, job: Callable[[], None]) -> None:
        """Call ``job`` here and in every thread that wakes up before all is done; raises the first of their errors."""
        if self._process != os.getpid():  # the first use, or a copy of the process, which has no threads
            self._helpers = [_Helper() for _ in range(self.size - 1)]
            self._process = os.getpid()
            weakref.finalize(self, _dismiss, self._helpers)
        for helper in self._helpers:
            helper.begin(job)
        try:
            job()
        finally:
            for helper in self._helpers:
                helper.wait()
        for helper in self._helpers:
            if helper.error is not None:
                raise helper.error

    def close(self) -> None:
        """End the threads; the next use would start new ones."""
        _dismiss(self._helpers)
        for helper in self._helpers:
            helper.thread.join()
        self._helpers, self._process = [], 0


class _Helper:
    """One thread and the queues that wake it and its caller."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[int, Callable[[], None]] | None] = SimpleQueue()
        self.done: SimpleQueue[None] = SimpleQueue()
        self.error: BaseException | None = None
        self.given = self.finished = 0
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def begin(self, job: Callable[[], None]) -> None:
        self.given += 1
        self.error = None
        self.jobs.put((self.given, job))

    def wait(self) -> None:
        try:
            self.jobs.get_nowait()
        except Empty:  # it has begun
            pass
        else:
            self.finished = self.given
        # The count decides, not the queue: an interrupt may have come between taking from it and returning.
        while self.finished != self.given:
            self.done.get()

    def _work(self) -> None:
        while (item := self.jobs.get()) is not None:
            number, job = item
            try:
                job()
            except BaseException as error:
                self.error = error
            del item, job  # the thread keeps nothing alive while it waits
            self.finished = number
            self.done.put(None)


def _dismiss(helpers: list[_Helper]) -> None:
    for helper in helpers:
        helper.jobs.put(None)
