"""Values as JSON and named arrays.

``None``, truth values, texts, finite floats, integers that every reader of JSON knows, lists, and dictionaries of
texts stand in the JSON as they are. Anything else is ``{"~": kind, ...}``, as :data:`ENCODERS` has it.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
import pathlib
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import numpy as np
import torch as th

from qmp_sb3.serialization import tags
from qmp_sb3.serialization.errors import place, untagged

KIND = "~"
"""The key that marks what is no plain JSON."""
EXACT = 2**53
"""Integers up to this size are exact in every reader of JSON."""
STORED = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
"""Types of arrays that safetensors has; those of others are kept as bytes."""
_NAMED = (type, types.FunctionType)
_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset, type, enum.Enum, np.dtype)

Steps = tuple[str | int, ...]
Node = Any


class Encoder:
    """Makes JSON of one value, and collects its arrays.

    An object that is met twice is written once: its second place refers to the first.

    :param arrays: by name; those of other values may be among them
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self._met: dict[int, tuple[Steps, Any]] = {}  # keeps the objects alive, so that their ids stay theirs
        self._within_part = False

    def encode(self, value: Any, at: Steps = ()) -> Node:
        """The JSON of ``value``, which stands at ``at`` in its tree."""
        if value is None or type(value) in (bool, str):
            return value
        if isinstance(value, _IMMUTABLE) or isinstance(value, np.generic):
            return self._kind(value, at)
        if id(value) in self._met:
            return {KIND: "same", "as": list(self._met[id(value)][0])}
        self._met[id(value)] = at, value
        return self._kind(value, at)

    def _kind(self, value: Any, at: Steps) -> Node:
        encoder = ENCODERS.get(type(value))
        node = None if encoder is None else encoder(self, value, at)
        if node is None:
            node = self._special(value, at)
        return self.pickle(value, at) if node is None else node

    def _special(self, value: Any, at: Steps) -> Node:
        """What is told by more than its type; None for what has no form of its own."""
        if isinstance(value, np.generic):
            return _scalar(self, value, at)
        if isinstance(value, np.dtype):
            return {KIND: "dtype", "is": value.str} if value.kind in "biufcSU" else None
        if isinstance(value, _NAMED):
            tag = tags.TAGS.get(value)
            return {KIND: "named", "is": tag} if tag in tags.NAMED else None
        tag = tags.TAGS.get(type(value))
        if tag not in tags.OBJECTS:
            return None
        if isinstance(value, enum.Enum):
            return {KIND: "enum", "tag": tag, "is": value.name}
        if isinstance(value, tuple):
            return {KIND: "tuple", "tag": tag, "of": self.items(value, at)}
        return self._object(value, tag, at)

    def _object(self, value: Any, tag: str, at: Steps) -> Node:
        state = state_of(value)
        if state is None:
            return None
        if not tags.is_part(type(value)):
            return {KIND: "object", "tag": tag, "state": _entries(self, state, at)}
        outside, self._within_part = self._within_part, True
        node = {KIND: "part", "tag": tag, "is": tags.expression(value), "state": _entries(self, state, at)}
        self._within_part = outside
        return node

    def items(self, values: Any, at: Steps) -> list[Node]:
        return [self.encode(value, (*at, number)) for number, value in enumerate(values)]

    def keep(self, array: np.ndarray, at: Steps) -> dict[str, Any]:
        """Take an array; what says where it is and, unless safetensors does, what it is."""
        name = ".".join(map(str, at)) or "value"
        while name in self.arrays or name == "__metadata__":
            name += "'"
        if array.dtype.name in STORED and array.dtype.isnative:
            self.arrays[name] = np.asarray(array, order="C")
            return {"is": name}
        raw = np.frombuffer(array.tobytes(), dtype=np.uint8)
        self.arrays[name] = raw
        return {"is": name, "dtype": array.dtype.str, "shape": list(array.shape)}

    def pickle(self, value: Any, at: Steps) -> Node:
        """What has no other form. Reading it runs code; so nothing of ours is, no part, and in a part only classes."""
        kind = tags.name_of(value if isinstance(value, _NAMED) else type(value))
        if (
            kind.startswith(("qmp_sb3.", "qmp_envs."))
            or tags.is_part(type(value))
            or (self._within_part and not isinstance(value, type))
        ):
            raise untagged(place(at), kind)
        try:
            data = cloudpickle.dumps(value)
        except Exception as error:
            raise TypeError(f"{place(at)} is a {kind}, which cannot be saved: {error}") from error
        return {KIND: "pickle", "class": kind, **self.keep(np.frombuffer(data, dtype=np.uint8), at)}


