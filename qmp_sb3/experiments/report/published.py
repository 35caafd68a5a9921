"""Ours beside the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qmp_sb3.experiments.report.page import Published
from qmp_sb3.experiments.report.sources import TaskSetRuns


def published(groups: Sequence[TaskSetRuns], benchmark: Any) -> Published:
    raise NotImplementedError
