"""The evaluation protocol counts what it says, on our environments and on foreign ones."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import qmp_envs
from qmp_envs.evaluation import Evaluation, evaluate, run_episodes
from qmp_envs.measures import MEASURES
from tests.sampling import each_batch_share, some


def idle(observations, task_ids):
    return np.zeros((len(observations), 6 if observations.shape[1] == 15 else 2))


@each_batch_share
def test_every_task_gets_its_episodes(id, share):
    width = some(gym.spec(id).max_episode_steps, share**2)
    actions = qmp_envs.make_task_set(id).action_space.shape
    seen = []

    def policy(observations, task_ids):
        seen.append(np.unique(task_ids).tolist())
        return np.zeros((len(observations), *actions))

    result = evaluate(policy, id, seeds=(0, 1), episodes=3, max_episode_steps=width)
    names = qmp_envs.task_names(id)
    assert result.task_names == names and seen[0] == list(range(len(names)))
    for measure in MEASURES:
        assert result[measure].shape == (len(names), 6)
        assert result.per_task(measure).shape == (len(names),)
    assert (result["length"] <= width).all()
    again = evaluate(policy, id, seeds=(0, 1), episodes=3, max_episode_steps=width)
    for measure in MEASURES:
        np.testing.assert_array_equal(result[measure], again[measure])


def test_the_untrained_floor_of_the_reacher():
    """Whoever does nothing has the published success in "stay", on its first step, and no strict success."""
    result = evaluate(idle, "QMP/MultistageReacher-v0", episodes=4)
    assert result.mean("success_any") == pytest.approx(0.2)
    assert result.mean("success_all") == 0.0 and result.mean("subgoals") == 0.0
    assert result.per_task("success_any").tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert np.ptp(result["return"], axis=1).min() > 0.0  # seeds make episodes differ


def test_one_task_only():
    result = evaluate(idle, "QMP/MultistageReacher-v0", episodes=2, task="stay")
    assert result.task_names == ("stay",) and result["return"].shape == (1, 2)


class Counter(gym.Env):
    """Ends after ``length`` steps with reward 1 each; succeeds in the middle, is done at the end or not."""

    observation_space = gym.spaces.Box(0.0, 100.0, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length, done):
        self.length, self.done = length, done

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        info = {"success": self.t == 2, "is_success": self.done and self.t == self.length}
        return np.full(1, self.t, np.float32), 1.0, self.t == self.length, False, info


def foreign(*lengths, done=True):
    return SyncVectorEnv([lambda n=n: Counter(n, done) for n in lengths], autoreset_mode=AutoresetMode.SAME_STEP)


class Remembering:
    """Checks that it is told of every start before it acts."""

    def __init__(self):
        self.expected = self.starts = None

    def reset(self, mask):
        self.starts = mask.copy()

    def __call__(self, observations, task_ids):
        at_start = observations[:, 0] == 0.0
        if at_start.any():
            np.testing.assert_array_equal(self.starts, at_start)
        return np.zeros((len(observations), 1), np.float32)


def test_counts_by_hand():
    """Two slots of task 0 (3 and 5 steps), two of task 1 (both 1 step); four episodes per task."""
    task_ids = np.array([0, 1, 0, 1])
    result = run_episodes(Remembering(), foreign(3, 1, 5, 1), task_ids, 2, episodes=4, seed=0)
    np.testing.assert_array_equal(result["length"], [[3, 3, 5, 5], [1, 1, 1, 1]])
    np.testing.assert_array_equal(result["return"], result["length"])
    np.testing.assert_array_equal(result["success_any"], [[1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(result["success_all"], np.ones((2, 4)))
    assert np.isnan(result["subgoals"]).all() and result.task_names == ("task-0", "task-1")
    assert result.mean("return") == 2.5


def test_environments_that_say_nothing_about_success():
    envs = SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    result = run_episodes(lambda o, _: np.zeros((len(o), 1), np.float32), envs, np.array([0, 1]), 2, 1, seed=0)
    assert result["length"].tolist() == [[200.0], [200.0]]
    assert np.isnan(result["success_any"]).all() and np.isnan(result["success_all"]).all()


def test_errors():
    policy = Remembering()
    with pytest.raises(ValueError, match="multiple of the 2 slots per task, got 3"):
        run_episodes(policy, foreign(2, 2), np.zeros(2, int), 1, 3, 0)
    with pytest.raises(ValueError, match="equally many slots"):
        run_episodes(policy, foreign(2, 2, 2), np.array([0, 0, 1]), 2, 2, 0)
    with pytest.raises(ValueError, match="num_tasks says 3"):
        run_episodes(policy, foreign(2, 2), np.array([0, 1]), 3, 2, 0)
    with pytest.raises(ValueError, match="SAME_STEP"):
        run_episodes(policy, SyncVectorEnv([lambda: Counter(2, True)]), np.array([0]), 1, 1, 0)
    with pytest.raises(ValueError, match="at least"):
        evaluate(policy, "QMP/Point2D-v0", episodes=0)
    with pytest.raises(ValueError, match="Unknown measure"):
        Evaluation(("a",), dict.fromkeys(MEASURES, np.zeros((1, 1)))).mean("sucess")
