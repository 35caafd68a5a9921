"""The compiled part: the library built from ``src/``, if there is one."""

from qmp_sb3.native.library import load, unavailable

__all__ = ["load", "unavailable"]
