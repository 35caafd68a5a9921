"""Data of other tasks in a batch: UDS with the smallest reward, CDS with the true one."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize

import qmp_envs
from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.common.expressions import component
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import ALLOCATIONS, Batch, MultiTaskReplayBuffer
from qmp_sb3.replay.sharing import CDS, SHARING, UDS
from qmp_sb3.vec_env.task_slots import TaskSlots
from tests.qmp_sb3.small_models import drifts, equal, make, weights

TASKS, OBS, ACT = 4, 3, 2
SPACES = spaces.Box(-1, 1, (OBS,)), spaces.Box(-1, 1, (ACT,))
TASK_SETS = {id: qmp_envs.make_task_set(id) for id in qmp_envs.ids()}
REWARDED_ANEW = [id for id, task_set in TASK_SETS.items() if task_set.relabel_columns]


def make_policy(networks="independent") -> MultiTaskPolicy:
    """Its target critics are others than its critics, as in the middle of a training."""
    generator = th.Generator().manual_seed(0)
    policy = MultiTaskPolicy(
        *SPACES, lambda _: 1e-3, n_tasks=TASKS, networks=networks, net_arch=[16], generator=generator
    )
    policy.critic_target.flat.flat.data.uniform_(-1, 1, generator=generator)
    return policy


def make_replay(sizes=(50, 50, 50, 50), replay="own") -> MultiTaskReplayBuffer:
    """The reward of a transition is 1000 times its task, plus its number; each third one is terminal."""
    allocation = component("replay", replay, ALLOCATIONS)
    rng = np.random.default_rng(0)
    settings = dict(device="cpu", n_envs=1, n_tasks=TASKS, rng=np.random.default_rng(0), replay=allocation)
    buffer = MultiTaskReplayBuffer(60, *SPACES, **settings)
    for task, size in enumerate(sizes):
        buffer.set_slot_tasks(np.array([task]))
        for number in range(size):
            obs, next_obs = rng.normal(size=(2, 1, OBS))
            reward, done = np.array([1000.0 * task + number]), np.array([number % 3 == 0])
            buffer.add(obs, next_obs, rng.uniform(-1, 1, (1, ACT)), reward, done, [{}])
    return buffer


def shared(sharing, batch_size=30, sizes=(50, 50, 50, 50), replay="own", networks="independent"):
    """The batch before and after, and where each of its rows was stored: ``(task, number)``, each ``(tasks, rows)``."""
    buffer, policy = make_replay(sizes, replay), make_policy(networks)
    sharing.bind(None, 1)
    own = buffer.sample(batch_size)
    both = sharing(own, buffer, policy.critic, None)
    stored = {tuple(buffer.actions[number, task]): (task, number) for task in range(TASKS) for number in range(60)}
    origin = np.array([[stored[tuple(row)] for row in rows] for rows in both.actions.numpy()])
    return buffer, policy, own, both, origin[..., 0], origin[..., 1]


# ---- UDS (invariant 5) ----


@pytest.mark.parametrize("batch_size", [1, 2, 3, 30, 32])
def test_uds_zero_takes_an_equal_share_of_every_other_task(batch_size):
    buffer, _, own, both, donors, _ = shared(UDS(0, -7.0), batch_size)
    each = max(1, batch_size // (TASKS - 1))
    total = batch_size + (TASKS - 1) * each
    assert both.rows.shape[:2] == (TASKS, total) and both.task_counts().tolist() == [total] * TASKS
    assert th.equal(both.rows[:, :batch_size], own.rows)
    for task in range(TASKS):
        expected = [0 if donor == task else each for donor in range(TASKS)]
        assert np.bincount(donors[task, batch_size:], minlength=TASKS).tolist() == expected
    th.testing.assert_close(both.weights, th.full((TASKS, total), 1 / total))


def test_a_shared_transition_keeps_all_but_its_reward():
    buffer, _, own, both, donors, numbers = shared(UDS(0, -7.0))
    assert (both.rewards[:, 30:] == -7.0).all()
    np.testing.assert_array_equal(both.rewards[:, :30], 1000 * donors[:, :30] + numbers[:, :30])
    np.testing.assert_array_equal(both.observations, buffer.observations[numbers, donors])
    np.testing.assert_array_equal(both.next_observations, buffer.next_observations[numbers, donors])
    np.testing.assert_array_equal(both.continuations, numbers % 3 != 0)
    assert buffer.rewards.min() >= 0.0, "what is stored stays as it is"


def looped(policy: MultiTaskPolicy, own: Batch, both: Batch, quantile: float) -> np.ndarray:
    """Which offered rows each task takes, by the rule of the specification, one value at a time."""
    size, rows = own.rows.shape[1], both.rows.shape[1]
    taken = np.zeros((TASKS, rows - size), dtype=bool)
    for task in range(TASKS):
        values = [
            policy.critic(both.observation_actions[task, row][None, None], th.tensor([task]), 1).item()
            for row in range(rows)
        ]
        threshold = sorted([-np.inf, *values[:size]])[int(size * quantile)]
        taken[task] = [value > threshold for value in values[size:]]
    return taken


@pytest.mark.parametrize("networks", ["independent", "multihead", {"actor": "independent", "critic": "decaf"}], ids=str)
@pytest.mark.parametrize("quantile", [0.0, 0.01, 0.3, 0.8, 0.85, 1.0])
def test_the_quantile_rule(quantile, networks):
    _, policy, own, both, *_ = shared(UDS(quantile, -7.0), networks=networks)
    taken = looped(policy, own, both, quantile)
    np.testing.assert_array_equal((both.weights[:, 30:] > 0).numpy(), taken)
    counts = 30 + taken.sum(axis=1)
    assert both.task_counts().tolist() == counts.tolist()
    used = np.concatenate([np.ones((TASKS, 30), dtype=bool), taken], axis=1)
    np.testing.assert_allclose(both.weights, used / counts[:, None], rtol=1e-6)
    if 0.0 < quantile < 1.0:
        assert taken.all() == (quantile == 0.01) and taken.any()


def test_quantile_one_takes_only_what_is_better_than_all_own_data():
    _, policy, _, both, *_ = shared(UDS(1.0, -7.0), batch_size=6)
    with th.no_grad():
        values = policy.critic(both.observation_actions, critics=1)[0]
    best = values[:, :6].amax(dim=1, keepdim=True)
    assert th.equal(both.weights[:, 6:] > 0, values[:, 6:] > best)
    assert 0 < both.task_counts().sum() - 4 * 6 < 4 * 6


def test_the_share_that_was_taken():
    sharing = UDS(0.8, -7.0)
    assert sharing.kept() is None
    _, policy, own, both, *_ = shared(sharing)
    np.testing.assert_allclose(sharing.kept(), looped(policy, own, both, 0.8).mean(axis=1))
    assert sharing.kept() is None, "since the last call"


def test_tasks_without_data_offer_nothing_and_may_take():
    _, _, own, both, donors, _ = shared(UDS(0, -7.0), sizes=(50, 0, 50, 50))
    taken = (both.weights > 0).numpy()
    assert both.task_counts().tolist() == [30 + 20, 30, 30 + 20, 30 + 20]
    for task in range(TASKS):
        assert 1 not in donors[task, taken[task]]
        assert both.weights[task].sum().item() == pytest.approx(1.0)


def test_a_batch_from_a_pool():
    """Each task's own rows are as many as the pool gave it; each row of a task counts alike."""
    _, _, own, both, donors, _ = shared(UDS(0, -7.0), sizes=(50, 10, 30, 20), replay="pool")
    size = own.rows.shape[1]
    each = size // (TASKS - 1)
    assert both.task_counts().tolist() == [count + 3 * each for count in own.task_counts().tolist()]
    np.testing.assert_allclose(both.weights.sum(dim=1), 1.0, rtol=1e-6)
    assert th.equal(both.weights[:, :size] > 0, own.weights > 0)


