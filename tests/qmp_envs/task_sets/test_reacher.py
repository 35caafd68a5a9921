"""The Multistage Reacher's rules that no recorded trajectory shows by itself."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from qmp_envs.task_sets.reacher import STAY, SUBGOALS, TOUCH_DISTANCE, MultistageReacher

ID = "QMP/MultistageReacher-v0"


def make(task, **options):
    return gym.make(ID, task=task, disable_env_checker=True, **options).unwrapped


class Puppet(MultistageReacher):
    """The task set with a hand that is where the test wants it."""

    where = np.zeros(3)

    def views(self, data):
        return super().views(data) | {"hand": self.where}


def play(task, hands, **options):
    """Outcomes and observations of an episode whose hand visits ``hands``; it starts at the first of them."""
    puppet = Puppet(**options)
    puppet.where = np.array(hands[0], np.float64)
    env = gym.make(ID, task_set=puppet, task=task, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    steps = []
    for hand in hands[1:]:
        puppet.where[:] = hand
        steps.append(env.step(np.zeros(6)))
        if steps[-1][2]:
            break
    return steps


FAR = (9.0, 9.0, 9.0)


@pytest.mark.parametrize("task", range(4))
def test_subgoals_in_order_end_the_episode(task):
    steps = play(task, [FAR, *SUBGOALS[task]])
    assert [step[4]["stages_completed"] for step in steps] == [1, 2, 3]
    assert [step[4]["is_success"] for step in steps] == [False, False, True]
    assert [step[2] for step in steps] == [False, False, True]
    assert all(step[4]["success"] for step in steps)


@pytest.mark.parametrize("task", range(4))
def test_later_subgoals_do_not_count_early(task):
    steps = play(task, [FAR, SUBGOALS[task][2], SUBGOALS[task][1], SUBGOALS[task][0], SUBGOALS[task][0]])
    assert [step[4]["success"] for step in steps] == [False, False, True, False]


def test_observation_shows_an_advance_one_step_late():
    steps = play(0, [FAR, SUBGOALS[0][0], SUBGOALS[0][1], SUBGOALS[0][2]])
    assert [int(np.argmax(step[0][12:15])) for step in steps] == [0, 1, 2]
    for step in steps:
        assert step[0][12:15].sum() == 1.0


def test_touch_distance_is_strict():
    edge = SUBGOALS[0][0] + np.array([TOUCH_DISTANCE + 1e-12, 0.0, 0.0])
    inside = SUBGOALS[0][0] + np.array([TOUCH_DISTANCE - 1e-12, 0.0, 0.0])
    steps = play(0, [FAR, edge, inside])
    assert [step[4]["success"] for step in steps] == [False, True]


def terms(step):
    return {key.removeprefix("reward_"): value for key, value in step[4].items() if key.startswith("reward_")}


def test_stage_rewards():
    touch_all = [FAR, FAR, *SUBGOALS[0]]
    assert [terms(s)["stage"] for s in play(0, touch_all)] == pytest.approx([-1.2, -0.8, -0.4, 0.0])
    touch_all = [FAR, FAR, *SUBGOALS[1]]
    assert [terms(s)["stage"] for s in play(1, touch_all)] == [0.0, 200.0, 200.0, 200.0]
    assert [terms(s)["shift"] for s in play(1, touch_all)] == [-2.0] * 4
    touch_all = [FAR, FAR, *SUBGOALS[3]]
    assert [terms(s)["stage"] for s in play(3, touch_all)] == pytest.approx([-1.2, -0.8, -0.4, 0.0])
    assert all(terms(s)["distance"] == 0.0 for s in play(3, touch_all))


def test_paper_options():
    steps = play(0, [FAR, FAR, *SUBGOALS[0]], paper_bonus=5.0)
    assert [terms(s)["stage"] for s in steps] == [0.0, 5.0, 5.0, 5.0]
    steps = play(3, [FAR, FAR, *SUBGOALS[3]], paper_sparse=True)
    assert [terms(s)["stage"] for s in steps] == [0.0, 1.0, 1.0, 1.0]


def test_stay_counts_successful_steps():
    near, start = (0.04, 0.0, 0.0), (0.0, 0.0, 0.0)
    hands = [start, *[near] * 29, FAR, *[start] * 61]
    steps = play(STAY, hands)
    stages = [step[4]["stages_completed"] for step in steps]
    assert stages[28] == 0 and stages[29] == 0 and stages[30] == 1  # leaving does not reset the count
    assert stages[-1] == 3 and len(steps) == 91 and steps[-1][2]
    assert all(terms(step)["stage"] == 0.0 for step in steps)


def test_stay_as_the_released_code_evaluates_it():
    steps = play(
        STAY,
        [(0.0, 0.0, 0.0), FAR, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)],
        official_eval_quirk=True,
    )
    assert [terms(s)["stage"] for s in steps] == pytest.approx([-1.2, -0.8, -0.4, 0.0])
    assert steps[-1][2]
    steps = play(STAY, [FAR, (0.1, 0.2, 0.3)], official_eval_quirk=True, stay_goal=(0.1, 0.2, 0.3))
    assert steps[0][4]["success"] and terms(steps[0])["distance"] == 0.0


def test_stay_goal_is_the_hand_at_this_reset():
    env = make(STAY)
    goals = []
    for _ in range(3):
        env.reset()
        np.testing.assert_array_equal(env._episodes.memory.goal, env._episodes.physics.state.hand)
        goals.append(env._episodes.memory.goal[0])
    assert not np.array_equal(goals[0], goals[1])
    np.testing.assert_allclose(goals, SUBGOALS[STAY][:1].repeat(3, 0), atol=0.05)


def test_start_is_the_published_pose_and_noise():
    env = make(0)
    observations = np.array([env.reset()[0] for _ in range(200)])
    offset = np.abs(observations[:, :6] - [0, 0, 0, 0, -2.8, 0])
    assert 0.0098 < offset.max() <= 0.01 + 1e-6
    assert 0.00098 < np.abs(observations[:, 6:12]).max() <= 0.001 + 1e-9


def test_hand_is_appended_as_an_option():
    env = make(0, observe_hand=True)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.shape == observation.shape == (18,)
    np.testing.assert_allclose(observation[15:], (0.41, 0.119, 0.239), atol=0.02)


def test_failure_of_the_simulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file about it
    env = make(2)
    env.reset(seed=0)
    before = env.reset(options={"qvel": np.full(6, 1e12)})[0]
    observation, reward, terminated, truncated, info = env.step(np.zeros(6))
    np.testing.assert_array_equal(observation, before)
    assert terminated and not truncated and info["reward_failure"] == -100.0 and reward < -100.0
    assert not info["success"]
    env.reset(seed=0)
    assert env.step(np.zeros(6))[4]["reward_failure"] == 0.0  # the next episode is sound


def test_failure_in_one_slot_leaves_the_others_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    healthy, broken = gym.make_vec(ID), gym.make_vec(ID)
    healthy.reset(seed=0), broken.reset(seed=0)
    qvel = broken.unwrapped._episodes.physics.state.qvel.copy()
    qpos = broken.unwrapped._episodes.physics.state.qpos.copy()
    healthy.reset(options={"qpos": qpos, "qvel": qvel})
    qvel[1] = 1e12
    broken.reset(options={"qpos": qpos, "qvel": qvel})
    actions = np.zeros((5, 6), np.float32)
    one, other = healthy.step(actions), broken.step(actions)
    others = [0, 2, 3, 4]
    np.testing.assert_array_equal(one[0][others], other[0][others])
    np.testing.assert_array_equal(one[1][others], other[1][others])
    assert other[2].tolist() == [False, True, False, False, False]


def test_hand_touches_the_floor_as_often_as_the_published_arm():
    """Random actions bring the published hand (a mesh) to the floor in 0.485 of the steps, from step 3 on."""
    model = MultistageReacher().models[0]
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    touching, first = [], []
    for _ in range(60):
        mujoco.mj_resetData(model, data)
        data.qpos[:] += rng.uniform(-0.01, 0.01, 6)
        episode = []
        for _ in range(200):
            data.ctrl[:] = rng.uniform(-1.0, 1.0, 6)
            contacts = 0
            for _ in range(4):
                mujoco.mj_step(model, data)
                contacts = max(contacts, data.ncon)
            episode.append(contacts > 0)
        touching.append(np.mean(episode))
        first.append(int(np.argmax(episode)))
    assert np.mean(touching) == pytest.approx(0.485, abs=0.02)
    assert np.median(first) == 3


def test_relabeling_to_another_task():
    """A hand at the first subgoal of task 2, seen with the eyes of every task."""
    task_set = MultistageReacher()
    columns = {
        "hand": np.tile(SUBGOALS[2][0], (5, 1)),
        "stay_goal": np.tile(SUBGOALS[STAY][0], (5, 1)),
        "stage": np.zeros(5),
        "control": np.full(5, -0.01),
        "failed": np.zeros(5),
    }
    reward = task_set.reward(columns, np.arange(5))
    apart = np.linalg.norm(SUBGOALS[2][0] - SUBGOALS[:, 0], axis=1)
    expected = [-apart[0] - 1.2, -apart[1] - 2.0, -0.8, -0.8, -apart[4]]
    np.testing.assert_allclose(reward, np.array(expected) - 0.01, atol=1e-12)


def test_subgoals_are_offered_per_task():
    subgoals = MultistageReacher().subgoals
    assert subgoals.shape == (5, 3, 3)
    subgoals[:] = 0.0
    assert MultistageReacher().subgoals.any()  # one user's edit is not everybody's
