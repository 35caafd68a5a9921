"""How fast the suite is (``speed``) and what it reproduces (``paper``); docs/benchmarks.md has the results."""
