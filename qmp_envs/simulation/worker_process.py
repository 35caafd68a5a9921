"""A process that steps some of the slots: the handle that its parent has, and the loop that it runs.

Parent and worker are connected by two pipes. An order says what to do and carries a ticket; the reply says how it went
and carries the same ticket. Calls and results are pickled, but everything that a step needs or yields lies in shared
memory. The worker is a new interpreter, not a copy of the parent, which may have threads and a GPU.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qmp_envs.simulation.physics import Physics, State
from qmp_envs.simulation.shared_arrays import Layout, shared_arrays

STEPS = (b"0", b"1")  # orders: step, and write the state into this moment
CALL = b"c"  # order: call a method of the server; its name and arguments follow
DONE, RESULT, ERROR = b"d", b"r", b"e"  # replies; the last two have content

HEADER = struct.Struct("<cBQ")  # what, ticket, bytes of content

# Ctrl-C, a closed terminal, and what schedulers announce the end of a job with: the parent decides what follows.
NOT_FOR_WORKERS = ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
PARENT_CHECK = 2.0  # s between the worker's looks whether its parent lives

Call = tuple[str, tuple[Any, ...]]


class WorkerEndedError(RuntimeError):
    """A worker process has ended before its environment was closed."""


class WorkerTraceback(Exception):
    """The text of an exception's traceback in the worker: the cause of the exception that the caller sees."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerProcess:
    """The parent's end of one worker.

    :param tasks: the names of the tasks that it steps, for errors
    :param memory: the descriptor of the file of shared memory
    """

    def __init__(self, tasks: Sequence[str], memory: int) -> None:
        self.tasks = ", ".join(map(repr, tasks))
        self._ticket = 0
        self._owner = os.getpid()
        orders, self._orders = os.pipe()
        self._replies, replies = os.pipe()
        ends = f"{orders}, {replies}, {memory}, {self._owner}"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from qmp_envs.simulation.worker_process import serve; serve({ends})"],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(orders, replies, memory),
                process_group=0,  # Ctrl-C is for the parent alone
            )
        except BaseException:
            os.close(self._orders)
            os.close(self._replies)
            raise
        finally:
            os.close(orders)
            os.close(replies)
        self._closed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, kind: bytes, call: Call | None = None) -> None:
        """Tell the worker what to do; ``finish`` has to follow."""
        if self._closed:
            raise RuntimeError(f"The environment of the tasks {self.tasks} is closed: make it anew.")
        if self._owner != os.getpid():
            raise RuntimeError(
                f"The worker of the tasks {self.tasks} belongs to another process: make the environment in the "
                "process that steps it, or pickle it into that process."
            )
        content = b"" if call is None else pickle.dumps(call)
        # An order whose reply was not awaited (Ctrl-C came between) is forgotten: its reply has an older ticket.
        self._ticket = (self._ticket + 1) % 256
        try:
            write(self._orders, kind, self._ticket, content)
        except BrokenPipeError:
            raise self._ended() from None
        except BaseException:
            if len(content) > select.PIPE_BUF - HEADER.size:  # less is written at once or not at all
                self.end()
            raise

    def finish(self) -> Any:
        """Wait for the end of the latest order and return its result; an exception of the worker is raised here."""
        while True:
            kind, ticket, content = self._reply()
            if ticket == self._ticket:
                break
        if kind == ERROR:
            error, text = content
            error.add_note(f"raised in the worker process of the tasks {self.tasks}")
            raise error from WorkerTraceback(text)
        return content

    def end(self) -> None:
        """End the process, whatever it is doing; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        os.close(self._orders)
        os.close(self._replies)
        if self._owner == os.getpid():  # a copy of the parent leaves the worker to the parent
            self._process.kill()
            self._process.wait()

    def _reply(self) -> tuple[bytes, int, Any]:
        """The next reply: what, ticket, content.

        An interruption (Ctrl-C) while a reply with content is read ends the worker, because what is left of it would be
        taken for the next reply. The header is read into zeros, so that it is known by then, whatever came of the
        call, whether anything has been read.
        """
        header = bytearray(HEADER.size)
        try:
            rest = memoryview(header)
            while rest:
                count = os.readv(self._replies, [rest])
                if not count:
                    raise EOFError
                rest = rest[count:]
            kind, ticket, size = HEADER.unpack(header)
            return kind, ticket, pickle.loads(read(self._replies, size)) if size else None
        except EOFError:
            raise self._ended() from None
        except BaseException:
            if header[:1] not in (b"\0", DONE):
                self.end()
            raise

    def _ended(self) -> WorkerEndedError:
        try:
            status = self._process.wait(timeout=0.5)
            how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        except subprocess.TimeoutExpired:
            how = "it closed its connection"
        return WorkerEndedError(
            f"The worker process {self.pid} that steps the tasks {self.tasks} has ended ({how}): "
            "close this environment and make it anew."
        )


def _environment() -> dict[str, str]:
    """The worker's environment variables: the same modules, one thread, and nothing is drawn."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MUJOCO_GL": "disable"}
    return {**os.environ, **own}


