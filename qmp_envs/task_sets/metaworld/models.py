"""Compiled models of Meta-World's scenes: one that only simulates, and one that can be drawn."""

from __future__ import annotations

from functools import reduce
from operator import or_

import mujoco

FRAME_SKIP = 5  # physics steps of 2.5 ms per environment step
OPEN_WIDTH = 0.1  # m between the claws of the open gripper

OVERVIEW = "overview"  # Meta-World's own cameras, but for the top view, are upside down or see little
OVERVIEW_POSITION = (1.05, 0.0, 0.85)  # m
OVERVIEW_AXES = (0.562, 0.827, 0.0, -0.427, 0.291, 0.856)  # to the right and up in the picture
MEASURE_MEANINGS = {
    "near_object": "1 (or nearly) where the hand is near the object; always 0 in some tasks",
    "grasp_success": "1 where the task counts the object as held, else 0; always 1 in some tasks",
    "grasp_reward": "the part of the reward that is about holding, 0 to 1 in most tasks",
    "in_place_reward": "the part of the reward that is about the place of the object, 0 to 1 in most tasks",
    "obj_to_target": "distance of object and goal, m (in some tasks another distance or angle, or 0)",
    "unscaled_reward": "the reward before `reward_scale`",
}


def missing_package() -> ModuleNotFoundError:
    """The error where Meta-World is not installed."""
    return ModuleNotFoundError(
        "The Meta-World task sets need the package metaworld: pip install 'qmp-suite[metaworld]'.", name="metaworld"
    )


def scene_model(source: str) -> mujoco.MjModel:
    """The whole model of a scene, with everything that is only seen, and a camera that sees it the right way up.

    :param source: path of an MJCF file, or the MJCF itself
    """
    spec = _parse(source)
    if OVERVIEW not in [camera.name for camera in spec.cameras]:
        camera = spec.worldbody.add_camera(name=OVERVIEW, pos=OVERVIEW_POSITION)
        camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
        camera.alt.xyaxes = OVERVIEW_AXES
    return spec.compile()


def physics_model(source: str) -> mujoco.MjModel:
    """The same scene without what is only seen: it steps to the same bits, from an eighth of the memory.

    Bodies, joints and sites stay as they are. Geoms go where they neither collide, nor have a name (rewards
    read named ones), nor weigh on their body's inertia; meshes, textures and materials go with the last geom
    that needed them.

    :param source: path of an MJCF file, or the MJCF itself
    """
    spec = _parse(source)
    low, high = spec.compiler.inertiagrouprange
    types = reduce(or_, (geom.contype for geom in spec.geoms))
    affinities = reduce(or_, (geom.conaffinity for geom in spec.geoms))
    for body in spec.bodies:
        for geom in body.geoms:
            weighs = low <= geom.group <= high and not body.explicitinertial
            collides = geom.contype & affinities or geom.conaffinity & types
            if not (collides or geom.name or weighs):
                geom.delete()
            else:
                geom.material = ""
    for site in spec.sites:
        site.material = ""
    used = {geom.meshname for geom in spec.geoms}
    for mesh in spec.meshes:
        if mesh.name not in used:
            mesh.delete()
    for unused in (*spec.materials, *spec.textures, *spec.skins):
        unused.delete()
    return spec.compile()


def _parse(source: str) -> mujoco.MjSpec:
    if source.lstrip().startswith("<"):
        return mujoco.MjSpec.from_string(source)
    return mujoco.MjSpec.from_file(source)
