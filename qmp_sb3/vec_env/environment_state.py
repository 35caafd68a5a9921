"""Where the environments of a model stand, so that training can go on in the middle of their episodes."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from qmp_envs import BatchedTaskSetEnv
from qmp_sb3.vec_env.multitask_vec_env import MultiTaskVecEnv

_LOG = logging.getLogger(__name__)
_STATISTICS = ("obs_rms", "ret_rms")  # of VecNormalize
_ARRAYS = ("returns", "old_reward", "old_obs")


@dataclass(frozen=True)
class EnvironmentState:
    """Of a VecEnv and its wrappers.

    :param plain: plain values: of the suite's own environments, as
        :func:`~qmp_sb3.vec_env.make_multitask_vec_env` makes them of an id, also under a ``VecNormalize``;
        None of others
    :param pickled: others, as pickles of what the VecEnv and its wrappers hold: to read it is to run code; None where
        they cannot be pickled either
    """

    plain: list[dict[str, Any]] | None
    pickled: bytes | None = None

    @classmethod
    def of(cls, env: VecEnv) -> EnvironmentState:
        """Of an environment as it stands; one that cannot be kept is named in the log."""
        chain = _chain(env)
        if all(map(_is_ours, chain)):
            try:
                return cls([_plain(one) for one in chain])
            except NotImplementedError as missing:
                _LOG.info("%s; it is pickled", missing)
        try:
            return cls(None, cloudpickle.dumps([_attributes(one) for one in chain]))
        except Exception as error:  # whatever somebody's __reduce__ raises
            names = " in ".join(type(one).__name__ for one in chain)
            _LOG.warning("%s cannot be saved (%s): its episodes begin anew where training goes on", names, error)
            return cls(None)

    def restore(self, env: VecEnv) -> bool:
        """Put an environment that was made like that one where it stood; whether it does.

        What is ``pickled`` runs code.
        """
        chain = _chain(env)
        if self.plain is not None:
            for one, state in zip(chain, self.plain, strict=True):
                _put(one, state)
        elif self.pickled is not None:
            for one, state in zip(chain, pickle.loads(self.pickled), strict=True):
                vars(one).update(state)
        return self.plain is not None or self.pickled is not None


def _chain(env: VecEnv) -> list[VecEnv]:
    """The environment's wrappers, from outside, and what they wrap."""
    chain = [env]
    while isinstance(chain[-1], VecEnvWrapper):
        chain.append(chain[-1].venv)
    return chain


def _is_ours(env: VecEnv) -> bool:
    if isinstance(env, MultiTaskVecEnv):
        return type(env.envs) is BatchedTaskSetEnv
    return type(env) is VecNormalize


def _attributes(env: VecEnv) -> dict[str, Any]:
    return {name: value for name, value in vars(env).items() if name not in ("venv", "class_attributes")}


def _plain(env: VecEnv) -> dict[str, Any]:
    if isinstance(env, MultiTaskVecEnv):
        return env.snapshot()
    statistics = {name: _moments(getattr(env, name, None)) for name in _STATISTICS}
    return statistics | {name: np.array(getattr(env, name)) for name in _ARRAYS if hasattr(env, name)}


def _put(env: VecEnv, state: dict[str, Any]) -> None:
    if isinstance(env, MultiTaskVecEnv):
        env.restore(state)
        return
    for name in _STATISTICS:
        if state[name] is not None:
            vars(getattr(env, name)).update(state[name])
    for name in _ARRAYS:
        if name in state:
            setattr(env, name, np.array(state[name]))


def _moments(statistics: RunningMeanStd | None) -> dict[str, Any] | None:
    if statistics is None:
        return None
    return {"mean": np.array(statistics.mean), "var": np.array(statistics.var), "count": statistics.count}
