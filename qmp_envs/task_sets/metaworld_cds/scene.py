"""The scene of Meta-World CDS: Meta-World's arm before a door and a drawer, put together from its installed files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np

from qmp_envs.task_sets.metaworld.models import FRAME_SKIP, missing_package, physics_model, scene_model

DRAWER_HOME = (0.4, 0.9, 0.0)  # m: where the drawer stands in the tasks about the door
DOOR_HOME = (-0.1, 0.9, 0.15)  # m: where the door stands in the tasks about the drawer

# The weld between the mocap body and the hand, as Meta-World 3 sets it after loading: anchor (3), relative position
# (3), relative rotation (4, not normalized), torque scale.
WELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0)
MOCAP_ROTATION = (1.0, 0.0, 1.0, 0.0)  # wxyz, not normalized
OPEN_GRIPPER = (-1.0, 1.0)  # control
SETTLING_STEPS = 50  # environment steps in which the hand is drawn to its start

_SCENE = """<mujoco model="door and drawer">
  <include file={scene}/>
  <include file={drawer_dependencies}/>
  <include file={door_dependencies}/>
  <include file={arm_dependencies}/>
  <compiler meshdir={meshes} texturedir={meshes}/>
  <worldbody>
    <include file={arm}/>
    <body name="drawer" pos="{drawer_home}"><include file={drawer}/></body>
    <body name="door" pos="{door_home}"><include file={door}/></body>
    <site name="goal" pos="2 0.74 0.05" size="0.02" rgba="0 0.8 0 1"/>
  </worldbody>
  <actuator>
    <position joint="r_close" kp="400" ctrllimited="true" ctrlrange="-1 1"/>
    <position joint="l_close" kp="400" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
  <equality><weld body1="mocap" body2="hand" solref="0.02 1"/></equality>
</mujoco>
"""
_FILES = {
    "scene": "scene/basic_scene.xml",
    "drawer_dependencies": "objects/assets/drawer_dependencies.xml",
    "door_dependencies": "objects/assets/doorlock_dependencies.xml",
    "arm_dependencies": "objects/assets/xyz_base_dependencies.xml",
    "arm": "objects/assets/xyz_base.xml",
    "drawer": "objects/assets/drawer.xml",
    "door": "objects/assets/doorlockB.xml",
    "meshes": "sawyer_xyz",
}


def assets() -> Path:
    """The folder of model files in the installed Meta-World package, found without importing it."""
    found = importlib.util.find_spec("metaworld")
    if found is None or not found.submodule_search_locations:
        raise missing_package()
    return Path(found.submodule_search_locations[0]) / "assets"


def scene_xml() -> str:
    """The scene as MJCF; the drawer comes before the door, so its joint has the lower number."""
    folder = assets()
    paths = {name: quoteattr(str(folder / file)) for name, file in _FILES.items()}
    return _SCENE.format(
        **paths,
        drawer_home=" ".join(map(str, DRAWER_HOME)),
        door_home=" ".join(map(str, DOOR_HOME)),
    )


def drawn_scene() -> mujoco.MjModel:
    """The model that is drawn."""
    return _welded(scene_model(scene_xml()))


def simulated_scene() -> mujoco.MjModel:
    """The model that is simulated: without what is only to be seen, a tenth of the memory."""
    return _welded(physics_model(scene_xml()))


def _welded(model: mujoco.MjModel) -> mujoco.MjModel:
    model.eq_data[model.eq_type == mujoco.mjtEq.mjEQ_WELD] = WELD
    return model


class SettledArm(NamedTuple):
    """The arm at a reset, after its hand was drawn to the start for 50 steps."""

    state: np.ndarray
    """MuJoCo's integration state one physics step before the end; the last one is made with the objects in place."""
    fingertips: np.ndarray
    """(3,) m: the middle of the fingertips at the end, as of the last physics step's beginning."""


def settle(model: mujoco.MjModel, hand_start: np.ndarray) -> SettledArm:
    """Draw the hand to ``hand_start`` ``(3,)``, m, with the gripper open.

    Meta-World does this at every reset, twice. Door and drawer are out of reach and at rest meanwhile: the arm's
    state does not depend, not in one bit, on where they stand, so it is computed once.
    """
    data = mujoco.MjData(model)
    data.mocap_pos[0], data.mocap_quat[0] = hand_start, MOCAP_ROTATION
    data.ctrl[:] = OPEN_GRIPPER
    mujoco.mj_step(model, data, SETTLING_STEPS * FRAME_SKIP - 1)
    full = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, data, state, full)
    mujoco.mj_step(model, data)
    fingertips = (data.site("rightEndEffector").xpos + data.site("leftEndEffector").xpos) / 2.0
    return SettledArm(state, fingertips)
