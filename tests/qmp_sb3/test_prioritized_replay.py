"""Prioritized replay: sum trees, draws in proportion, TA-PER's division of a batch, importance weights, feedback."""

import pickle
import re

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.native import unavailable
from qmp_sb3.objectives import TASK_WEIGHTS
from qmp_sb3.replay import ALLOCATIONS, DRAWS, MultiTaskReplayBuffer
from qmp_sb3.replay.allocations import Mass
from qmp_sb3.replay.draws import Prioritized
from qmp_sb3.replay.priorities import importance_weights, priority
from qmp_sb3.replay.sum_trees import SumTrees
from qmp_sb3.replay.tables import HostTable
from qmp_sb3.replay.water_filling import water_filling, whole
from qmp_sb3.sentences import part
from tests.qmp_sb3.small_models import drifts, equal, make, weights

TASKS, OBS, ACT, ROWS = 3, 2, 1, 40
TA_PER = dict(replay="mass", draw="per")


def make_buffer(sizes=(40, 10, 25), replay="mass", draw="per", rows=ROWS, n_envs=1, **kwargs) -> MultiTaskReplayBuffer:
    """The reward of a transition is 1000 times its task, plus its number."""
    buffer = MultiTaskReplayBuffer(
        rows,
        spaces.Box(-1, 1, (OBS,)),
        spaces.Box(-1, 1, (ACT,)),
        device="cpu",
        n_envs=n_envs,
        n_tasks=TASKS,
        rng=np.random.default_rng(0),
        allocation=part("replay", replay, ALLOCATIONS),
        drawing=part("draw", draw, DRAWS),
        **kwargs,
    )
    for task, size in enumerate(sizes):
        store(buffer, [task], size)
    return buffer


def store(buffer: MultiTaskReplayBuffer, tasks: list[int], steps: int, first: int = 0) -> None:
    """``steps`` vector steps of slots with these tasks."""
    buffer.set_slot_tasks(np.array(tasks))
    slots = len(tasks)
    for number in range(first, first + steps):
        reward = 1000.0 * np.array(tasks) + number
        observations, actions = np.ones((slots, OBS)), np.zeros((slots, ACT))
        buffer.add(observations, observations, actions, reward, np.zeros(slots, bool), [{}] * slots)


def give(buffer: MultiTaskReplayBuffer, errors: np.ndarray) -> np.ndarray:
    """Feed errors ``(tasks, rows)`` back for all transitions; p^alpha of those that there are, 0 elsewhere."""
    buffer.priorities.masses(together=True)
    batch = buffer.sample(4)
    rows, tasks = np.meshgrid(np.arange(errors.shape[1]), np.arange(TASKS))
    there = rows < buffer.sizes[:, None]
    batch.index, batch.errors = np.where(there, rows * TASKS + tasks, -1), th.from_numpy(errors)
    buffer.feedback(batch)
    return np.where(there, (np.abs(errors) + 1e-6) ** buffer.drawing.alpha, 0.0)


def random_errors(rows: int = ROWS, seed: int = 3) -> np.ndarray:
    """Errors of different size in each task, ``(tasks, rows)``."""
    return np.random.default_rng(seed).exponential(1.0, (TASKS, rows)) * np.array([[0.1], [1.0], [5.0]])


# ---- sum trees ----


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 100])
def test_trees_hold_what_a_plain_array_does(rows):
    """Random updates with duplicates, of which the last counts; sums, maxima and running sums of a plain array."""
    rng, trees, plain = np.random.default_rng(rows), SumTrees(rows, TASKS), np.zeros((TASKS, rows))
    for _ in range(40):
        tasks, places = rng.integers(0, TASKS, 12), rng.integers(0, rows, 12)
        values = rng.random(12) * (rng.random(12) > 0.3)
        trees.update(tasks, places, values)
        for task, place, value in zip(tasks, places, values, strict=True):
            plain[task, place] = value
        np.testing.assert_array_equal(trees.leaves(), plain)
        np.testing.assert_array_equal(trees.maximum(), plain.max(axis=1))
        np.testing.assert_allclose(trees.total(), plain.sum(axis=1), rtol=1e-14)
        asked = np.repeat(np.arange(TASKS), 30)
        masses = rng.random(90) * trees.total()[asked]
        for task, mass, found in zip(asked, masses, trees.find(asked, masses), strict=True):
            if plain[task].any():
                before = plain[task, :found].sum()
                assert before <= mass + 1e-12 and mass < before + plain[task, found] + 1e-12
                assert plain[task, found] > 0.0
            else:
                assert found == 0


