"""What Stable-Baselines3 promises of ``SAC`` holds for ``QMP``, for one task and for several.

Saving and loading are in test_sb3_saving.py, callbacks and the logger in test_sb3_callbacks.py.
"""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env
from tests.qmp_sb3.small_models import (
    ENVS,
    N_TASKS,
    Drift,
    drifts,
    equal,
    every_env,
    make,
    one_and_three,
    steps,
    weights,
)

# ------------------------------------------------------------------------------------------------------------- running


@every_env
@pytest.mark.parametrize("ent_coef", ["auto", "auto_0.1", 0.01])
def test_entropy_coefficients(which, ent_coef):
    model = make(which, ent_coef=ent_coef, learning_rate=0.01)
    start = {"auto": 1.0, "auto_0.1": 0.1, 0.01: 0.01}[ent_coef]
    assert model.temperature.numpy() == pytest.approx(np.full(N_TASKS[which], start))
    model.learn(steps(which))
    unchanged = model.temperature.numpy() == pytest.approx(np.full(N_TASKS[which], start))
    assert unchanged == (ent_coef == 0.01)


def test_entropy_coefficient_of_each_task():
    model = make(ent_coef=[0.1, 0.2, 0.3]).learn(60)
    assert model.temperature.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_target_entropy():
    assert make().target_entropy == -2.0
    assert make(target_entropy=-0.5).learn(60).target_entropy == -0.5


@one_and_three
@pytest.mark.parametrize("n_critics", [1, 3])
def test_number_of_critics(which, n_critics):
    model = make(which, policy_kwargs={"n_critics": n_critics})
    before = weights(model)
    model.learn(steps(which))
    assert model.critic.n_critics == n_critics
    after = weights(model)
    for name in before:
        if "critic." in name and "weights" in name:
            assert len(before[name]) == n_critics * N_TASKS[which]
            changed = (before[name] != after[name]).flatten(1).any(dim=1)
            assert changed.all(), "every critic of every task learns"


@pytest.mark.parametrize(
    "train_freq, updates", [(4, 10), ((4, "step"), 10), ((1, "episode"), 4)], ids=["int", "step", "episode"]
)
def test_train_freq_of_one_task(train_freq, updates):
    model = make("one task", env=Drift(), train_freq=train_freq, learning_starts=0).learn(40)
    # SB3 begins to update once num_timesteps exceeds learning_starts.
    assert model._n_updates == updates


def test_train_freq_counts_vector_steps():
    assert make(train_freq=4, learning_starts=0).learn(120)._n_updates == 10


@pytest.mark.parametrize("train_freq", ["4", ("1", "episode"), "non_sense", (1, "close")])
def test_wrong_train_freq(train_freq):
    with pytest.raises(ValueError):
        make("one task", train_freq=train_freq)


def test_episodes_need_one_environment():
    with pytest.raises((ValueError, AssertionError)):
        make(train_freq=(1, "episode")).learn(30)


@pytest.mark.parametrize("copies", [1, 2])
def test_one_update_per_new_transition_of_a_task(copies):
    model = make(env=drifts(copies=copies), gradient_steps=-1, train_freq=5, learning_starts=0).learn(30 * copies * 3)
    assert model._n_updates == 30 * copies


def test_one_update_per_new_transition_of_one_task():
    model = make("one task", gradient_steps=-1, train_freq=5, learning_starts=0).learn(30)
    assert model._n_updates == 30


def test_no_update_before_learning_starts():
    model = make(learning_starts=60)
    before = weights(model)
    model.learn(60)
    assert model._n_updates == 0 and equal(before, weights(model))
    model.learn(12, reset_num_timesteps=False)
    assert model._n_updates == 1 and model.num_timesteps == 72


@one_and_three
def test_warmup_by_the_policy_acts_by_the_behavior(which):
    random, policy = (make(which, warmup_actions=kind, learning_starts=10_000) for kind in ("random", "policy"))
    random.learn(steps(which, 20))
    policy.learn(steps(which, 20))
    assert random.behavior.counts.sum() == 0
    assert policy.behavior.counts.sum() == steps(which, 20)


