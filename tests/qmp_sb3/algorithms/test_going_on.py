"""A model that was saved in the middle of training, and restored, ends as if nothing had happened: to the bit."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import qmp_envs
from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.experiments import Checkpoints, RunSpec, run
from tests.qmp_envs.simulation import parallel_sets
from tests.qmp_sb3.algorithms.going_on import SaveAt, assert_equal, state_of
from tests.qmp_sb3.methods.test_presets import METHODS, REACHER, small
from tests.qmp_sb3.small_models import Drift, drifts

SHORT = {"env_kwargs.max_episode_steps": 13, "buffer_size": 25, "train_freq": 3, "gradient_steps": 1}
#: the same at other places, and options that keep something of their own
VARIANTS = {
    "n-step sums": ("qmp", {"n_steps": 3}),
    "n-step sums and priorities": ("ta-per", {"n_steps": 2}),
    "torch": ("qmp-softmax", {"backend": "torch"}),
    "held behavior, several slots": ("parameters+qmp-hold", {"env_kwargs.envs_per_task": 2}),
    "guide, several slots": ("ctpg", {"env_kwargs.envs_per_task": 2, "buffer_size": 11}),
    "a rollout that does not divide": ("no-sharing", {"train_freq": 7}),
}


def assert_goes_on(make, path, total=300, at=110, trust=False):
    """``make()`` learns ``total`` steps; another one goes on from the checkpoint that the first saved on its way."""
    checkpoints = Checkpoints(path)
    whole = make()
    whole.learn(total, SaveAt(checkpoints, at // 2, at))
    checkpoint = Checkpoints(path).newest()
    assert checkpoint is not None and at <= checkpoint.steps < total
    restored, _ = checkpoints.restore(make(), checkpoint, trust=trust)
    restored.learn(total - restored.num_timesteps, reset_num_timesteps=False)
    assert whole._n_updates > 0
    assert_equal(state_of(whole), state_of(restored))
    return whole, restored


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on(method, tmp_path):
    id = "QMP/MetaWorldCDS-v0" if method == "cds" else REACHER
    assert_goes_on(lambda: small(method, id, **SHORT), tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_so_does_what_keeps_something_of_its_own(name, tmp_path):
    method, overrides = VARIANTS[name]
    assert_goes_on(lambda: small(method, **SHORT | overrides), tmp_path)


def test_before_learning_begins(tmp_path):
    """Random actions of the action space, of which some are still to come."""
    settings = SHORT | {"learning_starts": 200, "warmup_actions": "random"}
    assert_goes_on(lambda: small("qmp", **settings), tmp_path)


def test_normalized_observations(tmp_path):
    def make():
        env = VecNormalize(make_multitask_vec_env(REACHER, max_episode_steps=13), norm_reward=False)
        options = ("train_freq", "gradient_steps", "buffer_size")
        return small("qmp", env, **{name: SHORT[name] for name in options})

    whole, restored = assert_goes_on(make, tmp_path)
    for name in ("mean", "var", "count"):
        np.testing.assert_array_equal(*(getattr(one.env.obs_rms, name) for one in (whole, restored)))


def tiny(env, **settings):
    settings = dict(learning_starts=20, batch_size=4, buffer_size=40, policy_kwargs={"net_arch": [8]}) | settings
    return QMP("MlpPolicy", env, seed=0, device="cpu", **settings)


def test_environments_of_others_where_they_can_be_pickled(tmp_path):
    whole, restored = assert_goes_on(lambda: tiny(drifts()), tmp_path, trust=True)
    one, other = (model.env.envs.envs for model in (whole, restored))
    assert [env.unwrapped.episode for env in one] == [env.unwrapped.episode for env in other]
    np.testing.assert_array_equal([env.unwrapped.state for env in one], [env.unwrapped.state for env in other])


def test_task_sets_whose_physics_tells_nothing_are_pickled(tmp_path):
    """A user's own, here in this process and in others."""
    for workers in (1, 2):
        make = partial(tiny_walkers, workers)
        assert_goes_on(make, tmp_path / str(workers), trust=True)


def tiny_walkers(workers):
    return tiny(make_multitask_vec_env(parallel_sets.make(parallel_sets.Walkers, workers)))