@pytest.mark.parametrize("quantile, offered", [(0.0, 30), (0.01, 30), (0.5, 0), (1.0, 0)])
def test_equal_values_are_not_above_the_quantile(quantile, offered):
    """The rank of k = 0.01 in 30 rows is none, so that everything is above it."""
    buffer, policy = make_replay(), make_policy()
    with th.no_grad():
        policy.critic.flat.flat.zero_()
    both = UDS(quantile, -7.0)
    both.bind(None, 1)
    assert both(buffer.sample(30), buffer, policy.critic, None).task_counts().tolist() == [30 + offered] * TASKS


def test_one_task_has_nothing_to_share():
    model = make("one task", sharing="uds(0, -1)").learn(40)
    assert model._n_updates > 0


def test_normalized_observations_are_shared_normalized():
    env = VecNormalize(drifts(), norm_reward=False)
    model = make(env=env, sharing="uds(0, -1)").learn(120)
    batch = model.replay_buffer.sample(8, env=model._vec_normalize_env)
    both = model.sharing(batch, model.replay_buffer, model.critic, model._vec_normalize_env)
    table = model.replay_buffer
    stored = {
        tuple(table.actions[n, task]): table.observations[n, task] for task in range(3) for n in range(table.size())
    }
    for rows, observations in zip(both.actions[:, 8:].numpy(), both.observations[:, 8:].numpy(), strict=True):
        raw = np.array([stored[tuple(row)] for row in rows])
        np.testing.assert_allclose(observations, env.normalize_obs(raw), atol=1e-5)


