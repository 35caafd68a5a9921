"""What multi-task SAC and QMP promise for several tasks: counts, tasks, logs, predictions, saving."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from qmp_sb3 import QMP, MultiTaskSAC, MultiTaskVecEnv, make_multitask_vec_env
from qmp_sb3.behaviors import parse_behavior
from tests.qmp_sb3.replay.test_replay import CountingEnv

SMALL = dict(policy_kwargs=dict(net_arch=[16]), batch_size=16, device="cpu")


class TargetEnv(gym.Env):
    """One step per episode; the reward is highest where the action equals this task's target."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, target):
        self.target = target

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        error = float(abs(action[0] - self.target))
        return np.zeros(2, np.float32), -error, True, False, {"success": error < 0.5, "is_success": error < 0.1}


def targets(*values):
    return make_multitask_vec_env([TargetEnv(value) for value in values])


class Keep(BaseCallback):
    """Keeps everything that was logged."""

    def __init__(self):
        super().__init__()
        self.values, self.excluded = {}, {}

    def _on_training_start(self):
        callback, dump = self, self.logger.dump

        def keeping_dump(step=0):
            callback.values.update(callback.logger.name_to_value)
            callback.excluded.update(callback.logger.name_to_excluded)
            dump(step)

        self.logger.dump = keeping_dump

    def _on_step(self):
        return True


def test_each_task_learns_its_own_target():
    model = QMP("MlpPolicy", targets(-1.5, 0.0, 1.5), seed=0, learning_starts=60, learning_rate=3e-3, **SMALL)
    model.learn(1800)
    observation = np.zeros((3, 2), np.float32)
    actions = [model.predict(observation[0], task=task, deterministic=True)[0].item() for task in range(3)]
    np.testing.assert_allclose(actions, [-1.5, 0.0, 1.5], atol=0.4)


def test_steps_count_all_tasks_together():
    model = QMP("MlpPolicy", "QMP/Point2D-v0", learning_starts=10, **SMALL)
    model.learn(50)
    assert model.num_timesteps == 50
    model = MultiTaskSAC(
        "MlpPolicy", targets(0.0, 1.0, -1.0), learning_starts=30, train_freq=5, gradient_steps=2, **SMALL
    )
    model.learn(60)
    assert model.num_timesteps == 60
    # rollouts of 15 steps; the updates begin when more than 30 steps, all tasks together, are done
    assert model._n_updates == 2 * 2
    assert model.replay_buffer.sizes.tolist() == [20, 20, 20]


@pytest.mark.parametrize("copies, expected", [(1, 4), (2, 8)])
def test_gradient_steps_minus_one_is_one_update_per_new_transition_of_a_task(copies, expected):
    env = make_multitask_vec_env("QMP/MultistageReacher-v0", envs_per_task=copies)
    model = MultiTaskSAC("MlpPolicy", env, learning_starts=0, train_freq=4, gradient_steps=-1, **SMALL)
    model.learn(4 * 5 * copies)
    assert model._n_updates == expected


def test_vector_environments_and_lists_are_taken_as_they_are():
    for env in (gym.make_vec("QMP/Point2D-v0", num_envs=2), ["Pendulum-v1", "Pendulum-v1"]):
        model = QMP("MlpPolicy", env, learning_starts=10, **SMALL).learn(20)
        assert model.num_timesteps == 20


def test_tasks_that_change_at_every_reset_are_read_from_the_reset_info():
    env = DummyVecEnv([lambda: gym.make("QMP/MultistageReacher-v0", max_episode_steps=7)] * 2)
    env.seed(3)
    model = QMP("MlpPolicy", env, learning_starts=20, **SMALL)
    model.learn(400)
    assert model.n_tasks == 5
    assert model.replay_buffer.sizes.sum() == 400
    assert (model.replay_buffer.sizes > 0).all()
    assert model.behavior.counts.sum() == 400 - 20
    with pytest.raises(ValueError, match="say whose policy"):
        model.predict(env.reset())


