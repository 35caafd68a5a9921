"""What a hook is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmp_sb3.multitask_sac import MultiTaskSAC


class Hook(ABC):
    """Something that happens between updates. It is saved with the model, with all that it remembers."""

    def bind(self, model: MultiTaskSAC) -> None:
        """Check that the model is one that the hook is made for; called when the model is built.

        :raises ValueError: if it is not
        """

    @abstractmethod
    def after_updates(self, model: MultiTaskSAC) -> None:
        """Called at the end of ``train()``."""
