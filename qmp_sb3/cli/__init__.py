"""The command line ``qmp``: one file per command, which holds its grammar (``add``) and what it does (``run``)."""

from qmp_sb3.cli.main import main
from qmp_sb3.cli.words import UsageError

__all__ = ["UsageError", "main"]
