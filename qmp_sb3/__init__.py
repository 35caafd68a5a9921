"""Stable-Baselines3 algorithms for many tasks at once."""

from qmp_sb3.algorithms import QMP, MultiTaskSAC
from qmp_sb3.methods import presets
from qmp_sb3.methods.presets import make
from qmp_sb3.policies import MlpPolicy
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

__all__ = ["QMP", "MlpPolicy", "MultiTaskSAC", "MultiTaskVecEnv", "make", "make_multitask_vec_env", "presets"]
