"""Environments with random actions: ours, the loops that Gymnasium and SB3 make of single ones, upstream's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import qmp_envs
from benchmarks.speed.interleaved import Variant
from benchmarks.speed.plain_reacher import PlainReacher

DRAWN_ACTIONS = 200
SYNC_EVERY = 50  # steps of mj_step alone between two looks at where the environments are
BATCH, ONE_WORKER, DUMMY, PHYSICS = "gym.make_vec", "gym.make_vec(workers=1)", "SB3 DummyVecEnv", "only mj_step"
PLAIN = "SB3 DummyVecEnv of environments written by hand"


def _actions(space: gym.Space) -> cycle[np.ndarray]:
    space.seed(0)
    return cycle([space.sample() for _ in range(DRAWN_ACTIONS)])


def of_batch(envs: VectorEnv) -> Variant:
    """One step of all slots."""
    envs.reset(seed=0)
    actions = _actions(envs.action_space)
    return Variant(lambda: envs.step(next(actions)), close=envs.close)


def of_vec_env(envs: VecEnv) -> Variant:
    """One step of all slots, as SB3 makes it."""
    envs.seed(0)
    envs.reset()
    space = gym.vector.utils.batch_space(envs.action_space, envs.num_envs)
    actions = _actions(space)
    return Variant(lambda: envs.step(next(actions)), close=envs.close)


def of_single(env: gym.Env) -> Variant:
    """One step; started anew where the episode ends."""
    env.reset(seed=0)
    actions = _actions(env.action_space)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return Variant(step, close=env.close)


def of_physics(envs: VectorEnv) -> Variant:
    """Only ``mj_step``, on the states that a batch, stepped as another variant, is in, with random inputs."""
    physics = _physics(envs)
    own = [(model, mujoco.MjData(model)) for model, _ in physics.simulators]
    substeps, full = physics.frame_skip, mujoco.mjtState.mjSTATE_INTEGRATION
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (DRAWN_ACTIONS, len(own), own[0][0].nu))
    inputs = cycle(drawn)
    steps = 0

    def look() -> None:
        for (model, data), (_, current) in zip(own, physics.simulators, strict=True):
            state = np.empty(mujoco.mj_stateSize(model, full))
            mujoco.mj_getState(model, current, state, full)
            mujoco.mj_setState(model, data, state, full)

    def step() -> None:
        nonlocal steps
        if steps % SYNC_EVERY == 0:
            look()
        steps += 1
        for (model, data), control in zip(own, next(inputs), strict=True):
            data.ctrl[:] = control
            mujoco.mj_step(model, data, substeps)

    return Variant(step)


def loop(ids: Iterable[str], **kwargs: object) -> VectorEnv:
    """Gymnasium's ``SyncVectorEnv`` of other packages' environments."""
    makers = [lambda id=id: gym.make(id, disable_env_checker=True, **kwargs) for id in ids]  # type: ignore[misc]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def dummy(id: str, slots: int) -> VecEnv:
    """SB3's loop over single environments of ours."""
    tasks = len(qmp_envs.task_names(id))
    return DummyVecEnv([lambda slot=slot: gym.make(id, task=slot % tasks) for slot in range(slots)])  # type: ignore[misc]


def meta_world(benchmark: str) -> VectorEnv:
    """Meta-World's own vector environment."""
    import metaworld  # noqa: F401

    return gym.make_vec(f"Meta-World/{benchmark}", vector_strategy="sync", seed=0)


def meta_world_tasks(names: Iterable[str]) -> VectorEnv:
    """A loop over Meta-World's own single environments."""
    import metaworld  # noqa: F401

    makers = [lambda name=name: gym.make("Meta-World/MT1", env_name=name, seed=0) for name in names]  # type: ignore[misc]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def kitchen(slots: int) -> VectorEnv:
    """The kitchen of gymnasium-robotics."""
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    return loop(["FrankaKitchen-v1"] * slots)


