"""The tables of the page of Meta-World CDS, from the numbers that the task set uses."""

from __future__ import annotations

from docs.generators.environment_tables import Table
from qmp_envs.task_set import TaskSet
from qmp_envs.task_sets.metaworld_cds import rewards as r
from qmp_envs.task_sets.metaworld_cds import task_set as cds


def page_tables(task_set: TaskSet) -> dict[str, Table]:
    """What ``{NAME}`` in the docstring of
    :class:`~qmp_envs.task_sets.metaworld_cds.task_set.MetaWorldCDS` stands for.
    """
    return {"REWARD_TABLE": reward_table(), "START_TABLE": start_table()}


def reward_table() -> Table:
    """The formulas with their numbers, for the page: heading and rows."""
    behind, tips = (
        f"T(behind; {r.BEHIND_WITHIN:g}, {r.BEHIND_MARGIN:g})",
        f"G(tips; {r.HAND_WITHIN:g}, margin)",
    )
    cage = f"T(cage; {r.CAGE_WITHIN:g}, cage at the start)"
    pulled = f"T(goal; {r.PULLED_WITHIN:g}, {r.PULLED_MARGIN:g})"
    reach = f"G(reach; {r.REACH_WITHIN:g}, reach at the start)"
    shut = f"T(goal; {r.DRAWER_SHUT_WITHIN:g}, way)"
    goal = f"G(goal; {r.DOOR_SHUT_WITHIN:g}, way)"
    rows = (
        (
            "`door-open`",
            f"{r.READY_WEIGHT:g} H(H(above, {behind}), grip) + {r.OPENED_WEIGHT:g} opened",
            "success",
        ),
        (
            "`door-close`",
            f"{r.TIPS_WEIGHT:g} {tips} + {r.SHUT_WEIGHT:g} {goal}",
            f"goal below {r.DOOR_SHUT_WITHIN:g} m",
        ),
        ("`drawer-open`", f"{r.DRAWER_OPEN_WEIGHT:g} {cage} + {r.DRAWER_OPEN_WEIGHT:g} {pulled}", ""),
        ("`drawer-close`", f"{r.MAX_REWARD:g} H(H({reach}, grip), {shut})", "success"),
    )
    return ("task", "reward", f"{r.MAX_REWARD:g} instead where"), rows


def start_table() -> Table:
    """How the episodes of every task begin, for the page."""
    heading = ("task", "place, lowest (m)", "place, highest (m)", "hand (m)", "joint (rad, m)", "goal (m)")
    rows = []
    for name, task in cds.TASKS.items():
        places = [" ".join(f"{x:g}" for x in place) for place in (task.low, task.high, task.hand_start, task.goal)]
        joint = "at rest, closed" if task.joint_start is None else f"{task.joint_start:g}"
        rows.append((f"`{name}`", *places[:3], joint, places[3]))
    return heading, rows
