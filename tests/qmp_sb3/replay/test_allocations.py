"""How a batch is divided among the tasks."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from qmp_sb3.common.expressions import component
from qmp_sb3.replay import ALLOCATIONS, DRAWS, MultiTaskReplayBuffer
from qmp_sb3.replay.allocations import Equal, Own, Pool
from tests.qmp_sb3.small_models import make

SIZES = np.array([100, 0, 300, 50])
TASKS, OBS, ACT = len(SIZES), 2, 1


def counts(allocation, batch_size=32, sizes=SIZES, seed=0):
    return allocation.counts(batch_size, sizes, np.random.default_rng(seed))


def filled_buffer(allocation, sizes=SIZES) -> MultiTaskReplayBuffer:
    """The reward of a transition is 1000 times its task, plus its number."""
    buffer = MultiTaskReplayBuffer(
        400,
        spaces.Box(-1, 1, (OBS,)),
        spaces.Box(-1, 1, (ACT,)),
        device="cpu",
        n_envs=1,
        n_tasks=TASKS,
        rng=np.random.default_rng(0),
        replay=allocation,
    )
    for task, size in enumerate(sizes):
        buffer.set_slot_tasks(np.array([task]))
        for number in range(size):
            reward = np.array([1000.0 * task + number])
            buffer.add(np.ones((1, OBS)), np.ones((1, OBS)), np.zeros((1, ACT)), reward, np.zeros(1, bool), [{}])
    return buffer


def test_own_takes_a_batch_of_every_task_that_has_data():
    np.testing.assert_array_equal(counts(Own()), [32, 0, 32, 32])
    np.testing.assert_array_equal(counts(Equal()), counts(Own()))


@pytest.mark.parametrize("total, each", [(128, 32), (30, 7), (3, 1), (1, 1)])
def test_equal_divides_a_total_by_all_tasks(total, each):
    np.testing.assert_array_equal(counts(Equal(total)), [each, 0, each, each])


@pytest.mark.parametrize("total, rows", [(None, 4 * 32), (50, 50), (1, 1)])
def test_pool_is_one_draw_from_all_transitions(total, rows):
    drawn = np.array([counts(Pool(total), seed=seed) for seed in range(200)])
    assert (drawn.sum(axis=1) == rows).all() and (drawn[:, 1] == 0).all()
    assert len(np.unique(drawn[:, 0])) > 1, "the shares are random"


def test_the_pool_is_uniform_over_transitions():
    """Chi-square with fixed seed: each of the 450 transitions is as likely as any other, whatever its task."""
    buffer = filled_buffer(Pool(45_000))
    batch = buffer.sample(1)
    used = batch.weights > 0
    assert batch.counts.sum() == used.sum() == 45_000
    values, observed = np.unique(batch.rewards[used].numpy(), return_counts=True)
    expected_values = np.concatenate([1000 * task + np.arange(size) for task, size in enumerate(SIZES)])
    np.testing.assert_array_equal(values, expected_values)
    statistic = ((observed - 100) ** 2 / 100).sum()  # 449 degrees of freedom: mean 449, standard deviation 30
    assert 449 - 4 * 30 < statistic < 449 + 4 * 30
    shares = batch.counts.numpy() / 45_000
    np.testing.assert_allclose(shares, SIZES / 450, atol=0.01)


@pytest.mark.parametrize("allocation", [Own(), Equal(40), Pool(), Pool(40)], ids=repr)
def test_weights_of_a_task_sum_to_one_and_belong_to_its_own_rows(allocation):
    batch = filled_buffer(allocation).sample(16)
    np.testing.assert_allclose(batch.weights.sum(dim=1), [1.0, 0.0, 1.0, 1.0], rtol=1e-6)
    assert batch.counts.tolist() == (batch.weights > 0).sum(dim=1).tolist() == batch.task_counts().tolist()
    for task in np.flatnonzero(SIZES):
        used = batch.weights[task] > 0
        assert (batch.rewards[task, used] // 1000 == task).all()
        assert batch.weights[task, used].unique().numel() == 1, "each row counts alike"
    assert batch.rows.shape[1] == batch.counts.max()


def test_without_padding_there_are_no_weights():
    batch = filled_buffer(Own(), sizes=[5, 5, 5, 5]).sample(16)
    assert batch.weights is None and batch.task_counts().tolist() == [16] * TASKS


def test_a_task_may_get_nothing():
    batch = filled_buffer(Pool(2), sizes=[200, 1, 1, 1]).sample(1)
    assert batch.rows.shape[:2] == (TASKS, 2) and 0 in batch.counts


@pytest.mark.parametrize("expression", ["own", "equal", "equal(40)", "pool", "pool(40)"])
def test_an_allocation_is_its_expression(expression):
    assert repr(component("replay", expression, ALLOCATIONS)) == expression


@pytest.mark.parametrize("expression", ["pool(0)", "equal(-3)", "pool(2.5)", "pol", "own(3)"])
def test_wrong_expressions_are_refused(expression):
    with pytest.raises(
        ValueError,
        match="at least 1|total is a whole number|did you mean 'pool'|too many positional arguments; it is own",
    ):
        component("replay", expression, ALLOCATIONS)


FITTING = [(name, draw) for name in ALLOCATIONS for draw in DRAWS if draw == "per" or name != "mass"]


@pytest.mark.parametrize("name, draw", FITTING)
@pytest.mark.parametrize("networks", ["independent", "multihead"])
def test_every_allocation_trains_and_is_saved(name, draw, networks, tmp_path):
    model = make(replay=name, draw=draw, networks=networks, task_weights="mean").learn(240)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.env, device="cpu")
    assert repr(loaded.replay) == repr(loaded.replay_buffer.replay) == name
    assert repr(loaded.draw) == repr(loaded.replay_buffer.draw) == repr(model.draw)
    loaded.learn(60)


def test_a_loaded_replay_buffer_is_sampled_as_its_model_says(tmp_path):
    own, pooled = make(replay="own").learn(120), make(replay="pool(40)")
    own.save_replay_buffer(tmp_path / "buffer")
    pooled.load_replay_buffer(tmp_path / "buffer")
    assert repr(pooled.replay_buffer.replay) == "pool(40)"
    assert pooled.replay_buffer.sample(8).task_counts().sum() == 40