def write(pipe: int, what: bytes, ticket: int, content: bytes) -> None:
    """Write a message; in one piece, if the pipe can take it."""
    rest = memoryview(HEADER.pack(what, ticket, len(content)) + content)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def read(pipe: int, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    parts = []
    while size:
        parts.append(os.read(pipe, size))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def serve(orders: int, replies: int, memory: int, parent: int) -> None:
    """The worker's main function: follow orders until the parent closes the pipe or is gone."""
    for name in NOT_FOR_WORKERS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _watch(parent)
    server = _Server(memory)
    try:
        while header := os.read(orders, HEADER.size):
            kind, ticket, size = HEADER.unpack(header)
            content = read(orders, size)
            result = None
            try:
                if kind == CALL:
                    name, arguments = pickle.loads(content)
                    result = getattr(server, name)(*arguments)
                else:
                    server.step(STEPS.index(kind))
                reply, content = (DONE, b"") if result is None else (RESULT, pickle.dumps(result))
            except Exception as error:
                reply, content = ERROR, pickle.dumps((_portable(error), traceback.format_exc()))
            write(replies, reply, ticket, content)
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone


def _watch(parent: int) -> None:
    """End this process soon after its parent, also where a copy of the parent keeps the pipes open."""

    def check(*_: Any) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, PARENT_CHECK, PARENT_CHECK)


def _portable(error: Exception) -> Exception:
    """The exception itself if it survives pickling, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


class _Server:
    """The worker's slots, and what the parent may ask for."""

    def __init__(self, memory: int) -> None:
        self.memory = memory

    def build(self, recipe: Callable[[], Physics]) -> None:
        self.physics = recipe()

    def attach(self, layouts: Sequence[Layout], rows: slice) -> None:
        """Find the shared arrays: the controls and the two moments."""
        self.control, *self.moments = (
            {name: array[rows] for name, array in arrays.items()} for arrays in moments_of(self.memory, layouts)
        )

    def step(self, moment: int) -> None:
        publish(self.physics.step(self.control["control"].copy()), self.moments[moment])

    def place(self, moment: int, *arguments: Any) -> None:
        self.physics.place(*arguments)
        publish(self.physics.state, self.moments[moment])

    def lead(self, moment: int, *arguments: Any) -> None:
        self.physics.lead(*arguments)
        publish(self.physics.state, self.moments[moment])

    def snapshot(self) -> list[dict[str, Any]]:
        return self.physics.snapshot()

    def restore(self, moment: int, slots: Sequence[Mapping[str, Any]]) -> None:
        self.physics.restore(slots)
        publish(self.physics.state, self.moments[moment])

    def pickled(self) -> bytes:
        return pickle.dumps(self.physics)


def publish(state: State, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy a state to where all processes see it."""
    for name, array in arrays.items():
        array[...] = vars(state)[name]


def moments_of(memory: int, layouts: Sequence[Layout]) -> list[dict[str, np.ndarray]]:
    """The arrays of several layouts that lie one after another in the same file."""
    joined = {f"{i}/{name}": spec for i, layout in enumerate(layouts) for name, spec in layout.items()}
    arrays = shared_arrays(memory, joined)
    return [{name: arrays[f"{i}/{name}"] for name in layout} for i, layout in enumerate(layouts)]
