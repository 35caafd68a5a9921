"""Joint updates of all tasks by the compiled library, on the memory of the model's own tensors."""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3.algorithms.temperature import Temperature
from qmp_sb3.hooks import Hook
from qmp_sb3.learner import Learner
from qmp_sb3.native.library import INSTRUCTION_SETS, load
from qmp_sb3.native.structures import ACTIVATIONS, AdamSettings, Networks, Temperatures, Update
from qmp_sb3.networks import IndependentMLP
from qmp_sb3.objectives.regularizers import Regularizer
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic
from qmp_sb3.replay import Allocation, Draw, MultiTaskReplayBuffer
from qmp_sb3.replay.row_format import CONTINUATION, REWARD
from qmp_sb3.replay.sharing import KeepOwn


class NativeLearner(Learner, Protocol):
    """Soft actor-critic as the native update sees it: what a learner is to its parts, and what an update depends on."""

    alpha: Temperature
    replay_buffer: MultiTaskReplayBuffer
    replay: Allocation
    draw: Draw
    sharing: KeepOwn
    regularizer: Regularizer | None
    hooks: list[Hook]
    task_weights: str
    tau: float
    target_update_interval: int
    num_threads: int | None
    matmul_precision: str | None

    def get_vec_normalize_env(self) -> VecNormalize | None: ...


STEPS_PER_CALL = 16  # limits the memory for indices and noise, and how long Ctrl-C has to wait
_ALIGNMENT = 128  # bytes: two cache lines, which processors fetch together


