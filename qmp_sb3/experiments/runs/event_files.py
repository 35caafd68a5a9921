"""TensorBoard's files of a run that may be interrupted and resumed."""

from __future__ import annotations

from stable_baselines3.common.logger import TensorBoardOutputFormat
from torch.utils.tensorboard.writer import SummaryWriter


class EventFiles(TensorBoardOutputFormat):
    """As SB3's; TensorBoard forgets what an earlier process has written beyond the step that this one resumes from.

    :param folder: where the files are
    :param done: environment steps that are done, None for a new run
    """

    def __init__(self, folder: str, done: int | None) -> None:
        self.writer = SummaryWriter(log_dir=folder, purge_step=None if done is None else done + 1)
        self._is_closed = False
