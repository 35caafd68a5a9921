"""``MultiTaskVecEnv`` tells SB3 the same story as ``DummyVecEnv`` and ``Monitor``, and which task each slot runs."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecCheckNan, VecFrameStack, VecNormalize

import qmp_envs
from qmp_sb3 import QMP, MultiTaskVecEnv, make_multitask_vec_env
from qmp_sb3.vec_env import as_task_env
from qmp_sb3.vec_env.task_slots import TaskSlots
from tests.qmp_sb3.small_models import Drift, drifts
from tests.sampling import each_batch_id, each_batch_share, some

LIMIT = 40  # steps: several episodes of every id in no time


class Uneven(gym.Env):
    """Episodes whose length is drawn; ``marker`` is there to be read and written."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}
    closed = False

    def __init__(self, marker: int = 0, render_mode: str | None = None) -> None:
        self.marker, self.render_mode, self.last_options = marker, render_mode, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.last_options = options
        self.left = int(self.np_random.integers(2, 9))
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {"drawn": self.left}

    def step(self, action):
        self.left -= 1
        terminated = self.left == 0 and self.marker % 2 == 0
        truncated = self.left == 0 and not terminated
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return observation, float(action[0]) + self.marker, terminated, truncated, {"left": self.left}

    def double(self, value: int = 1) -> int:
        return 2 * value + self.marker

    def render(self):
        return np.full((4, 4, 3), self.marker, np.uint8)

    def close(self):
        self.closed = True