CDS_TASKS = ("door-open-v3", "door-close-v3", "drawer-open-v3", "drawer-close-v3")
UPSTREAM: Mapping[str, tuple[str, Callable[[int], VectorEnv]]] = {
    "QMP/Walker2D-v0": ("SyncVectorEnv of Walker2d-v5", lambda slots: loop(["Walker2d-v5"] * slots)),
    "QMP/Kitchen-v0": ("SyncVectorEnv of FrankaKitchen-v1", kitchen),
    "QMP/MetaWorldCDS-v0": ("SyncVectorEnv of Meta-World's tasks", lambda slots: meta_world_tasks(CDS_TASKS)),
    "QMP/MT10-v0": ("Meta-World/MT10", lambda slots: meta_world("MT10")),
    "QMP/MT50-v0": ("Meta-World/MT50", lambda slots: meta_world("MT50")),
    "QMP/HalfCheetahGravity-v0": ("SyncVectorEnv of HalfCheetah-v5", lambda slots: loop(["HalfCheetah-v5"] * slots)),
    "QMP/HalfCheetahBody-v0": ("SyncVectorEnv of HalfCheetah-v5", lambda slots: loop(["HalfCheetah-v5"] * slots)),
}
"""What a task set replaces, or the closest there is, if not the same: id -> name, maker for a number of slots."""
QUICKLY_MADE = ("QMP/Walker2D-v0", "QMP/HalfCheetahGravity-v0", "QMP/HalfCheetahBody-v0")
"""Where making upstream's takes less than seconds; benchmarks.speed.memory makes Meta-World's once."""


def vector_step(id: str, slots: int) -> dict[str, Variant]:
    """One step of all slots, resets and infos included."""
    envs, alone = (gym.make_vec(id, num_envs=slots, **given) for given in ({}, {"workers": 1}))
    built = {BATCH: of_batch(envs)}
    if _in_parallel(_physics(envs)):
        built[ONE_WORKER] = of_batch(alone)
    else:
        alone.close()
        alone = envs
    built[DUMMY] = of_vec_env(dummy(id, slots))
    if id == "QMP/MultistageReacher-v0":
        built[PLAIN] = of_vec_env(DummyVecEnv([PlainReacher] * slots))
    if id in UPSTREAM:
        name, make = UPSTREAM[id]
        built[name] = of_batch(make(slots))
    if hasattr(_physics(alone), "simulators"):
        built[PHYSICS] = of_physics(alone)
    return built


def _physics(envs: VectorEnv) -> Any:
    return envs.unwrapped._episodes.physics  # type: ignore[attr-defined]


def _in_parallel(physics: Any) -> bool:
    """Whether threads or processes step the slots."""
    return hasattr(physics, "_workers") or getattr(getattr(physics, "_team", None), "size", 1) > 1


def single_peer(id: str) -> str | None:
    """The upstream environment that one of ours is compared with; MT10's and MT50's exist as vectors only."""
    _, loop, one = UPSTREAM[id][0].partition("SyncVectorEnv of ") if id in UPSTREAM else ("", "", "")
    return one if loop else None


def single_step(id: str) -> dict[str, Variant]:
    """One step of one environment, task 0."""
    built = {"gym.make": of_single(gym.make(id, task=0, disable_env_checker=True))}
    peer = single_peer(id)
    if peer is not None:
        envs = UPSTREAM[id][1](1)
        assert isinstance(envs, SyncVectorEnv)
        built[peer] = of_single(envs.envs[0])
    return built


def construction(id: str, slots: int) -> dict[str, Variant]:
    """Making all slots and resetting them once, in a process that has imported everything."""

    def made(make: Callable[[], Any]) -> Variant:
        def work() -> None:
            envs = make()
            envs.reset()
            envs.close()

        return Variant(work)

    built = {BATCH: made(lambda: gym.make_vec(id, num_envs=slots)), DUMMY: made(lambda: dummy(id, slots))}
    if id in QUICKLY_MADE:
        name, make = UPSTREAM[id]
        built[name] = made(lambda: make(slots))
    return built