# ---- CDS ----


@pytest.mark.parametrize("id", REWARDED_ANEW)
def test_a_stored_transition_has_the_columns_of_its_own_step(id):
    """Rewarded anew for its own task it gives what the environment gave, also where an episode ended."""
    env = make_multitask_vec_env(id, max_episode_steps=6)
    model = MultiTaskSAC("MlpPolicy", env, sharing="cds(0)", learning_starts=10**6, buffer_size=50, seed=0)
    model.learn(20 * model.n_tasks)
    buffer = model.replay_buffer
    for task in range(model.n_tasks):
        places = np.arange(20)[None] * model.n_tasks + task
        batch = buffer.gather(places)
        columns = {name: column[0].astype(np.float64) for name, column in batch.columns().items()}
        rewards = TASK_SETS[id].reward(columns, np.full(20, task))
        np.testing.assert_allclose(rewards, buffer.rewards[:20, task], rtol=1e-4, atol=2e-4)
        assert buffer.dones[:20, task].sum() >= 3


SAME_START = [id for id in REWARDED_ANEW if "qpos" in TASK_SETS[id].start_names and TASK_SETS[id].num_tasks > 1]


@pytest.mark.parametrize("id", SAME_START)
def test_cds_gives_the_reward_that_the_receiving_tasks_environment_gives(id):
    """All tasks start in the same state and act alike: slot i shows what task i gives for each of the others' steps."""
    env = make_multitask_vec_env(id)
    tasks, steps = env.num_envs, 25
    start = {name: array[:1].repeat(tasks, axis=0) for name, array in zip(*starts_of(id), strict=True)}
    obs, _ = env.envs.reset(seed=[0] * tasks, options=start)
    slots, sharing, rng = TaskSlots.of(env), CDS(0), np.random.default_rng(0)
    sharing.bind(slots.task_set, 1)
    settings = dict(device="cpu", n_envs=tasks, n_tasks=tasks, columns=sharing.columns())
    buffer = MultiTaskReplayBuffer(steps, env.observation_space, env.action_space, **settings)
    given = np.zeros((tasks, steps))  # by the task's own environment
    for step in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        action[0] = -1 + 2 * step / steps  # tells the steps apart
        next_obs, given[:, step], dones, infos = env.step(np.tile(action, (tasks, 1)))
        if not (next_obs == next_obs[0]).all():
            pytest.skip("its tasks differ in what is seen or in the body: tests/qmp_envs compares their rewards")
        assert not dones.any()
        buffer.stage(slots.columns())
        buffer.add(obs, next_obs, np.tile(action, (tasks, 1)), given[:, step], dones, infos)
        obs = next_obs
    assert np.ptp(given, axis=0).max() > 0.05, "the tasks reward the same steps differently"
    policy = MultiTaskPolicy(env.observation_space, env.action_space, lambda _: 1e-3, n_tasks=tasks, net_arch=[8])
    batch = buffer.sample(4 * (tasks - 1))
    both = sharing(batch, buffer, policy.critic, None)
    step = np.rint((both.actions[..., 0].numpy() + 1) * steps / 2).astype(int)
    expected = given[np.arange(tasks)[:, None], step]
    np.testing.assert_allclose(both.rewards, expected, rtol=1e-4, atol=1e-4)
    assert (both.weights > 0).all() and both.rewards.shape == (tasks, 8 * (tasks - 1))


