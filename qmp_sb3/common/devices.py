"""Copies to the device that learns, which the host does not wait for."""

from __future__ import annotations

import numpy as np
import torch as th


def to_device(values: np.ndarray | th.Tensor, device: th.device) -> th.Tensor:
    """``values`` of the host on a device; on the CPU the same memory.

    A plain copy to a GPU would wait until the GPU has done all that it was asked for before. From page-locked memory
    it does not; PyTorch keeps that memory until the copy is made.
    """
    tensor = th.as_tensor(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