def test_small_cases_of_a_tree():
    trees = SumTrees(5, 2)
    trees.update(np.array([0, 0, 0, 1]), np.array([0, 3, 4, 2]), np.array([1.0, 2.0, 4.0, 8.0]))
    assert trees.total().tolist() == [7.0, 8.0] and trees.maximum().tolist() == [4.0, 8.0]
    masses = np.array([0.0, 0.999, 1.0, 2.999, 3.0, 6.999, 0.0, 7.999])
    assert trees.find(np.array([0] * 6 + [1] * 2), masses).tolist() == [0, 0, 3, 3, 4, 4, 2, 2]
    trees.update(np.array([0, 0]), np.array([4, 4]), np.array([9.0, 0.5]))
    assert trees.total()[0] == 3.5 and trees.maximum()[0] == 2.0, "the last one counts, and a maximum can fall"


def test_a_mass_at_the_total_finds_the_last_priority():
    """Sums are rounded: a mass that is drawn below the total may reach it on the way down."""
    rng = np.random.default_rng(0)
    trees = SumTrees(50, 1)
    trees.update(np.zeros(31, int), np.arange(31), rng.random(31) * 10.0 ** rng.integers(-12, 12, 31))
    assert trees.find(np.zeros(2, int), trees.total().repeat(2) * [1.0, 1.0 + 1e-9]).max() == 30


def test_equal_leaves_have_equal_trees():
    """Sums are made anew, not changed: after any history they are those of a tree that was just made."""
    rng, used, new = np.random.default_rng(0), SumTrees(37, 2), SumTrees(37, 2)
    every, tasks = np.tile(np.arange(37), 2), np.repeat([0, 1], 37)
    for scale in (1e12, 1e-12, 1.0):
        values = rng.random(74) * scale
        used.update(tasks, every, values)
    new.update(tasks, every, values)
    loaded = pickle.loads(pickle.dumps(used))
    for one in (new, loaded):
        for mine, other in zip((*used._sums, *used._maxima), (*one._sums, *one._maxima), strict=True):
            np.testing.assert_array_equal(mine, other)


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
        buffer.allocation = part("replay", replay, ALLOCATIONS)
        batch = buffer.sample(20)
        assert batch.counts[1] == 0 and (batch.index[1] == -1).all() and batch.counts.sum() > 0
        for tensor in (batch.importance, batch.corrected_weights):
            assert th.isfinite(tensor).all() and tensor[1].abs().max() == 0.0


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


def test_a_part_is_its_sentence():
    for sentence in ("mass", "mass(40)", "mass(k_min=3)", "mass(40, k_min=3, k_max=20, importance='global')"):
        assert repr(part("replay", sentence, ALLOCATIONS)) == sentence
    for sentence, expected in {
        "per": "per(0.6, 0.4)",
        "per(0.5, 1, 0.1)": "per(0.5, 1, 0.1)",
        "uniform": "uniform",
    }.items():
        assert repr(part("draw", sentence, DRAWS)) == expected


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
    buffer.drawing.anneal(0.5)
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


# ---- the update ----


