"""Two bases of a space of filters of one degree: an orthonormal one, and the one that a layer's weights multiply.

Weights are drawn independently, so the basis decides what a random kernel is like. With orthonormal filters it is white
in the space, and half of it may be the filters that answer little and turn badly. Better are kernels like the fields
they meet: of the field's own covariance, restricted to the space. In an orthonormal basis e_c of the space with total =
diag(t_c), the response energies of `defect`, that is a covariance proportional to diag(t_c). The filters

    f_b = sum over c of  sqrt(n t_c / sum t) U[c, b] e_c,      b, c = 1..n

have it for every orthogonal U. One exists that makes every |f_b| = 1 (Schur, Horn): n - 1 rotations of two filters,
each of which gives one of them unit norm. They span what the e_c span, so no defect over the span changes; that of
random weights is smaller by a third to a half. It is what rings of Gaussians do, which overlap.
"""

from __future__ import annotations

from collections.abc import Callable

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


def evenly_mixed(basis: Array, total: Array, sign: Callable[[Array], float] = lambda filter: 1.0) -> Array:
    """The f_b, (b, ..), of an orthonormal basis (c, ..) and the response energies `total` (c, c') of its filters.

    `sign` is 1 or -1 for a filter (..) and the opposite for its negative: with it the f_b do not depend on the signs of
    eigenvectors, which differ from processor to processor.
    """
    energies, rotation = np.linalg.eigh(total)
    lengths = np.sqrt(np.maximum(energies, 0) * len(energies) / energies.sum())
    principal = np.einsum("cd,c...->d...", rotation, basis)  # (d, ..), orthonormal, of increasing energy
    signs = np.array([sign(filter) for filter in principal])
    return evenly_long(np.einsum("d,d...->d...", lengths * signs, principal))


def evenly_long(filters: Array) -> Array:
    """Orthogonal filters (filter, ..) of mean square norm 1, rotated among themselves until each has norm 1."""
    filters, n = filters.copy(), len(filters)
    for b in range(n - 1):
        squares = np.array([(filter**2).sum() for filter in filters])
        # the rest has mean 1: filter b is at most 1, or some other one is, and some other one is at least 1
        other = b + 1 + int(np.argmax((squares[b + 1 :] - 1) * (-1 if squares[b] > 1 else 1)))
        inner = (filters[b] * filters[other]).sum()
        angle = _angle(squares[b], squares[other], inner)
        c, s = np.cos(angle), np.sin(angle)
        filters[b], filters[other] = c * filters[b] + s * filters[other], c * filters[other] - s * filters[b]
    return filters


def _angle(first: float, second: float, inner: float) -> float:
    """phi such that |cos(phi) f + sin(phi) g|^2 = 1, from |f|^2, |g|^2 and f.g; 0 where they differ by rounding.

    cos^2 |f|^2 + sin^2 |g|^2 + 2 sin cos f.g = mean + half cos(2 phi) + f.g sin(2 phi)
    """
    mean, half = (first + second) / 2, (first - second) / 2
    size = float(np.hypot(half, inner))
    if size < 1e-15:
        return 0.0
    angle = (np.arctan2(inner, half) + np.arccos(np.clip((1 - mean) / size, -1, 1))) / 2
    # where f.g is only rounding, its sign would decide between the angle and half a turn more
    return float(angle - np.pi * np.rint(angle / np.pi))


def _norm(vector: Array) -> float:
    return float(np.sqrt((vector**2).sum()))
