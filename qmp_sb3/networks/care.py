"""CARE: what is known of a task says how the encodings of its observations are mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch as th
from torch import nn

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.networks.common_modules import CommonModule
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule

CONTEXT_HIDDEN = (100, 50, 50, 50)  # two layers behind the embedding, then a perceptron of two hidden layers
ENCODER_HIDDEN, ATTENTION_HIDDEN = (50, 50), (50, 50)
SIZE = 50  # of the context and of an encoding


class ContextualEncoder(CommonModule):
    """[h, c] with c the context of the task, h = sum_k a_k E_k(s) and a = softmax(MLP(c)) (Sodhani et al., 2021).

    The critics' loss trains it, the actor reads it as a constant. The attention reads c as a constant.

    :param spec: of a network that reads the encodings
    :param encoders: k, number of encoders
    :param embedding: width of a learned embedding of the task, or a given table (:func:`embedding_table`)
    """

    learns_from: ClassVar[tuple[str, ...]] = ("critic",)

    def __init__(self, spec: NetworkSpec, encoders: int, embedding: int | str | Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.n_state, self.activation = spec.state_size, spec.activation_fn()
        self.embedding: th.Tensor
        if isinstance(embedding, int):
            self.embedding = nn.Parameter(th.empty(spec.n_tasks, embedding).normal_(generator=spec.generator))
        else:
            self.register_buffer("embedding", th.from_numpy(embedding_table(embedding, spec.n_tasks)))

        def perceptron(n_in: int, n_out: int, hidden: Sequence[int], networks: int = 1) -> IndependentMLP:
            sizes = n_in, n_out, networks, hidden
            return IndependentMLP(NetworkSpec(*sizes, activation_fn=spec.activation_fn, generator=spec.generator))

        self.context = perceptron(self.embedding.shape[1], SIZE, CONTEXT_HIDDEN)
        self.attention = perceptron(SIZE, encoders, ATTENTION_HIDDEN)
        self.encoders = perceptron(self.n_state, SIZE, ENCODER_HIDDEN, encoders)
        self.lay_out()

    def task_context(self, tasks: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """c ``(tasks, SIZE)`` and the attention a ``(tasks, encoders)``, whose rows sum to one."""
        told = self.embedding if tasks is None else self.embedding[tasks.to(self.embedding.device)]
        context = self.context(self.activation(told)[None])[0, 0]
        return context, self.attention(context.detach()[None])[0, 0].softmax(dim=-1)

    def forward(self, states: th.Tensor, tasks: th.Tensor | None = None) -> th.Tensor:
        """Each block of states ``(tasks, batch, state)`` as its task encodes them, ``(tasks, batch, 2 * SIZE)``."""
        context, attention = self.task_context(tasks)
        encodings = self.encoders.every(states.flatten(0, 1))[0].unflatten(1, states.shape[:2])
        return _joined(th.einsum("tk,ktbd->tbd", attention, encodings), context)

    def every(self, states: th.Tensor) -> th.Tensor:
        """All states ``(batch, state)`` as every task encodes them, ``(tasks, batch, 2 * SIZE)``."""
        context, attention = self.task_context()
        return _joined(th.einsum("tk,kbd->tbd", attention, self.encoders.every(states)[0]), context)


def _joined(encodings: th.Tensor, context: th.Tensor) -> th.Tensor:
    return th.cat([encodings, context[:, None].expand(-1, encodings.shape[1], -1)], dim=-1)


def embedding_rows(given: int | str | Sequence[Sequence[float]]) -> Any:
    """The rows of an ``.npy`` or ``.json`` file, given by its path; anything else as it is.

    :raises ValueError: if there is no such file, or it does not hold finite numbers
    """
    if not isinstance(given, str):
        return given
    path = Path(given)
    if path.suffix not in (".npy", ".json") or not path.is_file():
        raise ValueError(f"care(embedding={given!r}): there is no such file; it is an .npy or a .json with the rows")
    return _numbers(np.load(path) if path.suffix == ".npy" else json.loads(path.read_text(encoding="utf-8"))).tolist()


def _numbers(rows: Any) -> np.ndarray:
    try:
        table = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError("care(embedding=...): it is one row of numbers for each task, all of one length") from error
    if not np.isfinite(table).all():
        raise ValueError("care(embedding=...): the table holds numbers that are not finite")
    return table


def embedding_table(given: str | Sequence[Sequence[float]], n_tasks: int) -> np.ndarray:
    """A table of what is known of the tasks, ``(tasks, size)``, in their order.

    :param given: the rows, or the path of a file that holds them (:func:`embedding_rows`)
    :raises ValueError: if there are none, or not one row of finite numbers for each task
    """
    table = _numbers(embedding_rows(given))
    if table.ndim != 2 or len(table) != n_tasks or table.shape[1] < 1:
        raise ValueError(f"care(embedding=...): the table has shape {table.shape}; {n_tasks} tasks need {n_tasks} rows")
    return table


class CARE(TaskModule):
    """A perceptron, the same for all tasks, on [h, c] of the state and what else the input has, the action.

    Actor and critics share the encoders, the twin critics too, as in the released code.

    :param spec: sizes of the whole, and how the perceptron's layers look and start
    :param encoders: k, number of encoders
    :param embedding: width of a learned embedding of the task; or a given one that stays as it is: the path of an
        ``.npy`` or ``.json`` file, or the rows themselves, one for each task in their order
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        encoders: int = 6,
        embedding: int | str | Sequence[Sequence[float]] = 50,
        common: Mapping[str, CommonModule] | None = None,
        learned: Sequence[str] | None = None,
    ) -> None:
        self.check(encoders=encoders, embedding=embedding)
        super().__init__(spec, common or self.in_common(spec, encoders=encoders, embedding=embedding), learned)
        read = 2 * SIZE + spec.n_in - self._encoder.n_state
        self.perceptron = IndependentMLP(replace(spec, n_in=read, n_tasks=1))

    @classmethod
    def check(cls, **settings: Any) -> None:
        for name in ("encoders", "embedding"):
            value = settings[name]
            if isinstance(value, (int, float)) and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"care({name}={value!r}): a size is a whole number, at least 1")
        if not isinstance(settings["encoders"], int):
            raise ValueError(f"care(encoders={settings['encoders']!r}): their number is a whole number, at least 1")

    @classmethod
    def read(cls, **settings: Any) -> dict[str, Any]:
        return settings | {"embedding": embedding_rows(settings["embedding"])}

    @classmethod
    def in_common(
        cls,
        spec: NetworkSpec,
        *,
        encoders: int = 6,
        embedding: int | str | Sequence[Sequence[float]] = 50,
        **others: Any,
    ) -> dict[str, CommonModule]:
        return {"encoder": ContextualEncoder(spec, encoders, embedding)}

    @property
    def _encoder(self) -> ContextualEncoder:
        encoder = self.common["encoder"]
        assert isinstance(encoder, ContextualEncoder)
        return encoder

    def _learning(self) -> th.set_grad_enabled:
        """Inside, encodings are constants unless this network's losses train the encoder."""
        return th.set_grad_enabled(th.is_grad_enabled() and "encoder" in self.learned)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        n_state = self._encoder.n_state
        with self._learning():
            encoded = self._encoder(inputs[..., :n_state], tasks)
        rows = th.cat([encoded, inputs[..., n_state:]], dim=-1).flatten(0, 1)
        return self.perceptron(rows[None], copies=copies).view(-1, *inputs.shape[:2], self.n_out)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        n_state = self._encoder.n_state
        with self._learning():
            encoded = self._encoder.every(inputs[:, :n_state])  # (tasks, batch, 2 * SIZE)
        rest = inputs[:, n_state:].expand(self.n_tasks, -1, -1)
        rows = th.cat([encoded, rest], dim=-1).flatten(0, 1)
        return self.perceptron(rows[None]).view(self.copies, self.n_tasks, len(inputs), self.n_out)

    def candidates(
        self, states: th.Tensor, candidates: th.Tensor, layout: TaskLayout, copies: int | None = None
    ) -> th.Tensor:
        if states.shape[1] != self._encoder.n_state:
            return super().candidates(states, candidates, layout, copies)
        with self._learning():
            encoded = layout.to_rows(self._encoder(layout.to_tasks(states), layout.present))  # once for all candidates
        joined = th.cat([encoded[:, None].expand(*candidates.shape[:2], -1), candidates], dim=-1)
        return self.perceptron(joined.flatten(0, 1)[None], copies=copies).view(-1, *candidates.shape[:2], self.n_out)
