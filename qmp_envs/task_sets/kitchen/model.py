"""The Franka kitchen's models, made from the file that gymnasium-robotics ships; that package is never imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

PACKAGE = "gymnasium_robotics"
MODEL_FILE = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
PEDESTAL_SIZE = (0.12, 0.9)  # m; radius and half height of the cylinder under the arm

TARGET_RADIUS = 0.04  # m; the red ball that marks the handle in pictures
TARGET_COLOR = (1.0, 0.05, 0.05, 1.0)
CENTER = np.array([-0.2, 0.5, 2.0])  # m; what the cameras look at
CAMERAS = {  # azimuth and elevation of the line of sight (degrees), distance (m)
    "front": (70.0, -35.0, 2.2),  # as in the released code
    "left": (60.0, -15.0, 2.4),
    "right": (130.0, -15.0, 2.4),
}


def physics_model() -> mujoco.MjModel:
    """The model that is simulated: without all that is only looked at, and with a pedestal that nothing hits.

    It steps like the whole model to the bit. It is there after 10 ms and in 6 MB, the whole one after 0.4 s and in
    170 MB; without the poses of 116 idle geoms a step takes a tenth less time.
    """
    spec = _spec()
    pedestal = _pedestal(spec)
    pedestal.contype = pedestal.conaffinity = 0
    _drop_visuals(spec)
    return spec.compile()


def scene_model() -> mujoco.MjModel:
    """The model that is drawn: the whole kitchen, a ball at the handle to be reached, and cameras."""
    spec = _spec()
    # As shipped, a small frame takes 0.6 s and 0.5 GB where OpenGL has no graphics card to use.
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 1024, 4
    for light in spec.lights[1:]:
        light.castshadow = False
    target = spec.worldbody.add_body(name="target", mocap=True)
    target.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[TARGET_RADIUS, 0, 0], rgba=TARGET_COLOR, contype=0, conaffinity=0
    )
    for name, (azimuth, elevation, distance) in CAMERAS.items():
        _add_camera(spec, name, np.radians(azimuth), np.radians(elevation), distance)
    return spec.compile()


def _spec() -> mujoco.MjSpec:
    """The kitchen as it is shipped."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "QMP/Kitchen-v0 uses the kitchen model of gymnasium-robotics, which is not installed: "
            'pip install "qmp-suite[robotics]".',
            name=PACKAGE,
        )
    return mujoco.MjSpec.from_file(str(Path(package.origin).parent / MODEL_FILE))


def _add_camera(spec: mujoco.MjSpec, name: str, azimuth: float, elevation: float, distance: float) -> None:
    """A camera that looks at ``CENTER`` from ``distance`` (m) along azimuth and elevation (rad)."""
    level = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    forward = np.cos(elevation) * level + np.sin(elevation) * np.array([0.0, 0.0, 1.0])
    right = np.array([level[1], -level[0], 0.0])
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([right, np.cross(right, forward), -forward]).ravel())
    spec.worldbody.add_camera(name=name, pos=CENTER - distance * forward, quat=quat)


def _pedestal(spec: mujoco.MjSpec) -> Any:
    """The geom under the arm. Here the shipped file differs from the published one: there, nothing collides with it."""
    base = spec.body("panda0_link0").parent
    cylinders = [geom for geom in base.geoms if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER]
    if len(cylinders) != 1 or not np.array_equal(cylinders[0].size[:2], PEDESTAL_SIZE):
        sizes = [geom.size[:2].tolist() for geom in cylinders]
        raise RuntimeError(
            f"The arm of this version of gymnasium-robotics stands on cylinders of sizes {sizes}; expected one "
            f"pedestal of size {list(PEDESTAL_SIZE)}. Version 1.4.2 has it."
        )
    return cylinders[0]


def _drop_visuals(spec: mujoco.MjSpec) -> None:
    """Remove the geoms that neither collide nor have a part in their body's inertia, and what only these use."""
    lowest, highest = spec.compiler.inertiagrouprange
    for geom in list(spec.geoms):
        if not (geom.contype or geom.conaffinity or lowest <= geom.group <= highest):
            _delete(spec, geom)
        else:
            geom.material = ""
    used = {geom.meshname for geom in spec.geoms}
    unused_meshes = [mesh for mesh in spec.meshes if mesh.name not in used]
    for element in [*unused_meshes, *spec.materials, *spec.textures]:
        _delete(spec, element)


def _delete(spec: mujoco.MjSpec, element: Any) -> None:
    """Later versions of MuJoCo ask the spec, 3.3.0 the element."""
    spec.delete(element) if hasattr(spec, "delete") else element.delete()
