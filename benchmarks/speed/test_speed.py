"""The same work for pytest-benchmark: one group per kind of work, one line per variant. ``make bench``

For a comparison use ``python -m benchmarks.speed.ratios``, which interleaves the variants.
"""

import pytest
import torch as th

from benchmarks.speed.workloads import GROUPS

VARIANTS = {
    "update, batch 32": ("ours", "five SB3 SACs"),
    "update, batch 256": ("ours", "five SB3 SACs"),
    "action selection": ("ours", "looped over five SB3 SACs", "looped, by predict()"),
    "environment step": ("ours, gym.make_vec", "ours, MultiTaskVecEnv", "SB3 DummyVecEnv of gym.make", "only mj_step"),
}


@pytest.fixture(scope="module")
def built():
    """Groups are built when their first variant runs, and only once."""
    th.set_num_threads(1)
    groups = {}

    def build(name):
        if name not in groups:
            groups[name] = GROUPS[name]()
        return groups[name]

    return build


@pytest.mark.parametrize("name, variant", [(name, variant) for name in VARIANTS for variant in VARIANTS[name]])
def test_speed(benchmark, built, name, variant):
    group = built(name)
    assert tuple(group) == VARIANTS[name]
    benchmark.group = name
    benchmark.name = variant
    benchmark.pedantic(group[variant], rounds=20, iterations=5, warmup_rounds=2)
