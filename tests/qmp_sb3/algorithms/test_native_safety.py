"""What does not fit the compiled code's memory never gets there, and neither forks nor threads disturb it."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch as th
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qmp_sb3.algorithms.native_update import STEPS_PER_CALL, NativeUpdate
from qmp_sb3.algorithms.temperature import Temperature
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.native import library, structures
from qmp_sb3.policies import MultiTaskActor
from qmp_sb3.policies.action_heads import SquashedGaussian
from tests.qmp_sb3.algorithms.test_native_update import Case, difference, numbers, small, trained
from tests.qmp_sb3.native.test_native_acting import HEAD, compiled, network, rows
from tests.qmp_sb3.small_models import make

pytestmark = compiled


# ---- updates ----


@pytest.mark.parametrize("shape", [(), (1,), (2,), (5,)])
def test_temperatures_of_another_shape_are_left_to_pytorch(shape):
    model = Case(ent_coef=0.2).model("auto")
    assert model.update_backend == "native"
    model.ent_coef_tensor = th.full(shape, 0.1)  # as one sets it in SB3
    assert model.update_backend == "torch" and f"{shape} numbers, not one for each of 3 tasks" in model.backend_note


@pytest.mark.parametrize("part", ["actor", "critic", "critic_target"])
def test_parameters_that_were_given_other_memory_are_left_alone(part):
    model = Case().model("auto")
    module = getattr(model, part)
    assert model.update_backend == "native"
    vector_to_parameters(parameters_to_vector(module.parameters()).detach(), module.parameters())
    assert model.update_backend == "torch" and f"the {part}'s parameters have memory of their own" in model.backend_note


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_parameters_that_were_given_other_memory_go_on_learning(backend):
    models = [Case().model(backend) for _ in range(2)]
    for module in (models[1].actor, models[1].critic, models[1].critic_target):
        vector_to_parameters(parameters_to_vector(module.parameters()).detach(), module.parameters())
    for model in models:
        model.train(3, 7)
    assert models[1].update_backend == models[0].update_backend
    assert difference(*models) == 0.0


def test_other_parameters_are_refused():
    model = small()
    for module in (model.policy, model.actor, model.critic.network):
        with pytest.raises(ValueError, match="assign=True.* without assign it copies the numbers"):
            module.load_state_dict(module.state_dict(), assign=True)


def test_parameters_that_were_given_other_memory_act():
    model, observation = small(), np.full((2, 2), 0.3, dtype=np.float32)
    before = model.predict(observation, deterministic=True, task=0)[0]
    vector = parameters_to_vector(model.actor.parameters()).detach()
    vector_to_parameters(th.zeros_like(vector), model.actor.parameters())
    assert before.any() and not model.predict(observation, deterministic=True, task=0)[0].any()


def test_an_optimizer_with_a_hook_is_stepped_by_pytorch():
    model, steps = Case().model("auto"), []
    handle = model.critic.optimizer.register_step_post_hook(lambda *args: steps.append(1))
    assert "a hook" in model.backend_note
    model.train(2, 7)
    assert len(steps) == 2
    handle.remove()
    assert model.update_backend == "native"


def test_no_steps_are_no_steps():
    model = Case().model("auto")
    model.train(0, 7)
    assert model._n_updates == 0


class OwnTemperature(Temperature):
    def learn(self, *args):
        return super().learn(*args)


class OwnActor(MultiTaskActor):
    def action_log_prob(self, features, noise):
        return super().action_log_prob(features, noise)


def test_what_a_subclass_changes_of_an_update_is_asked():
    model = small()
    model.alpha.__class__ = OwnTemperature
    assert model.backend_note == "OwnTemperature.learn is not Temperature's"
    model = small()
    model.actor.__class__ = OwnActor
    assert model.backend_note == "OwnActor.action_log_prob is not MultiTaskActor's"


def test_steps_that_were_made_count_when_the_next_are_interrupted(monkeypatch):
    model, run, calls = Case().model("native"), NativeUpdate._run, []

    def interrupted(self, update):
        calls.append(update.steps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        run(self, update)

    monkeypatch.setattr(NativeUpdate, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.train(3 * STEPS_PER_CALL, 7)
    for optimizer in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):
        [state] = optimizer.state.values()
        assert state["step"] == STEPS_PER_CALL


# ---- actions ----


@th.no_grad()
def test_rows_and_tasks_that_disagree_are_refused():
    asked, states = network(3, 4, 2, [16]), rows(3, 4)
    with pytest.raises(ValueError, match="3 rows, but the tasks of 5"):
        asked.by_row(states, TaskLayout(np.array([0, 1, 2, 1, 0]), 3))
    with pytest.raises(ValueError, match="layout is for 4 tasks, the networks are of 3"):
        asked.by_row(states, TaskLayout(np.array([0, 1, 2]), 4))
    with pytest.raises(ValueError, match="3 rows, but the candidates of 2"):
        asked.candidates(states[:, :2], rows(2, 5, 2), TaskLayout(np.array([0, 1, 2]), 3))
    with pytest.raises(ValueError, match="2 copies are asked, of 1"):
        asked.candidates(states[:, :2], rows(3, 5, 2), TaskLayout(np.array([0, 1, 2]), 3), copies=2)
    with pytest.raises(ValueError, match="float64"):
        asked.every(states.double())


@pytest.mark.parametrize("task", [-1, 3])
def test_a_task_that_does_not_exist_has_no_place(task):
    with pytest.raises(ValueError, match=f"task {task} is out of range; the tasks are 0 to 2"):
        TaskLayout(np.array([0, task]), 3)


@pytest.mark.parametrize("policy", [-1, 3])
@th.no_grad()
def test_a_policy_that_does_not_exist_is_not_chosen(policy):
    with pytest.raises(IndexError, match=f"policy {policy} is out of range; there are 3"):
        SquashedGaussian(2).sample(rows(3, 2, 4), rows(2, 2), np.array([0, policy]))


@th.no_grad()
def test_pytorchs_default_type_is_not_that_of_the_networks():
    asked, states, layout = network(3, 4, 2, [16]), rows(3, 4), TaskLayout(np.array([0, 1, 2]), 3)
    ways = (
        lambda: asked.every(states),
        lambda: asked.every_policy(states, HEAD)[1],
        lambda: asked.by_row(states, layout),
        lambda: asked.candidates(states[:, :2], rows(3, 5, 2).float(), layout),
        lambda: HEAD.sample(asked.every(states)[0, 0], th.full((3, 1), 0.5, dtype=th.float32)),
    )
    expected = [way() for way in ways]
    th.set_default_dtype(th.float64)
    try:
        found = [way() for way in ways]
    finally:
        th.set_default_dtype(th.float32)
    th.testing.assert_close(found[:3] + found[4:], expected[:3] + expected[4:])
    assert found[3].dtype == th.float32


# ---- forks and threads ----


def test_a_forked_child_has_threads_of_its_own():
    case = Case(tasks=5, threads=3)
    model = trained(case.model("native"), 7, 20, calls=2)  # the parent's threads are there now
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, numbers(trained(model, 7, 20, calls=2)).numpy().tobytes())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        of_child = np.frombuffer(pipe.read())
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(of_child, numbers(trained(model, 7, 20, calls=2)).numpy())


def test_models_in_several_threads_do_not_disturb_each_other():
    models = [Case(tasks=5, threads=3, seed=seed).model("native") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: trained(model, 7, 200, calls=50), models))
    for seed, model in enumerate(models):
        assert difference(model, trained(Case(tasks=5, seed=seed).model("native"), 7, 200, calls=50)) == 0.0


@th.no_grad()
def test_one_model_can_be_asked_by_several_threads():
    model = make(num_threads=None)
    observations = model.policy.encode(model.env.reset().astype(np.float32))
    expected = model.actor.network.every(observations)
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: th.no_grad()(model.actor.network.every)(observations), range(400)))
    assert all(th.equal(one, expected) for one in asked)


# ---- a library of other sources ----


@pytest.mark.parametrize("function", structures.SIZES)
def test_a_library_with_other_structures_is_not_used(function, monkeypatch):
    class Longer(structures.SIZES[function]):
        _fields_ = [("new", ctypes.c_int64)]

    monkeypatch.setitem(structures.SIZES, function, Longer)
    with pytest.raises(OSError, match="was built from other sources than these: install the package again"):
        library._open()


def test_a_library_of_sources_that_changed_is_not_used(monkeypatch, tmp_path):
    file = next(library.FOLDER.glob("_kernels*"))
    (tmp_path / file.name).symlink_to(file)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    assert library._open()  # no sources beside it: nothing to compare with
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "update.c").write_text("/* another */")
    with pytest.raises(OSError, match="was built from other sources"):
        library._open()


def test_a_library_without_sizes_is_not_used(monkeypatch):
    monkeypatch.setitem(structures.SIZES, "no_such_function", structures.Sample)
    with pytest.raises(OSError, match="was built from other sources"):
        library._open()
