"""Sum trees: sums, searches and updates against plain arrays."""

import pickle

import numpy as np
import pytest

from qmp_sb3.replay.sum_trees import SumTrees
from tests.qmp_sb3.replay.prioritized_buffers import TASKS


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