def starts_of(id: str) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    """Names and arrays of a start of task 0."""
    task_set = TASK_SETS[id]
    draws = task_set.draw_reset(np.random.default_rng(0))[None]
    return task_set.start_names, task_set.initial_state(np.array([0]), draws)


def test_cds_copies_terminations():
    model = make("QMP id", cls=MultiTaskSAC, sharing="cds(0)").learn(200)
    buffer = model.replay_buffer
    buffer._continuations[: buffer.size()] = np.random.default_rng(0).random((buffer.size(), 5)) > 0.5
    stored = {
        tuple(buffer.actions[n, task]): buffer._continuations[n, task]
        for task in range(5)
        for n in range(buffer.size())
    }
    both = model.sharing(buffer.sample(16), buffer, model.critic, None)
    expected = [[stored[tuple(row)] for row in rows] for rows in both.actions.numpy()]
    np.testing.assert_array_equal(both.continuations, expected)


# ---- what cannot be shared ----


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(sharing="uds(0)"), r"smallest reward; give it: sharing='uds\(0, -1\)'"),
        (dict(sharing="cds(0)"), r"cannot reward a transition as another task would.*sharing='uds\(0\)'"),
        (dict(sharing="uds(0, -1)", n_steps=3), "n_steps is 3, use 1"),
        (dict(sharing="cds(0)", n_steps=2, which="QMP id"), "n_steps is 2, use 1"),
        (dict(sharing="uds(80)"), r"a fraction in \[0, 1\]; 80 percent are uds\(0.8\)"),
        (dict(sharing="cds(-0.1)"), r"a fraction in \[0, 1\]"),
        (dict(sharing="udz(0)"), "did you mean 'uds'"),
        (dict(sharing="cds(0)", env=partial(gym.make, "QMP/MultistageReacher-v0")), "only from gym.make_vec or an id"),
    ],
)
def test_refusals_say_why(kwargs, message):
    if "env" in kwargs:
        kwargs = kwargs | dict(env=kwargs["env"](), which="QMP id")
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize("id", qmp_envs.ids())
def test_every_id_says_what_can_be_shared(id):
    """Its smallest reward, and whether it can reward another task's transitions."""
    task_set = TASK_SETS[id]
    for sharing, possible in ((UDS(0), task_set.min_reward is not None), (CDS(0), bool(task_set.relabel_columns))):
        if possible:
            sharing.bind(task_set, 1)
        else:
            with pytest.raises(ValueError, match=task_set.name):
                sharing.bind(task_set, 1)


