"""Observations as the networks read them."""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs


def encode_observations(observations: np.ndarray | th.Tensor, space: spaces.Space) -> th.Tensor:
    """Raw observations ``(rows, *shape)`` to network inputs ``(rows, features)``: flat, discrete ones one-hot."""
    tensor = th.as_tensor(observations)
    if isinstance(space, spaces.Box):
        encoded = preprocess_obs(tensor, space) if tensor.dtype == th.uint8 else tensor.float()
    else:
        encoded = preprocess_obs(tensor.reshape(len(tensor), *(space.shape or ())), space)
    assert isinstance(encoded, th.Tensor)
    return encoded.flatten(1)
