"""Task sets for multi-task reinforcement learning; importing this package registers the ``QMP/`` ids."""

# First: it says what is missing for MUJOCO_GL, which MuJoCo's own import does not.
import qmp_envs.rendering.opengl  # noqa: F401
from qmp_envs.drivers.env import TaskSetEnv
from qmp_envs.drivers.vector import BatchedTaskSetEnv
from qmp_envs.drivers.wrappers import TaskOneHot
from qmp_envs.evaluation import Evaluation, evaluate, run_episodes
from qmp_envs.registry import ids, is_task_set, make_task_set, register, register_task_set, task_names
from qmp_envs.task_set import Outcome, TaskSet

__all__ = [
    "BatchedTaskSetEnv",
    "Evaluation",
    "Outcome",
    "TaskOneHot",
    "TaskSet",
    "TaskSetEnv",
    "evaluate",
    "ids",
    "is_task_set",
    "make_task_set",
    "register",
    "register_task_set",
    "run_episodes",
    "task_names",
]

register()
