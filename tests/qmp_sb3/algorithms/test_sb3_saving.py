"""Saving and loading work as Stable-Baselines3's ``SAC`` does it, for one task and for several."""

import io
import pathlib
import zipfile

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from qmp_sb3 import QMP
from qmp_sb3.policies import MultiTaskActor, MultiTaskPolicy
from qmp_sb3.replay import MultiTaskReplayBuffer
from qmp_sb3.serialization import UntrustedFile
from qmp_sb3.serialization.models import read_model
from tests.qmp_sb3.small_models import ENVS, N_TASKS, drifts, equal, every_env, make, one_and_three, steps, weights


@every_env
def test_save_and_load(tmp_path, which):
    model = make(which).learn(steps(which))
    observations = model.get_env().reset()
    expected = model.predict(observations, deterministic=True)[0]
    saved, n_updates = weights(model), model._n_updates
    model.save(tmp_path / "model")
    temperature = model.temperature.clone()
    moments = model.actor.optimizer.state_dict()["state"]

    loaded = QMP.load(tmp_path / "model.zip", env=ENVS[which](), device="cpu")
    assert equal(saved, weights(loaded))
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    assert th.equal(loaded.temperature, temperature)
    assert (loaded.num_timesteps, loaded._n_updates) == (steps(which), n_updates)
    assert tuple(loaded.task_names) == model.task_names
    for key, state in loaded.actor.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert th.equal(value, moments[key][name]), f"the optimizer's {name} is kept"
    loaded.learn(steps(which), reset_num_timesteps=False)
    assert loaded.num_timesteps == 2 * steps(which) and loaded._n_updates > n_updates
    assert not equal(saved, weights(loaded))


def test_task_names_stay_a_tuple(tmp_path):
    make().save(tmp_path / "model")
    assert QMP.load(tmp_path / "model", device="cpu").task_names == make().task_names


@one_and_three
def test_load_without_environment(tmp_path, which):
    model = make(which).learn(steps(which))
    rows = np.stack([model.observation_space.sample() for _ in range(4)])
    model.save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", device="cpu")
    assert loaded.get_env() is None
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True, task=0)[0], model.predict(rows, deterministic=True, task=0)[0]
    )
    loaded.set_env(ENVS[which]())
    loaded.learn(steps(which))


@pytest.mark.parametrize("kind", [str, pathlib.Path, "file"])
def test_kinds_of_paths(tmp_path, kind):
    model = make()
    target = io.BytesIO() if kind == "file" else kind(tmp_path / "folder" / "model.zip")
    model.save(target)
    if kind == "file":
        target.seek(0)
    assert equal(weights(model), weights(QMP.load(target, device="cpu")))


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"this is no archive")
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        QMP.load(tmp_path / "model.zip")
    with pytest.raises(FileNotFoundError):
        QMP.load(tmp_path / "absent")


@one_and_three
def test_set_parameters(which):
    model, other = make(which, seed=0), make(which, seed=1)
    parameters = other.get_parameters()
    assert {"policy", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer"} <= parameters.keys()
    assert not equal(weights(model), weights(other))
    model.set_parameters(parameters, exact_match=True)
    assert equal(weights(model), weights(other))
    model.learn(steps(which))
    assert not equal(weights(model), weights(other)), "parameters are copied, and the optimizers see the new ones"

    del parameters["policy"]
    with pytest.raises(ValueError):
        model.set_parameters(parameters, exact_match=True)
    model.set_parameters(parameters, exact_match=False)
    with pytest.raises((ValueError, RuntimeError)):
        model.set_parameters({"policy": {"no_such_tensor": th.zeros(1)}}, exact_match=True)
    with pytest.raises(ValueError):
        model.set_parameters({"no_such_object": {}}, exact_match=False)


def test_parameters_of_a_file(tmp_path):
    model, other = make(seed=0), make(seed=1)
    other.save(tmp_path / "other")
    model.set_parameters(tmp_path / "other")
    assert equal(weights(model), weights(other))


@one_and_three
def test_exclude_and_include(tmp_path, which):
    model = make(which, gamma=0.9).learn(steps(which, 15))
    model.save(tmp_path / "all")
    model.save(tmp_path / "less", exclude=["gamma", "learning_rate"])
    model.save(tmp_path / "more", include=["replay_buffer"])
    everything, less, more = (read_model(tmp_path / name).data for name in ("all", "less", "more"))
    assert everything["gamma"] == 0.9
    assert not {"gamma", "learning_rate"} & less.keys()
    assert "replay_buffer" not in everything and isinstance(more["replay_buffer"], MultiTaskReplayBuffer)
    assert QMP.load(tmp_path / "more", device="cpu").replay_buffer.size() == model.replay_buffer.size()


@one_and_three
@pytest.mark.parametrize("ent_coef", ["auto", 0.2])
def test_what_a_file_holds(tmp_path, which, ent_coef):
    """Tensors are in their own files, the rest is readable data; nothing is stored twice."""
    model = make(which, ent_coef=ent_coef)
    model.save(tmp_path / "model")
    saved = read_model(tmp_path / "model")
    data, variables = saved.data, saved.variables
    assert {"seed", "gamma", "behavior", "num_timesteps", "task_names"} <= data.keys()
    assert not {"policy", "actor", "critic", "critic_target", "replay_buffer", "env"} & data.keys()
    assert set(variables) == ({"log_ent_coef"} if ent_coef == "auto" else {"ent_coef_tensor"})
    assert len(next(iter(variables.values()))) == N_TASKS[which]
    assert "policy" in saved.parameters


def test_custom_objects(tmp_path):
    make(learning_rate=1e-3).save(tmp_path / "model")
    loaded = QMP.load(
        tmp_path / "model", env=drifts(), custom_objects={"learning_rate": 1e-5, "lr_schedule": lambda _: 1e-5}
    )
    assert loaded.learning_rate == 1e-5
    loaded.learn(60)
    assert loaded.actor.optimizer.param_groups[0]["lr"] == 1e-5


def test_load_with_other_arguments(tmp_path):
    make(gamma=0.9).save(tmp_path / "model")
    assert QMP.load(tmp_path / "model", gamma=0.8).gamma == 0.8
    with pytest.raises(ValueError):
        QMP.load(tmp_path / "model", policy_kwargs={"net_arch": [16]})


@one_and_three
def test_learning_rate_schedule_survives(tmp_path, which):
    model = make(which, learning_rate=lambda progress: 0.01 * progress).learn(steps(which))
    model.save(tmp_path / "model")
    with pytest.raises(UntrustedFile, match="learning_rate"):
        QMP.load(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=ENVS[which](), device="cpu", trust=True)
    loaded.learn(steps(which))
    assert loaded.actor.optimizer.param_groups[0]["lr"] < 0.002


@one_and_three
def test_set_env(which):
    model = make(which).learn(steps(which))
    before = model.num_timesteps
    model.set_env(ENVS[which]())
    model.learn(steps(which), reset_num_timesteps=False)
    assert model.num_timesteps == before + steps(which)
    model.set_env(model.get_env(), force_reset=False)
    model.learn(steps(which), reset_num_timesteps=False)
    assert model.num_timesteps == 3 * before


def test_set_env_checks_tasks_and_spaces():
    model = make()
    with pytest.raises(ValueError, match="tasks"):
        model.set_env(drifts(tasks=2))
    with pytest.raises(ValueError, match="[Oo]bservation space"):
        model.set_env(drifts(observation_space=spaces.Box(-2, 2, (4,), np.float32)))
    with pytest.raises(ValueError, match="[Aa]ction space"):
        model.set_env(drifts(action_space=spaces.Box(-1, 1, (3,), np.float32)))


def test_load_checks_tasks(tmp_path):
    make().save(tmp_path / "model")
    with pytest.raises(ValueError, match="tasks"):
        QMP.load(tmp_path / "model", env=drifts(tasks=2))


def test_a_loaded_model_takes_another_number_of_slots(tmp_path):
    make().learn(60).save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=drifts(copies=2), device="cpu")
    loaded.learn(120)
    assert loaded.n_envs == 6 and loaded.replay_buffer.sizes.tolist() == [20 * 2] * 3