@pytest.mark.parametrize("noise", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
@one_and_three
def test_action_noise(which, noise):
    dims = 1 if which == "one task" else 2
    model = make(which, action_noise=noise(np.zeros(dims), 0.5 * np.ones(dims)))
    model.learn(steps(which))
    stored = model.replay_buffer.actions[: model.replay_buffer.size()]
    assert np.abs(stored).max() <= 1.0
    if which == "three tasks":
        assert isinstance(model.action_noise, VectorizedActionNoise) and model.action_noise.n_envs == 3


def test_action_noise_changes_what_is_done():
    quiet = make(learning_starts=0).learn(30).replay_buffer.actions[:10]
    noisy = make(learning_starts=0, action_noise=NormalActionNoise(np.zeros(2), np.ones(2))).learn(30)
    assert not np.allclose(quiet, noisy.replay_buffer.actions[:10])


@every_env
def test_copies_of_tasks(which):
    env = {
        "one task": lambda: make_vec_env("Pendulum-v1", n_envs=2),
        "three tasks": lambda: drifts(copies=2),
        "QMP id": lambda: make_multitask_vec_env("QMP/MultistageReacher-v0", envs_per_task=2),
    }[which]()
    model = make(which, env=env).learn(steps(which))
    assert model.n_tasks == N_TASKS[which] and model.n_envs == 2 * N_TASKS[which]
    assert model.replay_buffer.sizes.tolist() == [40] * N_TASKS[which], "each task gets the steps of both its slots"


def test_the_buffer_forgets_the_oldest():
    model = make(buffer_size=20).learn(3 * 50)
    assert model.replay_buffer.sizes.tolist() == [20] * 3
    assert model.replay_buffer.full


@one_and_three
def test_n_steps(which):
    env = "Pendulum-v1" if which == "one task" else None
    one, three = (make(which, env=env, n_steps=n, learning_starts=10_000) for n in (1, 3))
    for model in (one, three):
        model.action_space.seed(0)
        model.learn(steps(which, 30))
    single = one.replay_buffer.rewards[:9].reshape(9, -1)
    summed = three.replay_buffer.rewards[:7].reshape(7, -1)
    expected = single[:7] + 0.99 * single[1:8] + 0.99**2 * single[2:9]
    np.testing.assert_allclose(summed, expected, rtol=1e-5)
    make(which, n_steps=3).learn(steps(which))


def test_n_step_sums_stop_at_the_end_of_an_episode():
    model = make("one task", env=Drift(length=4), n_steps=3, learning_starts=10_000, seed=0).learn(8)
    plain = make("one task", env=Drift(length=4), n_steps=1, learning_starts=10_000, seed=0).learn(8)
    r = plain.replay_buffer.rewards[:8].reshape(-1)
    last = [r[1] + 0.99 * r[2] + 0.99**2 * r[3], r[2] + 0.99 * r[3], r[3]]
    np.testing.assert_allclose(model.replay_buffer.rewards[1:4].reshape(-1), last, rtol=1e-5)


@one_and_three
def test_target_update_interval(which):
    model = make(which, target_update_interval=10_000, gradient_steps=1, train_freq=1)
    model.learn(model.learning_starts + N_TASKS[which])  # SB3 also moves the targets at the first step of train()
    first = {name: value.clone() for name, value in model.critic_target.state_dict().items()}
    assert not equal(first, {name: value.clone() for name, value in model.critic.state_dict().items()})


def test_learning_goes_on():
    model = make().learn(60)
    model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps == 120
    model.learn(60)
    assert model.num_timesteps == 60


def test_it_learns():
    """The reward of a wide open task rises for every task: the whole loop works."""
    env = drifts(length=10)
    model = make(
        env=env,
        learning_starts=300,
        batch_size=32,
        buffer_size=2000,
        train_freq=1,
        learning_rate=3e-3,
        ent_coef=0.01,
        gamma=0.9,
        policy_kwargs={"net_arch": [32]},
    )
    before = per_task_returns(model)
    model.learn(2400)
    assert (per_task_returns(model) > before + 1.0).all()


def per_task_returns(model: MultiTaskSAC) -> np.ndarray:
    env = drifts(length=10)
    env.seed(5)
    observations, returns = env.reset(), np.zeros(3)
    for _ in range(50):
        observations, rewards, _, _ = env.step(model.predict(observations, deterministic=True)[0])
        returns += rewards / 5
    return returns


# --------------------------------------------------------------------------------------------------------- determinism


@every_env
def test_the_same_seed_gives_the_same_run(which):
    models = []
    for _ in range(2):
        th.manual_seed(np.random.SeedSequence().entropy % 2**31)  # nothing may depend on what ran before
        models.append(make(which, seed=0).learn(steps(which)))
    assert equal(*map(weights, models))
    tables = [model.replay_buffer.table[: model.replay_buffer.size()] for model in models]
    np.testing.assert_array_equal(*tables)
    np.testing.assert_array_equal(*(model.behavior.counts for model in models))


@one_and_three
def test_seeds_differ_and_zero_is_one(which):
    zero, again, one = (make(which, seed=seed) for seed in (0, 0, 1))
    assert equal(weights(zero), weights(again)) and not equal(weights(zero), weights(one))
    fresh = [make(which, seed=None) for _ in range(2)]
    assert not equal(*map(weights, fresh)), "no seed is a fresh one"


def test_set_random_seed_repeats_what_follows():
    model = make()
    observations = model.get_env().reset()
    model.set_random_seed(3)
    first = model.predict(observations)[0]
    model.set_random_seed(3)
    np.testing.assert_array_equal(model.predict(observations)[0], first)


@one_and_three
def test_predicting_does_not_disturb_training(which):
    """An evaluation in between, or none: the same run."""
    quiet, watched = make(which).learn(steps(which)), make(which)

    def watch(locals_, globals_) -> bool:
        watched.predict(watched._last_obs)
        return True

    watched.learn(steps(which), callback=watch)
    assert equal(weights(quiet), weights(watched))


# ---------------------------------------------------------------------------------------------------------- predicting


@pytest.mark.parametrize("device", ["cpu", "auto", pytest.param("cuda", marks=pytest.mark.gpu)])
@one_and_three
def test_predict(which, device):
    model = make(which, device=device)
    expected = {"cpu": "cpu", "cuda": "cuda", "auto": "cuda" if th.cuda.is_available() else "cpu"}[device]
    assert model.policy.device.type == expected
    one = model.observation_space.sample()
    rows = np.stack([model.observation_space.sample() for _ in range(7)])
    for deterministic in (True, False):
        action, state = model.predict(one, deterministic=deterministic, task=0)
        assert action.shape == model.action_space.shape and state is None
        assert isinstance(action, np.ndarray) and model.action_space.contains(action)
        actions, _ = model.predict(rows, deterministic=deterministic, task=0)
        assert actions.shape == (7, *model.action_space.shape)
    np.testing.assert_allclose(
        model.predict(rows, deterministic=True, task=0)[0][3],
        model.predict(rows[3], deterministic=True, task=0)[0],
        rtol=1e-5,
        atol=1e-6,
    )
    model.learn(steps(which, 15))


def test_predict_asks_the_task_it_is_told():
    model = make()
    one = model.observation_space.sample()
    by_index = [model.predict(one, task=task, deterministic=True)[0] for task in range(3)]
    assert not np.allclose(by_index[0], by_index[1])
    by_name = [model.predict(one, task=name, deterministic=True)[0] for name in model.task_names]
    np.testing.assert_array_equal(by_name, by_index)
    mixed, _ = model.predict(np.stack([one] * 4), task=[2, 0, 1, 2], deterministic=True)
    np.testing.assert_allclose(mixed, np.stack(by_index)[[2, 0, 1, 2]], rtol=1e-5, atol=1e-6)
    slots, _ = model.predict(np.stack([one] * 3), deterministic=True)
    np.testing.assert_allclose(slots, by_index, rtol=1e-5, atol=1e-6)


def test_samples_differ_and_means_do_not():
    model = make("one task")
    one = model.observation_space.sample()
    assert (model.predict(one)[0] != model.predict(one)[0]).any()
    np.testing.assert_array_equal(model.predict(one, deterministic=True)[0], model.predict(one, deterministic=True)[0])


def test_the_gym_tuple_is_explained():
    model = make("one task")
    env = gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match="mixing Gym API with SB3 VecEnv API"):
        model.predict(env.reset())