def test_before_every_task_has_data_the_others_learn_alone():
    env = DummyVecEnv([lambda: gym.make("QMP/MultistageReacher-v0")])  # 200 steps of one task first
    model = MultiTaskSAC("MlpPolicy", env, learning_starts=10, seed=0, **SMALL)
    before = [parameter.detach().clone() for parameter in model.actor.network.weights]
    model.learn(50)
    seen = np.flatnonzero(model.replay_buffer.sizes)
    assert len(seen) == 1
    for old, new in zip(before, model.actor.network.weights, strict=True):
        moved = (old != new).flatten(1).any(dim=1).numpy()
        np.testing.assert_array_equal(np.flatnonzero(moved), seen)


def test_a_subset_of_tasks_is_a_smaller_model():
    env = DummyVecEnv([lambda task=task: gym.make("QMP/MultistageReacher-v0", task=task) for task in (1, 4)])
    model = QMP("MlpPolicy", env, learning_starts=10, **SMALL).learn(20)
    names = gym.make("QMP/MultistageReacher-v0").get_wrapper_attr("task_names")
    assert model.task_names == (names[1], names[4])


def test_predict_by_index_name_and_row():
    model = QMP("MlpPolicy", targets(0.0, 1.0, -1.0), seed=0, **SMALL)
    observations = np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32)
    by_row, _ = model.predict(observations, task=[0, 1, 2, 0, 1, 2], deterministic=True)
    for row in range(6):
        single, _ = model.predict(observations[row], task=row % 3, deterministic=True)
        assert single.shape == (1,)
        np.testing.assert_allclose(single, by_row[row], rtol=1e-5)
    named, _ = model.predict(observations[:2], task=model.task_names[2], deterministic=True)
    np.testing.assert_allclose(named, model.predict(observations[:2], task=2, deterministic=True)[0])
    slots, _ = model.predict(observations[:3], deterministic=True)
    np.testing.assert_allclose(slots, by_row[:3], rtol=1e-5)
    with pytest.raises(ValueError, match="say whose policy"):
        model.predict(observations[0])
    with pytest.raises(ValueError, match="0 to 2"):
        model.predict(observations[0], task=3)
    with pytest.raises(ValueError, match="unknown task"):
        model.predict(observations[0], task="Target")
    with pytest.raises(ValueError, match="2 entries"):
        model.predict(observations, task=[0, 1])


def test_logs_tell_every_task_and_who_acted_for_whom(tmp_path):
    keep = Keep()
    model = QMP("MlpPolicy", targets(-1.0, 1.0), learning_starts=20, seed=0, **SMALL)
    model.learn(200, callback=keep, log_interval=20)
    names = model.task_names
    for name in names:
        for measure in ("ep_rew_mean", "success_any", "success_all"):
            assert f"rollout/{name}/{measure}" in keep.values
        for measure in ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss"):
            assert np.isfinite(keep.values[f"train/{name}/{measure}"])
        shares = [keep.values[f"mixture/{name}/{other}"] for other in names]
        assert sum(shares) == pytest.approx(1.0)
        assert "stdout" in keep.excluded[f"mixture/{name}/{names[0]}"]
    assert {"rollout/ep_rew_mean", "rollout/success_any", "rollout/success_all", "train/ent_coef"} <= keep.values.keys()
    mean = np.mean([keep.values[f"rollout/{name}/success_any"] for name in names])
    assert keep.values["rollout/success_any"] == pytest.approx(mean)


@pytest.mark.parametrize("ent_coef", ["auto_0.3", 0.2, [0.1, 0.4]])
def test_temperature_of_each_task(ent_coef):
    model = MultiTaskSAC("MlpPolicy", targets(0.0, 1.0), ent_coef=ent_coef, learning_starts=10, **SMALL)
    initial = {"auto_0.3": [0.3, 0.3], "0.2": [0.2, 0.2]}.get(str(ent_coef), ent_coef)
    np.testing.assert_allclose(model.temperature.numpy(), initial, rtol=1e-6)
    model.learn(40)
    learned = isinstance(ent_coef, str)
    assert np.allclose(model.temperature.numpy(), initial, rtol=1e-6) != learned