class NativeUpdate:
    """Gradient steps without PyTorch, for learners that
    :func:`~qmp_sb3.algorithms.native_support.unsupported` finds nothing against.

    Where the numbers lie is asked anew at every call, so nothing that happens to a learner in between can make an
    address stale. The optimizers' states are PyTorch's own: moments are written in place, steps counted.

    :param instruction_set: name in :data:`~qmp_sb3.native.library.INSTRUCTION_SETS`, None for the processor's best
    """

    def __init__(self, instruction_set: str | None = None) -> None:
        self.instruction_set = instruction_set
        self._memory = np.empty(0, dtype=np.uint8)

    def __reduce__(self) -> tuple:
        return NativeUpdate, (self.instruction_set,)

    def steps(self, learner: NativeLearner, gradient_steps: int, batch_size: int) -> th.Tensor:
        """As :meth:`~qmp_sb3.algorithms.updating.UpdatingAlgorithm.steps`."""
        buffer = learner.replay_buffer
        [batch] = set(learner.replay.counts(batch_size, buffer.sizes, buffer.rng).tolist())
        sums = np.zeros((learner.n_tasks, 4))
        update = self._described(learner, batch)
        update.sums = sums.ctypes.data
        for before in range(0, gradient_steps, STEPS_PER_CALL):
            now = min(STEPS_PER_CALL, gradient_steps - before)
            rows, noise = self._drawn(learner, now, update.batch)
            update.steps_before, update.steps = before, now
            update.rows, update.noise = rows.ctypes.data, noise.data_ptr()
            self._run(update)
            for structure in (update.actor, update.critic, update.temperatures):
                structure.adam.steps += now
            _count_steps(learner, now)  # at once: Ctrl-C may come before the next
        return th.from_numpy(sums.T)

    @staticmethod
    def _drawn(learner: NativeLearner, steps: int, batch: int) -> tuple[np.ndarray, th.Tensor]:
        """What the general path would draw, from the same streams and in the same order."""
        tasks, actions = learner.n_tasks, learner.replay_buffer.action_dim
        rows = np.empty((steps, tasks, batch), dtype=np.int64)
        noise = th.empty(steps, 2, tasks, batch, actions)
        every = np.arange(tasks)
        for step in range(steps):
            rows[step] = learner.replay_buffer.draw_places(every, batch)
            th.randn(noise[step].shape, generator=learner.streams.updates, out=noise[step])
        return rows, noise.to(learner.policy.actor.flat.flat.dtype)

    def _run(self, update: Update) -> None:
        library = load()
        assert library is not None
        needed = library.update_memory_bytes(ctypes.byref(update)) * update.threads + _ALIGNMENT
        if len(self._memory) < needed:
            self._memory = np.zeros(needed, dtype=np.uint8)
        address = -(-self._memory.ctypes.data // _ALIGNMENT) * _ALIGNMENT
        if library.update_run(ctypes.byref(update), ctypes.c_void_p(address)):
            raise MemoryError("no memory for the native update")

    def _described(self, learner: NativeLearner, batch: int) -> Update:
        library, buffer = load(), learner.replay_buffer
        assert library is not None
        table = buffer.table
        instruction_set = self.instruction_set or INSTRUCTION_SETS[library.processor_best()]
        tensors = (learner.policy.actor.flat.flat, learner.policy.critic.flat.flat)
        return Update(
            is_float=tensors[0].dtype == th.float32,
            instruction_set=INSTRUCTION_SETS.index(instruction_set),
            threads=min(learner.num_threads or th.get_num_threads(), learner.n_tasks),
            tasks=learner.n_tasks,
            critics=learner.policy.critic.n_critics,
            features=buffer.features,
            actions=buffer.action_dim,
            actor=_networks(learner.policy.actor),
            critic=_networks(learner.policy.critic, learner.policy.critic_target),
            temperatures=_temperatures(learner.alpha),
            gamma=learner.gamma,
            tau=learner.tau,
            importance=1.0 if learner.task_weights == "sum" else 1.0 / learner.n_tasks,
            target_interval=learner.target_update_interval,
            table=table.ctypes.data,
            width=buffer.form.width,
            reward=buffer.form.width + REWARD,
            continuation=buffer.form.width + CONTINUATION,
            batch=batch,
        )


def _networks(module: MultiTaskActor | MultiTaskCritic, target: MultiTaskCritic | None = None) -> Networks:
    network, flat = module.network, module.flat.flat
    assert isinstance(network, IndependentMLP)
    numbers, size = flat.data_ptr(), flat.element_size()
    layers = Networks(
        layers=len(network.layers),
        activation=ACTIVATIONS[type(network.activation)],
        parameters=numbers,
        target=None if target is None else target.flat.flat.data_ptr(),
    )
    layers.widths[0] = network.n_in
    for layer, (weight, bias) in enumerate(network.layers):
        layers.widths[layer + 1] = weight.shape[-1]
        layers.weights[layer] = (weight.data_ptr() - numbers) // size
        layers.biases[layer] = (bias.data_ptr() - numbers) // size
    layers.first_moment, layers.second_moment, layers.adam = _adam(module.optimizer, flat)
    return layers


def _temperatures(alpha: Temperature) -> Temperatures:
    if alpha.log is None or alpha.optimizer is None:
        return Temperatures(values=alpha.given.data_ptr())
    first, second, adam = _adam(alpha.optimizer, alpha.log)
    return Temperatures(alpha.log.data_ptr(), first, second, alpha.target_entropy, adam)


def _adam(optimizer: th.optim.Optimizer, numbers: th.Tensor) -> tuple[int, int, AdamSettings]:
    """Addresses of the moments, and the settings of the steps to come."""
    group, state = optimizer.param_groups[0], _state(optimizer, numbers)
    settings = AdamSettings(group["lr"], *group["betas"], group["eps"], int(state["step"]))
    return state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr(), settings


def _state(optimizer: th.optim.Optimizer, numbers: th.Tensor) -> dict[str, Any]:
    """The optimizer's state of its one tensor; begun as Adam begins it, which it does in its first step."""
    state = optimizer.state[numbers]
    if not state:
        state["step"] = th.tensor(0.0)
        state["exp_avg"], state["exp_avg_sq"] = th.zeros_like(numbers), th.zeros_like(numbers)
    return state


def _count_steps(learner: NativeLearner, steps: int) -> None:
    for optimizer in (learner.policy.actor.optimizer, learner.policy.critic.optimizer, learner.alpha.optimizer):
        if optimizer is not None:
            [numbers] = optimizer.param_groups[0]["params"]
            optimizer.state[numbers]["step"] += steps
