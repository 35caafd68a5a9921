"""Methods that go together, ``"parameters+qmp"``: what they mean, that they train, and what is refused."""

from itertools import combinations

import numpy as np
import pytest
import torch as th

from qmp_sb3 import make_multitask_vec_env, methods, presets
from qmp_sb3.methods import Method
from tests.qmp_sb3.test_presets import METHODS, REACHER, small

POINT = "QMP/Point2D-v0"
BEHAVIORS = [name for name in METHODS if set(presets.method(name).parts) == {"behavior"}]
OTHERS = [name for name in METHODS if name not in BEHAVIORS]


def meant(name: str) -> bool:
    """Whether the table lets these methods go together."""
    try:
        presets.method(name)
    except ValueError:
        return False
    return True


def separate_policies(name: str) -> bool:
    """What distillation needs."""
    networks = presets.method(name).parts.get("networks", "independent")
    return (networks["actor"] if isinstance(networks, dict) else networks) == "independent"


PAIRS = [f"{one}+{other}" for one, other in combinations(METHODS, 2)]
MEANT = [pair for pair in PAIRS if meant(pair)]
BUILT = [pair for pair in MEANT if "dnc" not in pair.split("+") or separate_policies(pair)]
#: every method with every other that it goes with, and with QMP besides
WHOLE = [*BUILT, *(f"{pair}+qmp" for pair in BUILT if meant(f"{pair}+qmp"))]


def _quick() -> list[str]:
    """Each method with QMP, each behavior with shared parameters, and each method with another one."""
    chosen = [f"{one}+qmp" for one in OTHERS] + [f"parameters+{one}" for one in BEHAVIORS]
    for one in OTHERS:
        chosen += [pair for pair in BUILT if one in pair.split("+") and not set(pair.split("+")) & set(BEHAVIORS)][:1]
    return [pair for pair in dict.fromkeys(chosen) if meant(pair)]


CROSS = [
    pytest.param(name, marks=[] if name in _quick() else [pytest.mark.slow])
    for name in dict.fromkeys([*_quick(), *WHOLE])
]


@pytest.mark.parametrize("name", CROSS)
def test_methods_that_go_together_train(name, tmp_path):
    model = small(name).learn(200)
    assert model._n_updates > 0
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    rows = model.env.reset()
    expected, _ = model.predict(rows, deterministic=True)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=REACHER, device="cpu")
    np.testing.assert_array_equal(loaded.predict(rows, deterministic=True)[0], expected)
    loaded.learn(50, reset_num_timesteps=False)


@pytest.mark.slow
@pytest.mark.parametrize("id", [POINT, "QMP/Maze-v0"])
@pytest.mark.parametrize("name", WHOLE)
def test_methods_that_go_together_train_on_other_task_sets(name, id):
    if "domain" in name:
        with pytest.raises(ValueError, match="subgoals"):
            small(name, id)
    else:
        assert small(name, id).learn(200)._n_updates > 0


@pytest.mark.parametrize("name", MEANT)
def test_together_they_have_the_parts_of_each(name):
    one, other = (presets.method(part) for part in name.split("+"))
    both, swapped = presets.method(name), presets.method("+".join(reversed(name.split("+"))))
    assert dict(both.parts) == dict(swapped.parts) == {**one.parts, **other.parts}
    assert both.summary == f"{one.summary}; {other.summary}"
    assert both.algorithm is swapped.algorithm
    assert (both.algorithm is presets.method("qmp").algorithm) == ("behavior" in both.parts)


@pytest.mark.parametrize("name", [pair for pair in PAIRS if pair not in MEANT])
def test_what_does_not_go_together_is_refused_in_any_order(name):
    for order in (name, "+".join(reversed(name.split("+")))):
        with pytest.raises(ValueError, match="leave .+ out|all tasks have the same policy"):
            presets.make(order, REACHER)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("fully-shared+qmp", "all tasks have the same policy: qmp has nothing to choose; parameters\\+qmp"),
        ("qmp-hold+fully-shared", "qmp-hold has nothing to choose"),
        ("fully-shared+dnc-reg", "no others to draw it to"),
        ("qmp+qmp-hold", "qmp and qmp-hold both decide 'behavior'"),
        ("data+cds", "data and cds both decide 'sharing'"),
        ("parameters+mtsac", "parameters and mtsac both decide 'networks'"),
        ("decaf+qmp+parameters", "decaf and parameters both decide 'networks'"),
        ("dnc+dnc-reg", "dnc contains dnc-reg"),
        ("no-sharing+qmp", "leave them out"),
        ("qmp+qmp", "leave them out"),
        ("parameters+qpm", "did you mean 'qmp'"),
        ("uds", r"did you mean 'data', whose sharing is 'uds\(0\)'"),
        ("multihead+qmp", "did you mean 'parameters', whose networks is 'multihead'"),
        ("parameters+", "method='' is unknown"),
    ],
)
def test_refusals_say_why(name, reason):
    with pytest.raises(ValueError, match=reason):
        presets.make(name, REACHER)


@pytest.mark.parametrize("name", [pair for pair in MEANT if pair not in BUILT])
def test_distillation_into_a_shared_actor_is_refused_when_the_model_is_made(name):
    with pytest.raises(ValueError, match="no separate ones, use 'independent'"):
        small(name)


@pytest.mark.parametrize("name", ["pcgrad+dnc-reg", "mcal-mn+data+qmp", "parameters+cds+dnc-reg+qmp-hold"])
def test_several_environments_of_a_task(name):
    model = small(name, make_multitask_vec_env(REACHER, envs_per_task=2)).learn(200)
    assert model.n_envs == 10 and model._n_updates > 0


def test_the_lists_of_this_file_hold_what_they_should():
    assert {"parameters+qmp", "data+qmp", "pcgrad+qmp", "mcal-mn+qmp", "dnc+qmp", "decaf+qmp"} <= set(_quick())
    assert {part for name in _quick() for part in name.split("+")} == set(METHODS) - {"no-sharing"}
    in_table_order = {"+".join(sorted(name.split("+"), key=METHODS.index)) for name in presets.compositions()}
    assert in_table_order <= {*_quick(), *WHOLE}


def test_a_row_that_is_added_to_the_table_is_a_method_like_any_other(monkeypatch):
    """It needs no file of hyper-parameters, goes with the others, and the lists that tests are made of contain it."""
    row = Method("mine", "every task in turn", "a user", {"networks": "onehot", "regularizer": "dnc(0.5)"})
    monkeypatch.setattr(methods, "ROWS", (*methods.ROWS, row))
    assert "mine" in presets.methods() and "mine+qmp" in presets.compositions()
    assert presets.sources("mine", POINT).keys() == presets.sources("no-sharing", POINT).keys()
    model = small("mine+qmp").learn(200)
    assert model.networks == "onehot" and repr(model.regularizer) == "dnc(0.5)" and model._n_updates > 0
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        presets.method("mine2")