def test_a_loaded_model_is_the_same_and_goes_on(tmp_path):
    model = QMP("MlpPolicy", targets(0.0, 1.0), learning_starts=20, seed=0, behavior="hold(3, argmax(q))", **SMALL)
    model.learn(100)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = QMP.load(tmp_path / "model", env=targets(0.0, 1.0))
    assert loaded.task_names == model.task_names and loaded.num_timesteps == 100
    assert repr(loaded.behavior) == "hold(3, argmax(q))"
    np.testing.assert_array_equal(loaded.behavior.counts, model.behavior.counts)
    for mine, theirs in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert th.equal(mine, theirs)
    th.testing.assert_close(loaded.temperature, model.temperature)
    loaded.load_replay_buffer(tmp_path / "buffer")
    np.testing.assert_array_equal(loaded.replay_buffer.sizes, model.replay_buffer.sizes)
    # the same next update: optimizers, targets and random streams were saved too
    for one in (model, loaded):
        one.set_logger(Logger(folder=None, output_formats=[]))
        one.train(gradient_steps=3, batch_size=16)
    for mine, theirs in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert th.equal(mine, theirs)
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.num_timesteps == 120
    without_env = QMP.load(tmp_path / "model")
    without_env.predict(np.zeros(2, np.float32), task=1)


def test_the_parameters_stay_views_of_one_tensor(tmp_path):
    """Whatever moves or loads them: otherwise optimizers would update a copy."""
    model = QMP("MlpPolicy", targets(0.0, 1.0), **SMALL)
    model.save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=targets(0.0, 1.0))
    loaded.policy.double().float()
    for part in (loaded.actor, loaded.critic, loaded.critic_target):
        flat = part.flat.flat
        assert sum(parameter.numel() for parameter in part.parameters()) == flat.numel()
        for parameter in part.parameters():
            assert parameter.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
        with th.no_grad():
            flat.zero_()
        assert not any(parameter.any() for parameter in part.parameters())
    assert loaded.actor.optimizer.param_groups[0]["params"][0] is loaded.actor.flat.flat


@pytest.mark.parametrize("optimizer_class", [th.optim.AdamW, th.optim.SGD, th.optim.LBFGS, th.optim.Adafactor])
def test_a_users_optimizer_trains(optimizer_class):
    if optimizer_class is th.optim.LBFGS:
        with pytest.raises(TypeError, match="closure"):
            train_with(optimizer_class)
        return
    model, before = train_with(optimizer_class)
    assert (model.actor.flat.flat.detach() != before).any()


def train_with(optimizer_class):
    policy_kwargs = dict(net_arch=[16], optimizer_class=optimizer_class)
    model = MultiTaskSAC(
        "MlpPolicy", targets(0.0, 1.0), learning_starts=10, **{**SMALL, "policy_kwargs": policy_kwargs}
    )
    before = model.actor.flat.flat.detach().clone()
    return model.learn(60), before


def test_elementwise_optimizer_on_the_flat_tensor_equals_one_on_the_layers():
    """The reason why one flat tensor is allowed."""
    policy_kwargs = dict(net_arch=[16], activation_fn=th.nn.Tanh)  # smooth: ReLU amplifies rounding
    settings = SMALL | dict(policy_kwargs=policy_kwargs, seed=0, learning_starts=10)
    flat, layers = (MultiTaskSAC("MlpPolicy", targets(0.0, 1.0), **settings) for _ in range(2))
    layers.actor.optimizer = th.optim.Adam(layers.actor.parameters(), lr=3e-4)
    layers.critic.optimizer = th.optim.Adam(layers.critic.parameters(), lr=3e-4)
    for model in (flat, layers):
        model.learn(60)
    th.testing.assert_close(flat.actor.flat.flat, layers.actor.flat.flat, rtol=0, atol=1e-4)


def test_normalized_observations_of_several_tasks():
    env = VecNormalize(targets(0.0, 1.0), norm_reward=False)
    model = QMP("MlpPolicy", env, learning_starts=20, **SMALL).learn(60)
    assert np.isfinite(model.predict(env.reset(), deterministic=True)[0]).all()
    with pytest.raises(ValueError, match="norm_reward=False"):
        QMP("MlpPolicy", VecNormalize(targets(0.0, 1.0)), **SMALL)


