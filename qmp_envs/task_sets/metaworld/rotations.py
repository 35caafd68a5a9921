"""Quaternions of rotation matrices as SciPy chooses them, for a batch and, to the last bit, for a single one."""

from __future__ import annotations

import math

import numpy as np


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Rotations ``(batch, 9)``, rows of matrices, as quaternions ``(batch, 4)`` x y z w, with SciPy's choice of sign.

    Of the four forms of a quaternion, each of which has one element that is positive and computed without a
    difference, it takes the one where this element is largest.
    """
    forms = matrices @ _FORMS + _FORMS_AT_ZERO  # row i of 4 x 4: the quaternion times four times its element i
    largest = np.argmax(forms[:, ::5], axis=1)  # of the diagonal
    chosen = forms.reshape(-1, 4, 4)[np.arange(len(forms)), largest]
    return chosen / np.sqrt(np.vecdot(chosen, chosen))[:, None]


def _quaternion_forms() -> np.ndarray:
    """``(9, 16)``: how the forms depend on the elements of the matrix, apart from the ones on the diagonal."""
    forms = np.zeros((3, 3, 4, 4))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        forms[i, i, (i, j, k, 3), (i, j, k, 3)] = 1.0, -1.0, -1.0, 1.0
        for row, column in ((i, j), (j, i)):
            forms[(i, j), (j, i), row, column] = 1.0
        for row, column in ((i, 3), (3, i)):
            forms[(k, j), (j, k), row, column] = 1.0, -1.0
    return forms.reshape(9, 16)


_FORMS, _FORMS_AT_ZERO = _quaternion_forms(), np.eye(4).reshape(16)


class QuickRotation:
    """That part of SciPy's ``Rotation`` that the tasks use: the quaternion of a rotation matrix."""

    def __init__(self, quaternion: np.ndarray) -> None:
        self._quaternion = quaternion

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> QuickRotation:
        """From an orthonormal matrix ``(3, 3)``, as MuJoCo's are; by Markley's method, as in SciPy."""
        xx, xy, xz, yx, yy, yz, zx, zy, zz = matrix.ravel().tolist()
        trace = xx + yy + zz
        largest = max(xx, yy, zz, trace)
        if largest == xx:
            x, y, z, w = 1 - trace + 2 * xx, yx + xy, zx + xz, zy - yz
        elif largest == yy:
            x, y, z, w = xy + yx, 1 - trace + 2 * yy, zy + yz, xz - zx
        elif largest == zz:
            x, y, z, w = xz + zx, yz + zy, 1 - trace + 2 * zz, yx - xy
        else:
            x, y, z, w = zy - yz, xz - zx, yx - xy, 1 + trace
        length = math.sqrt(x * x + y * y + z * z + w * w)
        return cls(np.array((x / length, y / length, z / length, w / length)))

    def as_quat(self) -> np.ndarray:
        """``(4,)``: x, y, z, w."""
        return self._quaternion
