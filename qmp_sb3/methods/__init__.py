"""Methods by name: the table, and the hyper-parameters of each with their sources."""

from qmp_sb3.methods import presets
from qmp_sb3.methods.table import Method, compositions, given_up, method, methods

__all__ = ["Method", "compositions", "given_up", "method", "methods", "presets"]
