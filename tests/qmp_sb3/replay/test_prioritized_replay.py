"""Prioritized replay: draws in proportion, TA-PER's division of a batch, priorities, importance weights, memory."""

import re

import numpy as np
import pytest
import torch as th

from qmp_sb3.common.expressions import component
from qmp_sb3.replay import ALLOCATIONS, DRAWS, MultiTaskReplayBuffer
from qmp_sb3.replay.allocations import Mass
from qmp_sb3.replay.draws import Prioritized
from qmp_sb3.replay.priorities import importance_weights, priority
from qmp_sb3.replay.tables import HostTable
from qmp_sb3.replay.water_filling import water_filling, whole
from tests.qmp_sb3.replay.prioritized_buffers import ACT, OBS, ROWS, TASKS, give, make_buffer, random_errors, store
from tests.qmp_sb3.small_models import make

# ---- draws ----


def frequencies(buffer: MultiTaskReplayBuffer, draws: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each transition was drawn, ``(tasks, rows)``, and how many rows each task got in every draw."""
    found, counts = np.zeros((TASKS, ROWS)), []
    for _ in range(draws):
        batch = buffer.sample(batch_size)
        used = batch.index >= 0
        rewards = batch.rewards.numpy()[used].astype(int)
        assert (rewards // 1000 == np.nonzero(used)[0]).all(), "each row is the task's own"
        np.add.at(found, (rewards // 1000, rewards % 1000), 1)
        counts.append(batch.task_counts().tolist())
    assert found.sum() == np.sum(counts)
    return found, np.array(counts)


def chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    there = expected > 0
    assert (found[~there] == 0).all()
    return (((found - expected) ** 2)[there] / expected[there]).sum()


def bound(cells: int) -> float:
    """Four standard deviations above the mean of chi-square; a stratified draw is closer than an independent one."""
    return cells + 4 * np.sqrt(2 * cells)


def test_per_draws_from_the_union_in_proportion_to_priorities():
    buffer = make_buffer(replay="pool")
    priorities = give(buffer, random_errors())
    found, counts = frequencies(buffer, 400, 20)
    assert (counts.sum(axis=1) == 60).all() and len(np.unique(counts[:, 0])) > 1
    probabilities = priorities / priorities.sum()
    assert chi_square(found, found.sum() * probabilities) < bound(75)
    uniform = (priorities > 0) / 75
    assert chi_square(found, found.sum() * uniform) > 5 * bound(75), "the test would see another distribution"


def test_ta_per_draws_within_each_task_in_proportion_to_priorities():
    buffer = make_buffer(replay="mass(k_min=6, k_max=40)")
    priorities = give(buffer, random_errors())
    masses = priorities.sum(axis=1)
    found, counts = frequencies(buffer, 400, 20)
    expected = whole(water_filling(masses, 60, 6, 40))
    assert (counts == expected).all() and expected.sum() == 60, "no chance in the division"
    by_task = priorities / masses[:, None] * 400 * expected[:, None]
    assert chi_square(found, by_task) < bound(75)
    union = priorities / masses.sum() * found.sum()
    assert chi_square(found, union) > 5 * bound(75)


@pytest.mark.parametrize("replay", ["own", "equal(60)"])
def test_every_task_its_own_tree(replay):
    buffer = make_buffer(replay=replay)
    priorities = give(buffer, random_errors())
    found, counts = frequencies(buffer, 200, 20)
    assert (counts == 20).all()
    assert chi_square(found, priorities / priorities.sum(axis=1, keepdims=True) * 4000) < bound(75)


@pytest.mark.parametrize("replay", ["own", "pool"])
def test_alpha_zero_is_uniform(replay):
    """Invariant 6."""
    buffer = make_buffer(replay=replay, draw="per(0, 0.4)")
    give(buffer, random_errors())
    assert (buffer.priorities.trees.at(np.zeros(40, int), np.arange(40)) == 1.0).all()
    found, _ = frequencies(buffer, 300, 20)
    each = np.full(TASKS, 6000) if replay == "own" else 18_000 * buffer.sizes / 75
    expected = (np.arange(ROWS) < buffer.sizes[:, None]) * (each / buffer.sizes)[:, None]
    assert chi_square(found, expected) < bound(75)
    batch = buffer.sample(20)
    assert th.equal(batch.importance, (th.from_numpy(batch.index) >= 0).float())


def test_a_draw_is_stratified_and_in_random_order():
    """Each of the k equal parts of a task's mass gives one row; the first rows of a batch are no special ones."""
    buffer = make_buffer(sizes=(40, 40, 40), replay="own")
    firsts = []
    for _ in range(200):
        batch = buffer.sample(40)  # priorities are equal, so that every transition is a part of its own
        numbers = batch.rewards.numpy() % 1000
        np.testing.assert_array_equal(np.sort(numbers, axis=1), np.tile(np.arange(40), (TASKS, 1)))
        firsts.append(numbers[:, 0])
    assert 15 < np.mean(firsts) < 24 and len(np.unique(firsts)) > 30


def test_a_task_without_data_gives_nothing():
    buffer = make_buffer(sizes=(40, 0, 25))
    for replay in ("mass", "pool", "own", "mass(importance='global')"):
        buffer.replay = component("replay", replay, ALLOCATIONS)
        batch = buffer.sample(20)
        assert batch.counts[1] == 0 and (batch.index[1] == -1).all() and batch.counts.sum() > 0
        for tensor in (batch.importance, batch.corrected_weights):
            assert th.isfinite(tensor).all() and tensor[1].abs().max() == 0.0


# ---- priorities ----


@pytest.mark.parametrize("replay, own", [("mass", False), ("pool", False), ("own", True), ("equal", True)])
def test_new_transitions_carry_the_largest_priority(replay, own):
    """Invariant 6: of all tasks where these compete for a batch, else of the task itself; 1 at the beginning."""
    buffer = make_buffer(sizes=(0, 0, 0), replay=replay)
    store(buffer, [0, 1, 2], 3)
    buffer.sample(4)
    assert (buffer.priorities.trees.leaves()[:, :3] == 1.0).all()
    priorities = give(buffer, np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [9.0, 8.0, 7.0]]))
    store(buffer, [1, 0, 1], 1)
    buffer.sample(4)
    largest = priorities.max(axis=1) if own else np.full(TASKS, priorities.max())
    leaves = buffer.priorities.trees.leaves()
    assert leaves[0, 3] == largest[0] and leaves[1, 3] == leaves[1, 4] == largest[1] and leaves[2, 3] == 0.0
    np.testing.assert_array_equal(leaves[:, :3], priorities)


