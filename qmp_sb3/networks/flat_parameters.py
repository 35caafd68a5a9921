"""One flat tensor behind many parameters, so that an optimizer or a Polyak update is one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.networks.stacked_linear import GradientPlace
from qmp_sb3.networks.task_gradients import TaskGradients


class FlatParameters:
    """Keeps parameters in one contiguous tensor; they become views of it.

    Whatever writes to the parameters in place (``load_state_dict``, an optimizer) writes to the flat tensor, and the
    reverse. Every parameter also knows where its gradient belongs (``parameter.gradient_place``), so that a
    layer may write it there itself, and on a CPU its memory as a NumPy array (``parameter.array``).

    What a network has in common with others is in flat tensors of its own (``common``). They follow a Polyak update and
    are constants together with these; those of them that the network's losses train (``learned``) get gradients.

    :param parameters: the parameters to gather
    :param copies: independent copies of the network; the leading axis of every parameter is a multiple of them
    :param of_tasks: those that have one part for each task, on which no other task's loss depends
    :param common: the parameters of the common parts
    :param learned: those of them that the same losses train
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        copies: int = 1,
        of_tasks: Iterable[nn.Parameter] = (),
        common: Sequence[FlatParameters] = (),
        learned: Sequence[FlatParameters] = (),
    ) -> None:
        self.parameters, self.copies = list(parameters), copies
        self.common, self.learned = list(common), list(learned)
        own = {id(parameter) for parameter in of_tasks}
        self._of_tasks = [id(parameter) in own for parameter in self.parameters]
        self.flat = nn.Parameter(th.empty(0))
        self.gather()

    def gather(self) -> None:
        """Lay the parameters out anew: after the module has moved to another device or type."""
        data = th.cat([parameter.data.flatten() for parameter in self.parameters])
        self.flat.data, self._gradient = data, th.zeros_like(data)
        self._places = [GradientPlace(view) for view in self._segments(self._gradient)]
        for parameter, view, place in zip(self.parameters, self._segments(data), self._places, strict=True):
            parameter.data = view
            parameter.gradient_place = place  # type: ignore[attr-defined]
            parameter.array = view.numpy() if view.device.type == "cpu" else None  # type: ignore[attr-defined]
        self._addresses = [parameter.data_ptr() for parameter in self.parameters]

    @property
    def moved(self) -> bool:
        """Whether a parameter was given memory of its own, as ``vector_to_parameters`` does."""
        return [parameter.data_ptr() for parameter in self.parameters] != self._addresses

    def gather_moved(self) -> None:
        """:meth:`gather`, if a parameter was given memory of its own."""
        if self.moved:
            self.gather()
        for part in self.common:
            part.gather_moved()

    def _segments(self, flat: th.Tensor) -> list[th.Tensor]:
        pieces = flat.split([parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def backward(self, loss: th.Tensor) -> None:
        """Set the flat tensor's gradient, and the parameters', which are views of it, to that of ``loss``; the parts
        in common that learn from it add it to theirs.
        """
        parts = [self, *self.learned]
        gradients = iter(th.autograd.grad(loss, [one for part in parts for one in part.parameters]))
        for part in parts:
            part._set([next(gradients) for _ in part.parameters])

    def _set(self, gradients: Iterable[th.Tensor]) -> None:
        self.flat.grad = self._gradient
        for parameter, place, gradient in zip(self.parameters, self._places, gradients, strict=True):
            if gradient.data_ptr() != place.view.data_ptr():
                place.view.copy_(gradient.reshape(place.view.shape))
            parameter.grad = place.view
            parameter.gradient_place = place  # type: ignore[attr-defined]

    def by_task(self, losses: th.Tensor) -> list[TaskGradients]:
        """The gradient of each of several losses of one pass with respect to each parameter.

        One backward pass serves all tasks, if every parameter is used once and by
        :func:`~qmp_sb3.networks.stacked_linear.stacked_linear`; else there is one for each.

        :param losses: ``(tasks,)``, each of its own rows of the batch alone
        """
        tasks = len(losses)
        shared = [tasks > 1 and not of_tasks for of_tasks in self._of_tasks]
        for place, is_shared in zip(self._places, shared, strict=True):
            if is_shared:
                place.by_task = place.view.new_empty(len(place.view) * tasks, *place.view.shape[1:])
        written = [place.view if place.by_task is None else place.by_task for place in self._places]
        total = th.autograd.grad(losses.sum(), self.parameters, retain_graph=True)
        for place in self._places:
            place.by_task = None
        if any(one.data_ptr() != place.view.data_ptr() for one, place in zip(total, self._places, strict=True)):
            return self._one_by_one(losses)
        return [
            TaskGradients(
                self._task_by_task(values, tasks) if is_shared else values.view(self.copies, tasks, -1), not is_shared
            )
            for values, is_shared in zip(written, shared, strict=True)
        ]

    def _task_by_task(self, values: th.Tensor, tasks: int) -> th.Tensor:
        """``(copies * networks * tasks, ...)`` to ``(copies, tasks, numbers of all networks)``."""
        if len(values) == self.copies * tasks:
            return values.view(self.copies, tasks, -1)
        return values.view(self.copies, -1, tasks, values[0].numel()).transpose(1, 2).flatten(2)

    def _one_by_one(self, losses: th.Tensor) -> list[TaskGradients]:
        # Copies, because every pass may write to the same places.
        by_task = [
            [gradient.clone() for gradient in th.autograd.grad(loss, self.parameters, retain_graph=True)]
            for loss in losses
        ]
        return [
            TaskGradients(th.stack(gradients).view(len(losses), self.copies, -1).transpose(0, 1), own=False)
            for gradients in zip(*by_task, strict=True)
        ]

    def set_combined(self, gradients: list[TaskGradients], shares: th.Tensor) -> None:
        """Set the gradient to sum_k a_k g_k, with a ``(copies, tasks)`` and g as :meth:`by_task` gives it."""
        self._set([one.combined(shares) for one in gradients])

    def clip_(self, max_norm: float) -> None:
        """:func:`clip_gradient_` of all parameters together."""
        clip_gradient_(self._gradient, max_norm)

    @contextmanager
    def constant(self) -> Iterator[None]:
        """Inside, the parameters are constants: a loss that only passes through the module leaves them alone."""
        parameters = [parameter for part in (self, *self.common) for parameter in part.parameters]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    def polyak_(self, source: FlatParameters, tau: float) -> None:
        """Move these parameters a share ``tau`` towards ``source``."""
        self.flat.data.lerp_(source.flat.data, tau)
        for part, other in zip(self.common, source.common, strict=True):
            part.polyak_(other, tau)

    def __deepcopy__(self, memo: dict) -> FlatParameters:
        copy = type(self).__new__(type(self))
        copy.copies, copy._of_tasks = self.copies, list(self._of_tasks)
        copy.common, copy.learned = deepcopy((self.common, self.learned), memo)
        copy.parameters = deepcopy(self.parameters, memo)
        copy.flat = deepcopy(self.flat, memo)
        copy.gather()
        return copy


def clip_gradient_(gradient: th.Tensor, max_norm: float) -> None:
    """Shorten a gradient that is longer than ``max_norm`` to that length, as ``th.nn.utils.clip_grad_norm_`` does."""
    gradient.mul_((max_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))


#: optimizers that treat every number alone, so that one flat tensor gives the same result as many layers
ELEMENTWISE_OPTIMIZERS = (
    th.optim.Adam,
    th.optim.AdamW,
    th.optim.Adamax,
    th.optim.NAdam,
    th.optim.RAdam,
    th.optim.SGD,
    th.optim.RMSprop,
    th.optim.Adagrad,
    th.optim.Adadelta,
    th.optim.ASGD,
    th.optim.Rprop,
)
#: what these know of a parameter besides numbers of its own form
_COUNTERS = ("step", "eta", "mu", "mu_product")
_FUSED_OPTIMIZERS = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.Adagrad)


def make_optimizer(
    optimizer_class: type[th.optim.Optimizer],
    parameters: FlatParameters,
    learning_rate: float,
    optimizer_kwargs: dict | None = None,
) -> th.optim.Optimizer:
    """An optimizer over the flat tensor, or over the per-layer views if the class is not known to be element-wise."""
    settings = dict(optimizer_kwargs or {})
    if optimizer_class in ELEMENTWISE_OPTIMIZERS:
        if optimizer_class in _FUSED_OPTIMIZERS and not {"foreach", "fused", "differentiable"} & settings.keys():
            settings["fused"] = True
        return optimizer_class([parameters.flat], lr=learning_rate, **settings)
    return optimizer_class(parameters.parameters, lr=learning_rate, **settings)  # type: ignore[call-arg]


def refuse_other_moments(optimizer: th.optim.Optimizer, state: Any, where: str) -> None:
    """Check that a state dictionary of a file is one of an optimizer: compiled code writes where the moments are.

    :param where: its place, for messages
    :raises ValueError: if its numbers have another form than the parameters
    """
    if not isinstance(optimizer, ELEMENTWISE_OPTIMIZERS):
        return  # PyTorch checks the forms itself where it does not compute everything in one pass
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for number, moments in state["state"].items():
        shape = parameters[number].shape
        for name, value in moments.items():
            expected = th.Size() if name in _COUNTERS else shape
            if not isinstance(value, th.Tensor):
                continue
            if value.shape != expected or not (value.is_floating_point() and value.is_contiguous()):
                raise ValueError(
                    f"{where} is damaged: {name!r} has the shape {tuple(value.shape)} of {value.dtype}, not "
                    f"{tuple(expected)}"
                )