def test_wrong_observation_shape():
    with pytest.raises(ValueError, match="shape"):
        make().predict(np.zeros((2, 5), np.float32), task=0)


def test_an_environment_is_wrapped_by_itself():
    for env in ("Pendulum-v1", gym.make("Pendulum-v1"), Drift()):
        model = make("one task", env=env).learn(20)
        assert model.get_env().num_envs == 1 and len(model.ep_info_buffer) == (2 if isinstance(env, Drift) else 0)


# -------------------------------------------------------------------------------------------------------------- spaces

OBSERVATION_SPACES = [
    spaces.MultiDiscrete([4, 3]),
    spaces.MultiBinary(8),
    spaces.MultiBinary((3, 2)),
    spaces.Discrete(5),
    spaces.Box(-2.0, 2.0, (3,), np.float64),
    spaces.Box(-2.0, 2.0, (2, 3), np.float32),
    spaces.Box(-np.inf, np.inf, (1,), np.float32),
]


@pytest.mark.parametrize("space", OBSERVATION_SPACES, ids=str)
@one_and_three
def test_observation_spaces(which, space):
    env = Drift(observation_space=space) if which == "one task" else drifts(observation_space=space)
    model = make(which, env=env).learn(steps(which, 20))
    one = model.observation_space.sample()
    assert model.predict(one, task=0)[0].shape == (2,)
    assert model.predict(np.stack([one] * 4), task=0)[0].shape == (4, 2)


