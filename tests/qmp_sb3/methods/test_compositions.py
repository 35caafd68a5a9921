"""Methods that go together, ``"parameters+qmp"``: what they mean, that they train, and what is refused."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch as th

from qmp_sb3 import make_multitask_vec_env, presets
from qmp_sb3.methods import table
from qmp_sb3.methods.table import Method
from tests.qmp_sb3.methods.test_presets import METHODS, REACHER, small

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


PAIRS = [f"{one}+{other}" for one, other in combinations(METHODS, 2)]
MEANT = [pair for pair in PAIRS if meant(pair)]
#: every method with every other that it goes with, and with QMP besides
WHOLE = [*MEANT, *(f"{pair}+qmp" for pair in MEANT if meant(f"{pair}+qmp"))]


def _quick() -> list[str]:
    """Each method with QMP and with TA-PER, each behavior with shared parameters, and each method with another one."""
    chosen = [f"{one}+qmp" for one in OTHERS] + [f"parameters+{one}" for one in BEHAVIORS]
    chosen += [f"{one}+ta-per" for one in OTHERS if "networks" in presets.method(one).parts]
    for one in OTHERS:
        chosen += [pair for pair in MEANT if one in pair.split("+") and not set(pair.split("+")) & set(BEHAVIORS)][:1]
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
def test_together_they_have_what_each_decides(name):
    one, other = (presets.method(part) for part in name.split("+"))
    both, swapped = presets.method(name), presets.method("+".join(reversed(name.split("+"))))
    assert dict(both.parts) == dict(swapped.parts)
    assert dict(both.parts).items() >= {**one.decided, **other.decided}.items()
    for argument, value in both.parts.items():
        assert value in (one.parts.get(argument), other.parts.get(argument))
    for row, beside in ((one, other), (other, one)):
        lost = {argument for argument in row.parts if argument not in both.parts}
        assert not lost or "networks" in beside.decided, "networks bring their company along"
        assert lost <= set(row.comes_with)
    assert both.summary == f"{one.summary}; {other.summary}"
    assert both.algorithm is swapped.algorithm
    assert (both.algorithm is presets.method("qmp").algorithm) == ("behavior" in both.parts)


@pytest.mark.parametrize("name", [pair for pair in PAIRS if pair not in MEANT])
def test_what_does_not_go_together_is_refused_in_any_order(name):
    for order in (name, "+".join(reversed(name.split("+")))):
        with pytest.raises(ValueError, match="(?s)leave .+ out|all tasks have the same policy"):
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
        ("dnc+parameters", "one policy into separate ones, and here the tasks have none; .* as dnc-reg\\+parameters"),
        ("mtsac+qmp+dnc", "as mtsac\\+qmp\\+dnc-reg"),
        ("parameters+pcgrad", "pcgrad contains parameters; leave parameters out"),
        ("pcgrad+decaf", "the tasks' networks are separate, so their gradients have no conflicts; leave pcgrad out"),
        ("per+ta-per", "per and ta-per both decide 'replay'"),
        ("ta-per+data", "data compares other tasks' transitions with a batch .* the one of ta-per does not"),
        ("cds+parameters+per", "cds compares .* the one of per does not"),
    ],
)
def test_refusals_say_why(name, reason):
    with pytest.raises(ValueError, match=reason):
        presets.make(name, REACHER)


@pytest.mark.parametrize(
    "name, parts",
    [
        ("mtsac+ta-per", {"networks": "onehot", "replay": "mass", "task_weights": "mean"}),
        ("parameters+per", {"networks": "multihead", "replay": "pool", "draw": "per(0.6, 0.4)"}),
        ("pcgrad+ta-per", {"networks": "multihead", "replay": "mass", "gradients": "pcgrad"}),
        ("mtsac+pcgrad", {"networks": "onehot", "replay": "pool", "task_weights": "taskmean", "gradients": "pcgrad"}),
        ("pcgrad+mtsac+ta-per+qmp", {"networks": "onehot", "replay": "mass", "behavior": "argmax(q)"}),
        ("pcgrad+mcal-mh", {"networks": "multihead", "replay": None, "gradients": "pcgrad", "temperatures": "shared"}),
        ("mcal-mn+pcgrad", {"networks": {"actor": "multihead", "critic": "independent"}, "replay": None}),
        ("qmp+ta-per", {"networks": None, "replay": "mass", "behavior": "argmax(q)", "task_weights": None}),
    ],
)
def test_what_a_method_merely_comes_with_gives_way(name, parts):
    for order in permutations(name.split("+")):
        joined = presets.method("+".join(order)).parts
        assert {argument: joined.get(argument) for argument in parts} == parts


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("order", ["parameters+ta-per", "ta-per+parameters"])
def test_a_batch_keeps_its_rows_where_others_divide_it(order, preset):
    """32 in all, from the file of parameters, and as many updates as it has."""
    values, alone = (presets.settings(one, REACHER, preset) for one in (order, "parameters"))
    assert values["replay"] == "mass(32)" and alone["replay"] == "pool(32)"
    assert values["gradient_steps"] == alone["gradient_steps"]
    assert presets.settings(order.replace("ta-per", "per"), REACHER, preset)["replay"] == "pool(32)"
    assert presets.settings("qmp+ta-per", REACHER, preset)["replay"] == "mass"


def test_networks_bring_their_hyper_parameters_along():
    """PCGrad's file starts from that of parameters, whose networks it gives up here."""
    alone, joined = (presets.settings(one, "QMP/MT10-v0", "official") for one in ("mtsac", "mtsac+pcgrad"))
    assert joined == alone | dict(task_weights="taskmean", gradients="pcgrad")


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
    monkeypatch.setattr(table, "ROWS", (*table.ROWS, row))
    assert "mine" in presets.methods() and "mine+qmp" in presets.compositions()
    assert presets.sources("mine", POINT).keys() == presets.sources("no-sharing", POINT).keys()
    model = small("mine+qmp").learn(200)
    assert model.networks == "onehot" and repr(model.regularizer) == "dnc(0.5)" and model._n_updates > 0
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        presets.method("mine2")
