"""Charts and tables of runs: ``qmp report`` and ``qmp plot``."""

from qmp_sb3.experiments.report.images import write_figures
from qmp_sb3.experiments.report.write import write_report

__all__ = ["write_figures", "write_report"]