@pytest.mark.parametrize("n_steps, tasks", [(1, [0, 1, 2]), (1, [2, 2, 0, 1, 2]), (3, [0, 1, 2, 0, 1])])
def test_priorities_follow_the_rings(n_steps, tasks):
    """Wherever a transition is overwritten, and however much comes between two draws, its place has a new priority."""
    buffer = make_buffer(sizes=(0, 0, 0), rows=7, n_envs=len(tasks), n_steps=n_steps)
    rng, number = np.random.default_rng(1), 0
    for steps in (1, 2, 5, 1, 11, 3, 30, 1):
        before, positions = buffer.sizes.copy(), buffer.positions.copy()
        old = buffer.priorities.trees.leaves().copy()
        store(buffer, tasks, steps, number)
        number += steps
        if not buffer.sizes.any():
            continue
        largest = max(old.max(), 0.0) or 1.0
        buffer.sample(4)
        leaves = buffer.priorities.trees.leaves()
        assert ((leaves > 0) == (np.arange(7) < buffer.sizes[:, None])).all()
        for task in range(TASKS):
            written = (steps if n_steps == 1 else buffer.sizes[task] - before[task]) * tasks.count(task)
            if n_steps == 1:
                new = {(positions[task] + k) % 7 for k in range(min(written, 7))}
                assert all(leaves[task, row] == (largest if row in new else old[task, row]) for row in range(7))
        give(buffer, rng.random((TASKS, 7)) * 4.0)


def test_what_an_overwritten_transition_weighed_is_gone():
    buffer = make_buffer(sizes=(0, 0, 0), rows=4, replay="own")
    store(buffer, [0], 4)
    give(buffer, np.array([[100.0, 0.1, 0.1, 0.1]] * TASKS))
    store(buffer, [0], 1, 4)
    give(buffer, np.array([[0.1, 0.1, 0.1, 0.1]] * TASKS))
    store(buffer, [0], 1, 5)
    buffer.sample(1)
    np.testing.assert_allclose(buffer.priorities.trees.leaves()[0], (0.1 + 1e-6) ** 0.6)


def test_errors_that_are_no_numbers_do_not_spoil_the_trees():
    p = priority(np.array([np.nan, np.inf, -2.0]), 0.5)
    assert p[0] == 0.5 and 1e38 < p[1] < np.inf and p[2] == 2.5
    buffer = make_buffer()
    errors = random_errors()
    errors[0, 3], errors[1, 4] = np.nan, np.inf
    give(buffer, errors)
    assert np.isfinite(buffer.priorities.trees.total()).all() and th.isfinite(buffer.sample(8).importance).all()


# ---- importance weights ----


