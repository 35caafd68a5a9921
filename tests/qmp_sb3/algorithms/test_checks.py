"""What is not supported or makes no sense is refused with one clear error: what was given, what is allowed."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from qmp_envs.suggestions import did_you_mean
from qmp_sb3 import QMP
from qmp_sb3.algorithms import checks
from qmp_sb3.algorithms.temperature import initial_temperatures
from qmp_sb3.common.validation import one_of
from tests.qmp_sb3.small_models import Drift, drifts, make


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"use_sde": True}, "gSDE"),
        ({"sde_sample_freq": 4}, "gSDE"),
        ({"use_sde_at_warmup": True}, "gSDE"),
        ({"replay_buffer_class": ReplayBuffer}, "=ReplayBuffer .*MultiTaskReplayBuffer"),
        ({"replay_buffer_class": HerReplayBuffer}, "HerReplayBuffer.*MultiTaskReplayBuffer"),
        ({"replay_buffer_class": DictReplayBuffer}, "DictReplayBuffer.*MultiTaskReplayBuffer"),
        ({"optimize_memory_usage": True}, "optimize_memory_usage=True.*buffer_size"),
        ({"buffer_size": 0}, "buffer_size is 0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"gradient_steps": -2}, "gradient_steps is -2"),
        ({"target_update_interval": 0}, "target_update_interval is 0"),
        ({"warmup_actions": "polcy"}, "warmup_actions='polcy' is unknown; did you mean 'policy'"),
        ({"sharing": "udd"}, "unknown word 'udd' in sharing; did you mean 'uds'?"),
        ({"task_weights": "smu"}, "task_weights='smu' is unknown; did you mean 'sum'"),
        ({"behavior": "armax(q)"}, "'armax'.*did you mean 'argmax'"),
        ({"ent_coef": "auto_0"}, "must be greater than 0"),
        ({"ent_coef": "atuo"}, "ent_coef='atuo'.*auto"),
        ({"ent_coef": "auto_fast"}, "ent_coef='auto_fast'.*auto"),
        ({"ent_coef": [0.1, 0.2]}, "2 values, but there are 3 tasks"),
        ({"ent_coef": -0.1}, "ent_coef.*-0.1"),
        ({"ent_coef": "autos"}, "ent_coef='autos'.*auto"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_constructor_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"networks": "independant"}, "'independant' is unknown; did you mean 'independent'"),
        ({"networks": {"actor": "independent"}}, "needs actor and critic"),
        ({"policy_kwargs": {"initialization": "lineer"}}, "'lineer' is unknown; did you mean 'linear'"),
        ({"policy_kwargs": {"netarch": [8]}}, "'netarch'; did you mean 'net_arch'"),
        ({"policy_kwargs": {"features_extractor_class": object}}, "features_extractor_class.*not supported"),
    ],
)
def test_names_of_networks(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_image_and_dict_policies(policy):
    with pytest.raises(ValueError, match=f"{policy} is not supported.*MlpPolicy"):
        QMP(policy, "Pendulum-v1")


def test_unknown_policy():
    with pytest.raises(ValueError, match="MlpPolcy"):
        QMP("MlpPolcy", "Pendulum-v1")


def test_dict_observations():
    space = spaces.Dict({"position": spaces.Box(-1, 1, (2,)), "goal": spaces.Box(-1, 1, (2,))})

    class DictEnv(Drift):
        def _observe(self):
            return space.sample()

    with pytest.raises(ValueError, match="[Dd]ict"):
        make("one task", env=DictEnv(observation_space=space))


@pytest.mark.parametrize("id", ["QMP/MultistageReecher-v0", "Pendulam-v1"])
def test_unknown_id(id):
    with pytest.raises(gym.error.Error, match="Did you mean"):
        QMP("MlpPolicy", id)


def test_something_else_than_an_environment():
    with pytest.raises((ValueError, TypeError)):
        QMP("MlpPolicy", 3)


# ------------------------------------------------------------------------------------------ whose prediction?


@pytest.fixture(scope="module")
def three():
    return make()


@pytest.mark.parametrize(
    "rows, task, message",
    [
        (1, None, "1 observation.*3 tasks.*task=.*to -1, to 0, to 1"),
        (4, None, "4 observation"),
        (2, "to 2", "unknown task 'to 2'; did you mean"),
        (2, "elsewhere", "unknown task 'elsewhere'.*to -1, to 0, to 1"),
        (2, 3, "task 3 is out of range; the tasks are 0 to 2"),
        (2, -1, "task -1 is out of range"),
        (2, [0], "1 entries, but there are 2 observations"),
        (2, [0, 1, 2], "3 entries, but there are 2 observations"),
        (2, [0, "nowhere"], "unknown task 'nowhere'"),
        (2, 1.5, "1.5"),
        (2, True, "True"),
    ],
)
def test_unclear_predictions(three, rows, task, message):
    with pytest.raises((ValueError, TypeError), match=message):
        three.predict(np.zeros((rows, 3), np.float32), task=task)


def test_clear_predictions(three):
    observations = np.zeros((3, 3), np.float32)
    expected = three.predict(observations, deterministic=True)[0]
    for task in ([0, 1, 2], np.arange(3), np.arange(3, dtype=np.int32), ("to -1", "to 0", "to 1"), th.arange(3)):
        np.testing.assert_array_equal(three.predict(observations, deterministic=True, task=task)[0], expected)
    for task in (1, np.int64(1), "to 0", np.array(1)):
        action = three.predict(observations[0], deterministic=True, task=task)[0]
        np.testing.assert_allclose(action, expected[1], rtol=1e-5, atol=1e-6)


def test_changing_tasks_are_never_guessed():
    """Two slots and two tasks, but which slot runs which task changes with every reset."""
    env = DummyVecEnv([lambda: gym.make("QMP/Maze-v0", num_tasks=2, max_episode_steps=3)] * 2)
    model = make("one task", env=env, learning_starts=1000).learn(20)
    with pytest.raises(ValueError, match="say whose policy to ask"):
        model.predict(env.reset())


# ------------------------------------------------------------------------------------------ normalization


def test_rewards_of_different_tasks_share_no_scale():
    with pytest.raises(ValueError, match=r"3 different tasks.*norm_reward=False"):
        make(env=VecNormalize(drifts()))
    model = make()
    with pytest.raises(ValueError, match="norm_reward=False"):
        model.set_env(VecNormalize(drifts()))
    make("one task", env=VecNormalize(DummyVecEnv([Drift]))).learn(20)


# ------------------------------------------------------------------------------------------ the small functions


def test_did_you_mean():
    assert did_you_mean("qpm", ["qmp", "no-sharing"]) == "did you mean 'qmp'?"
    assert did_you_mean("xyz", ["qmp", "no-sharing"]) == "known: qmp, no-sharing"
    assert one_of("method", "qmp", ["qmp"]) == "qmp"


def test_temperatures():
    assert initial_temperatures("auto", 2) == ([1.0, 1.0], True)
    assert initial_temperatures("auto_0.5", 2) == ([0.5, 0.5], True)
    assert initial_temperatures("0.3", 1) == ([0.3], False), "SB3 takes a number written as text"
    assert initial_temperatures(0.3, 2) == ([0.3, 0.3], False)
    assert initial_temperatures(np.array([0.1, 0.2]), 2) == ([0.1, 0.2], False)


def test_same_tasks():
    checks.same_tasks((), ("a", "b"))
    checks.same_tasks(("a", "b"), ("a", "b"))
    checks.same_tasks(("a",), ("b",))  # one task keeps no name: SB3 models move between environments
    with pytest.raises(ValueError, match="a, b, but the environment has b, a"):
        checks.same_tasks(("a", "b"), ("b", "a"))
    with pytest.raises(ValueError, match="1 task.*has 2"):
        checks.same_tasks(("a",), ("a", "b"))


def test_a_new_model_needs_an_environment():
    with pytest.raises(ValueError, match="needs an environment"):
        QMP("MlpPolicy", None)


def test_a_list_of_an_environment_that_draws_its_tasks():
    with pytest.raises(ValueError, match="draws one of 5 tasks"):
        QMP("MlpPolicy", ["QMP/MultistageReacher-v0"])


def test_a_replay_buffer_of_other_tasks(tmp_path):
    three, two = make(), QMP("MlpPolicy", drifts(2), buffer_size=10, device="cpu")
    three.save_replay_buffer(tmp_path / "three")
    own = two.replay_buffer
    with pytest.raises(ValueError, match=r"has 3 task\(s\), the model 2"):
        two.load_replay_buffer(tmp_path / "three")
    assert two.replay_buffer is own


@pytest.mark.parametrize(
    "saved, own, message",
    [
        ({"buffer_size": 50}, {"buffer_size": 20}, "keeps 50 transitions per task, the model buffer_size=20"),
        ({"n_steps": 3}, {"n_steps": 5}, "sums n_steps=3 rewards, the model 5; load the model with n_steps=3"),
        ({"n_steps": 3}, {"n_steps": 3, "gamma": 0.9}, "with gamma=0.99, the model has 0.9"),
    ],
)
def test_a_replay_buffer_that_would_undo_the_models_arguments(tmp_path, saved, own, message):
    make(**saved).learn(60).save_replay_buffer(tmp_path / "replay")
    model = make(**own)
    before = model.replay_buffer
    with pytest.raises(ValueError, match=re.escape(message)):
        model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer is before


def test_a_loaded_replay_buffer_has_the_models_discount(tmp_path):
    make().learn(60).save_replay_buffer(tmp_path / "replay")
    model = make(gamma=0.9)
    model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer.gamma == 0.9 and model.replay_buffer.size() == 20


@pytest.mark.parametrize(
    "given, message",
    [
        ({"behavior": "guide(net_arch=3)"}, "guide(net_arch=3) in behavior: net_arch is a list or None"),
        ({"behavior": "guide(steps=1e400)"}, "guide(steps=inf) in behavior: steps is a whole number"),
        ({"behavior": "guide(hindsight='no')"}, "guide(hindsight='no') in behavior: hindsight is True or False"),
        ({"behavior": "hold(2.5, argmax(q))"}, "hold(steps=2.5) in behavior: steps is a whole number"),
        ({"draw": "per('a')"}, "per(alpha='a') in draw: alpha is a number"),
        ({"hooks": "maskout('a')"}, "maskout(limit='a') in hooks: limit is a number"),
        ({"networks": "paco(sets=True)"}, "paco(sets=True) in networks: sets is a whole number"),
        ({"regularizer": "dnc('a')"}, "dnc('a'): beta is a number or a matrix"),
        ({"max_temperature": "a"}, "max_temperature is 'a'; it must be a number greater than 0"),
        ({"reward_scale": None}, "reward_scale is None; it must be a number greater than 0"),
        ({"batch_size": "a"}, "batch_size is 'a'; it must be at least 1"),
        ({"replay_buffer_kwargs": {"replay": 3}}, "replay_buffer_kwargs['replay'] is what the model's own"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_clear_error(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        QMP("MlpPolicy", "QMP/Point2D-v0", **given)
