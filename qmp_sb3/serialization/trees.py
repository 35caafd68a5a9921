"""A tree of plain values and arrays as one safetensors file, whose metadata say in JSON what is no array."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save, save_file

from qmp_sb3.serialization.decoding import Decoder
from qmp_sb3.serialization.encoding import Encoder, Node
from qmp_sb3.serialization.errors import DamagedFile, UntrustedFile
from qmp_sb3.serialization.paths import replaced

FORMAT = "2"
"""Of the metadata. A reader refuses one that it does not know."""


def write_tree(path: str | os.PathLike[str] | io.BufferedIOBase, value: Any) -> None:
    """Write a value to a file, in one step where it is given by its path.

    Plain values, arrays, tensors, generators, spaces and the parts of our models need no pickle, see docs/files.md.
    Tensors come back on the CPU; an object that is in the value twice comes back as one object.

    :param path: of the file, or a file that is open for writing
    :raises TypeError: if something in it cannot be saved at all, naming its place
    """
    arrays: dict[str, np.ndarray] = {}
    node = Encoder(arrays).encode(value)
    if isinstance(path, io.BufferedIOBase):
        path.write(to_bytes(node, arrays))
    else:
        replaced(Path(path), lambda part: save_file(arrays, part, metadata=_metadata(node)))


def read_tree(path: str | os.PathLike[str] | io.BufferedIOBase, trust: bool = False) -> Any:
    """The value that :func:`write_tree` wrote.

    :param path: of the file, or a file that is open for reading
    :param trust: bring back what is pickled, too: that runs code which the file brings along
    :raises FileNotFoundError: if there is no such file
    :raises DamagedFile: if it is not whole or no file of this kind
    :raises UntrustedFile: without ``trust``, if something is pickled, naming its place and type
    """
    file = name_of(path)
    node, arrays = from_bytes(path.read(), file) if isinstance(path, io.BufferedIOBase) else _from_file(Path(path))
    return Decoder(arrays, file, trust).value(node)


def is_pickle(path: str | os.PathLike[str] | io.BufferedIOBase) -> bool:
    """Whether a file begins as those of pickle and ``torch.save`` do, and not as safetensors: with the size of a header
    and a brace.
    """
    if isinstance(path, io.BufferedIOBase):
        at = path.tell()
        begin = path.read(9)
        path.seek(at)
    else:
        with open(path, "rb") as file:
            begin = file.read(9)
    return begin.startswith((b"\x80", b"PK")) and begin[8:] != b"{"


def refuse_pickle(path: str | os.PathLike[str] | io.BufferedIOBase, trust: bool) -> None:
    """Raise without ``trust``."""
    if not trust:
        raise UntrustedFile(
            f"{name_of(path)} is a pickle, as Stable-Baselines3 writes them: to read it runs code that it brings "
            "along; say trust=True if you trust where it comes from, and save it again"
        )


def name_of(path: str | os.PathLike[str] | io.BufferedIOBase) -> str:
    """What messages call a file."""
    return str(getattr(path, "name", "the file")) if isinstance(path, io.BufferedIOBase) else os.fspath(path)


def to_bytes(node: Node, arrays: dict[str, np.ndarray]) -> bytes:
    """The file of a node and its arrays."""
    return save(arrays, metadata=_metadata(node))


def from_bytes(data: bytes, file: str) -> tuple[Node, dict[str, np.ndarray]]:
    """The reverse of :func:`to_bytes`.

    :param file: its name, for messages
    """
    try:
        arrays = {name: np.require(array, requirements="W") for name, array in load(data).items()}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise DamagedFile(f"{file} is damaged, or no safetensors file: {error}") from error
    return _node(header.get("__metadata__"), file), arrays


def _from_file(path: Path) -> tuple[Node, dict[str, np.ndarray]]:
    with path.open("rb"):  # its errors are Python's own
        pass
    try:
        with safe_open(path, framework="np") as file:
            metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise DamagedFile(f"{path} is damaged, or no safetensors file: {error}") from error
    return _node(metadata, str(path)), arrays


def _metadata(node: Node) -> dict[str, str]:
    return {"qmp_tree": FORMAT, "tree": json.dumps(node, allow_nan=False)}


def _node(metadata: dict[str, str] | None, file: str) -> Node:
    if not metadata or "qmp_tree" not in metadata:
        raise DamagedFile(f"{file} is a safetensors file, but none that qmp_sb3 wrote")
    if metadata["qmp_tree"] != FORMAT:
        raise DamagedFile(f"{file} has the format {metadata['qmp_tree']}; this version reads {FORMAT}")
    try:
        return json.loads(metadata["tree"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{file} is damaged: what it says of its arrays is no JSON") from error
