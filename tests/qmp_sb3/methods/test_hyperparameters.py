"""The hyper-parameter data: what papers and released code give stands in it, with the gaps said."""

import pytest

import qmp_envs
from qmp_sb3 import presets

EVERY = [(id, preset) for id, names in presets.sets_with_values().items() for preset in names]
OF_QMP = [(id, preset) for id, preset in EVERY if preset != "ctpg-paper"]
MEASURED = ("QMP/MultistageReacher-v0", "QMP/Maze-v0", "QMP/Walker2D-v0", "QMP/Kitchen-v0", "QMP/MetaWorldCDS-v0")
N_TASKS = dict(zip((*MEASURED, "QMP/MT10-v0", "QMP/MT50-v0"), (5, 10, 4, 10, 4, 10, 50), strict=True))


@pytest.mark.parametrize("method", presets.methods())
def test_a_row_has_every_value_that_its_file_changes(method):
    """The parts of the table are what runs on a set that the file does not name."""
    row = presets.method(method)
    for id, preset in EVERY:
        values = presets.sources(method, id, preset)
        presets.check_overrides(values)
        for argument, (_, source) in values.items():
            assert isinstance(source, str) and len(source) >= 4, (id, preset, argument)
        assert set(row.parts) <= set(presets.settings(method, id, preset))


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("method", ["fully-shared", "parameters", "pcgrad", "mtsac"])
@pytest.mark.parametrize("id", [id for id in N_TASKS if id not in ("QMP/MT10-v0", "QMP/MT50-v0")])
def test_one_network_takes_the_updates_of_all_tasks(method, id, preset):
    """Appendix H.3: N times the updates of one task's batch, drawn from all tasks."""
    one, core = presets.settings(method, id, preset), presets.settings("no-sharing", id, preset)
    assert one["gradient_steps"] == N_TASKS[id] * core["gradient_steps"]
    assert one["train_freq"] == core["train_freq"]
    assert one["replay"] == f"pool({core['batch_size']})"


@pytest.mark.parametrize("id", N_TASKS)
def test_the_code_counts_one_buffer_of_all_tasks(id):
    """The same number is a threshold for each task with separate buffers, and for all tasks with one."""
    shared, core = presets.settings("parameters", id, "official"), presets.settings("no-sharing", id, "official")
    assert shared["learning_starts"] * N_TASKS[id] == core["learning_starts"]
    assert shared["buffer_size"] * N_TASKS[id] == 1_000_000


#: minimum buffer, environment steps and gradient steps per update (all per task), batch, learning rate, hidden units
TABLE_4 = {
    "MultistageReacher": (10_000, 1000, 100, 32, 3e-4, 256),
    "Maze": (3000, 600, 100, 256, 3e-4, 256),
    "MetaWorldCDS": (10_000, 500, 50, 256, 1.5e-3, 256),
    "MT10": (500, 500, 50, 2560, 1.5e-3, 256),
    "Walker2D": (2500, 1000, 1500, 256, 3e-4, 256),
    "Kitchen": (200, 200, 50, 1280, 3e-4, 256),
}
RELEASED_CODE = {
    "MultistageReacher": (10_000, 200, 200, 32, 3e-4, 256),
    "Maze": (3000, 600, 100, 256, 3e-4, 256),
    "MetaWorldCDS": (5000, 500, 50, 256, 1.5e-3, 256),
    "MT10": (5000, 500, 50, 2560, 1.5e-3, 256),
    "Walker2D": (10_000, 1000, 1500, 32, 3e-4, 256),
    "Kitchen": (2000, 200, 50, 1280, 3e-4, 256),
    "MT50": (1500, 500, 50, 1280, 3e-4, 400),
}


@pytest.mark.parametrize("preset, table", [("paper", TABLE_4), ("official", RELEASED_CODE)])
def test_the_core_has_the_values_of_table_4_and_of_the_released_code(preset, table):
    for name, (minimum, steps, updates, batch, rate, hidden) in table.items():
        id = f"QMP/{name}-v0"
        values = presets.settings("no-sharing", id, preset)
        assert values["learning_starts"] == minimum * N_TASKS[id], name
        assert (values["train_freq"], values["gradient_steps"]) == (steps, updates), name
        assert (values["batch_size"], values["learning_rate"]) == (batch, rate), name
        assert (values["gamma"], values["tau"], values["ent_coef"]) == (0.99, 0.005, "auto"), name
        assert values["policy_kwargs"]["net_arch"] == [hidden, hidden], name
        assert values["policy_kwargs"].get("activation_fn") == ("tanh" if preset == "paper" else None), name


