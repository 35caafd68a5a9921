"""Gymnasium's vector environments as Stable-Baselines3 takes them, with a task for each slot."""

from qmp_sb3.vec_env.multitask_vec_env import MultiTaskVecEnv, as_task_env, make_multitask_vec_env

__all__ = ["MultiTaskVecEnv", "as_task_env", "make_multitask_vec_env"]