def test_another_environment_must_have_the_same_tasks(tmp_path):
    model = QMP("MlpPolicy", "QMP/MultistageReacher-v0", **SMALL)
    model.set_env("QMP/MultistageReacher-v0")
    separate = [gym.make("QMP/MultistageReacher-v0", task=task) for task in range(5)]
    model.set_env(separate)  # the same tasks, one environment each
    model.save(tmp_path / "model")
    QMP.load(tmp_path / "model", env=make_multitask_vec_env("QMP/MultistageReacher-v0", envs_per_task=2))
    other = [gym.make("QMP/MultistageReacher-v0", task=task) for task in (0, 1, 2, 3, 3)]
    with pytest.raises(ValueError, match="made for the tasks"):
        QMP.load(tmp_path / "model", env=other)
    with pytest.raises(ValueError, match="made for the tasks"):
        model.set_env(other)


def test_two_runs_with_one_seed_are_equal_and_ignore_global_randomness():
    def run(seed, disturb):
        model = QMP("MlpPolicy", targets(0.0, 1.0), seed=seed, learning_starts=20, behavior="softmax(1, q)", **SMALL)
        if disturb:
            np.random.seed(99)  # noqa: NPY002 (the disturbance)
            th.manual_seed(99)
        model.learn(100)
        return model.actor.flat.flat.detach().clone()

    assert th.equal(run(0, False), run(0, True))
    assert not th.equal(run(0, False), run(1, False))


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: make_multitask_vec_env("QMP/MultistageReacher-v0", max_episode_steps=5),
        lambda: [gym.make("QMP/MultistageReacher-v0", task=task, max_episode_steps=5) for task in range(5)],
        lambda: DummyVecEnv([lambda: gym.make("QMP/MultistageReacher-v0", max_episode_steps=5)] * 3),
    ],
    ids=["batched", "separate", "changing"],
)
def test_every_form_of_a_task_set_knows_its_stages_and_subgoals(make_env):
    keep = Keep()
    model = QMP("MlpPolicy", make_env(), learning_starts=10, behavior="domain", seed=0, **SMALL)
    model.learn(150, callback=keep, log_interval=5)
    assert "rollout/subgoals" in keep.values
    assert sum(key.startswith("rollout/") and key.endswith("/subgoals") for key in keep.values) >= 2
    assert model.task_names[-1] == "stay"
    np.testing.assert_allclose(model.behavior.matrix[2, :4], [0, 0, 5 / 6, 1 / 6])


