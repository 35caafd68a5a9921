"""The infos of a vector step, one dictionary per slot, made when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


class SlotInfos(list):
    """A list of dictionaries, one per slot, as SB3 hands infos around. In most steps nobody looks at them, so the list
    is filled from Gymnasium's arrays when one of its methods is first called.

    A real list and no ``UserList``: callbacks may ask ``isinstance(infos, list)`` or write infos as JSON.

    :param arrays: Gymnasium's dictionary of arrays, with ``_key`` masks
    :param slots: number of slots
    """

    def __init__(self, arrays: Mapping[str, Any], slots: int) -> None:
        super().__init__()
        self._arrays: Mapping[str, Any] | None = arrays
        self._slots = slots

    def _fill(self) -> None:
        if self._arrays is not None:
            arrays, self._arrays = self._arrays, None
            list.extend(self, by_slot(arrays, self._slots))

    def __reduce__(self) -> tuple:
        return list, (list(self),)


def _filled_first(name: str) -> Callable:
    method = getattr(list, name)

    def call(self: SlotInfos, *args: Any, **kwargs: Any) -> Any:
        self._fill()
        return method(self, *args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


def _added_behind(self: SlotInfos, other: list) -> list:
    return other + list(self)  # list's own + does not ask the right side


#: methods of list that neither read nor change its elements
_BLIND = {"__new__", "__init__", "__hash__", "__getattribute__", "__class_getitem__", "__sizeof__", "__doc__"}
for _name in vars(list).keys() - _BLIND:
    setattr(SlotInfos, _name, _filled_first(_name))
SlotInfos.__radd__ = _added_behind  # type: ignore[attr-defined]


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
