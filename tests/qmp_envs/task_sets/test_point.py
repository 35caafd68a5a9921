"""Point2D's arithmetic."""

import gymnasium as gym
import numpy as np
import pytest

from qmp_envs.task_sets.point import Point2D

ID = "QMP/Point2D-v0"


def walk(actions, **options):
    env = gym.make(ID, **options)
    env.reset(seed=0)
    return [env.step(np.array(action, np.float32)) for action in actions]


def test_defaults():
    env = gym.make(ID)
    np.testing.assert_array_equal(env.reset(seed=0)[0], [-0.5, -0.5])
    steps = walk([(1.0, 1.0)] * 20)
    np.testing.assert_allclose(steps[0][0], [-0.4, -0.4], atol=1e-7)
    assert steps[0][1] == pytest.approx(np.exp(-np.hypot(9.0, 9.0)))
    assert [step[1] for step in steps[9:]] == [1.0] * 11  # at the goal, and kept in the box
    assert not any(step[2] for step in steps) and steps[-1][3]
    assert sum(step[1] for step in steps) == pytest.approx(11.32, abs=0.01)


def test_success_is_remembered():
    steps = walk([(1.0, 1.0)] * 10 + [(-1.0, -1.0)] * 2)
    assert [step[4]["success"] for step in steps[8:]] == [False, True, False, False]
    assert [step[4]["is_success"] for step in steps[8:]] == [False, True, True, True]


def test_border():
    assert walk([(-1.0, 0.5)])[0][0] == pytest.approx([-0.5, -0.45])
    wide = walk([(-1.0, 0.5)], box=(-10.0, 20.0))
    assert wide[0][0] == pytest.approx([-0.6, -0.45])


@pytest.mark.parametrize(
    "reward,far,near",
    [
        ("exp", np.exp(-np.sqrt(181.0)), 1.0),
        ("distance", -np.sqrt(181.0 / 200.0), 0.0),
        ("inverse", 1 / (1 + np.sqrt(181.0)), 1.0),
        ("sparse", 0.0, 1.0),
    ],
)
def test_rewards(reward, far, near):
    steps = walk([(1.0, 0.0)] + [(1.0, 1.0)] * 10, reward=reward)
    assert steps[0][1] == pytest.approx(far)
    assert steps[-1][1] == pytest.approx(near)


def test_termination_is_an_option():
    steps = walk([(1.0, 1.0)] * 10, terminate_at_goal=True)
    assert [step[2] for step in steps] == [False] * 9 + [True]


def test_errors():
    with pytest.raises(ValueError, match="did you mean 'exp'"):
        Point2D(reward="expp")
    with pytest.raises(ValueError, match="must contain start"):
        Point2D(box=(0.0, 5.0))
