"""The shared reward shapes: values one can compute by hand, limits, and Meta-World's own functions."""

import numpy as np
import pytest

from qmp_envs.task_sets.reward_shapes import gaussian, hamacher_product, long_tail, tolerance

SHAPES = [gaussian, long_tail]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_margin_says_where_a_tenth_is_left(shape):
    value = tolerance([-3.0, -1.0, 0.0, 2.0, 2.5, 4.0], low=-1.0, high=2.0, margin=2.0, shape=shape)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value[[0, 1, 2, 3, 5]], [0.1, 1.0, 1.0, 1.0, 0.1], rtol=1e-15)
    assert 0.1 < value[4] < 1.0
    assert tolerance(7.0, margin=7.0, shape=shape, value_at_margin=0.25) == pytest.approx(0.25)


def test_values_by_hand():
    assert tolerance(0.5, margin=1.0) == pytest.approx(0.1**0.25)  # exp(-k d^2) with a tenth at 1
    assert tolerance(0.5, margin=1.0, shape=long_tail) == pytest.approx(1.0 / (1.5**2 + 1.0))
    far = tolerance(10.0, margin=1.0), tolerance(10.0, margin=1.0, shape=long_tail)
    assert far[0] == pytest.approx(1e-100) and far[1] == pytest.approx(1.0 / 901.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_limits_and_margins_may_differ_from_slot_to_slot(shape):
    rng = np.random.default_rng(0)
    x, low = rng.normal(size=50), rng.normal(size=50)
    high, margin = low + rng.random(50), rng.random(50)
    margin[::5] = 0.0
    together = tolerance(x, low, high, margin, shape)
    alone = [tolerance(*row, shape) for row in zip(x, low, high, margin, strict=True)]
    np.testing.assert_array_equal(together, alone)
    assert tolerance(x[:, None], low[None], high[None], margin[None], shape).shape == (50, 50)


def test_without_a_margin_the_edge_is_hard():
    np.testing.assert_array_equal(tolerance([-1e-9, 0.0, 1.0, 1.0 + 1e-9], high=1.0), [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(tolerance([-5.0, 1.5], low=-np.inf, high=1.0), [1.0, 0.0])
    assert tolerance([-5.0, 1.5], low=-np.inf, high=1.0, margin=0.5)[1] == pytest.approx(0.1)


def test_hamacher_product():
    np.testing.assert_allclose(
        hamacher_product([0.0, 0.0, 1.0, 1.0, 0.5], [0.0, 1.0, 1.0, 0.3, 0.5]), [0.0, 0.0, 1.0, 0.3, 1 / 3]
    )
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 100))
    product = hamacher_product(a, b)
    np.testing.assert_array_equal(product, hamacher_product(b, a))
    assert (product <= np.minimum(a, b)).all() and (product >= a * b).all()


def test_errors():
    with pytest.raises(ValueError, match="low must not be above high"):
        tolerance(0.0, low=1.0, high=0.0)
    with pytest.raises(ValueError, match="margin must be at least 0, got -1"):
        tolerance(0.0, margin=-1.0)
    with pytest.raises(ValueError, match="value_at_margin must be between 0 and 1, got 0"):
        tolerance(0.0, margin=1.0, value_at_margin=0.0)
    with pytest.raises(ValueError, match=r"b must be within \[0, 1\], got 1.5"):
        hamacher_product(0.5, 1.5)
    with pytest.raises(ValueError, match="a must be within"):
        hamacher_product([0.5, np.nan], 0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_meta_worlds_functions(shape):
    utils = pytest.importorskip("metaworld.utils.reward_utils")
    rng = np.random.default_rng(1)
    for x, low, width, margin in zip(*rng.normal(size=(2, 300)), *rng.random((2, 300)), strict=True):
        theirs = utils.tolerance(x, bounds=(low, low + width), margin=margin, sigmoid=shape.__name__)
        np.testing.assert_allclose(tolerance(x, low, low + width, margin, shape), theirs, rtol=1e-14)
    for a, b in rng.random((300, 2)):
        assert hamacher_product(a, b) == utils.hamacher_product(a, b)
