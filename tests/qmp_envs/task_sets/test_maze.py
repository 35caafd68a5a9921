"""The Maze's layouts, routes and physics."""

import ast
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps

from qmp_envs.task_sets.maze import ORIGIN, Maze
from qmp_envs.task_sets.maze_layouts import LARGE_ROUTES, LAYOUTS, long_routes, steps_from

ID = "QMP/Maze-v0"


def make(**options):
    return gym.make(ID, disable_env_checker=True, **options).unwrapped


def test_routes_are_as_long_as_published():
    lengths = [steps_from(LAYOUTS["large"], start)[goal] for start, goal in LARGE_ROUTES]
    assert lengths == [9, 9, 9, 9, 11, 11, 11, 12, 14, 15]


@pytest.mark.parametrize("layout,map_name", [("large", "LARGE_MAZE"), ("medium", "MEDIUM_MAZE"), ("umaze", "U_MAZE")])
def test_layouts_are_those_of_gymnasium_robotics(layout, map_name):
    walls = [[cell == "#" for cell in row] for row in LAYOUTS[layout]]
    assert walls == [[cell == 1 for cell in row] for row in getattr(maps, map_name)]


def literal(node):
    """The value of constants, lists of them, and sums of strings; None for anything else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = literal(node.left), literal(node.right)
        return left + right if isinstance(left, str) and isinstance(right, str) else None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


@pytest.fixture(scope="module")
def d4rl_source(tmp_path_factory):
    """The syntax tree of d4rl 1.1's maze model. It cannot be imported on a current Python, so it is read."""
    folder = tmp_path_factory.mktemp("d4rl")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), "d4rl==1.1"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("d4rl 1.1 cannot be downloaded here")
    (wheel,) = folder.glob("*.whl")
    return ast.parse(zipfile.ZipFile(wheel).read("d4rl/pointmaze/maze_model.py"))


