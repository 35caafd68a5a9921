"""Stable-Baselines3 algorithms for many tasks at once."""

from qmp_sb3 import presets
from qmp_sb3.multitask_sac import MultiTaskSAC
from qmp_sb3.policies import MlpPolicy
from qmp_sb3.qmp import QMP
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

__all__ = ["QMP", "MlpPolicy", "MultiTaskSAC", "MultiTaskVecEnv", "make_multitask_vec_env", "presets"]
