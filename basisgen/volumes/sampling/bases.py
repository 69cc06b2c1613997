"""The basis of a space of filters of one degree that a layer's weights multiply: an orthonormal one.

Weights are drawn independently and with one variance, so with orthonormal filters a random kernel is white in their
space. Kernels of the fields' own covariance, smooth ones, are a third to a half more equivariant before training. But
they answer little else than the mean of a neighbourhood, and networks learn badly from there, and from any basis that
favours smooth kernels: on CATH, quick preset, five epochs, .58 against .82 with orthonormal filters, and .68 half-way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def orthonormal(vectors: Array | list[Array]) -> list[Array]:
    """An orthonormal basis of the span, by Gram-Schmidt, twice; what depends on the others is left out."""
    basis: list[Array] = []
    negligible = 1e-9 * max((_norm(vector) for vector in vectors), default=0)
    for vector in vectors:
        rest = vector
        for _ in range(2):
            for direction in basis:
                rest = rest - (direction * rest).sum() * direction
        if _norm(rest) > negligible:
            basis.append(rest / _norm(rest))
    return basis


def _norm(vector: Array) -> float:
    return float(np.sqrt((vector**2).sum()))