@pytest.mark.parametrize("n_critics", [1, 2, 3])
@pytest.mark.parametrize("replay", ["own", "mass"])
def test_errors_handed_back_are_those_of_the_critics_before_the_step(replay, n_critics):
    """Computed apart, row by row and in double precision."""
    model = make(cls=MultiTaskSAC, replay=replay, draw="per", policy_kwargs={"n_critics": n_critics}).learn(120)
    batch = model.replay_buffer.sample(8)
    noise = th.randn(2, *batch.actions.shape, generator=th.Generator().manual_seed(0))
    with th.no_grad():
        model.policy.double()
        nexts, rows = batch.next_observations.double(), batch.observation_actions.double()
        actions, log_prob = model.actor.action_log_prob(nexts, noise[1].double())
        least = model.critic_target(th.cat([nexts, actions], dim=-1)).amin(dim=0)
        soft = least - model.temperature.double()[:, None] * log_prob
        target = batch.rewards.double() + 0.99 * batch.continuations.double() * soft
        expected = sum((target - one).abs() for one in model.critic(rows)) / n_critics
        model.policy.float()
    assert batch.errors is None
    model.update(batch, noise)
    th.testing.assert_close(batch.errors.double(), expected, rtol=1e-3, atol=1e-4)
    assert not batch.errors.requires_grad
    model.replay_buffer.feedback(batch)
    used = batch.index >= 0
    rows, tasks = batch.index[used] // TASKS, batch.index[used] % TASKS
    given = dict(zip(zip(tasks, rows, strict=True), batch.errors.numpy()[used], strict=True))  # the last one counts
    leaves = model.replay_buffer.priorities.trees.leaves()
    for (task, row), error in given.items():
        assert leaves[task, row] == pytest.approx((error + 1e-6) ** 0.6, rel=1e-6)


def test_nobody_computes_errors_for_nobody():
    model = make().learn(60)
    batch = model.replay_buffer.sample(8)
    model.update(batch, th.zeros(2, *batch.actions.shape))
    assert batch.index is None and batch.importance is None and batch.errors is None
    model.replay_buffer.feedback(batch)  # nothing to do


def test_importance_is_about_the_critics_alone():
    """Their gradient changes with the weights, those of the actors and temperatures do not."""
    models = [make(cls=MultiTaskSAC, replay="own", draw="per", backend="torch").learn(60) for _ in range(2)]
    noise = th.randn(2, TASKS, 8, 2, generator=th.Generator().manual_seed(0))
    batch = models[0].replay_buffer.sample(8)
    losses = []
    for model, importance in zip(models, (th.ones(TASKS, 8), th.rand(TASKS, 8)), strict=True):
        batch.importance = importance
        with th.no_grad():
            model.critic.optimizer.param_groups[0]["lr"] = 0.0  # so that both actors meet the same critics
        losses.append(model.update(batch, noise))
    assert th.equal(losses[0][[0, 2]], losses[1][[0, 2]]) and (losses[0][1] > losses[1][1]).all()
    assert th.equal(models[0].actor.flat.flat.grad, models[1].actor.flat.flat.grad)
    expected = (0.5 * importance * batch.errors.square()).mean(dim=1)  # a lower bound: errors are means of two
    assert (losses[1][1] >= expected).all()


def test_the_models_batches_and_priorities_go_through_training(monkeypatch):
    """One call a step, before the next draw."""
    model, calls = make(**TA_PER), []
    feedback, sample = model.replay_buffer.feedback, model.replay_buffer.sample
    monkeypatch.setattr(model.replay_buffer, "feedback", lambda batch: (calls.append("feedback"), feedback(batch)))
    monkeypatch.setattr(
        model.replay_buffer, "sample", lambda *args, **kw: (calls.append("sample"), sample(*args, **kw))[1]
    )
    model.learn(120)
    assert calls == ["sample", "feedback"] * model._n_updates and model._n_updates > 5
    leaves = model.replay_buffer.priorities.trees.leaves()
    assert len(np.unique(leaves[leaves > 0])) > 50 and model.draw.beta == pytest.approx(1.0, abs=0.1)


def test_native_updates_decline():
    model = make(draw="per")
    assert model.update_backend == "torch"
    if unavailable() is None:
        assert model.backend_note == "draw=per(0.6, 0.4)" and make(draw="uniform").backend_note is None
    with pytest.raises(ValueError, match="backend='native' cannot compute"):
        make(draw="per", backend="native")


