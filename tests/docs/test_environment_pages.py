"""The pages in docs/envs are those that the code and the docstrings give."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

import qmp_envs
from docs.generators import environment_tables
from docs.generators.environments import SECTIONS, index, page, picture_names, split, stem
from qmp_envs.registry import ENTRIES
from qmp_envs.task_sets import reacher
from qmp_envs.task_sets.kitchen import task_set as kitchen
from qmp_envs.task_sets.kitchen import tasks as kitchen_tasks
from qmp_envs.task_sets.metaworld_cds import rewards as cds_rewards
from qmp_envs.task_sets.metaworld_cds import scene as cds_scene
from qmp_envs.task_sets.metaworld_cds import task_set as metaworld_cds

DOCS = Path(__file__).parents[2] / "docs" / "envs"
STALE = "stale: run `python -m docs.generators.environments docs/envs`"
REACHER = ENTRIES["QMP/MultistageReacher-v0"]
each_entry = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@each_entry
def test_page_is_up_to_date(entry):
    written = (DOCS / f"{stem(entry.id)}.md").read_text(encoding="utf-8")
    assert written == page(entry), STALE
    for heading in ("Tasks", "Info", *SECTIONS):
        assert f"\n## {heading}\n" in written


def test_index_is_up_to_date():
    assert (DOCS / "index.md").read_text(encoding="utf-8") == index(), STALE


def test_there_are_no_other_pages():
    assert {path.stem for path in DOCS.glob("*.md")} == {"index", *map(stem, ENTRIES)}


@each_entry
def test_every_task_has_a_picture_and_every_id_a_film(entry):
    folder = DOCS / "pictures" / stem(entry.id)
    wanted = picture_names(entry.id, qmp_envs.task_names(entry.id))
    assert {path.stem for path in folder.glob("*.png")} == set(wanted), "run `make pictures`"
    assert len(set(wanted)) == len(wanted)
    film = DOCS / "gifs" / f"{stem(entry.id)}.gif"
    assert 2_000 < film.stat().st_size <= 300_000, "run `make gifs`"


@each_entry
def test_tables_name_every_element_and_argument(entry):
    text, task_set = page(entry), qmp_envs.make_task_set(entry.id)
    for name in inspect.signature(type(task_set)).parameters:
        assert f"| `{name}` | " in text
    for name in ("Action space", "Observation space"):
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        assert "| Num |" in section and "| Min | Max |" in section
    for name in task_set.task_names:
        assert f": `{name}`" in text


@each_entry
def test_the_page_is_about_the_id_not_only_the_class(entry):
    text = page(entry)
    for name, value in entry.kwargs.items():
        assert f"| `{name}` | `{environment_tables.number(value)}`, set by the id |" in text
    assert f"{entry.horizon} steps of" in text and entry.reward in text


# ---- pages follow the code ---------------------------------------------------------------------------------


def test_a_changed_weight_changes_the_page(monkeypatch):
    assert "-distance - 0.4 (3 - stage)" in page(REACHER)
    monkeypatch.setattr(reacher, "STAGE_COST", 0.7)
    changed = page(REACHER)
    assert "-distance - 0.7 (3 - stage)" in changed and "| `STAGE_COST` | 0.7 |" in changed


def test_a_changed_default_changes_the_page(monkeypatch):
    constructor = reacher.MultistageReacher.__init__
    assert "| `paper_bonus` | `None` |" in page(REACHER)
    first, _, *others = constructor.__defaults__
    monkeypatch.setattr(constructor, "__defaults__", (first, 7.5, *others))
    assert "| `paper_bonus` | `7.5` |" in page(REACHER)


def test_bounds_come_from_the_space():
    low, high = np.array([-1, -2, -3, 0], np.float32), np.array([1, 2, 3, np.inf], np.float32)
    text = "| Num | What | Unit |\n|---|---|---|\n| 0-2 | place | m |\n| 3 | rest | |"
    assert environment_tables.with_bounds(text, spaces.Box(low, high), "a test").splitlines() == [
        "| Num | What | Min | Max | Unit |",
        "|---|---|---|---|---|",
        "| 0-2 | place | -1, -2, -3 | 1, 2, 3 | m |",
        "| 3 | rest | 0 | inf | |",
    ]


@pytest.mark.parametrize("rows", ["| 0-1 | a |", "| 0, 2 | a |\n| 1 | b |", "| 0-3 | a |"])
def test_a_table_that_leaves_out_an_element_is_an_error(rows):
    text = f"| Num | What |\n|---|---|\n{rows}"
    with pytest.raises(ValueError, match="Arm, Action space: the table lists"):
        environment_tables.with_bounds(text, spaces.Box(-1, 1, (3,)), "Arm, Action space")


def test_unknown_constants_arguments_and_sections_are_errors():
    with pytest.raises(ValueError, match="no constant 'STAGE_COSTS'; did you mean 'STAGE_COST'"):
        environment_tables.filled("{STAGE_COSTS}", [reacher])
    with pytest.raises(ValueError, match="differ in goal_radius"):
        environment_tables.arguments(":param layout: a\n:param goal_radius: b", lambda layout: None, {})
    with pytest.raises(ValueError, match="differ in layout"):
        environment_tables.arguments("", lambda layout: None, {})
    with pytest.raises(ValueError, match="of Arm has the sections Description.*Missing: Action space"):
        split("## Description\nWords.", "Arm")


def test_numbers_are_short():
    assert environment_tables.number(np.array([[0.1, 2.0]])) == "((0.1, 2))"
    assert environment_tables.number((1e-05, "a", None, True)) == '(1e-05, "a", None, True)'


def test_constants_show_what_their_comments_say():
    text = environment_tables.constants([reacher])
    assert "| `TOUCH_DISTANCE` | 0.05 | m; the hand touches a subgoal below this |" in text
    assert "TASK_NAMES" not in text and "_VELOCITY_WEIGHTS" not in text


def test_motors_come_from_the_model():
    table = environment_tables.motors(qmp_envs.make_task_set(REACHER.id))
    assert "| 0 | motor `motor_1` | -1 | 1 | `joint_1` | hinge | 5 N m |" in table
    assert environment_tables.motors(qmp_envs.make_task_set("QMP/Point2D-v0")) == ""


KITCHEN, CDS = ENTRIES["QMP/Kitchen-v0"], ENTRIES["QMP/MetaWorldCDS-v0"]
CHANGES = [  # page, module, constant, its new value, what the page has before and after
    (KITCHEN, kitchen, "HIGHEST", kitchen.HIGHEST + 0.5, "| -2.9 | 2.9 | rad |", "| -2.9 | 3.4 | rad |"),
    (KITCHEN, kitchen, "NOISE_SIZES", 3.0 * kitchen.NOISE_SIZES, "| 22 | microwave | -8 | 8 | 0.01 |", "| 8 | 0.03 |"),
    (KITCHEN, kitchen_tasks, "START", kitchen_tasks.START + 0.02, "| 19 | -0.0005 | 0.37 |", "| 19 | 0.0195 | 0.37 |"),
    (CDS, cds_rewards, "TIPS_WEIGHT", 4.5, "| 3 G(tips; 0.0125, margin)", "| 4.5 G(tips; 0.0125, margin)"),
    (CDS, cds_rewards, "FUNNEL_RADIUS", 0.77, "  0.12 m around the handle", "  0.77 m around the handle"),
    (CDS, cds_rewards, "DRAWER_OPEN_WITHIN", 0.88, "`drawer-open` 0.03 m", "`drawer-open` 0.88 m"),
    (CDS, cds_scene, "DRAWER_HOME", (0.7, 0.9, 0.0), "or (0.4, 0.9, 0) (drawer)", "or (0.7, 0.9, 0) (drawer)"),
    (
        CDS,
        metaworld_cds,
        "TASKS",
        {name: task._replace(low=(-0.3, 0.5, 0.0)) for name, task in metaworld_cds.TASKS.items()},
        "| `door-open` | -0.1 0.85 0.15 |",
        "| `door-open` | -0.3 0.5 0 |",
    ),
]


@pytest.mark.parametrize("entry, module, name, value, before, after", CHANGES, ids=[row[2] for row in CHANGES])
def test_pages_follow_the_data_of_every_module(monkeypatch, entry, module, name, value, before, after):
    assert before in page(entry) and after not in page(entry)
    monkeypatch.setattr(module, name, value)
    changed = page(entry)
    assert after in changed and before not in changed


@each_entry
def test_every_measure_has_a_meaning(entry):
    task_set = qmp_envs.make_task_set(entry.id)
    rows = environment_tables.info(task_set)
    assert all(f"| `{name}` | {meaning} |" in rows for name, meaning in task_set.measure_meanings.items())


def test_a_measure_without_meaning_is_an_error(monkeypatch):
    task_set = qmp_envs.make_task_set("QMP/Walker2D-v0")
    monkeypatch.setattr(type(task_set), "measure_meanings", {})
    with pytest.raises(ValueError, match="Walker2D.measure_meanings does not say what 'x_velocity' is"):
        environment_tables.info(task_set)


def test_tables_and_formats_in_the_text():
    assert environment_tables.filled("{STAGE_COST:.3f} {ROWS}", [reacher], {"ROWS": "| a |\n"}) == "0.400 | a |"
