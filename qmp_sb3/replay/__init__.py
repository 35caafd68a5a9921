"""The replay part: which transitions, how many per task?"""

from qmp_sb3.replay.allocations import ALLOCATIONS, Allocation, Own
from qmp_sb3.replay.batch import Batch
from qmp_sb3.replay.draws import DRAWS, Draw
from qmp_sb3.replay.multitask_replay_buffer import MultiTaskReplayBuffer
from qmp_sb3.replay.row_format import RowFormat
from qmp_sb3.replay.segments import SEGMENT_COLUMNS, Segments

__all__ = [
    "ALLOCATIONS",
    "DRAWS",
    "SEGMENT_COLUMNS",
    "Allocation",
    "Batch",
    "Draw",
    "MultiTaskReplayBuffer",
    "Own",
    "RowFormat",
    "Segments",
]
