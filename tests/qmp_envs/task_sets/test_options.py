"""Options that are not allowed are refused at construction, by name, value, limit and what would do instead."""

import numpy as np
import pytest

import qmp_envs
from qmp_envs.task_sets import options

NAN, INF = float("nan"), float("inf")
META_WORLD = ("QMP/MT10-v0", "QMP/MetaWorldCDS-v0")
KITCHEN = ("QMP/Kitchen-v0",)
SCALE = r"reward_scale must be a finite number above 0, got "
SEED = r"goal_seed must be a whole number of at least 0, got "
NOISE = r"noise must be a finite number of at least 0, got "
BONUS = r"success_bonus must be a finite number, got "
REFUSED = [
    *[(META_WORLD, "reward_scale", value, SCALE) for value in (NAN, INF, "a", None, True)],
    *[(META_WORLD, "reward_scale", value, SCALE + f"{value}; say 1") for value in (-1, 0)],
    (META_WORLD, "goal_seed", -1, SEED + "-1; the nearest is 0"),
    *[(META_WORLD, "goal_seed", value, SEED) for value in (None, 0.5, "a", True)],
    (META_WORLD, "goals", 50, "Unknown goals 50; did you mean 'fixed-50'.*Allowed: 'rand', 'fixed-50', 'fixed-1'"),
    *[(META_WORLD, "goals", value, "Unknown goals .*did you mean") for value in (None, ["rand"], "random")],
    (KITCHEN, "noise", -0.1, NOISE + "-0.1; the nearest is 0"),
    *[(KITCHEN, "noise", value, NOISE) for value in (INF, NAN, "x", None)],
    *[(KITCHEN, "success_bonus", value, BONUS) for value in ("x", INF, NAN, True)],
]


@pytest.mark.parametrize(
    "id, name, value, said", [(id, *row) for ids, *row in REFUSED for id in ids], ids=lambda value: str(value)[:24]
)
def test_a_value_that_is_not_allowed_is_refused(id, name, value, said):
    if id in META_WORLD:
        pytest.importorskip("metaworld")
    with pytest.raises(ValueError, match=said):
        qmp_envs.make_task_set(id, **{name: value})


def test_allowed_values_come_back_as_plain_numbers():
    assert options.number("scale", np.float32(0.5), 0.0) == 0.5
    assert options.number("scale", 0, 0.0) == 0.0
    assert type(options.seed("seed", np.int64(0))) is int
    assert options.choice("goals", "b", {"a": 1, "b": 2}) == "b"
