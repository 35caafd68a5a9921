"""The walker's models: the published figures, with or without the obstacles of the crawl task."""

from __future__ import annotations

import mujoco
import numpy as np

from qmp_envs.task_sets.assets import asset

# Boxes of the crawl task (half size, position; m). Some share one place, as in the published scene.
LONG_CEILING = ((6.0, 2.0, 0.1), (8.0, 0.0, 1.0))
SHORT_CEILING = ((1.5, 2.0, 0.1), (-10.0, 0.0, 1.0))
CURB = ((0.1, 2.0, 0.2), (-5.0, 0.0, 0.2))
CEILINGS = (SHORT_CEILING, SHORT_CEILING, LONG_CEILING)
CURBS = (CURB,) * 5
CEILING_GROUP = 1  # the geoms of this group must not be touched
FLOOR_HALF_LENGTH = 80.0  # m, in the crawl task

DENSITY = 1000.0  # kg/m^3


def walker_model(legacy_inertia: bool = False, obstacles: bool = False) -> mujoco.MjModel:
    """The walker on a floor.

    :param legacy_inertia: masses and inertias as MuJoCo 2.1.0 computed them
    :param obstacles: with the ceilings and curbs of the crawl task
    """
    spec = mujoco.MjSpec.from_file(asset("walker.xml"))
    if obstacles:
        # Here, not at the reset as the released code does: a world geom that is moved in a compiled model stays
        # where it was for MuJoCo 3's search for contacts, so that nothing ever touches it.
        box = spec.find_default("obstacle")
        for i, (size, pos) in enumerate(CURBS):
            spec.worldbody.add_geom(box, name=f"curb_{i}", size=size, pos=pos)
        for i, (size, pos) in enumerate(CEILINGS):
            spec.worldbody.add_geom(box, name=f"ceiling_{i}", size=size, pos=pos, group=CEILING_GROUP)
        floor = spec.geom("floor")
        floor.size = [FLOOR_HALF_LENGTH, *floor.size[1:]]
    model = spec.compile()
    if legacy_inertia:
        _set_legacy_inertia(model)
    return model


def _set_legacy_inertia(model: mujoco.MjModel) -> None:
    """Take every capsule for a cylinder that is longer by half a cap at each end, as MuJoCo before 2.1.2 did."""
    parts = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    bodies, (radius, half_length) = model.geom_bodyid[parts], model.geom_size[parts, :2].T
    length = 2.0 * half_length + radius
    mass = DENSITY * np.pi * radius**2 * length
    across, along = mass * (3.0 * radius**2 + length**2) / 12.0, mass * radius**2 / 2.0
    model.body_mass[bodies] = mass
    model.body_inertia[bodies] = np.stack([across, across, along], axis=1)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # everything that follows from them