def test_another_environment_is_checked_too():
    model = make("QMP id", cls=MultiTaskSAC, sharing="cds(0)")
    with pytest.raises(ValueError, match="only from gym.make_vec or an id"):
        model.set_env(gym.make("QMP/MultistageReacher-v0"))
    model.set_env("QMP/MultistageReacher-v0")
    model.learn(100)


@pytest.mark.parametrize("expression", ["none", "uds(0)", "uds(0.8)", "uds(0, -1)", "cds(0.8)"])
def test_sharing_is_its_expression(expression):
    assert repr(component("sharing", expression, SHARING)) == expression


# ---- in a model ----


@pytest.mark.parametrize("sharing", ["uds(0.5, -2)", "cds(0.5)"])
def test_a_model_logs_the_share_that_each_task_took(sharing):
    model = make("QMP id", cls=MultiTaskSAC, sharing=sharing).learn(200)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.sharing.kept()
    model.train(gradient_steps=4, batch_size=16)
    logged = model.logger.name_to_value
    by_task = [logged[f"train/{name}/shared_data"] for name in model.task_names]
    assert all(0.0 <= share <= 1.0 for share in by_task) and len(set(by_task)) > 1
    assert logged["train/shared_data"] == pytest.approx(np.mean(by_task))


def test_without_sharing_nothing_is_logged_about_it():
    model = make().learn(120)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.train(gradient_steps=1, batch_size=8)
    assert "train/critic_loss" in model.logger.name_to_value
    assert not [key for key in model.logger.name_to_value if "shared" in key]


def test_more_data_in_the_batch_is_another_update():
    one, other = (make(sharing=sharing).learn(120) for sharing in ("none", "uds(0, -5)"))
    assert not equal(weights(one), weights(other))


def test_a_model_with_columns_is_saved_and_goes_on(tmp_path):
    id = "QMP/MultistageReacher-v0"
    model = make("QMP id", cls=MultiTaskSAC, sharing="cds(0.5)").learn(200)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = MultiTaskSAC.load(tmp_path / "model", env=id, device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert repr(loaded.sharing) == "cds(0.5)" and loaded.replay_buffer.columns == model.replay_buffer.columns
    size = model.replay_buffer.size()
    np.testing.assert_array_equal(loaded.replay_buffer.table[:size], model.replay_buffer.table[:size])
    for one in (model, loaded):
        one.set_logger(Logger(folder=None, output_formats=[]))
        one.train(gradient_steps=3, batch_size=8)
    assert equal(weights(model), weights(loaded))
    loaded.learn(100, reset_num_timesteps=False)
    alone = MultiTaskSAC.load(tmp_path / "model", device="cpu")
    alone.set_env(id)
    alone.learn(100)


def test_sharing_may_begin_with_a_loaded_model(tmp_path):
    make("QMP id", cls=MultiTaskSAC).learn(100).save(tmp_path / "model")
    loaded = MultiTaskSAC.load(tmp_path / "model", env="QMP/MultistageReacher-v0", device="cpu", sharing="cds(0)")
    loaded.learn(100)
    assert loaded.sharing.kept() is None and set(loaded.replay_buffer.columns) == set(loaded.sharing.columns())


def test_a_replay_buffer_without_the_columns_is_refused(tmp_path):
    plain, sharing = (make("QMP id", cls=MultiTaskSAC, sharing=one) for one in ("none", "cds(0)"))
    for model, name in ((plain.learn(100), "plain"), (sharing.learn(100), "sharing")):
        model.save_replay_buffer(tmp_path / name)
    own = sharing.replay_buffer
    with pytest.raises(ValueError, match="lacks the columns hand, stay_goal, stage, control, failed"):
        sharing.load_replay_buffer(tmp_path / "plain")
    assert sharing.replay_buffer is own
    sharing.learn(100, reset_num_timesteps=False)
    plain.load_replay_buffer(tmp_path / "sharing")  # more than is needed does no harm
    plain.learn(100, reset_num_timesteps=False)
    assert plain.replay_buffer.sizes.tolist() == [40] * 5