ACTION_SPACES = [
    spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    spaces.Box(-1.0, 1.0, (2,), np.float64),
    spaces.Box(np.float32([-3.0, 0.0]), np.float32([5.0, 0.1]), dtype=np.float32),
]


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
@one_and_three
def test_action_spaces(which, space):
    """The environment itself checks that every action lies in its space."""
    env = Drift(action_space=space) if which == "one task" else drifts(action_space=space)
    model = make(which, env=env).learn(steps(which, 20))
    rows = np.stack([model.observation_space.sample() for _ in range(5)])
    for deterministic in (False, True):
        actions = model.predict(rows, task=0, deterministic=deterministic)[0]
        assert all(space.contains(action.astype(space.dtype)) for action in actions)


@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)], ids=str)
def test_discrete_actions_are_refused(space):
    with pytest.raises(AssertionError, match="Box"):
        make("one task", env=Drift(action_space=space))


# -------------------------------------------------------------------------------------------------------- VecNormalize


@one_and_three
def test_normalized_observations(tmp_path, which):
    base = make_vec_env("Pendulum-v1") if which == "one task" else drifts()
    env = VecNormalize(base, norm_obs=True, norm_reward=which == "one task")
    model = make(which, env=env).learn(steps(which))
    assert model.get_vec_normalize_env() is env and env.obs_rms.count > steps(which)
    assert model.task_names == make(which).task_names
    stored = model.replay_buffer.observations[: model.replay_buffer.size()]
    assert np.abs(stored).max() <= (8.0 if which == "one task" else 2.0), "the buffer keeps raw observations"
    batch = model.replay_buffer.sample(64, env=env)
    raw = model.replay_buffer.table[: model.replay_buffer.size(), 0, :3]
    mean = env.normalize_obs(raw).mean()
    assert batch.observations[0].mean().item() == pytest.approx(mean, abs=0.3)

    model.learn(N_TASKS[which], callback=CheckpointCallback(4, str(tmp_path), save_vecnormalize=True))
    (saved,) = tmp_path.glob("*vecnormalize*")
    restored = VecNormalize.load(str(saved), make_vec_env("Pendulum-v1") if which == "one task" else drifts())
    np.testing.assert_allclose(restored.obs_rms.mean, env.obs_rms.mean)
    model.set_env(restored)
    model.learn(steps(which, 10), reset_num_timesteps=False)


