"""How much of a registered id the tests run: everything where steps are cheap, a sample where they are not.

An id that is ``costly`` in the registry appears twice in these lists: with a share of the steps (and some of its
tasks), and once more with everything, marked ``slow``. So `make test` stays short and `make test-all` leaves nothing
out. Nothing here knows an id by name: a family joins by being registered.
"""

import numpy as np
import pytest

import qmp_envs
from qmp_envs.registry import ENTRIES

QUICK_SHARE = 0.1  # of the steps
QUICK_TASKS = 3


def sample(id: str) -> set[int]:
    """The tasks of a costly id that the quick tests run: the first, the last and one between them."""
    return set(np.linspace(0, len(qmp_envs.task_names(id)) - 1, QUICK_TASKS).astype(int).tolist())


def some(count: int, share: float, least: int = 1) -> int:
    """A share of ``count``, but at least ``least``."""
    return max(round(count * share), min(count, least))


def _shares(id: str, quick: bool = True) -> list:
    """``(id, share)`` of one id."""
    if not ENTRIES[id].costly:
        return [pytest.param(id, 1.0, id=id)]
    everything = pytest.param(id, 1.0, id=f"{id}-everything", marks=pytest.mark.slow)
    return [pytest.param(id, QUICK_SHARE, id=id), everything] if quick else [everything]


def _tasks(id: str) -> list:
    """``(id, task, share)`` of all tasks of one id."""
    tasks = range(len(qmp_envs.task_names(id)))
    if not ENTRIES[id].costly:
        return [pytest.param(id, task, 1.0, id=f"{id}-{task}") for task in tasks]
    quick = [pytest.param(id, task, QUICK_SHARE, id=f"{id}-{task}") for task in sorted(sample(id))]
    return quick + [pytest.param(id, task, 1.0, id=f"{id}-{task}-everything", marks=pytest.mark.slow) for task in tasks]


def _repeated(id: str) -> bool:
    """Whether a costly id is another size of a task set that came before, so that one batch of it is enough."""
    ids = qmp_envs.ids()
    before = {ENTRIES[one].task_set for one in ids[: ids.index(id)]}
    return ENTRIES[id].costly and ENTRIES[id].task_set in before


IDS = qmp_envs.ids()
BATCH_IDS = [pytest.param(id, id=id, marks=[pytest.mark.slow] if _repeated(id) else []) for id in IDS]
"""For tests that make a slot for every task."""
SHARES = [case for id in IDS for case in _shares(id)]
"""(id, share of the steps)"""
BATCH_SHARES = [case for id in IDS for case in _shares(id, quick=not _repeated(id))]
"""(id, share of the steps), for tests that make a slot for every task"""
TASK_SHARES = [case for id in IDS for case in _tasks(id)]
"""(id, task, share of the steps)"""

each_id = pytest.mark.parametrize("id", IDS)
each_batch_id = pytest.mark.parametrize("id", BATCH_IDS)
each_share = pytest.mark.parametrize("id,share", SHARES)
each_batch_share = pytest.mark.parametrize("id,share", BATCH_SHARES)
each_task = pytest.mark.parametrize("id,task,share", TASK_SHARES)
