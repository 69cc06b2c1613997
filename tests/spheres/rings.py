"""Grids on the sphere with their analysis, from scipy's Legendre functions: an oracle for the tests."""

from __future__ import annotations

from math import ceil, factorial, pi, sqrt

import numpy as np
from scipy.special import lpmv

from basisgen.spheres.activation_error import RingAnalysis


def legendre(limit: int, colatitudes: np.ndarray) -> np.ndarray:
    """(order, degree, ring): harmonics without their sines of the longitude; orthonormal on the sphere, no phase."""
    table = np.zeros((limit, limit, len(colatitudes)))
    for l in range(limit):
        for m in range(l + 1):
            norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m))
            table[m, l] = (-1) ** m * norm * lpmv(m, l, np.cos(colatitudes))
    return table


def gauss(limit: int) -> RingAnalysis:
    """Gauss-Legendre: `limit` rings of 2 limit - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(limit)
    colatitudes = np.arccos(nodes)
    return RingAnalysis(colatitudes, 2 * limit - 1, 2 * pi * weights * legendre(limit, colatitudes))


def mw(limit: int) -> RingAnalysis:
    """McEwen-Wiaux: rings at pi (2t+1) / (2 limit - 1); each order is continued over the pole and interpolated."""
    size = 2 * limit - 1
    colatitudes = pi * (2 * np.arange(limit) + 1) / size
    fine = gauss(limit)
    around = pi * (2 * np.arange(size) + 1) / size  # those past the pole are those before it, times (-1)^m
    k = np.arange(-(limit - 1), limit)
    dirichlet = np.cos(k * (fine.colatitudes[:, None, None] - around[:, None])).sum(-1) / size  # (gauss, around)
    tables = []
    for m in range(limit):
        folded = dirichlet[:, :limit].copy()
        folded[:, : limit - 1] += (-1) ** m * dirichlet[:, : limit - 1 : -1]
        tables.append(fine.analysis[m] @ folded)
    return RingAnalysis(colatitudes, size, np.array(tables))


def points(rings: RingAnalysis) -> np.ndarray:
    """(ring, longitude, 3): unit vectors in the axes of the runtime, whose pole is y."""
    theta = rings.colatitudes[:, None]
    phi = 2 * pi * np.arange(rings.samples) / rings.samples
    x, y, z = np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.cos(phi)
    return np.stack([x, y, z], -1)


def analyse(rings: RingAnalysis, samples: np.ndarray) -> np.ndarray:
    """(..., ring, longitude) -> (..., coefficient), the degrees one after another, m = -l..l in each."""
    degrees = rings.analysis.shape[1]
    phi = 2 * pi * np.arange(rings.samples) / rings.samples
    parts = []
    for l in range(degrees):
        for m in range(-l, l + 1):
            trig = sqrt(2) * np.sin(-m * phi) if m < 0 else sqrt(2 if m else 1) * np.cos(m * phi)
            parts.append((samples @ trig / rings.samples) @ rings.analysis[abs(m), l])
    return np.stack(parts, -1)


def oversampled(make, limit: int, factor: float) -> RingAnalysis:
    """The grid of `factor` times the band limit, kept to the band limit."""
    return make(ceil(factor * limit)).cut(limit)