def test_tasks_that_change_at_every_reset(tmp_path):
    def make():
        makers = [lambda: gym.make("QMP/MultistageReacher-v0", max_episode_steps=9) for _ in range(3)]
        return tiny(DummyVecEnv(makers))

    whole, restored = assert_goes_on(make, tmp_path, trust=True)
    np.testing.assert_array_equal(whole._slots.now(), restored._slots.now())


@pytest.mark.parametrize("kind", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
def test_action_noise(kind, tmp_path):
    """Of NumPy's global generator; the second one remembers where it is."""
    checkpoints = Checkpoints(tmp_path)

    def make():
        return tiny(drifts(length=30), action_noise=kind(np.zeros(2), np.full(2, 0.3)))

    whole = make()
    whole.learn(150, SaveAt(checkpoints, 75))
    restored, _ = checkpoints.restore(make(), checkpoints.newest(), trust=True)
    restored.learn(150 - restored.num_timesteps, reset_num_timesteps=False)
    assert_equal(state_of(whole), state_of(restored))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle was read",)


def test_a_stranger_s_environments_are_not_unpickled(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    env = drifts()
    env.envs.envs[0].unwrapped.bomb = Bomb()
    tiny(env).learn(60, SaveAt(checkpoints, 30))
    restored, _ = checkpoints.restore(tiny(drifts()), checkpoints.newest())
    [said] = [record.getMessage() for record in caplog.records]
    assert "environment.pkl" in said and "episodes begin anew" in said and "--trust" in said
    restored.learn(5, reset_num_timesteps=False)
    with pytest.raises(pytest.fail.Exception, match="was read"):
        checkpoints.restore(tiny(drifts()), checkpoints.newest(), trust=True)


@pytest.mark.parametrize("trust", [True, False])
def test_a_run_goes_on_in_its_own_pickled_episodes_only_with_trust(trust, tmp_path, caplog):
    name = "Else/Walkers-v0"
    qmp_envs.register_task_set(name, f"{parallel_sets.__name__}:Walkers", 20)
    settings = dict(learning_starts=20, batch_size=4, buffer_size=100) | {"policy_kwargs.net_arch": [8]}
    spec = RunSpec(name, "qmp", 120, overrides=settings, eval_every=120, eval_episodes=1)
    try:
        asked = iter(range(10_000))
        stopped = run(spec, tmp_path / "run", should_stop=lambda: next(asked) >= 10)
        [pickled] = (tmp_path / "run").rglob("environment.pkl")
        assert not stopped.finished and pickled.is_file()
        assert run(spec, tmp_path / "run", trust=trust).finished
        run(spec, tmp_path / "whole")
    finally:
        del gym.registry[name]
    assert ("--trust" in caplog.text) is not trust
    models = [MultiTaskSAC.load(tmp_path / one / "final_model.zip") for one in ("run", "whole")]
    one, other = (model.policy.state_dict() for model in models)
    assert all((one[key] == other[key]).all() for key in one) is trust


class Unpicklable(Drift):
    def __reduce__(self):
        raise TypeError("a camera cannot be pickled")


def test_environments_that_cannot_be_kept_begin_new_episodes_and_the_log_says_so(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    whole = tiny(Unpicklable(length=20))
    whole.learn(60, SaveAt(checkpoints, 30))
    assert "a camera cannot be pickled): its episodes begin anew" in caplog.text
    caplog.clear()
    restored, _ = checkpoints.restore(tiny(Unpicklable(length=20)), checkpoints.newest())
    assert "their episodes begin anew" in caplog.text
    assert restored.replay_buffer.size() == 30
    restored.learn(10, reset_num_timesteps=False)
    assert restored.env.get_attr("steps") == [10]  # of an episode that began with this learn()


def test_what_is_restored_shares_nothing_with_the_file_s_model(tmp_path):
    """Two models of one checkpoint do not disturb each other."""
    checkpoints = Checkpoints(tmp_path)
    small("ctpg", **SHORT).learn(200, SaveAt(checkpoints, 100))
    one, other = (checkpoints.restore(small("ctpg", **SHORT), checkpoints.newest())[0] for _ in range(2))
    one.learn(60, reset_num_timesteps=False)
    other.learn(60, reset_num_timesteps=False)
    assert_equal(state_of(one), state_of(other))
