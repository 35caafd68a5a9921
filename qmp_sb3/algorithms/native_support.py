"""What the native update can do; everything else is left to PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch as th

from qmp_sb3.native.library import unavailable
from qmp_sb3.native.structures import ACTIVATIONS, MAX_LAYERS
from qmp_sb3.networks import IndependentMLP
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic
from qmp_sb3.replay import MultiTaskReplayBuffer
from qmp_sb3.replay.allocations import Equal, Own
from qmp_sb3.replay.sharing import KeepOwn

if TYPE_CHECKING:
    from qmp_sb3.algorithms.sac import MultiTaskSAC

#: objectives that count all tasks alike when their batches have one size
EVEN_TASK_WEIGHTS = ("sum", "mean", "taskmean")


def refusal(model: MultiTaskSAC, general: type[MultiTaskSAC]) -> str | None:
    """Why a model's updates need PyTorch, in words, or None if the native ones give the same.

    :param general: the class whose updates these are, which ``model`` may have changed
    """
    return unavailable() or next(_refusals(model, general), None)


def _changed(thing: object, base: type, *methods: str) -> Iterator[str]:
    for method in methods:
        if method in vars(thing) or getattr(type(thing), method) is not getattr(base, method):
            yield f"{type(thing).__name__}.{method} is not {base.__name__}'s"


def _refusals(model: MultiTaskSAC, general: type[MultiTaskSAC]) -> Iterator[str]:
    yield from _changed(model, general, "steps", "update", "_set_gradient", "_learn_temperatures", "temperature")
    yield from _changed(model.actor, MultiTaskActor, "forward", "action_log_prob")
    for critic in (model.critic, model.critic_target):
        yield from _changed(critic, MultiTaskCritic, "forward")
    yield from _changed(model.replay_buffer, MultiTaskReplayBuffer, "sample", "draw", "gather")
    if model.device.type != "cpu":
        yield f"the device is {model.device}"
    for name, network in (("actor", model.actor.network), ("critic", model.critic.network)):
        if type(network) is not IndependentMLP:
            yield f"the {name}'s networks are {type(network).__name__}, not independent"
        elif type(network.activation) not in ACTIVATIONS:
            yield f"activation_fn is {type(network.activation).__name__}, neither ReLU nor Tanh"
        elif len(network.weights) > MAX_LAYERS:
            yield f"the {name} has {len(network.weights)} layers; {MAX_LAYERS} are the most"
    for name in ("actor", "critic", "critic_target"):
        if getattr(model, name).flat.moved:
            yield f"the {name}'s parameters have memory of their own until the next train()"
    yield from _refused_parts(model)
    yield from _refused_replay(model)
    yield from _refused_optimizers(model)


def _refused_parts(model: MultiTaskSAC) -> Iterator[str]:
    if type(model.sharing) is not KeepOwn:
        yield f"sharing={model.sharing!r}"
    if model.regularizer is not None:
        yield f"regularizer={model.regularizer!r}"
    for hook in model.hooks:
        if hook.looks_into_updates:
            yield f"hooks={hook!r} looks into every update"
    if model.gradients != "plain":
        yield f"gradients={model.gradients!r}"
    if model.task_weights not in EVEN_TASK_WEIGHTS:
        yield f"task_weights={model.task_weights!r}"
    if model.matmul_precision in ("high", "medium"):
        yield f"matmul_precision={model.matmul_precision!r} is about PyTorch's products"
    for name in ("max_grad_norm", "max_temperature"):
        if getattr(model, name) is not None:
            yield f"{name}={getattr(model, name)}"
    if model.reward_scale != 1.0:
        yield f"reward_scale={model.reward_scale}"
    if model.temperatures != "task":
        yield f"temperatures={model.temperatures!r}"


def _refused_replay(model: MultiTaskSAC) -> Iterator[str]:
    if type(model.replay) not in (Own, Equal):
        yield f"replay={model.replay!r}"
    if model.draw.prioritized:
        yield f"draw={model.draw!r}"
    if model.get_vec_normalize_env() is not None:
        yield "VecNormalize normalizes each batch anew"


def _refused_optimizers(model: MultiTaskSAC) -> Iterator[str]:
    dtype = th.from_numpy(model.replay_buffer.table[:0]).dtype
    optimized: list[tuple[str, th.optim.Optimizer | None, th.Tensor]] = [
        ("actor's", model.actor.optimizer, model.actor.flat.flat),
        ("critic's", model.critic.optimizer, model.critic.flat.flat),
    ]
    if model.log_ent_coef is None:
        optimized.append(("temperatures'", None, model.ent_coef_tensor))
    else:
        optimized.append(("temperatures'", model.ent_coef_optimizer, model.log_ent_coef))
    if optimized[-1][2].shape != (model.n_tasks,) or not optimized[-1][2].is_contiguous():
        yield f"the temperatures are {tuple(optimized[-1][2].shape)} numbers, not one for each of {model.n_tasks} tasks"
    for owner, optimizer, numbers in optimized:
        if numbers.dtype != dtype or dtype not in (th.float32, th.float64):
            yield f"the {owner} numbers are {numbers.dtype}, those of the replay buffer {dtype}"
        if optimizer is not None:
            yield from (f"the {owner} optimizer: {reason}" for reason in _refused_optimizer(optimizer, numbers))
    if not _same_form(model.critic.flat, model.critic_target.flat):
        yield "the target critics have another form than the critics"


def _refused_optimizer(optimizer: th.optim.Optimizer, numbers: th.Tensor) -> Iterator[str]:
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
