"""What the native update can do; everything else is left to PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch as th

from qmp_sb3.algorithms.native_update import NativeLearner
from qmp_sb3.algorithms.temperature import Temperature
from qmp_sb3.native.library import unavailable
from qmp_sb3.native.structures import ACTIVATIONS, MAX_LAYERS
from qmp_sb3.networks import IndependentMLP
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic
from qmp_sb3.replay import MultiTaskReplayBuffer

UPDATES = ("steps", "update", "sample", "_learn_critics", "_learn_actors", "_set_gradient", "temperature")
"""Methods of a learner that the native update stands for."""
VALUES: dict[str, tuple[Any, ...]] = {
    "regularizer": (None,),
    "gradients": ("plain",),
    "task_weights": ("sum", "mean", "taskmean"),  # alike where the tasks' batches have one size
    "max_grad_norm": (None,),
    "max_temperature": (None,),
    "reward_scale": (1.0,),
    "temperatures": ("task",),
}
"""Settings of a learner, and with which values the native update has them."""


def unsupported(learner: NativeLearner, general: type) -> str | None:
    """Why a learner's updates need PyTorch, in words, or None if the native ones give the same.

    :param general: the class whose updates these are, which the learner may have changed
    """
    return unavailable() or next(_reasons(learner, general), None)


def _changed(thing: object, base: type, *methods: str) -> Iterator[str]:
    for method in methods:
        if method in vars(thing) or getattr(type(thing), method) is not getattr(base, method):
            yield f"{type(thing).__name__}.{method} is not {base.__name__}'s"


def _reasons(learner: NativeLearner, general: type) -> Iterator[str]:
    policy, buffer = learner.policy, learner.replay_buffer
    yield from _changed(learner, general, *UPDATES)
    yield from _changed(learner.alpha, Temperature, "learn", "values")
    yield from _changed(policy.actor, MultiTaskActor, "forward", "outputs", "action_log_prob")
    for critic in (policy.critic, policy.critic_target):
        yield from _changed(critic, MultiTaskCritic, "forward", "outputs", "values")
    yield from _changed(buffer, MultiTaskReplayBuffer, "sample", "draw_places", "gather")
    if learner.device.type != "cpu":
        yield f"the device is {learner.device}"
    for name, module in (("actor", policy.actor), ("critic", policy.critic)):
        yield from _of_network(name, module)
    for name in ("actor", "critic", "critic_target"):
        if getattr(policy, name).flat.moved:
            yield f"the {name}'s parameters have memory of their own until the next train()"
    yield from _of_parts(learner)
    if learner.get_vec_normalize_env() is not None:
        yield "VecNormalize normalizes each batch anew"
    yield from _of_optimizers(learner)


def _compiled(part: object) -> bool:
    """A subclass has to say so itself."""
    return vars(type(part)).get("compiled", False)


def _of_network(name: str, module: MultiTaskActor | MultiTaskCritic) -> Iterator[str]:
    network = module.network
    if type(network) is not IndependentMLP:
        yield f"the {name}'s networks are {type(network).__name__}, not independent"
    elif type(network.activation) not in ACTIVATIONS:
        yield f"activation_fn is {type(network.activation).__name__}, neither ReLU nor Tanh"
    elif len(network.weights) > MAX_LAYERS:
        yield f"the {name} has {len(network.weights)} layers; {MAX_LAYERS} are the most"
    if not _compiled(module.head):
        yield f"the {name}'s head is {type(module.head).__name__}"


def _of_parts(learner: NativeLearner) -> Iterator[str]:
    for name in ("sharing", "replay", "draw"):
        part = getattr(learner, name)
        if not _compiled(part):
            yield f"{name}={part!r}"
    for hook in learner.hooks:
        if hook.looks_into_updates:
            yield f"hooks={hook!r} looks into every update"
    for name, known in VALUES.items():
        value = getattr(learner, name)
        if value not in known:
            yield f"{name}={value!r}"
    if learner.matmul_precision in ("high", "medium"):
        yield f"matmul_precision={learner.matmul_precision!r} is about PyTorch's products"


def _of_optimizers(learner: NativeLearner) -> Iterator[str]:
    dtype = th.from_numpy(learner.replay_buffer.table[:0]).dtype
    policy, alpha = learner.policy, learner.alpha
    temperatures = alpha.given if alpha.log is None else alpha.log
    optimized: list[tuple[str, th.optim.Optimizer | None, th.Tensor]] = [
        ("actor's", policy.actor.optimizer, policy.actor.flat.flat),
        ("critic's", policy.critic.optimizer, policy.critic.flat.flat),
        ("temperatures'", alpha.optimizer, temperatures),
    ]
    if temperatures.shape != (learner.n_tasks,) or not temperatures.is_contiguous():
        yield f"the temperatures are {tuple(temperatures.shape)} numbers, not one for each of {learner.n_tasks} tasks"
    for owner, optimizer, numbers in optimized:
        if numbers.dtype != dtype or dtype not in (th.float32, th.float64):
            yield f"the {owner} numbers are {numbers.dtype}, those of the replay buffer {dtype}"
        if optimizer is not None:
            yield from (f"the {owner} optimizer: {reason}" for reason in _of_optimizer(optimizer, numbers))
    if not _same_form(policy.critic.flat, policy.critic_target.flat):
        yield "the target critics have another form than the critics"


def _of_optimizer(optimizer: th.optim.Optimizer, numbers: th.Tensor) -> Iterator[str]:
    if type(optimizer) is not th.optim.Adam:
        yield f"{type(optimizer).__name__} is not Adam"
        return
    if "step" in vars(optimizer) or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        yield "something is to happen at its steps (a hook or a scheduler)"
    [group, *others] = optimizer.param_groups
    if others or len(group["params"]) != 1 or group["params"][0] is not numbers:
        yield "its parameters are not one tensor"
    if not isinstance(group["lr"], float):
        yield "its learning rate is a tensor"
    for name in ("weight_decay", "amsgrad", "maximize", "differentiable"):
        if group[name]:
            yield f"{name}={group[name]}"
    state: dict[str, th.Tensor] = optimizer.state.get(numbers, {})
    for name in {"exp_avg", "exp_avg_sq"} & state.keys():
        moment = state[name]
        if moment.dtype != numbers.dtype or moment.shape != numbers.shape or not moment.is_contiguous():
            yield f"{name} has another form than the parameters"


def _same_form(one: FlatParameters, other: FlatParameters) -> bool:
    return one.flat.shape == other.flat.shape and one.flat.dtype == other.flat.dtype