# -------------------------------------------------------------------------------------------- schedules and optimizers


@one_and_three
def test_learning_rate_follows_its_schedule(which):
    model = make(which, learning_rate=lambda progress: 0.01 * progress, train_freq=1)
    assert model.actor.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    model.learn(steps(which))
    for optimizer in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=0.0005)


class NormalizedSGD(th.optim.Optimizer):
    """Scales each tensor's gradient to length one: not element-wise."""

    def __init__(self, params, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @th.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad / (parameter.grad.norm() + 1e-8)


@pytest.mark.parametrize(
    "optimizer, kwargs",
    [
        (th.optim.SGD, {"momentum": 0.5}),
        (th.optim.AdamW, {"weight_decay": 0.1}),
        (th.optim.Adam, {"eps": 1e-5}),
        (th.optim.RMSprop, {}),
        (NormalizedSGD, {}),
    ],
    ids=["SGD", "AdamW", "Adam", "RMSprop", "not element-wise"],
)
@one_and_three
def test_optimizers(tmp_path, which, optimizer, kwargs):
    policy_kwargs = {"optimizer_class": optimizer, "optimizer_kwargs": kwargs}
    model = make(which, policy_kwargs=policy_kwargs, learning_rate=1e-2)
    before = weights(model)
    model.learn(steps(which))
    assert type(model.actor.optimizer) is optimizer
    for key, value in kwargs.items():
        assert model.critic.optimizer.param_groups[0][key] == value
    after = weights(model)
    assert all(
        (before[name] != after[name]).any() for name in before if "target" not in name and before[name].numel() > 0
    )
    model.save(tmp_path / "model")
    own = optimizer is NormalizedSGD  # a class of the user's: only pickle brings it back
    assert equal(after, weights(QMP.load(tmp_path / "model", device="cpu", trust=own)))


def test_optimizers_that_are_not_elementwise_see_layers():
    model = make(policy_kwargs={"optimizer_class": NormalizedSGD})
    assert len(model.actor.optimizer.param_groups[0]["params"]) > 1
    assert len(make().actor.optimizer.param_groups[0]["params"]) == 1


# --------------------------------------------------------------------------------------------------------- small things


@pytest.mark.parametrize("arch", [[], [8, 8, 8], {"pi": [4], "qf": [8, 8]}], ids=str)
@one_and_three
def test_network_shapes(tmp_path, which, arch):
    policy_kwargs = {"net_arch": arch, "activation_fn": nn.Tanh}
    model = make(which, policy_kwargs=policy_kwargs).learn(steps(which, 20))
    hidden = arch if isinstance(arch, list) else arch["pi"]
    assert len(model.actor.network.weights) == len(hidden) + 1
    assert [weight.shape[-1] for weight in model.actor.network.weights][:-1] == hidden
    model.save(tmp_path / "model")
    QMP.load(tmp_path / "model", env=ENVS[which](), device="cpu").learn(steps(which, 15))


def test_default_networks_are_those_of_sac():
    model = QMP("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")
    assert [weight.shape[-1] for weight in model.actor.network.weights] == [256, 256, 2]
    assert (model.learning_rate, model.batch_size, model.gamma, model.tau) == (3e-4, 256, 0.99, 0.005)


def test_training_mode_is_set_and_left():
    model = make().learn(60)
    assert model.actor.training and not model.critic_target.training
    model.predict(model.observation_space.sample(), task=0)
    assert not model.actor.training


def test_no_sharing_is_the_same_class_of_model():
    model = make(cls=MultiTaskSAC).learn(120)
    off_diagonal = model.behavior.counts * (1 - np.eye(3, dtype=int))
    assert off_diagonal.sum() == 0 and model.behavior.counts.sum() == 90
