"""Values from JSON and named arrays: the reverse of :mod:`qmp_sb3.serialization.encoding`.

What a file says is never run. It can make plain values, arrays and generators, and objects of classes with a tag by
``__new__`` and ``__setstate__``, whose attributes never take the place of a method. A part's expression is compared,
never evaluated.
"""

from __future__ import annotations

import base64
import enum
import pathlib
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cloudpickle
import numpy as np
import torch as th

from qmp_sb3.serialization import tags
from qmp_sb3.serialization.encoding import KIND, Node, Steps
from qmp_sb3.serialization.errors import DamagedFile, place, untrusted

_DTYPE = re.compile(r"[<>|=][biufcSU]\d{1,9}")
_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Decoder:
    """Makes a value of JSON and arrays.

    :param arrays: by name
    :param file: its name, for messages
    :param trust: whether what is pickled is brought back, which runs code
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], file: str, trust: bool) -> None:
        self.arrays, self.file, self.trust = arrays, file, trust
        self._made: dict[Steps, Any] = {}  # what may be referred to

    def value(self, node: Node, at: Steps = ()) -> Any:
        """The value of a node that stands at ``at``.

        :raises UntrustedFile: without ``trust``, naming all that is pickled
        :raises DamagedFile: naming the place of what no file of ours says
        """
        try:
            found = list(pickled(node, at))
            if found and not self.trust:
                raise untrusted(self.file, found)
            return self.decode(node, at)
        except RecursionError as error:
            raise DamagedFile(f"{self.file} is damaged: it is nested too deeply") from error

    def decode(self, node: Node, at: Steps) -> Any:
        if isinstance(node, dict) and KIND in node:
            return self._kind(node, at)
        if isinstance(node, dict):
            return self.entries(node, at, self.made(at, {}))
        if isinstance(node, list):
            made = self.made(at, [])
            made.extend(self.items(node, at))
            return made
        return node

    def _kind(self, node: dict[str, Any], at: Steps) -> Any:
        decoder = DECODERS.get(node[KIND]) if isinstance(node[KIND], str) else None
        if decoder is None:
            raise DamagedFile(f"{self.file} is damaged: {place(at)} is of the unknown kind {node[KIND]!r}")
        try:
            return decoder(self, node, at)
        except (DamagedFile, RecursionError):
            raise
        except _ERRORS as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            raise DamagedFile(f"{self.file} is damaged: {place(at)}: {reason}") from error

    def made(self, at: Steps, value: Any) -> Any:
        """Take note of an object that other places may refer to."""
        self._made[at] = value
        return value

    def items(self, nodes: list[Node], at: Steps) -> Iterator[Any]:
        return (self.decode(node, (*at, number)) for number, node in enumerate(_a(list, nodes)))

    def entries(self, node: Node, at: Steps, into: dict[Any, Any]) -> dict[Any, Any]:
        if KIND in _a(dict, node):
            if node[KIND] != "dict":
                raise ValueError(f"{node[KIND]!r} is no dictionary")
            for number, (key, value) in enumerate(node["of"]):
                into[self.decode(key, (*at, number, 0))] = self.decode(value, (*at, number, 1))
        else:
            for key, value in node.items():
                into[key] = self.decode(value, (*at, key))
        return into

    def same(self, node: dict[str, Any], at: Steps) -> Any:
        return self._made[tuple(node["as"])]

    def array(self, node: dict[str, Any]) -> np.ndarray:
        array = self.arrays[node["is"]]
        return array.view(_dtype(node["dtype"])).reshape(node["shape"]) if "dtype" in node else array

    def tagged(self, tag: Any, known: Mapping[str, Any], at: Steps) -> Any:
        """What has this tag among those that are known."""
        if _a(str, tag) not in known:
            raise DamagedFile(
                f"{self.file}: {place(at)}: nothing has the tag {tag!r} here; if it is your own, call "
                f"qmp_sb3.serialization.register({tag!r}, ...) before reading the file"
            )
        return known[tag]


def pickled(node: Node, at: Steps = ()) -> Iterator[tuple[str, str]]:
    """Where something is pickled, and of which type it is."""
    if isinstance(node, dict):
        if node.get(KIND) == "pickle":
            yield place(at), str(node.get("class"))
        for key, one in node.items():
            if KIND not in node:
                yield from pickled(one, (*at, key))
            elif key in ("of", "state"):
                yield from pickled(one, at)
    elif isinstance(node, list):
        for number, one in enumerate(node):
            yield from pickled(one, (*at, number))


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.60} is no {kind.__name__}")
    return value


def _dtype(text: Any) -> np.dtype:
    if not _DTYPE.fullmatch(_a(str, text)):
        raise ValueError(f"{text!r} is no type of numbers or texts")
    return np.dtype(text)


def _tuple(decoder: Decoder, node: dict[str, Any], at: Steps) -> tuple:
    items = tuple(decoder.items(node["of"], at))
    if "tag" not in node:
        return items
    cls = decoder.tagged(node["tag"], tags.OBJECTS, at)
    return getattr(cls, "_make")(items) if issubclass(cls, tuple) else _a(cls, items)  # noqa: B009


def _deque(decoder: Decoder, node: dict[str, Any], at: Steps) -> deque:
    made = decoder.made(at, deque(maxlen=node["maxlen"]))
    made.extend(decoder.items(node["of"], at))
    return made


def _set(decoder: Decoder, node: dict[str, Any], at: Steps) -> set:
    made = decoder.made(at, set())
    made.update(decoder.items(node["of"], at))
    return made


def _tensor(decoder: Decoder, node: dict[str, Any], at: Steps) -> th.Tensor:
    tensor = th.from_numpy(decoder.array({"is": node["is"]}))
    if "as" in node:
        tensor = tensor.view(tags.TORCH_DTYPES[node["as"]]).reshape(node["shape"])
    if node.get("parameter"):
        return decoder.made(at, th.nn.Parameter(tensor, bool(node.get("requires_grad"))))
    return decoder.made(at, tensor.requires_grad_(bool(node.get("requires_grad"))))


def _scalar(decoder: Decoder, node: dict[str, Any], at: Steps) -> np.generic:
    return np.array([decoder.decode(node["is"], at)], dtype=_dtype(node["dtype"]))[0]


def _generator(decoder: Decoder, node: dict[str, Any], at: Steps) -> np.random.Generator:
    state = decoder.entries(node["state"], at, {})
    bits = tags.BIT_GENERATORS[node["class"]](np.random.SeedSequence(**state["seed"]))
    bits.state = state["bits"]
    return decoder.made(at, np.random.Generator(bits))


def _torch_generator(decoder: Decoder, node: dict[str, Any], at: Steps) -> th.Generator:
    generator = decoder.made(at, th.Generator())
    generator.set_state(th.from_numpy(decoder.array(node)))
    return generator


def _enum(decoder: Decoder, node: dict[str, Any], at: Steps) -> enum.Enum:
    return _a(enum.EnumMeta, decoder.tagged(node["tag"], tags.OBJECTS, at))[node["is"]]


def _object(decoder: Decoder, node: dict[str, Any], at: Steps) -> Any:
    cls = decoder.tagged(node["tag"], tags.OBJECTS, at)
    if issubclass(cls, (tuple, enum.Enum)):
        raise TypeError(f"{cls.__name__} has no attributes")
    if tags.is_part(cls) and "is" not in node:
        raise ValueError(f"the expression of the {cls.__name__} is missing")
    made = decoder.made(at, cls.__new__(cls))
    state = decoder.entries(node["state"], at, {})
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
    else:
        made.__dict__.update(state)
    in_the_way = tags.shadowing(cls, [_a(str, key) for key in vars(made)])
    if in_the_way is not None:
        raise ValueError(f"{in_the_way!r} is no attribute of a {cls.__name__}")
    if "is" in node and tags.expression(made) != node["is"]:
        raise ValueError(f"its state is that of {tags.expression(made)}, not of {node['is']!r:.60}")
    return made


def _pickle(decoder: Decoder, node: dict[str, Any], at: Steps) -> Any:
    if not decoder.trust:
        raise untrusted(decoder.file, [(place(at), str(node.get("class")))])
    return decoder.made(at, cloudpickle.loads(decoder.array(node).tobytes()))


#: kind -> function of the decoder, the node and its place
DECODERS: dict[str, Callable[[Decoder, dict[str, Any], Steps], Any]] = {
    "same": Decoder.same,
    "int": lambda decoder, node, at: int(_a(str, node["is"]), 16),
    "float": lambda decoder, node, at: float(_a(str, node["is"])),
    "dict": lambda decoder, node, at: decoder.entries(node, at, decoder.made(at, {})),
    "ordered": lambda decoder, node, at: decoder.entries(node["of"], at, decoder.made(at, OrderedDict())),
    "tuple": _tuple,
    "size": lambda decoder, node, at: th.Size(node["of"]),
    "set": _set,
    "frozenset": lambda decoder, node, at: frozenset(decoder.items(node["of"], at)),
    "deque": _deque,
    "bytes": lambda decoder, node, at: base64.b64decode(node["is"], validate=True),
    "path": lambda decoder, node, at: pathlib.Path(_a(str, node["is"])),
    "array": lambda decoder, node, at: decoder.made(at, decoder.array(node)),
    "scalar": _scalar,
    "tensor": _tensor,
    "generator": _generator,
    "torch.generator": _torch_generator,
    "dtype": lambda decoder, node, at: _dtype(node["is"]),
    "torch.dtype": lambda decoder, node, at: tags.TORCH_DTYPES[node["is"]],
    "torch.device": lambda decoder, node, at: th.device(_a(str, node["is"])),
    "named": lambda decoder, node, at: decoder.made(at, decoder.tagged(node["is"], tags.NAMED, at)),
    "enum": _enum,
    "object": _object,
    "part": _object,
    "pickle": _pickle,
}
