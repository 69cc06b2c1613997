"""Numeric D^l(r) in float64, for tests and users: the exponential of the exact generators.

D^l(exp(sum_a w_a X_a)) = exp(sum_a w_a dD^l(X_a)),      D^l(-r) = parity D^l(r)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from basisgen.so3.field_type import FieldType, Irrep
from basisgen.so3.generators import generator

Matrix = NDArray[np.float64]


def wigner_d(irrep: Irrep, rotation: Matrix) -> Matrix:
    """D(r) of one irrep, (2l+1, 2l+1), for a 3x3 orthogonal matrix r.

    Raises ValueError for a matrix that is not orthogonal, or improper where the irrep has no parity.
    """
    sign = _sign(rotation)
    if sign < 0 and irrep.parity is None:
        raise ValueError(f"irrep {irrep} has no parity: it is defined for rotations only, determinant +1")
    rotation_vector = Rotation.from_matrix(sign * rotation).as_rotvec()
    exponent = sum(w * _generator_matrix(irrep.degree, axis) for axis, w in enumerate(rotation_vector))
    matrix: Matrix = expm(exponent)
    return matrix * (irrep.parity if sign < 0 and irrep.parity else 1)


def field_matrix(field_type: FieldType, rotation: Matrix) -> Matrix:
    """D(r) of all channels of a field type, (channel, channel), block diagonal."""
    matrix = np.zeros((field_type.dimension, field_type.dimension))
    for term, channels in zip(field_type.terms, field_type.slices, strict=True):
        block = np.kron(np.eye(term.multiplicity), wigner_d(term.irrep, rotation))
        matrix[channels, channels] = block
    return matrix


def _generator_matrix(l: int, axis: int) -> Matrix:
    matrix = np.zeros((2 * l + 1, 2 * l + 1))
    for (m, n), element in generator(l, axis).items():
        matrix[m + l, n + l] = float(element)
    return matrix


def _sign(rotation: Matrix) -> int:
    if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9):
        raise ValueError(f"not an orthogonal 3x3 matrix: {rotation.tolist()}")
    return 1 if np.linalg.det(rotation) > 0 else -1