def state_of(value: Any) -> dict[str, Any] | None:
    """The attributes that make an object; None if it is more than these."""
    own = type(value).__getstate__ is not object.__getstate__
    if dataclasses.is_dataclass(value) and not own:
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    state = value.__getstate__()
    return {} if state is None else (state if isinstance(state, dict) else None)


def _entries(encoder: Encoder, values: Mapping[Any, Any], at: Steps) -> Node:
    if KIND not in values and all(type(key) is str for key in values):
        return {key: encoder.encode(value, (*at, key)) for key, value in values.items()}
    pairs = [
        [encoder.encode(key, (*at, number, 0)), encoder.encode(value, (*at, number, 1))]
        for number, (key, value) in enumerate(values.items())
    ]
    return {KIND: "dict", "of": pairs}


def _set(encoder: Encoder, value: set | frozenset, at: Steps) -> Node:
    """In an order of its own, so that equal sets make equal files; only of what is equal when it is read again."""
    if not all(_plain(one) for one in value):
        return None
    items = sorted(encoder.items(value, at), key=json.dumps)
    return {KIND: type(value).__name__, "of": items}


def _plain(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_plain, value))
    return value is None or type(value) in (bool, int, float, str, bytes)


def _array(encoder: Encoder, value: np.ndarray, at: Steps) -> Node:
    return {KIND: "array", **encoder.keep(value, at)} if value.dtype.kind in "biufcSU" else None


def _scalar(encoder: Encoder, value: np.generic, at: Steps) -> Node:
    if value.dtype.kind in "biuU" or (value.dtype.kind == "f" and value.dtype.itemsize <= 8):
        return {KIND: "scalar", "dtype": value.dtype.str, "is": encoder.encode(value.item(), at)}
    return None


def _tensor(encoder: Encoder, value: th.Tensor, at: Steps) -> Node:
    if value.layout is not th.strided or value.is_quantized:
        return None
    node: dict[str, Any] = {KIND: "tensor"}
    flat = value.detach().cpu().contiguous()
    if str(flat.dtype).removeprefix("torch.") not in STORED:  # NumPy has no such type: as bytes
        node["as"], node["shape"] = str(flat.dtype), list(flat.shape)
        flat = flat.reshape(-1).view(th.uint8)
    node |= encoder.keep(flat.numpy(), at)
    if value.requires_grad:
        node["requires_grad"] = True
    if isinstance(value, th.nn.Parameter):
        node["parameter"] = True
    return node


def _generator(encoder: Encoder, value: np.random.Generator, at: Steps) -> Node:
    bits = value.bit_generator
    name, seed = type(bits).__name__, bits.seed_seq
    if tags.BIT_GENERATORS.get(name) is not type(bits) or type(seed) is not np.random.SeedSequence:
        return None
    begun = {key: getattr(seed, key) for key in ("entropy", "spawn_key", "pool_size", "n_children_spawned")}
    state = {"bits": bits.state, "seed": begun}
    return {KIND: "generator", "class": name, "state": _entries(encoder, state, at)}


def _torch_generator(encoder: Encoder, value: th.Generator, at: Steps) -> Node:
    if value.device.type != "cpu":
        return None
    return {KIND: "torch.generator", **encoder.keep(value.get_state().numpy(), at)}


#: type -> function of the encoder, the value and its place, giving its JSON, or None where it has none
ENCODERS: dict[type, Callable[[Encoder, Any, Steps], Node]] = {
    int: lambda encoder, value, at: value if abs(value) < EXACT else {KIND: "int", "is": hex(value)},
    float: lambda encoder, value, at: value if math.isfinite(value) else {KIND: "float", "is": repr(value)},
    list: Encoder.items,
    dict: _entries,
    OrderedDict: lambda encoder, value, at: {KIND: "ordered", "of": _entries(encoder, value, at)},
    tuple: lambda encoder, value, at: {KIND: "tuple", "of": encoder.items(value, at)},
    th.Size: lambda encoder, value, at: {KIND: "size", "of": list(value)},
    set: _set,
    frozenset: _set,
    deque: lambda encoder, value, at: {KIND: "deque", "of": encoder.items(value, at), "maxlen": value.maxlen},
    bytes: lambda encoder, value, at: {KIND: "bytes", "is": base64.b64encode(value).decode()},
    pathlib.PosixPath: lambda encoder, value, at: {KIND: "path", "is": str(value)},
    pathlib.WindowsPath: lambda encoder, value, at: {KIND: "path", "is": str(value)},
    np.ndarray: _array,
    np.memmap: _array,
    th.Tensor: _tensor,
    th.nn.Parameter: _tensor,
    np.random.Generator: _generator,
    th.Generator: _torch_generator,
    th.dtype: lambda encoder, value, at: {KIND: "torch.dtype", "is": str(value)},
    th.device: lambda encoder, value, at: {KIND: "torch.device", "is": str(value)},
}
