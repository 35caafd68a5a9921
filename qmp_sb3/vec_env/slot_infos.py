"""The infos of a vector step, one dictionary per slot, made when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


class SlotInfos(list):
    """A list of dictionaries, one per slot, as SB3 hands infos around. In most steps nobody looks at them, so the
    dictionaries are only made from Gymnasium's arrays when something of the list is asked for.

    :param arrays: Gymnasium's dictionary of arrays, with ``_key`` masks
    :param slots: number of slots
    """

    def __init__(self, arrays: Mapping[str, Any], slots: int) -> None:
        super().__init__()
        self._arrays: Mapping[str, Any] | None = arrays
        self._slots = slots

    def _read(self) -> None:
        if self._arrays is not None:
            arrays, self._arrays = self._arrays, None
            list.extend(self, by_slot(arrays, self._slots))

    def __reduce__(self) -> tuple:
        return list, (list(self),)


def _reading(name: str) -> Callable:
    method = getattr(list, name)

    def read(self: SlotInfos, *args: Any, **kwargs: Any) -> Any:
        self._read()
        return method(self, *args, **kwargs)

    read.__name__, read.__doc__ = name, method.__doc__
    return read


def _behind(self: SlotInfos, other: list) -> list:
    return other + list(self)  # list's own + does not ask the right side


#: what a list does without looking at its elements
_BLIND = set(dir(object)) - {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__"}
for _name in set(dir(list)) - _BLIND - {"__class_getitem__"}:
    setattr(SlotInfos, _name, _reading(_name))
SlotInfos.__radd__ = _behind  # type: ignore[attr-defined]


def flags(infos: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The slots in which ``name`` is there and true, ``(slots,)`` bool."""
    if not isinstance(infos, SlotInfos) or infos._arrays is None:
        return np.array([bool(info.get(name, False)) for info in infos], dtype=bool)
    if name not in infos._arrays:
        return np.zeros(infos._slots, dtype=bool)
    return np.asarray(infos._arrays[name], dtype=bool) & infos._arrays.get(f"_{name}", True)


def by_slot(arrays: Mapping[str, Any], slots: int) -> list[dict[str, Any]]:
    """Gymnasium's dictionary of arrays with ``_key`` masks to one dictionary per slot."""
    separate: list[dict[str, Any]] = [{} for _ in range(slots)]
    for key, values in arrays.items():
        if key.startswith("_") and key[1:] in arrays:
            continue
        mask = arrays.get(f"_{key}")
        if isinstance(values, dict):
            values = by_slot(values, slots)
        elif isinstance(values, np.ndarray) and values.dtype != object and values.ndim == 1:
            values = values.tolist()
        for slot in range(slots) if mask is None else np.flatnonzero(mask):
            separate[slot][key] = values[slot]
    return separate