class StopAt(BaseCallback):
    """Stops in the middle of an episode."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        return self.num_timesteps < self.steps


def test_learning_on_after_a_callback_stopped_joins_no_two_episodes():
    env = make_multitask_vec_env([CountingEnv(5), CountingEnv(7)])
    model = MultiTaskSAC("MlpPolicy", env, learning_starts=1000, n_steps=2, **SMALL)
    for stop in (7, 24, 45):
        model.learn(100, callback=StopAt(stop), reset_num_timesteps=False)
    model.replay_buffer.flush()
    for task in range(2):
        size = model.replay_buffer.sizes[task]
        before = model.replay_buffer.observations[:size, task]
        after = model.replay_buffer.next_observations[:size, task]
        np.testing.assert_array_equal(before[:, 0], after[:, 0])
        assert (after[:, 1] - before[:, 1] <= 2).all()


def test_a_subprocess_environment_without_tasks_is_one_task():
    env = SubprocVecEnv([lambda: gym.make("Pendulum-v1")] * 2)
    try:
        assert QMP("MlpPolicy", env, learning_starts=10, **SMALL).learn(20).n_tasks == 1
    finally:
        env.close()


def test_a_loaded_replay_buffer_draws_from_the_models_stream_and_fits_its_slots(tmp_path):
    def make_env():
        return MultiTaskVecEnv(targets(0.0, 0.0, 0.0, 1.0).envs, [0, 0, 0, 1], ["left", "right"])

    model = MultiTaskSAC("MlpPolicy", make_env(), learning_starts=1000, seed=0, **SMALL).learn(8)
    assert model.replay_buffer.sizes.tolist() == [6, 2]
    model.save_replay_buffer(tmp_path / "buffer")
    model.save(tmp_path / "model")
    draws = []
    for seed in (1, 2):
        loaded = MultiTaskSAC.load(tmp_path / "model", env=make_env(), seed=seed)
        loaded.load_replay_buffer(tmp_path / "buffer")
        assert loaded.replay_buffer.rng is loaded.streams.replay
        draws.append(loaded.replay_buffer.sample(16).rows)
    assert not th.equal(*draws)
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.replay_buffer.sizes.tolist() == [12, 4]


def test_a_success_in_an_episode_that_was_cut_off_does_not_count_for_the_next():
    model = QMP("MlpPolicy", targets(0.0, 1.0), **SMALL)
    model.statistics.update([{"success": True}, {}], np.array([False, False]), np.array([0, 1]))
    model._begin_slots()
    model.statistics.update([{"success": False}, {}], np.array([True, False]), np.array([0, 1]))
    assert model.statistics.means()[f"{model.task_names[0]}/success_any"] == 0.0


def test_losses_are_those_of_tasks_with_data():
    keep = Keep()
    env = DummyVecEnv([lambda: gym.make("QMP/MultistageReacher-v0", max_episode_steps=10)])
    model = MultiTaskSAC("MlpPolicy", env, learning_starts=2, seed=0, **SMALL)
    model.learn(10, callback=keep, log_interval=1)
    seen = [name for name in model.task_names if f"train/{name}/critic_loss" in keep.values]
    assert len(seen) == 1
    assert keep.values["train/critic_loss"] == pytest.approx(keep.values[f"train/{seen[0]}/critic_loss"])


def test_models_do_not_share_a_behavior():
    behavior = parse_behavior("hold(3, argmax(q))")
    first, second = (
        QMP("MlpPolicy", targets(0.0, 1.0), behavior=behavior, learning_starts=0, **SMALL) for _ in range(2)
    )
    first.learn(10)
    assert first.behavior.counts.sum() == 10 and second.behavior.counts.sum() == 0


def test_loading_with_another_behavior(tmp_path):
    QMP("MlpPolicy", targets(0.0, 1.0), learning_starts=0, **SMALL).save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=targets(0.0, 1.0), behavior="uniform").learn(10)
    assert repr(loaded.behavior) == "uniform"


def test_a_network_may_enter_a_loss_twice():
    """Only the first entry's gradient is written in place; the sum must still be right."""
    model = MultiTaskSAC("MlpPolicy", targets(0.0, 1.0), seed=0, **SMALL)
    one, other = th.randn(2, 2, 8, 2)
    network = model.actor.network
    model.actor.flat.backward(network(one).square().sum() + network(other).square().sum())
    both = model.actor.flat.flat.grad.clone()
    separate = th.zeros_like(both)
    for inputs in (one, other):
        model.actor.flat.backward(network(inputs).square().sum())
        separate += model.actor.flat.flat.grad
    th.testing.assert_close(both, separate)


def test_one_thread_and_no_denormals():
    QMP("MlpPolicy", targets(0.0), **SMALL)
    assert th.get_num_threads() == 1
    assert (th.tensor([1e-40]) * 1.0).item() == 0.0


def test_the_precision_of_products_is_set_for_the_process_if_asked_for(tmp_path):
    before = th.get_float32_matmul_precision()
    try:
        model = QMP("MlpPolicy", targets(0.0), matmul_precision="medium", **SMALL)
        assert th.get_float32_matmul_precision() == "medium"
        model.save(tmp_path / "model")
        th.set_float32_matmul_precision("high")
        QMP("MlpPolicy", targets(0.0), **SMALL)
        assert th.get_float32_matmul_precision() == "high", "None leaves it alone"
        assert QMP.load(tmp_path / "model", device="cpu").matmul_precision == "medium"
        assert th.get_float32_matmul_precision() == "medium"
    finally:
        th.set_float32_matmul_precision(before)
    with pytest.raises(ValueError, match="matmul_precision='bf16'.*medium"):
        QMP("MlpPolicy", targets(0.0), matmul_precision="bf16", **SMALL)
