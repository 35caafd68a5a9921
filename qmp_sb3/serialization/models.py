"""A model as a zip archive in Stable-Baselines3's layout, whose members are JSON and safetensors.

::

    data                             JSON: the model's attributes
    data.safetensors                 the arrays among them
    policy.safetensors               a state dictionary, by the names that PyTorch gives; so are
    actor.optimizer.safetensors      ... all others
    pytorch_variables.safetensors    single tensors
    _qmp_sb3_format                  the version of this layout
    _stable_baselines3_version, system_info.txt

Members are stored as they are, so that an archive never unpacks to more than it is.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import get_system_info

from qmp_sb3.serialization.decoding import Decoder, pickled
from qmp_sb3.serialization.encoding import Encoder, Node
from qmp_sb3.serialization.errors import DamagedFile, UntrustedFile, untrusted
from qmp_sb3.serialization.paths import replaced, source, target
from qmp_sb3.serialization.trees import from_bytes, name_of, to_bytes

FORMAT = "2"
_MARK, _DATA, _VARIABLES = "_qmp_sb3_format", "data", "pytorch_variables"
_TEXTS = (_MARK, _DATA, "_stable_baselines3_version", "system_info.txt")
_ARRAYS = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.safetensors")
ModelPath = str | os.PathLike[str] | io.BufferedIOBase


@dataclass
class SavedModel:
    """What a file holds of a model.

    :param data: its attributes, None where they were not asked for
    :param parameters: its state dictionaries, by name
    :param variables: its single tensors, by name
    """

    data: dict[str, Any] | None
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: dict[str, th.Tensor] = field(default_factory=dict)


def write_model(path: ModelPath, model: SavedModel) -> None:
    """Write a model, in one step where the file is given by its path.

    :param path: of the file, ``.zip`` is added to a name without suffix; or a file that is open for writing
    """
    if isinstance(path, io.BufferedIOBase):
        _write(path, model)
    else:
        replaced(target(path, ".zip"), lambda part: _write(part, model))


def read_model(
    path: ModelPath,
    trust: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
    load_data: bool = True,
    print_system_info: bool = False,
) -> SavedModel:
    """The reverse of :func:`write_model`; everything is on the CPU.

    :param path: of the file, with or without ``.zip``; or a file that is open for reading
    :param trust: bring back what is pickled, too, and read models that Stable-Baselines3 has pickled: both run code
        that the file brings along
    :param custom_objects: attributes that take the place of those of the file
    :param load_data: whether the attributes are wanted
    :param print_system_info: print what the file says of the system that wrote it
    :raises FileNotFoundError: if there is no such file
    :raises DamagedFile: if it is not whole or no model
    :raises UntrustedFile: without ``trust``, if something is pickled, naming it and its type
    """
    file = path if isinstance(path, io.BufferedIOBase) else source(path, ".zip")
    name = name_of(file)
    replacing = dict(custom_objects or {})
    with _opened(file, name) as archive:
        names = archive.namelist()
        if _MARK not in names:
            _refuse_pickles(names, name, trust)
        else:
            texts, trees = _members(archive, name)
            if print_system_info:
                print("== SAVED MODEL SYSTEM INFO ==")
                print(_printable(texts.get("system_info.txt", "")))
            return _read(texts, trees, name, trust, replacing, load_data)
    # Stable-Baselines3 reads what it wrote itself.
    if isinstance(file, io.BufferedIOBase):
        file.seek(0)
    found = load_from_zip_file(cast(Any, file), load_data, replacing, "cpu", print_system_info=print_system_info)
    return SavedModel(found[0], cast(Any, found[1]), cast(Any, found[2]) or {})


def _write(file: Path | io.BufferedIOBase, model: SavedModel) -> None:
    arrays: dict[str, np.ndarray] = {}
    data = {key: Encoder(arrays).encode(value, (key,)) for key, value in (model.data or {}).items()}
    with zipfile.ZipFile(cast(Any, file), mode="w") as archive:
        archive.writestr(_DATA, json.dumps(data, indent=1, allow_nan=False))
        if arrays:
            archive.writestr(f"{_DATA}.safetensors", to_bytes(None, arrays))
        for name, state in {**model.parameters, _VARIABLES: model.variables}.items():
            arrays = {}
            node = Encoder(arrays).encode(dict(state))
            with archive.open(f"{name}.safetensors", mode="w", force_zip64=True) as member:
                member.write(to_bytes(node, arrays))
        archive.writestr(_MARK, FORMAT)
        archive.writestr("_stable_baselines3_version", stable_baselines3.__version__)
        archive.writestr("system_info.txt", get_system_info(print_info=False)[1])


@contextmanager
def _opened(file: Path | io.BufferedIOBase, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(cast(Any, file)) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DamagedFile(f"{name} is damaged, or no zip archive: {error}") from error


def _refuse_pickles(names: list[str], file: str, trust: bool) -> None:
    if _DATA not in names and not any(name.endswith(".pth") for name in names):
        raise DamagedFile(f"{file} is a zip archive, but holds no model")
    if not trust:
        raise UntrustedFile(
            f"{file} was written by Stable-Baselines3, with pickles: to read it runs code that it brings "
            "along; say trust=True if you trust where it comes from, and save it again"
        )


def _members(archive: zipfile.ZipFile, file: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """All members, if they are those of a model: the texts, and the arrays by the name before ``.safetensors``."""
    cast(BinaryIO, archive.fp).seek(0, os.SEEK_END)
    room = cast(BinaryIO, archive.fp).tell()
    texts: dict[str, str] = {}
    trees: dict[str, bytes] = {}
    for info in archive.infolist():
        arrays = _ARRAYS.fullmatch(info.filename)
        known = arrays[1] if arrays else info.filename
        if not arrays and info.filename not in _TEXTS:
            raise DamagedFile(f"{file} has the unknown member {info.filename!r}")
        if known in (trees if arrays else texts):
            raise DamagedFile(f"{file} is damaged: it has two members {info.filename!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > room:
            raise DamagedFile(f"{file} is damaged: {info.filename!r} says that it unpacks to {info.file_size:,} bytes")
        room -= info.file_size
        try:
            content = archive.read(info)
            texts.update({} if arrays else {known: content.decode()})
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise DamagedFile(f"{file} is damaged: {info.filename!r}: {error}") from error
        trees.update({known: content} if arrays else {})
    if texts[_MARK] != FORMAT:
        raise DamagedFile(f"{file} has the format {texts[_MARK]:.20}; this version reads {FORMAT}")
    return texts, trees


def _read(
    texts: dict[str, str],
    trees: dict[str, bytes],
    file: str,
    trust: bool,
    custom_objects: Mapping[str, Any],
    load_data: bool,
) -> SavedModel:
    arrays = trees.pop(_DATA, None)
    data = None
    if load_data:
        found = {} if arrays is None else from_bytes(arrays, f"{file}: {_DATA}.safetensors")[1]
        data = _data(texts.get(_DATA, ""), found, file, trust, custom_objects)
    states = {}
    for name, content in trees.items():
        node, found = from_bytes(content, f"{file}: {name}.safetensors")
        state = Decoder(found, f"{file}: {name}.safetensors", trust).value(node)
        if not isinstance(state, dict):
            raise DamagedFile(f"{file}: {name}.safetensors is damaged: it holds no state dictionary")
        states[name] = state
    return SavedModel(data, variables=states.pop(_VARIABLES, {}), parameters=states)


def _data(
    text: str, arrays: dict[str, np.ndarray], file: str, trust: bool, custom_objects: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        nodes: dict[str, Node] = json.loads(text)
        given = {key: custom_objects[key] for key in nodes.keys() & custom_objects.keys()}
        nodes = {key: node for key, node in nodes.items() if key not in given}
        found = [one for key, node in nodes.items() for one in pickled(node, (key,))]
    except (ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{file} is damaged: {_DATA!r} is no JSON of a model") from error
    if found and not trust:
        raise untrusted(file, found)
    return {key: Decoder(arrays, file, trust).value(node, (key,)) for key, node in nodes.items()} | given


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)