@pytest.mark.parametrize("draw", ["uniform", "per(0, 0)"])
def test_uniform_draws_are_as_ever(draw):
    """No priority, no number drawn for one: the stream of a model without priorities is untouched."""
    one, other = make().learn(120), make(draw=draw).learn(120)
    assert equal(weights(one), weights(other)) == (draw == "uniform")


def test_what_is_logged():
    model = make(**TA_PER).learn(120)
    model.set_logger(Logger(None, []))
    model.train(2, 8)
    logged = model.logger.name_to_value
    assert logged["train/beta"] == model.draw.beta
    by_task = [logged[f"train/{name}/priority"] for name in model.task_names]
    expected = model.replay_buffer.priorities.trees.total() / model.replay_buffer.sizes
    np.testing.assert_allclose(by_task, expected)
    assert logged["train/priority"] == pytest.approx(np.mean(by_task))


# ---- saving ----


def test_a_loaded_buffer_goes_on_with_the_same_numbers():
    buffer = make_buffer(rows=1000)
    give(buffer, random_errors())
    store(buffer, [1], 5)  # not yet in the trees
    data = pickle.dumps(buffer)
    assert len(data) < 30_000, "the rows in use only"
    loaded = pickle.loads(data)
    for _ in range(3):
        mine, other = buffer.sample(16), loaded.sample(16)
        assert th.equal(mine.rows, other.rows) and th.equal(mine.importance, other.importance)
        for one, batch in ((buffer, mine), (loaded, other)):
            batch.errors = batch.rewards.abs() / 1000
            one.feedback(batch)
            store(one, [0, 2], 3)


@pytest.mark.parametrize("method", ["per", "ta-per"])
def test_a_stopped_training_goes_on_with_the_same_numbers(method, tmp_path):
    parts = dict(presets.method(method).parts)
    model = make(train_freq=10, **parts).learn(300)
    model._last_obs = None  # both go on from a reset
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = type(model).load(tmp_path / "model", env=drifts(), device="cpu")
    assert loaded.draw.beta == model.draw.beta and repr(loaded.draw) == "per(0.6, 0.4)"
    loaded.load_replay_buffer(tmp_path / "replay")
    assert loaded.replay_buffer.drawing is loaded.draw is loaded.replay_buffer.priorities.rule
    model.set_env(drifts())
    for one in (model, loaded):
        one.env.seed(7)
        one.learn(150, reset_num_timesteps=False)
    assert loaded.draw.beta == model.draw.beta
    np.testing.assert_array_equal(
        loaded.replay_buffer.priorities.masses(True), model.replay_buffer.priorities.masses(True)
    )
    assert equal(weights(loaded), weights(model))


def test_beta_is_where_the_training_is(tmp_path):
    model = make(draw="per", train_freq=1).learn(150)
    assert model.draw.beta == pytest.approx(1.0, abs=0.02)
    model.learn(150, reset_num_timesteps=False)  # as SB3's schedules: 300 steps are the whole now
    assert model.draw.beta == pytest.approx(1.0, abs=0.02)
    model.learn(60)
    assert model.draw.remaining < 0.1
    half = make(draw="per(0.6, 0.4)", train_freq=1)
    half._total_timesteps = 0
    half.learn(120, callback=lambda local, _: half.num_timesteps < 60)
    assert half.draw.beta == pytest.approx(0.7, abs=0.03)
    half.save(tmp_path / "model")
    assert MultiTaskSAC.load(tmp_path / "model", device="cpu").draw.beta == half.draw.beta