@pytest.mark.network
@pytest.mark.parametrize("layout,name", [("large", "LARGE_MAZE"), ("medium", "MEDIUM_MAZE"), ("umaze", "U_MAZE")])
def test_layouts_are_those_of_d4rl(d4rl_source, layout, name):
    (text,) = [
        literal(node.value)
        for node in d4rl_source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    rows = tuple("".join("#" if cell == "#" else "." for cell in row) for row in text.split("\\"))
    assert rows == LAYOUTS[layout]


@pytest.mark.network
def test_constants_are_those_of_d4rl(d4rl_source):
    calls: dict[str, list[dict]] = {}
    for node in ast.walk(d4rl_source):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.keywords:
            arguments = {keyword.arg: literal(keyword.value) for keyword in node.keywords}
            calls.setdefault(node.func.attr, []).append(arguments)

    def numbers(text):
        return [float(number) for number in text.split()]

    model = make().task_set.models[0]
    (option,) = calls["option"]
    assert float(option["timestep"]) == model.opt.timestep
    assert numbers(option["gravity"]) == model.opt.gravity.tolist()
    assert int(option["iterations"]) == model.opt.iterations

    everywhere, _, ball, wall = calls["geom"]
    assert ball["size"] == model.geom("ball").size[0]
    volume = 4 / 3 * np.pi * ball["size"] ** 3
    assert model.body("ball").mass[0] == pytest.approx(float(everywhere["density"]) * volume)
    for geom in (model.geom("ball"), model.geom("wall_0_0")):
        assert geom.friction.tolist() == numbers(everywhere["friction"])
        assert geom.margin[0] == float(everywhere["margin"])
        assert geom.condim[0] == int(everywhere["condim"])
    assert wall["size"] == model.geom("wall_0_0").size.tolist()
    assert model.geom("wall_2_3").pos.tolist() == [2 + 1.0, 3 + 1.0, 0]  # pos=[w+1.0, h+1.0, 0] there

    (body,) = calls["body"]
    assert body["pos"] == [ORIGIN, ORIGIN, 0] == model.body("ball").pos.tolist()
    assert {float(calls["joint"][0]["damping"])} == set(model.dof_damping.tolist())
    assert {motor["gear"] for motor in calls["motor"]} == set(model.actuator_gear[:, 0].tolist())
    assert [motor["ctrlrange"] for motor in calls["motor"]] == model.actuator_ctrlrange.tolist()


def test_speed_is_clipped_before_the_step():
    env = make(task=0, sparse=True)
    env.reset(seed=0, options={"qpos": (3.0, 1.0), "qvel": (0.0, 9.0)})
    observation = env.step(np.array([0.0, 1.0]))[0]
    assert 5.0 < observation[3] <= 5.24  # 5 m/s and what 100 N add in a step


def test_the_ball_stays_out_of_the_walls():
    env = gym.make(ID, task=3, disable_env_checker=True)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for step in range(3000):
        if step % 40 == 0:
            action = rng.uniform(-1.0, 1.0, 2)
        observation, _, terminated, truncated, _ = env.step(action)
        row, column = np.round(observation[:2] + ORIGIN - 1.0).astype(int)
        assert LAYOUTS["large"][row][column] == "."
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("sparse", [False, True])
def test_goal_ends_the_episode(sparse):
    env = make(task="route-0", sparse=sparse)
    goal = np.array(LARGE_ROUTES[0][1], float)
    env.reset(seed=0, options={"qpos": goal - (0.0, 0.7), "qvel": (0.0, 0.0)})
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert not terminated and not info["success"]
    assert reward == (0.0 if sparse else pytest.approx(np.exp(-0.7) - 1.0))
    env.reset(options={"qpos": goal - (0.0, 0.4), "qvel": (0.0, 0.0)})
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert terminated and info["success"] and info["is_success"]
    assert reward == (1.0 if sparse else pytest.approx(np.exp(-0.4) - 1.0))


def test_start_noise():
    env = make(task=5)
    observations = np.array([env.reset()[0] for _ in range(300)])
    offset = observations[:, :2] - LARGE_ROUTES[5][0]
    assert 0.09 < np.abs(offset).max() <= 0.1 + 1e-6
    assert observations[:, 2:].std() == pytest.approx(0.1, rel=0.15)


def test_legacy_contact_is_stiffer():
    def bounce(**options):
        env = make(task=0, **options)
        env.reset(seed=0, options={"qpos": (1.0, 3.0), "qvel": (-5.0, 0.0)})
        speeds = [env.step(np.zeros(2))[0][2] for _ in range(60)]
        return max(speeds)

    assert bounce(legacy_wall_contact=True) != bounce()


@pytest.mark.parametrize("layout", ["medium", "umaze", ("####", "#..#", "#.##", "####")])
def test_other_layouts(layout):
    envs = gym.make_vec(ID, layout=layout, num_tasks=2)
    assert envs.num_envs == 2
    observations, _ = envs.reset(seed=0)
    assert np.isfinite(observations).all()
    goals = envs.unwrapped.task_set.goals
    observations, *_, infos = envs.step(np.zeros((2, 2), np.float32))
    assert goals.shape == (2, 2)


def test_fewer_and_more_tasks_and_own_routes():
    assert gym.make_vec(ID, num_tasks=3).num_envs == 3
    np.testing.assert_array_equal(Maze(num_tasks=3).starts, [start for start, _ in LARGE_ROUTES[:3]])
    routes = long_routes(LAYOUTS["large"], 25)
    assert len(set(routes)) == 25 and Maze(num_tasks=25).num_tasks == 25
    own = Maze(routes=[((1, 1), (1, 2))])
    assert own.task_names == ("route-0",) and own.goals.tolist() == [[1.0, 2.0]]


def test_errors():
    with pytest.raises(ValueError, match="did you mean 'large'"):
        Maze(layout="larg")
    with pytest.raises(ValueError, match="border"):
        Maze(layout=("###", "#..", "###"))
    with pytest.raises(ValueError, match="free cell"):
        Maze(routes=[((0, 0), (1, 1))])
    with pytest.raises(ValueError, match="No way leads"):
        Maze(layout=("#####", "#.#.#", "#####"), routes=[((1, 1), (1, 3))])
    with pytest.raises(ValueError, match="num_tasks must be at least 1, got 0"):
        Maze(num_tasks=0)
    with pytest.raises(ValueError, match="only 6 long routes, num_tasks is 7"):
        Maze(layout=("####", "#..#", "#.##", "####"), num_tasks=7)
