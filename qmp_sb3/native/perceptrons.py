"""Stacked perceptrons asked for the actions of a vector step by the compiled library: few rows, no gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from threading import local

import numpy as np
import torch as th

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.native.library import load
from qmp_sb3.native.structures import ACTIVATIONS, MAX_LAYERS, Perceptrons, Question, Sample

_WORTH_THREADS = 4_000_000  # multiplications, about a tenth of a millisecond: a thread takes as long to come


class _Asking(local):
    """What one thread asks, and its scratch memory: without a lock, which a fork might find closed."""

    def __init__(self, scratch_size: int) -> None:
        self.question = Question(scratch_size=scratch_size)
        self.address = ctypes.byref(self.question)
        self.scratch = np.empty(0, dtype=np.float32)


class NativePerceptrons:
    """Networks stacked as in :class:`~qmp_sb3.networks.independent.IndependentMLP`, on the same memory.

    :param layers: weights ``(copies * tasks, in, out)`` and biases ``(copies * tasks, 1, out)``, float32
    :param n_tasks: number of tasks
    :param activation: a key of :data:`~qmp_sb3.native.structures.ACTIVATIONS`
    :param threads: how many threads the tasks are divided over where that is worth it, without an effect on the
        results; None for PyTorch's number
    """

    def __init__(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        n_tasks: int,
        activation: type[th.nn.Module],
        threads: int | None = None,
    ) -> None:
        library = load()
        assert library is not None, "the compiled library is not there"
        self._library, self._layers, self._threads, self.n_tasks = library, list(layers), threads, n_tasks
        self.copies = len(layers[0][0]) // n_tasks
        self._stack = Perceptrons(n_tasks, len(layers), ACTIVATIONS[activation])
        widths = [layers[0][0].shape[1], *(weight.shape[2] for weight, _ in layers)]
        self._stack.widths[: len(widths)] = widths
        self._stack.weights[: len(layers)] = [weight.ctypes.data for weight, _ in layers]
        self._stack.biases[: len(layers)] = [bias.ctypes.data for _, bias in layers]
        self.n_in, self.n_out = widths[0], widths[-1]
        self._size = sum(weight[0].size for weight, _ in layers)  # weights of one network
        library.perceptrons_scratch.restype = ctypes.c_int64
        self._asking = _Asking(library.perceptrons_scratch(ctypes.byref(self._stack)))
        self._address = ctypes.byref(self._stack)
        self._instructions = library.processor_best()

    @staticmethod
    def suit(layers: Sequence[tuple[np.ndarray, np.ndarray]], activation: type[th.nn.Module]) -> bool:
        """Whether there is a library, and compiled code for such networks."""
        of_float = all(array.dtype == np.float32 and array.flags.c_contiguous for pair in layers for array in pair)
        return activation in ACTIVATIONS and len(layers) <= MAX_LAYERS and of_float and load() is not None

    def every(self, inputs: th.Tensor) -> th.Tensor:
        """All rows ``(rows, in)`` through every network: ``(copies, tasks, rows, out)``."""
        out = inputs.new_empty(self.copies, self.n_tasks, len(inputs), self.n_out)
        self._answer(inputs, out, self.copies)
        return out

    def every_policy(self, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """As :meth:`every`, and tanh of the first half of each output, ``(rows, copies * tasks, out / 2)``."""
        out = inputs.new_empty(self.copies, self.n_tasks, len(inputs), self.n_out)
        means = inputs.new_empty(len(inputs), self.copies * self.n_tasks, self.n_out // 2)
        self._answer(inputs, out, self.copies, means=means)
        return out, means

    def by_row(self, inputs: th.Tensor, layout: TaskLayout) -> th.Tensor:
        """Each row ``(rows, in)`` through its own task's networks: ``(copies, rows, out)``."""
        out = inputs.new_empty(self.copies, len(inputs), self.n_out)
        self._answer(inputs, out, self.copies, layout)
        return out

    def candidates(self, states: th.Tensor, candidates: th.Tensor, layout: TaskLayout, copies: int) -> th.Tensor:
        """Each state ``(rows, state)`` with each of its candidates ``(rows, candidates, rest of the input)`` through
        the first ``copies`` of its own task's networks: ``(copies, rows, candidates, out)``.
        """
        out = states.new_empty(copies, *candidates.shape[:2], self.n_out)
        self._answer(states, out, copies, layout, candidates)
        return out

    def _answer(
        self,
        inputs: th.Tensor,
        out: th.Tensor,
        copies: int,
        layout: TaskLayout | None = None,
        candidates: th.Tensor | None = None,
        means: th.Tensor | None = None,
    ) -> None:
        self._check(inputs, copies, layout, candidates)
        inputs, rows = inputs.contiguous(), len(inputs)
        count = candidate_width = 0
        if candidates is not None:
            candidates = candidates.contiguous()
            _, count, candidate_width = candidates.shape
        products = out.numel() // self.n_out * self._size
        threads = (self._threads or th.get_num_threads()) if products > _WORTH_THREADS else 1
        asking = self._asking
        question = asking.question
        if len(asking.scratch) < threads * question.scratch_size:
            asking.scratch = np.empty(threads * question.scratch_size, dtype=np.float32)
            question.scratch = asking.scratch.ctypes.data
        question.inputs, question.out, question.rows = inputs.data_ptr(), out.data_ptr(), rows
        question.networks = copies * self.n_tasks
        question.order, question.first = (None, None) if layout is None else layout.addresses
        question.means = None if means is None else means.data_ptr()
        question.candidates = None if candidates is None else candidates.data_ptr()
        question.count, question.candidate_width = count or 1, candidate_width
        self._library.perceptrons_answer(self._address, asking.address, threads, self._instructions)

    def _check(self, inputs: th.Tensor, copies: int, layout: TaskLayout | None, candidates: th.Tensor | None) -> None:
        """Refuse what PyTorch would refuse too: the compiled code reads and writes where it is told to."""
        rows, width = inputs.shape
        for given in (inputs,) if candidates is None else (inputs, candidates):
            if given.dtype is not th.float32 or given.device.type != "cpu":
                raise ValueError(f"the networks read float32 in memory, not {given.dtype} on {given.device}")
        if candidates is not None:
            width += candidates.shape[2]
            if len(candidates) != rows:
                raise ValueError(f"there are {rows} rows, but the candidates of {len(candidates)}")
        if width != self.n_in:
            raise ValueError(f"the networks read {self.n_in} numbers, not {width}")
        if copies > self.copies:
            raise ValueError(f"{copies} copies are asked, of {self.copies}")
        if layout is None:
            return
        if layout.n_tasks != self.n_tasks:
            raise ValueError(f"the layout is for {layout.n_tasks} tasks, the networks are of {self.n_tasks}")
        if len(layout.tasks) != rows:
            raise ValueError(f"there are {rows} rows, but the tasks of {len(layout.tasks)}")