def test_a_buffer_without_priorities_gets_equal_ones(tmp_path):
    """Saved by a model that draws uniformly, or before there were priorities; and the way back."""
    plain, other = make().learn(120), make(**TA_PER)
    plain.save_replay_buffer(tmp_path / "replay")
    other.load_replay_buffer(tmp_path / "replay")
    other.replay_buffer.sample(8)
    assert ((other.replay_buffer.priorities.trees.leaves() == 1.0).sum(axis=1) == other.replay_buffer.sizes).all()
    state = plain.replay_buffer.__getstate__()
    older = MultiTaskReplayBuffer.__new__(MultiTaskReplayBuffer)
    older.__setstate__({key: value for key, value in state.items() if key not in ("drawing", "priorities")})
    assert older.priorities is None and older.sample(4).index is None
    other.save_replay_buffer(tmp_path / "replay")
    plain.load_replay_buffer(tmp_path / "replay")
    assert plain.replay_buffer.priorities is None and plain.replay_buffer.sample(8).importance is None


def test_a_model_of_an_older_version_is_loaded(tmp_path):
    make().save(tmp_path / "model", exclude=["draw"])
    assert repr(MultiTaskSAC.load(tmp_path / "model", env=drifts(), device="cpu").draw) == "uniform"


def test_another_exponent_keeps_the_errors():
    buffer = make_buffer()
    errors = random_errors()
    give(buffer, errors)
    buffer.draw_by(Prioritized(alpha=0.3))
    there = np.arange(ROWS) < buffer.sizes[:, None]
    expected = np.where(there, (errors + 1e-6) ** 0.3, 0.0)
    np.testing.assert_allclose(buffer.priorities.trees.leaves(), expected, rtol=1e-12)
    np.testing.assert_allclose(buffer.priorities.masses(True), expected.sum(axis=1))


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
    assert isinstance(make_buffer(sizes=(0, 0, 0), rows=fits)._table, HostTable)
    make_buffer(sizes=(0, 0, 0), replay="own", draw="uniform", rows=12_000)


# ---- methods ----


@pytest.mark.parametrize("method", ["per", "ta-per"])
def test_a_method_learns(method):
    """A few hundred steps to three goals: better than before, and priorities have changed."""
    settings = dict(learning_starts=90, batch_size=32, train_freq=10, gradient_steps=10, learning_rate=1e-2)
    model = make(ent_coef=0.02, policy_kwargs={"net_arch": [32]}, **settings, **presets.method(method).parts).learn(450)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert np.mean(returns[-15:]) > 0.6 * np.mean(returns[:15]), "they are negative"
    leaves = model.replay_buffer.priorities.trees.leaves()
    assert len(np.unique(leaves[leaves > 0])) > 300


@pytest.mark.parametrize("task_weights", ["mean", "taskmean", "sum"])
@pytest.mark.parametrize("replay", ["pool", "mass"])
def test_fully_corrected_weights_favour_no_task(replay, task_weights):
    """Where every row counts alike they correct the choice of tasks, too; where each task counts by itself, only the
    choice within it: a task that is drawn nine times as often counts as the others do.
    """
    model = make(replay=replay, draw="per(1, 1)", task_weights=task_weights, batch_size=16)
    model.learn(120)
    model.draw.anneal(0.0)
    buffer, tasks = model.replay_buffer, model.n_tasks
    buffer.priorities.masses(True)
    rows = np.arange(buffer.sizes[0])
    for task in range(tasks):
        buffer.priorities.trees.update(np.full(len(rows), task), rows, np.full(len(rows), 9.0 if task == 0 else 1.0))
    shares = np.zeros(tasks)
    for _ in range(400):
        batch = buffer.sample(16)
        count_for = TASK_WEIGHTS[task_weights](batch.task_counts(), model.temperature).numpy()
        weights = batch.corrected_weights
        shares += count_for * (weights.sum(dim=1).numpy() if weights is not None else 1.0)
    expected = [1 / tasks] * tasks
    if replay == "mass" and task_weights == "mean":  # more rows of a task are the method's purpose
        assert shares[0] > 1.5 * shares[1]
    else:
        np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.04)


def test_weights_among_tasks_need_rows_that_count_alike():
    make(replay="mass(importance='global')", draw="per", task_weights="mean")
    with pytest.raises(ValueError, match="task_weights='sum' a task counts by itself: use task_weights='mean'"):
        make(replay="mass(importance='global')", draw="per")