@every_env
def test_save_and_load_replay_buffer(tmp_path, which):
    model = make(which).learn(steps(which))
    model.save_replay_buffer(tmp_path / "replay")
    expected = model.replay_buffer
    other = make(which)
    other.load_replay_buffer(tmp_path / "replay.pkl")
    loaded = other.replay_buffer
    assert loaded is not expected and loaded.sizes.tolist() == expected.sizes.tolist()
    rows = expected.size()
    for name in ("observations", "actions", "next_observations", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(loaded, name)[:rows], getattr(expected, name)[:rows], err_msg=name)
    other.learn(steps(which, 20), reset_num_timesteps=False)


def test_a_replay_buffer_takes_transitions_of_another():
    """``extend`` feeds transitions one by one, as SB3's documentation does with recorded data."""
    model = make().learn(60)
    source, target = model.replay_buffer, make().replay_buffer
    rows = source.size()
    infos = [[{"TimeLimit.truncated": bool(flag)} for flag in row] for row in source.timeouts[:rows].reshape(rows, 3)]
    target.extend(
        source.observations[:rows],
        source.next_observations[:rows],
        source.actions[:rows],
        source.rewards[:rows].reshape(rows, 3),
        source.dones[:rows].reshape(rows, 3),
        infos,
    )
    np.testing.assert_array_equal(target.table[:rows], source.table[:rows])


def test_replay_buffer_of_other_tasks_is_refused_or_a_class_of_ours(tmp_path):
    class Recording(MultiTaskReplayBuffer):
        """A user's subclass."""

    model = make(replay_buffer_class=Recording, replay_buffer_kwargs={"handle_timeout_termination": False}).learn(60)
    assert isinstance(model.replay_buffer, Recording)
    assert not model.replay_buffer.timeouts.any()


@every_env
def test_save_policy_alone(tmp_path, which):
    model = make(which).learn(steps(which, 15))
    observations = model.get_env().reset()
    model.policy.save(tmp_path / "policy.pkl")
    model.actor.save(tmp_path / "actor.pkl")
    policy = MultiTaskPolicy.load(tmp_path / "policy.pkl", device="cpu")
    actor = MultiTaskActor.load(tmp_path / "actor.pkl", device="cpu")
    assert equal(policy.state_dict(), model.policy.state_dict())
    assert equal(actor.state_dict(), model.actor.state_dict())
    tasks = np.arange(N_TASKS[which])
    np.testing.assert_array_equal(
        policy.predict(observations, deterministic=True, tasks=tasks)[0],
        model.predict(observations, deterministic=True)[0],
    )
    if model.n_tasks > 1:
        with pytest.raises(ValueError, match="say whose to ask"):
            actor.predict(observations, deterministic=True)
    else:
        expected = model.predict(observations, deterministic=True)[0]
        np.testing.assert_array_equal(actor.predict(observations, deterministic=True)[0], expected)


def test_policy_parameters_as_vector():
    model, other = make(seed=0), make(seed=1)
    model.policy.load_from_vector(other.policy.parameters_to_vector())
    assert equal(weights(model), weights(other))
    assert th.equal(model.actor.flat.flat, other.actor.flat.flat), "the flat tensor is the same memory"