def sample_actions(outputs: th.Tensor, noise: th.Tensor, chosen: np.ndarray | None) -> th.Tensor:
    """As :meth:`~qmp_sb3.policies.action_heads.SquashedGaussian.sample`, of float32 in memory, without gradients.

    :raises IndexError: if there is no such policy
    """
    library = load()
    assert library is not None, "the compiled library is not there"
    outputs, noise, address = outputs.contiguous(), noise.contiguous(), None
    rows, size = noise.shape
    *policies, count, width = outputs.shape
    if count != rows or width != 2 * size or len(policies) != (chosen is not None):
        raise ValueError(f"outputs {tuple(outputs.shape)} and noise {tuple(noise.shape)} do not belong together")
    actions = outputs.new_empty(rows, size)
    if chosen is not None:
        chosen = np.ascontiguousarray(chosen, dtype=np.int64)
        if chosen.shape != (rows,):
            raise ValueError(f"there are {rows} rows, but the choices of {chosen.shape}")
        if rows and chosen.view(np.uint64).max() >= policies[0]:  # read so, negative ones are the largest
            wrong = chosen[(chosen < 0) | (chosen >= policies[0])][0]
            raise IndexError(f"policy {wrong} is out of range; there are {policies[0]}")
        address = chosen.ctypes.data
    sample = Sample(outputs.data_ptr(), address, noise.data_ptr(), actions.data_ptr(), rows, size)
    library.perceptrons_sample(ctypes.byref(sample), library.processor_best())
    return actions
