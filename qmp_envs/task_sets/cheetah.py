"""HalfCheetah: the running cheetah of Gymnasium under other gravities, and with other bodies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs import mujoco as gymnasium_mujoco

from qmp_envs.simulation.physics import State
from qmp_envs.task_set import Memory, Outcome, TaskSet

GRAVITY = -9.81  # m/s^2
CONTROL_WEIGHT = 0.1
POSITION_NOISE = 0.1  # m and rad, uniform
VELOCITY_NOISE = 0.1  # m/s and rad/s, standard deviation
NUM_COORDINATES, NUM_MOTORS = 9, 6
X = 0  # coordinate of the torso


class Variant(NamedTuple):
    """How one task's model differs from Gymnasium's."""

    gravity: float = GRAVITY  # m/s^2
    geoms: tuple[str, ...] = ()  # those of another size
    size: float = 1.0  # factor on every number of their size: radius, and half length where it is given


THIGHS, SHINS, FEET = ("fthigh", "bthigh"), ("fshin", "bshin"), ("ffoot", "bfoot")
BIG, SMALL = 1.25, 0.75

SHARED_PAGE = """
    ## Action space
    Torques on the joints of both legs. Actions outside are clipped.

    ## Observation space
    As in Gymnasium.

    | Num | Observation | Unit |
    |---|---|---|
    | 0 | height of the torso, from its place at the start | m |
    | 1 | pitch of the torso | rad |
    | 2-4 | angles of back thigh, shin, foot | rad |
    | 5-7 | angles of front thigh, shin, foot | rad |
    | 8-9 | velocity of the torso, forward and up | m/s |
    | 10-16 | rates of the angles 1-7 | rad/s |

    The place on the track is not shown. With `task_one_hot=True` the task is appended.

    ## Rewards
    v - {CONTROL_WEIGHT} sum of a^2, v the velocity of the torso over the step (m/s); all times `reward_scale`.
    Info terms: `forward` and `ctrl`. Info has `x_position` (m) and `x_velocity` (v) too. The control cost is computed
    in float32, the precision of the actions, as in Gymnasium.

    ## Starting state
    The pose of the model; every position + U(-{POSITION_NOISE}, {POSITION_NOISE}), every
    velocity {VELOCITY_NOISE} N(0, 1): Gymnasium's distribution.

    ## Episode end
    Truncates after 1000 steps of 0.05 s. Terminates only when the simulator fails.

    ## Success
    None: results are returns.

    ## Arguments
    :param reward_scale: factor on the reward and its terms; the released code of CTPG trains with 0.1

    ## Differences
    * From the released code of CTPG: it multiplies rewards by 0.1, so the returns that it logs are a tenth of these;
      it counts step 1000 as a success and stores it as a terminal state. Here it is a truncation.
    * From Gymnasium: the seed of an episode leads to other random numbers, and the reset has no `x_position` in
      info. A start given by `reset(options={"qpos": ..., "qvel": ...})` leads to the same episode.
