"""Files that execute no code: plain trees and arrays in safetensors, models as a zip of them."""

from __future__ import annotations

from qmp_sb3.serialization.errors import DamagedFile, UntrustedFile
from qmp_sb3.serialization.tags import register
from qmp_sb3.serialization.trees import read_tree, write_tree

__all__ = ["DamagedFile", "UntrustedFile", "read_tree", "register", "write_tree"]
