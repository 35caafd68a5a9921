"""Results of evaluations: their table, what is wrong with a file, where numbers come from."""

from qmp_envs.results.table import COLUMNS, FILE_NAME, POLICIES, SCHEMA_VERSION, Results

__all__ = ["COLUMNS", "FILE_NAME", "POLICIES", "SCHEMA_VERSION", "Results"]