"""


class HalfCheetah(TaskSet):
    """What the two sets share: a body, its space, its reward. Subclasses give the variants."""

    variants: Mapping[str, Variant]
    """The tasks, by name."""

    horizon = 1000
    frame_skip = 5
    dt = 0.05
    step_in_threads = True
    slots_per_worker = 20  # of 20 us
    cameras = ("track", "behind")  # the first is Gymnasium's
    measure_meanings = {
        "x_position": "place of the torso, m",
        "x_velocity": "its velocity over the step, m/s",
    }
    relabel_columns = {"forward": (), "ctrl": ()}

    def __init__(self, reward_scale: float = 1.0) -> None:
        if not 0.0 < reward_scale < np.inf:
            raise ValueError(f"reward_scale must be a positive number, got {reward_scale!r}.")
        self.reward_scale = reward_scale
        self.task_names = tuple(self.variants)
        self.models = tuple(_model(variant) for variant in self.variants.values())
        self.model_of_task = np.arange(self.num_tasks)
        self.action_space = spaces.Box(-1.0, 1.0, (NUM_MOTORS,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2 * NUM_COORDINATES - 1,), np.float64)

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return np.concatenate(
            [generator.uniform(-1.0, 1.0, NUM_COORDINATES), generator.standard_normal(NUM_COORDINATES)]
        )

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel = np.split(draws, 2, axis=1)
        return self.models[0].qpos0 + POSITION_NOISE * qpos, VELOCITY_NOISE * qvel

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: Memory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, Memory]:
        velocity = (after.qpos[:, X] - before.qpos[:, X]) / self.dt
        effort = np.square(actions.astype(np.float32)).sum(axis=1)
        terms = {
            "forward": self.reward_scale * velocity,
            "ctrl": -self.reward_scale * (CONTROL_WEIGHT * effort).astype(np.float64),
        }
        outcome = Outcome(
            reward=terms["forward"] + terms["ctrl"],
            terminated=after.failed.copy(),
            success=None,
            is_success=None,
            stages_completed=None,
            terms=terms,
            columns=dict(terms),
            measures={"x_position": after.qpos[:, X].copy(), "x_velocity": velocity},
        )
        return outcome, memory

    def observe(self, state: State, memory: Memory, task_ids: np.ndarray) -> np.ndarray:
        return np.concatenate([state.qpos[:, X + 1 :], state.qvel], axis=1)

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        """The same for every task: they differ in how the body moves, not in what is asked of it."""
        return columns["forward"] + columns["ctrl"]


class HalfCheetahGravity(HalfCheetah):
    __doc__ = (
        """
    ## Description
    A cheetah of two legs runs forward in a vertical plane, as fast as it can, under five gravities. The task
    `gravity-1.0` is Gymnasium's `HalfCheetah-v5`, bit for bit. The observation does not show the gravity.

    | task | gravity (m/s^2) |
    |---|---|
    | `gravity-1.0` | 9.81 |
    | `gravity-0.5` | 4.905 |
    | `gravity-0.75` | 7.3575 |
    | `gravity-1.5` | 14.715 |
    | `gravity-1.25` | 12.2625 |
"""
        + SHARED_PAGE
        + """
    ## Version history
    * v0: the order and the gravities of CTPG's MT5, on the model of Gymnasium's HalfCheetah-v5.
"""
    )

    name = "HalfCheetahGravity"
    variants = {
        "gravity-1.0": Variant(gravity=GRAVITY),
        "gravity-0.5": Variant(gravity=-4.905),
        "gravity-0.75": Variant(gravity=-7.3575),
        "gravity-1.5": Variant(gravity=-14.715),
        "gravity-1.25": Variant(gravity=-12.2625),  # 1.25 times 9.81 is rounded to another number
    }


class HalfCheetahBody(HalfCheetah):
    __doc__ = (
        """
    ## Description
    A cheetah of two legs runs forward in a vertical plane, as fast as it can, with eight bodies: one part is 1.25
    or 0.75 times as big as in Gymnasium's `HalfCheetah-v5`. The observation does not show the body.

    | tasks | part | what is scaled |
    |---|---|---|
    | `big-torso`, `small-torso` | torso, without the head | radius |
    | `big-thigh`, `small-thigh` | both thighs | radius and length |
    | `big-leg`, `small-leg` | both shins | radius and length |
    | `big-foot`, `small-foot` | both feet | radius and length |

    Joints and the places of the parts stay. The whole body always weighs 14 kg: a bigger part takes mass from the
    others. The unchanged body is not in this set; it is the task `gravity-1.0` of `QMP/HalfCheetahGravity-v0`.
"""
        + SHARED_PAGE
        + """
    ## Version history
    * v0: the order and the bodies of CTPG's MT8, on the model of Gymnasium's HalfCheetah-v5.
"""
    )

    name = "HalfCheetahBody"
    variants = {
        f"{size_name}-{part}": Variant(geoms=geoms, size=size)
        for part, geoms in (("torso", ("torso",)), ("thigh", THIGHS), ("leg", SHINS), ("foot", FEET))
        for size_name, size in (("big", BIG), ("small", SMALL))
    }


def _model(variant: Variant) -> mujoco.MjModel:
    """Gymnasium's model, changed and compiled again, so that masses and inertias follow from the sizes."""
    folder = Path(gymnasium_mujoco.__file__).parent / "assets"
    spec = mujoco.MjSpec.from_file(str(folder / "half_cheetah.xml"))
    spec.option.gravity = [0.0, 0.0, variant.gravity]
    for name in variant.geoms:
        geom = spec.geom(name)
        geom.size = variant.size * geom.size
    camera = spec.body("torso").add_camera(name="behind", pos=[-2.5, -2.5, 0.6])
    camera.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
    camera.alt.type, camera.alt.xyaxes = mujoco.mjtOrientation.mjORIENTATION_XYAXES, [1.0, -1.0, 0.0, 0.15, 0.15, 1.0]
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    return spec.compile()
