"""The structures of ``src/update.h`` and ``src/perceptrons.h``, field by field."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int32, c_int64, c_void_p

from torch import nn

MAX_LAYERS = 16
#: class of the hidden layers' activation -> its number in ``src/product.h`` and ``src/perceptrons.h``
ACTIVATIONS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.Tanh: 2}


class AdamSettings(ctypes.Structure):
    _fields_ = [
        ("learning_rate", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("steps", c_int64),
    ]


class Networks(ctypes.Structure):
    _fields_ = [
        ("layers", c_int64),
        ("widths", c_int64 * (MAX_LAYERS + 1)),
        ("weights", c_int64 * MAX_LAYERS),
        ("biases", c_int64 * MAX_LAYERS),
        ("activation", c_int64),
        ("parameters", c_void_p),
        ("first_moment", c_void_p),
        ("second_moment", c_void_p),
        ("target", c_void_p),
        ("adam", AdamSettings),
    ]


class Temperatures(ctypes.Structure):
    _fields_ = [
        ("values", c_void_p),
        ("first_moment", c_void_p),
        ("second_moment", c_void_p),
        ("target_entropy", c_double),
        ("adam", AdamSettings),
    ]


class Update(ctypes.Structure):
    _fields_ = [
        ("is_float", c_int64),
        ("instruction_set", c_int64),
        ("threads", c_int64),
        ("tasks", c_int64),
        ("critics", c_int64),
        ("features", c_int64),
        ("actions", c_int64),
        ("actor", Networks),
        ("critic", Networks),
        ("temperatures", Temperatures),
        ("gamma", c_double),
        ("tau", c_double),
        ("importance", c_double),
        ("target_interval", c_int64),
        ("table", c_void_p),
        ("width", c_int64),
        ("reward", c_int64),
        ("continuation", c_int64),
        ("batch", c_int64),
        ("steps", c_int64),
        ("steps_before", c_int64),
        ("rows", c_void_p),
        ("noise", c_void_p),
        ("sums", c_void_p),
    ]


class Perceptrons(ctypes.Structure):
    _fields_ = [
        *((name, c_int32) for name in ("tasks", "layers", "activation", "unused")),
        ("widths", c_int64 * (MAX_LAYERS + 1)),
        ("weights", c_void_p * MAX_LAYERS),
        ("biases", c_void_p * MAX_LAYERS),
    ]


class Question(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("inputs", "candidates", "order", "first", "out", "means", "scratch")),
        *((name, c_int64) for name in ("rows", "count", "candidate_width", "networks", "scratch_size")),
    ]


class Sample(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("outputs", "chosen", "noise", "actions")),
        *((name, c_int64) for name in ("rows", "size")),
    ]


#: function of the library that says a structure's size -> the structure
SIZES: dict[str, type[ctypes.Structure]] = {
    "update_bytes": Update,
    "perceptrons_bytes": Perceptrons,
    "question_bytes": Question,
    "sample_bytes": Sample,
}