def test_sizes_and_rates_of_appendix_h_3():
    given = {
        ("fully-shared", "QMP/MultistageReacher-v0"): ([600, 600], 3e-4),
        ("fully-shared", "QMP/Maze-v0"): ([834, 834], 3e-4),
        ("fully-shared", "QMP/MetaWorldCDS-v0"): ([512, 512], 1e-3),
        ("parameters", "QMP/MultistageReacher-v0"): ([512, 512], 1e-3),
        ("parameters", "QMP/Maze-v0"): ([834, 834], 3e-4),
        ("parameters+qmp", "QMP/MultistageReacher-v0"): ([512, 512], 1e-3),
        ("parameters+qmp", "QMP/Maze-v0"): ([834, 834], 3e-4),
    }
    for (method, id), (hidden, rate) in given.items():
        values = presets.settings(method, id, "paper")
        assert (values["policy_kwargs"]["net_arch"], values["learning_rate"]) == (hidden, rate), (method, id)


@pytest.mark.parametrize("name", ["parameters+qmp", "qmp+parameters", "parameters + qmp"])
def test_what_a_composition_sets_is_read_in_any_order(name):
    maze, reacher = (presets.settings(name, f"QMP/{one}-v0", "paper") for one in ("Maze", "MultistageReacher"))
    assert maze["behavior"] == "warmup(600000, argmax(q))" and reacher["behavior"] == "argmax(q)"
    assert presets.settings(name, "QMP/Maze-v0", "official")["behavior"] == "argmax(q)", "the code has no warm-up"


SWITCHES = ("qmp", "qmp-softmax", "qmp-sampled", "qmp-entropy", "qmp-hold", "parameters+qmp-hold")


@pytest.mark.parametrize("method", SWITCHES)
def test_on_mt10_the_own_policy_acts_most_of_the_time_whatever_the_switch(method):
    """Appendix H.5; otherwise two of them would differ in more than the switch."""
    elsewhere = presets.settings(method, "QMP/Kitchen-v0")["behavior"]
    rule = elsewhere.removeprefix("hold(10, ").removesuffix(")" if elsewhere.startswith("hold") else "")
    for preset in ("fast", "official", "paper"):
        given = presets.settings(method, "QMP/MT10-v0", preset)["behavior"]
        assert given == elsewhere.replace(rule, f"own(0.7, {rule})")


def test_the_quantile_of_data_sharing_where_paper_and_code_disagree():
    paper, official, fast = (
        presets.settings("data", "QMP/MultistageReacher-v0", one)["sharing"] for one in ("paper", "official", "fast")
    )
    assert (paper, official, fast) == ("uds(0.8)", "uds(0)", "uds(0)")


def test_a_file_can_start_from_another_ones_values():
    for id, preset in OF_QMP:
        base, derived = (presets.own_values(method, id, preset) for method in ("parameters", "pcgrad"))
        assert derived == {key: [value, f"as parameters: {source}"] for key, (value, source) in base.items()}


@pytest.mark.parametrize("id", MEASURED)
def test_coefficients_of_divide_and_conquer(id):
    beta = "dnc(0.0001)" if id == "QMP/Maze-v0" else "dnc(0.001)"
    assert presets.settings("dnc-reg", id)["regularizer"] == beta
    assert presets.settings("dnc", id)["regularizer"] == "dnc(0.001)"


@pytest.mark.parametrize("id, preset", OF_QMP)
def test_distillation_comes_ten_times_in_a_training(id, preset):
    code = {"MultistageReacher": 2, "Maze": 12, "Walker2D": 8, "Kitchen": 5, "MetaWorldCDS": 10}  # million steps
    code |= {"MT10": 50, "MT25": 125, "MT50": 200}
    family = id.removeprefix("QMP/").removesuffix("-v0")
    steps = presets.default_steps(id) if preset == "fast" else 1_000_000 * code[family]
    updates = 100 if preset == "official" else 500
    assert presets.settings("dnc", id, preset)["hooks"] == [f"distill({steps // 10}, {updates})"]


def test_the_smallest_reward_of_the_released_code():
    code = {"MultistageReacher": -5, "Maze": -1, "Walker2D": 0, "MetaWorldCDS": 0, "MT10": 0, "MT50": 0, "Kitchen": -20}
    for id, value in code.items():
        assert qmp_envs.make_task_set(f"QMP/{id}-v0").min_reward == value