def test_importance_by_hand():
    assert importance_weights(np.array([0.5, 0.125]), 4, 1.0).tolist() == [0.5, 2.0]
    assert importance_weights(np.array([0.5, 0.125]), 4, 0.5).tolist() == pytest.approx([0.5**0.5, 2**0.5])
    assert importance_weights(np.array([0.5, 0.125]), 4, 0.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("replay", ["own", "pool", "mass", "mass(importance='global')"])
def test_importance_of_a_batch(replay):
    """By loops over its rows, from P as drawn; largest 1 in each task, or in all where P is that of all."""
    buffer = make_buffer(replay=replay, draw="per(0.7, 0.3)")
    priorities = give(buffer, random_errors())
    buffer.draw.anneal(0.5)
    batch = buffer.sample(10)
    masses, counts, together = priorities.sum(axis=1), batch.task_counts().tolist(), replay not in ("own", "mass")
    expected = np.zeros(batch.index.shape)
    for (task, column), place in np.ndenumerate(batch.index):
        if place >= 0:
            row = place // TASKS
            assert batch.rewards[task, column] == 1000 * task + row and place % TASKS == task
            probability, number = priorities[task, row] / masses[task], buffer.sizes[task]
            if replay == "pool":
                probability, number = priorities[task, row] / masses.sum(), buffer.sizes.sum()
            elif together:
                probability, number = probability * counts[task] / sum(counts), buffer.sizes.sum()
            expected[task, column] = (1 / (number * probability)) ** 0.65
    expected /= expected.max() if together else expected.max(axis=1, keepdims=True)
    np.testing.assert_allclose(batch.importance, expected, rtol=1e-5)
    assert batch.importance.dtype == th.float32
    mean = 1 / batch.index.shape[1] if batch.weights is None else batch.weights
    th.testing.assert_close(batch.corrected_weights, mean * batch.importance)


def test_full_correction_gives_the_mean_of_all_transitions():
    """With beta = 1 the weights undo the choice: up to one factor, the weighted mean is that of uniform draws."""
    buffer = make_buffer(replay="own", draw="per(0.6, 1)")
    give(buffer, random_errors())
    sums = np.zeros((2, TASKS))
    for _ in range(300):
        batch = buffer.sample(20)
        numbers = batch.rewards.numpy() % 1000
        rows = batch.index // TASKS
        weight = 1 / buffer.priorities.trees.at(np.arange(TASKS)[:, None], rows)
        np.testing.assert_allclose(batch.importance, weight / weight.max(axis=1, keepdims=True), rtol=1e-5)
        sums += (weight * numbers).sum(axis=1), weight.sum(axis=1)
    np.testing.assert_allclose(sums[0] / sums[1], (buffer.sizes - 1) / 2, rtol=0.03)


def test_beta_grows_to_one_over_the_training():
    draw = Prioritized(0.6, 0.4)
    assert draw.beta == 0.4
    for remaining, expected in ((0.5, 0.7), (0.0, 1.0), (1.0, 0.4), (-0.1, 1.0)):
        draw.anneal(remaining)
        assert draw.beta == pytest.approx(expected)
    assert Prioritized(beta=1.0).beta == 1.0


# ---- TA-PER's division ----


@pytest.mark.parametrize(
    "masses, total, limits, expected",
    [
        ([1, 1, 1, 1], 40, (1, 20), [10, 10, 10, 10]),
        ([1, 1, 2], 40, (1, 20), [10, 10, 20]),
        ([1, 1, 8], 40, (1, 20), [10, 10, 20]),  # 4, 4, 32: the 12 that are over go to the others
        ([0.01, 1, 3], 40, (4, 30), [4, 9, 27]),  # the first one's minimum comes from the others, 1 to 3
        ([1, 10, 1000], 100, (5, 60), [5, 35, 60]),  # both limits at once
        ([1, 1, 1], 10, (0, 10), [4, 3, 3]),  # of equal remainders the first
        ([5, 3, 2], 7, (0, 7), [4, 2, 1]),  # 3.5, 2.1, 1.4: the largest remainder
        ([7], 9, (0, 9), [9]),
        ([1, 1e9], 10, (5, 5), [5, 5]),
    ],
)
def test_the_division_by_hand(masses, total, limits, expected):
    assert whole(water_filling(np.array(masses, float), total, *limits)).tolist() == expected


def test_the_division_keeps_its_limits_and_its_sum():
    """Invariant 6, for random masses; and what is at no limit is in proportion to its mass."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        tasks, total = int(rng.integers(1, 12)), int(rng.integers(1, 500))
        low, high = int(rng.integers(0, total // tasks + 1)), int(rng.integers(-(-total // tasks), total + 1))
        masses = np.exp(rng.normal(size=tasks) * rng.choice([0.0, 1.0, 8.0]))
        parts = water_filling(masses, total, low, high)
        counts = whole(parts)
        assert counts.sum() == total and counts.min() >= low and counts.max() <= high
        free = (parts > low + 1e-9) & (parts < high - 1e-9)
        if free.any():
            level = (parts / masses)[free]
            np.testing.assert_allclose(level, level[0])
            assert (level[0] * masses[parts <= low + 1e-9] <= low + 1e-6).all()
            assert (level[0] * masses[parts >= high - 1e-9] >= high - 1e-6).all()


def test_equal_masses_are_average_sampling():
    """Invariant 6; and the limits unless others are given: a quarter of the equal share, half of the batch."""
    mass, rng = Mass(), np.random.default_rng(0)
    assert mass.counts(32, np.full(5, 0.7), rng).tolist() == [32] * 5
    assert mass.counts(32, np.array([1e9, 1, 1, 1, 1]), rng).tolist() == [80, 20, 20, 20, 20]
    assert mass.counts(32, np.array([1e9, 1e9, 1e9, 1e9, 1]), rng).tolist() == [38, 38, 38, 38, 8]
    assert mass.counts(32, np.array([3.0]), rng).tolist() == [32]
    assert mass.counts(32, np.array([0.0, 3.0, 0.0]), rng).tolist() == [0, 96, 0]
    assert Mass(100, k_min=10).counts(32, np.array([1.0, 0.0, 1e9]), rng).tolist() == [50, 0, 50]


def test_limits_that_a_smaller_batch_cannot_keep_become_the_equal_share():
    assert Mass(k_min=30).counts(4, np.array([1.0, 2.0, 9.0]), np.random.default_rng(0)).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (dict(replay="mass(k_min=9)", draw="per"), r"a batch of 3 task\(s\) has 24 rows, k_min is at most 8"),
        (dict(replay="mass(k_max=7)", draw="per"), r"has 24 rows, k_max is at least 8"),
        (dict(replay="mass(20, k_max=6)", draw="per"), r"has 20 rows, k_max is at least 7"),
        (dict(replay="mass(k_min=5, k_max=4)", draw="per"), "k_min is at most k_max"),
        (dict(replay="mass(k_min=-1)", draw="per"), "k_min is at least 0"),
        (dict(replay="mass(importance='all')", draw="per"), "known: 'task', 'global'"),
        (dict(replay="mass"), "replay=mass divides by priorities, which draw=uniform does not keep; use draw='per'"),
        (dict(draw="per(1.5)"), r"per\(alpha=1.5\): alpha is in \[0, 1\]; the nearest is 1"),
        (dict(draw="per(0.6, -0.1)"), r"beta is in \[0, 1\]; the nearest is 0"),
        (dict(draw="per(epsilon=0)"), "epsilon is above 0"),
        (dict(draw="unifrom"), "did you mean 'uniform'"),
        (dict(draw="per", sharing="uds(0, -1)"), r"sharing=uds\(0, -1\) compares .* use draw='uniform'"),
    ],
)
def test_refusals(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        make(**arguments)


def test_a_part_is_its_expression():
    for expression in ("mass", "mass(40)", "mass(k_min=3)", "mass(40, k_min=3, k_max=20, importance='global')"):
        assert repr(component("replay", expression, ALLOCATIONS)) == expression
    for expression, expected in {
        "per": "per(0.6, 0.4)",
        "per(0.5, 1, 0.1)": "per(0.5, 1, 0.1)",
        "uniform": "uniform",
    }.items():
        assert repr(component("draw", expression, DRAWS)) == expected


# ---- memory ----


def test_priorities_are_part_of_the_printed_size():
    buffer = make_buffer(sizes=(0, 0, 0), rows=1_000_000)
    assert str(buffer).endswith("0.12 GB when full, in memory, and priorities, 0.07 GB in memory")
    assert "priorities" not in str(make_buffer(sizes=(0, 0, 0), replay="own", draw="uniform"))
    trees = buffer.priorities.trees
    held = sum(level.nbytes for level in (*trees._sums, *trees._maxima[:-1]))
    assert held == pytest.approx(24 * 2**20 * TASKS, rel=0.01), "with rows rounded up to a power of two"


def test_priorities_that_do_not_fit_are_refused_with_the_size_that_does(monkeypatch):
    """The table alone would fit; the host has room for both at the size that the error names."""
    room = 4 * TASKS * 10_000 * (2 * (OBS + ACT) + 4 + 6)
    where = "qmp_sb3.replay.multitask_replay_buffer.host_memory"
    monkeypatch.setattr(where, lambda: (room, room))
    with pytest.raises(ValueError, match=r"GB of memory; buffer_size=10,000 fits") as error:
        make_buffer(sizes=(0, 0, 0), rows=12_000)
    fits = int(re.search(r"buffer_size=([\d,]+) fits", str(error.value))[1].replace(",", ""))
    assert isinstance(make_buffer(sizes=(0, 0, 0), rows=fits).rows, HostTable)
    make_buffer(sizes=(0, 0, 0), replay="own", draw="uniform", rows=12_000)