def same_story(ours: MultiTaskVecEnv, theirs: DummyVecEnv, steps: int, min_episodes: int) -> None:
    """Step both with the same actions and compare everything that SB3 reads."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, ours.num_envs, *ours.action_space.shape))
    ours.seed(3), theirs.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    episodes = np.zeros(ours.num_envs, int)
    for action in actions.astype(ours.action_space.dtype):
        (obs, rewards, dones, infos), (obs_, rewards_, dones_, infos_) = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(obs, obs_)
        np.testing.assert_array_equal(rewards, rewards_)
        np.testing.assert_array_equal(dones, dones_)
        assert rewards.dtype == rewards_.dtype and dones.dtype == dones_.dtype
        for slot, (info, info_) in enumerate(zip(infos, infos_, strict=True)):
            if dones[slot]:
                np.testing.assert_array_equal(info["terminal_observation"], info_.pop("terminal_observation"))
                assert info.pop("episode").items() >= {"r": info_["episode"]["r"], "l": info_["episode"]["l"]}.items()
                info_.pop("episode"), info.pop("terminal_observation")
            else:
                # SB3 says so at every step, we where it matters: the buffer takes a missing one for False.
                assert info_.pop("TimeLimit.truncated") is False and not info.get("TimeLimit.truncated", False)
            assert info == info_
        assert ours.reset_infos == theirs.reset_infos
        episodes += dones
    assert (episodes >= min_episodes).all()


@each_batch_share
def test_task_sets_tell_the_story_of_single_environments(id, share):
    limit = some(LIMIT, share)
    ours = make_multitask_vec_env(id, max_episode_steps=limit)
    single = [lambda task=task: Monitor(gym.make(id, task=task, max_episode_steps=limit)) for task in ours.task_ids]
    same_story(ours, DummyVecEnv(single), steps=3 * limit + 5, min_episodes=3)


def test_lists_tell_the_story_of_single_environments():
    ours = make_multitask_vec_env([Uneven(marker) for marker in range(4)])
    theirs = DummyVecEnv([lambda marker=marker: Monitor(Uneven(marker)) for marker in range(4)])
    same_story(ours, theirs, steps=60, min_episodes=5)


def test_several_copies_tell_the_story_of_single_environments():
    id = "QMP/MultistageReacher-v0"
    ours = make_multitask_vec_env(id, envs_per_task=2, max_episode_steps=7)
    assert ours.task_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    single = [lambda task=task: Monitor(gym.make(id, task=task, max_episode_steps=7)) for task in ours.task_ids]
    same_story(ours, DummyVecEnv(single), steps=20, min_episodes=2)


# ------------------------------------------------------------------------------------------------------------ building


@each_batch_id
def test_from_id(id):
    env = make_multitask_vec_env(id)
    names = qmp_envs.task_names(id)
    assert env.task_names == names and env.task_ids.tolist() == list(range(len(names)))
    assert env.num_envs == len(names) and env.task_set.name == qmp_envs.make_task_set(id).name
    assert env.num_stages == qmp_envs.make_task_set(id).num_stages
    assert make_multitask_vec_env(id, envs_per_task=3).num_envs == 3 * len(names)
    assert as_task_env(id).task_names == names
    assert as_task_env(f"qmp_envs:{id}").task_names == names, "Gymnasium's way to import a package first"
    assert make_multitask_vec_env(id, envs_per_task=2, task=None).num_envs == 2 * len(names)


def test_options_reach_the_environments():
    env = make_multitask_vec_env("QMP/Maze-v0", num_tasks=4)
    assert len(env.task_names) == env.num_envs == 4
    env = make_multitask_vec_env("QMP/MultistageReacher-v0", task_one_hot=True)
    assert env.observation_space.shape == (20,)
    with pytest.raises(TypeError, match="'layout'"):
        make_multitask_vec_env("QMP/Maze-v0", layot="large")


@pytest.mark.parametrize("task", [3, "stay"])
def test_one_task_of_a_set(task):
    env = make_multitask_vec_env("QMP/MultistageReacher-v0", task=task, envs_per_task=2)
    name = qmp_envs.task_names("QMP/MultistageReacher-v0")[task] if isinstance(task, int) else task
    assert env.task_names == (name,) and env.task_ids.tolist() == [0, 0]
    env.reset()
    assert all(info["task_name"] == name for info in env.reset_infos)
    model = QMP("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, buffer_size=50, learning_starts=10)
    assert model.learn(30).task_names == (name,)


def test_some_tasks_of_a_set_from_a_list_of_environments():
    id = "QMP/MultistageReacher-v0"
    env = make_multitask_vec_env([gym.make(id, task=task) for task in (4, 1)])
    assert env.num_envs == 2 and env.task_ids.tolist() == [1, 0]
    assert env.task_names == tuple(qmp_envs.task_names(id)[task] for task in (1, 4))
    env.reset()
    assert [info["task_name"] for info in env.reset_infos] == [qmp_envs.task_names(id)[task] for task in (4, 1)]


def test_from_ids():
    env = make_multitask_vec_env(["Pendulum-v1", "QMP/Point2D-v0"][:1] * 2, envs_per_task=2)
    assert env.num_envs == 4 and env.task_ids.tolist() == [0, 1, 0, 1]
    assert env.task_names == ("Pendulum-v1#0", "Pendulum-v1#1"), "two of one id get a number"
    assert make_multitask_vec_env(["Pendulum-v1"]).task_names == ("Pendulum-v1",)
    assert make_multitask_vec_env("Pendulum-v1").task_names == ("Pendulum-v1",)


def test_unequal_spaces_name_both():
    with pytest.raises(ValueError, match=r"observation_space of QMP/Point2D-v0 .* Pendulum-v1"):
        make_multitask_vec_env(["Pendulum-v1", "QMP/Point2D-v0"])
    other = spaces.Box(-1.0, 1.0, (5,), np.float32)
    with pytest.raises(ValueError, match=r"action_space of Drift .*\(5,\).* Drift .*\(2,\)"):
        make_multitask_vec_env([Drift(), Drift(action_space=other)])


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="empty"):
        make_multitask_vec_env([])
    with pytest.raises(ValueError, match="envs_per_task is 0"):
        make_multitask_vec_env("QMP/Point2D-v0", envs_per_task=0)
    with pytest.raises(ValueError, match="cannot be copied"):
        make_multitask_vec_env([Drift()], envs_per_task=2)
    with pytest.raises(ValueError, match="make_vec"):
        make_multitask_vec_env(gym.make_vec("QMP/Point2D-v0"), envs_per_task=2)


def test_the_same_environment_twice_is_refused():
    one = Drift()
    with pytest.raises(ValueError, match="twice"):
        make_multitask_vec_env([one, one])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_only_resets_in_the_same_step(mode):
    with pytest.raises(ValueError, match="SAME_STEP"):
        MultiTaskVecEnv(SyncVectorEnv([Uneven] * 2, autoreset_mode=mode))
    with pytest.raises(ValueError, match="SAME_STEP"):
        make_multitask_vec_env(gym.make_vec("Pendulum-v1", num_envs=2, vector_kwargs={"autoreset_mode": mode}))


def test_from_a_vector_environment():
    envs = gym.make_vec("QMP/MultistageReacher-v0", num_envs=10)
    assert make_multitask_vec_env(envs).task_names == qmp_envs.task_names("QMP/MultistageReacher-v0")
    pendulums = SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert MultiTaskVecEnv(pendulums).task_names == ("task-0", "task-1", "task-2")
    paired = MultiTaskVecEnv(pendulums, task_ids=[0, 1, 0], task_names=["left", "right"])
    assert paired.task_ids.tolist() == [0, 1, 0] and paired.task_names == ("left", "right")
    fewer = MultiTaskVecEnv(pendulums, task_ids=[2, 4, 4], task_names=list("abcde"))
    assert fewer.task_ids.tolist() == [0, 1, 1] and fewer.task_names == ("c", "e"), "tasks without slots are left out"


@pytest.mark.parametrize(
    "task_ids, task_names", [([0, 1], None), ([0, 1, 5], ["a", "b"]), ([0, -1, 1], None), ([[0], [1], [2]], None)]
)
def test_wrong_task_ids_are_refused(task_ids, task_names):
    envs = SyncVectorEnv([Uneven] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="task_ids"):
        MultiTaskVecEnv(envs, task_ids, task_names)


# ---------------------------------------------------------------------------------------------- seeds, options, closing


@each_batch_id
def test_a_seed_repeats_and_counts_up_by_slot(id):
    first, again = (make_multitask_vec_env(id, seed=5).reset() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    env = make_multitask_vec_env(id)
    assert env.seed(5) == [5 + slot for slot in range(env.num_envs)]
    np.testing.assert_array_equal(env.reset(), first)
    last = env.num_envs - 1
    alone = gym.make(id, task=int(env.task_ids[last])).reset(seed=5 + last)[0]
    np.testing.assert_array_equal(first[last], alone)


def test_a_seed_is_used_once():
    env = make_multitask_vec_env([Uneven(), Uneven()])
    env.seed(0)
    assert not np.array_equal(env.reset(), env.reset())


def test_reset_options():
    id = "QMP/Maze-v0"
    env = make_multitask_vec_env(id)
    env.seed(0)
    qpos, qvel = np.array([1.0, 1.0]), np.array([0.0, 0.0])
    env.set_options({"qpos": qpos, "qvel": qvel})
    placed = env.reset()
    np.testing.assert_allclose(placed, np.tile([1.0, 1.0, 0.0, 0.0], (10, 1)))
    assert not np.allclose(env.reset(), placed), "options are used once"


def test_reset_options_reach_every_environment():
    env = make_multitask_vec_env([Uneven(), Uneven()])
    env.set_options({"easy": True})
    env.reset()
    assert env.get_attr("last_options") == [{"easy": True}] * 2
    env.reset()
    assert env.get_attr("last_options") == [None] * 2


def test_options_that_differ_by_slot_are_refused():
    env = make_multitask_vec_env([Uneven(), Uneven()])
    env.set_options([{"easy": True}, {}])
    with pytest.raises(ValueError, match="same reset options"):
        env.reset()


def test_reading_writing_and_calling():
    env = make_multitask_vec_env([Uneven(1), Uneven(2), Uneven(3)])
    assert env.get_attr("marker") == [1, 2, 3]
    assert env.get_attr("marker", indices=[0, 2]) == [1, 3]
    env.set_attr("marker", 7, indices=1)
    assert env.get_attr("marker") == [1, 7, 3]
    assert env.env_method("double") == [3, 9, 5]
    assert env.env_method("double", 5, indices=[0]) == [11]
    assert env.env_method("double", value=0) == [1, 7, 3]
    with pytest.raises(AttributeError):
        env.get_attr("nothing")
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3
    assert env.env_is_wrapped(Monitor) == [True] * 3, "its work is done here"
    limited = make_multitask_vec_env([gym.wrappers.TimeLimit(Uneven(), 3), Uneven()])
    assert limited.env_is_wrapped(gym.wrappers.TimeLimit) == [True, False]
    assert limited.has_attr("marker") and not limited.has_attr("nothing")


def test_reading_a_batched_environment():
    env = make_multitask_vec_env("QMP/MultistageReacher-v0")
    assert env.get_attr("num_stages", indices=[0, 1]) == [3, 3]
    with pytest.raises(AttributeError, match="one batch"):
        env.env_method("render")
    with pytest.raises(AttributeError):
        env.get_attr("nothing")


def test_closing():
    single = [Uneven(), Uneven()]
    env = make_multitask_vec_env(single)
    env.reset()
    env.close()
    env.close()
    assert all(one.closed for one in single)


def test_images():
    envs = SyncVectorEnv(
        [lambda marker=marker: Uneven(marker, "rgb_array") for marker in range(3)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    env = MultiTaskVecEnv(envs)
    env.reset()
    assert env.render_mode == "rgb_array"
    assert [image[0, 0, 0] for image in env.get_images()] == [0, 1, 2]
    assert env.render("rgb_array").shape == (8, 8, 3), "SB3 tiles them"


def test_observations_do_not_share_memory():
    env = drifts()
    first = env.reset()
    kept = first.copy()
    second = env.step(np.ones((3, 2), np.float32))[0]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_sb3_wrappers_go_around_it():
    for wrap in (VecCheckNan, lambda env: VecNormalize(env, norm_reward=False), lambda env: VecFrameStack(env, 2)):
        env = wrap(drifts())
        assert TaskSlots.of(env).names == ("to -1", "to 0", "to 1")
        model = QMP("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, buffer_size=50, learning_starts=10, train_freq=5)
        assert model.learn(60).n_tasks == 3


# -------------------------------------------------------------------------------- SB3's own VecEnvs of our tasks


def described(env):
    slots = TaskSlots.of(env)
    return slots.names, slots.now, slots.fixed is not None


def test_plain_environments_are_one_task():
    names, tasks, fixed = described(DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 3))
    assert names == ("task-0",) and tasks().tolist() == [0, 0, 0] and fixed


def test_a_subset_of_tasks_by_name():
    id = "QMP/MultistageReacher-v0"
    env = DummyVecEnv([lambda task=task: gym.make(id, task=task) for task in (3, 1, 3)])
    names, tasks, fixed = described(env)
    everything = qmp_envs.task_names(id)
    assert names == (everything[1], everything[3]) and tasks().tolist() == [1, 0, 1] and fixed
    model = QMP("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, buffer_size=50, learning_starts=10)
    model.learn(60)
    assert model.replay_buffer.sizes.tolist() == [20, 40]


def test_tasks_that_change_at_every_reset():
    """A plain id draws a task at each reset: transitions go to the buffer of the task that made them."""
    env = DummyVecEnv([lambda: Monitor(gym.make("QMP/MultistageReacher-v0", max_episode_steps=4)) for _ in range(2)])
    names, tasks, fixed = described(env)
    assert names == qmp_envs.task_names("QMP/MultistageReacher-v0") and not fixed

    seen = np.zeros(5, int)
    model = QMP("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [4]}, buffer_size=500, learning_starts=20)

    def count(locals_, globals_) -> bool:
        for info in locals_["infos"]:
            seen[info["task_id"]] += 1
        return True

    model.learn(400, callback=count)
    assert seen.min() > 0 and (seen % 4 == 0).all(), "whole episodes of every task"
    assert model.replay_buffer.sizes.tolist() == seen.tolist()
    with pytest.raises(ValueError, match="task"):
        model.predict(env.reset())  # two rows, but whose?
    assert model.predict(env.reset(), task=[0, 1])[0].shape == (2, 6)


def test_changing_tasks_learn_from_their_own_rewards():
    """Each task's rows hold that task's stage reward: resets never mix rows up."""
    env = DummyVecEnv([lambda: gym.make("QMP/Maze-v0", num_tasks=2, max_episode_steps=3) for _ in range(3)])
    model = QMP("MlpPolicy", env, seed=1, policy_kwargs={"net_arch": [4]}, buffer_size=500, learning_starts=1000)
    expected: list[list[float]] = [[], []]

    def record(locals_, globals_) -> bool:
        for info, reward in zip(locals_["infos"], locals_["rewards"], strict=True):
            expected[info["task_id"]].append(float(reward))
        return True

    model.learn(90, callback=record)
    for task in range(2):
        stored = model.replay_buffer.rewards[: model.replay_buffer.sizes[task], task].reshape(-1)
        np.testing.assert_allclose(stored, expected[task], rtol=1e-6)


def one_maze_task() -> gym.Env:
    """For a process of its own, which has to be able to import it."""
    return gym.make("QMP/Maze-v0", task=2)


def test_in_another_process():
    """Tasks are found through SubprocVecEnv too, which hands attributes over by pickling."""
    env = SubprocVecEnv([one_maze_task])
    try:
        names, tasks, fixed = described(env)
        assert names == (qmp_envs.task_names("QMP/Maze-v0")[2],) and tasks().tolist() == [0] and fixed
    finally:
        env.close()


@pytest.mark.parametrize("copy", [True, False])
def test_observations_that_an_environment_writes_over_are_copied(copy):
    envs = SyncVectorEnv([Uneven, Uneven], copy=copy, autoreset_mode=AutoresetMode.SAME_STEP)
    env = MultiTaskVecEnv(envs, [0, 1])
    env.seed(0)
    seen = [env.reset()]
    kept = [seen[0].copy()]
    for _ in range(30):
        seen.append(env.step(np.zeros((2, 1), np.float32))[0])
        kept.append(seen[-1].copy())
    np.testing.assert_array_equal(seen, kept)
    assert len(np.unique(seen)) > 30, "they differ from step to step"
