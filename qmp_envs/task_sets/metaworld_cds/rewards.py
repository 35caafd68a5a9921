"""The rewards of Meta-World CDS: Meta-World's second version ("v2") of four tasks, as batched pure functions.

Every function takes what was measured after a step and what the task wants, both ``(batch, ...)``. So a step of any
task can be judged by every other task, as data sharing needs it. All rewards are between 0 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qmp_envs.task_sets.reward_shapes import hamacher_product, long_tail, tolerance

MAX_REWARD = 10.0

# door-open
READY_WEIGHT, OPENED_WEIGHT = 2.0, 8.0
GRIP = np.array([-0.05, 0.0, 0.0])  # m from the handle's center: where the hand takes it
BEHIND_GRIP = np.array([0.05, 0.03, -0.01])  # m from the grip: between handle and door
BEHIND_WITHIN, BEHIND_MARGIN = 0.06, 0.5  # m
FUNNEL_RADIUS = 0.12  # m around the grip; the hand may come down inside only
AJAR = -np.pi / 90.0  # rad; below this the door counts as moved
WIDE_OPEN = np.pi / 2.0 + np.pi / 6.0  # rad; where opening is rewarded in full, WIDE_WITHIN less will do
WIDE_WITHIN, WIDE_MARGIN = 0.5, np.pi / 3.0  # rad
AJAR_SHARE, WIDE_SHARE = 0.2, 0.8  # of what opening earns
DOOR_OPEN_WITHIN = 0.08  # m, along x only

# door-close
TIPS_WEIGHT, SHUT_WEIGHT = 3.0, 6.0
HAND_WITHIN = 0.0125  # m
HAND_MARGIN = 0.1  # m, more than from the hand's start to the handle
DOOR_SHUT_WITHIN = 0.05  # m: full reward
DOOR_CLOSE_WITHIN = 0.08  # m: success

# drawer-open
DRAWER_OPEN_WEIGHT = 5.0  # of hand and drawer alike
CAGE_WITHIN = 0.01  # m, in which x and y are scaled
PULLED_WITHIN, PULLED_MARGIN = 0.02, 0.2  # m
PULL = np.array([0.0, 0.2, 0.0])  # m from the target to the closed handle
CAGE_SCALE = np.array([3.0, 3.0, 1.0])  # errors in the plane count three times, so the hand can come from above
DRAWER_OPEN_WITHIN = 0.03  # m

# drawer-close
PULLED_HANDLE = np.array([0.0, -0.32, 0.14])  # m from the drawer's place: the start of the way that counts
REACH_WITHIN = 0.005  # m
DRAWER_SHUT_WITHIN = 0.05  # m: full reward for the place
DRAWER_CLOSE_WITHIN = 0.065  # m: success


class Measured(NamedTuple):
    """What the rewards read of a step: after it, except the action."""

    hand: np.ndarray  # (batch, 3) m
    fingertips: np.ndarray  # (batch, 3) m: the middle between them
    opening: np.ndarray  # (batch,) of the gripper, 0 closed to 1 open
    drawer: np.ndarray  # (batch, 3) m: its handle
    door: np.ndarray  # (batch, 3) m: its handle
    door_angle: np.ndarray  # (batch,) rad: 0 closed to -2 open
    drawer_place: np.ndarray  # (batch, 3) m: where it stands in this episode
    door_place: np.ndarray  # (batch, 3) m
    effort: np.ndarray  # (batch,) of the gripper, last element of the action


class Wanted(NamedTuple):
    """What a task wants, and how its episodes begin."""

    goal: np.ndarray  # (batch, 3) m: of the object's handle
    hand_start: np.ndarray  # (batch, 3) m: where the hand is drawn to at the reset
    fingertips_start: np.ndarray  # (batch, 3) m: where that leaves the fingertips


class Judgment(NamedTuple):
    """What a task says about a step; every array is ``(batch,)``."""

    hand: np.ndarray  # the part of the reward that the hand's place earns
    object: np.ndarray  # the part that the object's place earns
    reward: np.ndarray
    success: np.ndarray  # bool
    # Meta-World's info under its own names, and with its own values where a task leaves one out.
    near_object: np.ndarray
    grasp_success: np.ndarray
    grasp_reward: np.ndarray
    in_place_reward: np.ndarray
    obj_to_target: np.ndarray


INFO = ("near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target")
"""The numbers of a judgment that info shows under these names."""


def door_open(now: Measured, wanted: Wanted) -> Judgment:
    """2 H(H(above, behind), grip) + 8 opened, or 10 with success; H is the Hamacher product."""
    grip = now.door + GRIP
    # A funnel around the handle: outside of it the hand has to stay above a floor.
    radius = _length((now.hand - grip)[:, :2])
    outside = np.maximum(radius - FUNNEL_RADIUS, 0.0)
    floor = np.where(outside > 0.0, 0.04 * np.log(np.where(outside > 0.0, outside, 1.0)) + 0.4, 0.0)
    below = floor - now.hand[:, 2]
    above = tolerance(below, -np.inf, 0.01, np.maximum(floor, 0.0) / 2.0, long_tail)
    behind = tolerance(_length(now.hand - grip - BEHIND_GRIP), 0.0, BEHIND_WITHIN, BEHIND_MARGIN, long_tail)
    ready = hamacher_product(above, behind)
    grasp = (np.minimum(np.maximum(now.effort, -1.0), 1.0) + 1.0) / 2.0

    width = tolerance(WIDE_OPEN + now.door_angle, 0.0, WIDE_WITHIN, WIDE_MARGIN, long_tail)
    opened = AJAR_SHARE * (now.door_angle < AJAR) + WIDE_SHARE * width

    success = np.abs(now.door[:, 0] - wanted.goal[:, 0]) <= DOOR_OPEN_WITHIN
    hand, object = READY_WEIGHT * hamacher_product(ready, grasp), OPENED_WEIGHT * opened
    return Judgment(
        hand=hand,
        object=object,
        reward=np.where(success, MAX_REWARD, hand + object),
        success=success,
        near_object=ready,
        grasp_success=(grasp >= 0.5).astype(np.float64),
        grasp_reward=grasp,
        in_place_reward=opened,
        obj_to_target=np.zeros(len(success)),  # as Meta-World reports it
    )


def door_close(now: Measured, wanted: Wanted) -> Judgment:
    """3 hand at the goal + 6 handle at the goal, or 10 where the door is shut."""
    distance = _length(now.door - wanted.goal)
    way = _length(now.door_place - wanted.goal)
    in_place = tolerance(distance, 0.0, DOOR_SHUT_WITHIN, way)
    hand_margin = _length(wanted.hand_start - now.door) + HAND_MARGIN
    hand_in_place = tolerance(_length(now.fingertips - wanted.goal), 0.0, HAND_WITHIN, hand_margin)

    hand, object = TIPS_WEIGHT * hand_in_place, SHUT_WEIGHT * in_place
    ones = np.ones(len(distance))
    return Judgment(
        hand=hand,
        object=object,
        reward=np.where(distance < DOOR_SHUT_WITHIN, MAX_REWARD, hand + object),
        success=distance <= DOOR_CLOSE_WITHIN,
        near_object=np.zeros(len(distance)),
        grasp_success=ones,
        grasp_reward=ones,
        in_place_reward=hand_in_place,
        obj_to_target=distance,
    )


def drawer_open(now: Measured, wanted: Wanted) -> Judgment:
    """5 hand at the handle + 5 handle at the goal."""
    distance = _length(now.drawer - wanted.goal)
    opened = tolerance(distance, 0.0, PULLED_WITHIN, PULLED_MARGIN, long_tail)
    apart = now.drawer - now.hand
    margin = _length((wanted.goal + PULL - wanted.fingertips_start) * CAGE_SCALE)
    caged = tolerance(_length(apart * CAGE_SCALE), 0.0, CAGE_WITHIN, margin, long_tail)
    return Judgment(
        hand=DRAWER_OPEN_WEIGHT * caged,
        object=DRAWER_OPEN_WEIGHT * opened,
        reward=DRAWER_OPEN_WEIGHT * (caged + opened),
        success=distance <= DRAWER_OPEN_WITHIN,
        near_object=(_length(apart) <= 0.03).astype(np.float64),
        grasp_success=(now.opening > 0.0).astype(np.float64),
        grasp_reward=caged,
        in_place_reward=opened,
        obj_to_target=distance,
    )


def drawer_close(now: Measured, wanted: Wanted) -> Judgment:
    """10 H(H(hand at the handle, grip), handle at the goal), or 10 with success; H is the Hamacher product."""
    distance = _length(now.drawer - wanted.goal)
    pulled = now.drawer_place + PULLED_HANDLE
    way = _length(pulled - wanted.goal)
    in_place = tolerance(distance, 0.0, DRAWER_SHUT_WITHIN, np.abs(way - DRAWER_SHUT_WITHIN), long_tail)
    apart = _length(now.drawer - now.fingertips)
    apart_at_start = _length(pulled - wanted.fingertips_start)
    reach = tolerance(apart, 0.0, REACH_WITHIN, np.abs(apart_at_start - REACH_WITHIN))
    grasp = hamacher_product(reach, np.minimum(np.maximum(now.effort, 0.0), 1.0))

    success = distance <= DRAWER_CLOSE_WITHIN
    object = MAX_REWARD * hamacher_product(grasp, in_place)
    return Judgment(
        hand=np.zeros(len(distance)),
        object=object,
        reward=np.where(success, MAX_REWARD, object),
        success=success,
        near_object=(apart <= 0.01).astype(np.float64),
        grasp_success=np.ones(len(distance)),
        grasp_reward=grasp,
        in_place_reward=in_place,
        obj_to_target=distance,
    )


JUDGES: dict[str, Callable[[Measured, Wanted], Judgment]] = {
    "door-open": door_open,
    "door-close": door_close,
    "drawer-open": drawer_open,
    "drawer-close": drawer_close,
}
"""By task name, in the published order of the tasks."""


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths ``(batch,)`` of vectors ``(batch, n)``."""
    return np.sqrt(np.vecdot(vectors, vectors))
