"""Transforms on the rotation group and correlations by their definitions, of the numbers in basis.safetensors.

transform     sqrt(2l+1) D^l_mn(alpha, beta, gamma) of the tables, one (l, m, n) after another
correlation   z^l_mn = sum_ik x^l_mk(i) psi^l_nk(i), psi the filters' values times harmonics or D^l at their points
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres.statement import Correlation, Transform

Array = NDArray[Any]
Tensors = Mapping[str, Array]


def work(layer: Transform) -> int:
    """A bound of the multiply-adds of one signal by the definition: (l, m, n) times samples, both ways."""
    L, N = layer.band_limit, layer.orders
    rings = L if layer.grid in ("mw", "gauss") else 2 * L
    return 2 * (L * (2 * L + 1) * (2 * N - 1)) * (rings * 2 * L * 2 * N)


def synthesis(layer: Transform, field: Array, tensors: Tensors, name: str) -> Array:
    """sum_lmn F^l_mn sqrt(2l+1) D^l_mn at every sample."""
    grid = (len(tensors[f"{name}_{key}"]) for key in ("cos", "trig", "around"))
    out = np.zeros((len(field), layer.field[0].multiplicity, *grid))
    first = 0
    for l, term in enumerate(layer.field):
        size, K = 2 * l + 1, layer.field[0].multiplicity
        part = field[:, first : first + term.multiplicity * size].reshape(
            len(field), -1, K, size
        )  # (batch, n, signal, m)
        first += term.multiplicity * size
        for i, n in enumerate(_orders(l, layer.orders)):
            for m in range(-l, l + 1):
                out += part[:, i, :, m + l, None, None, None] * _element(tensors, name, "synthesis", l, m, n)
    return out


def analysis(layer: Transform, samples: Array, tensors: Tensors, name: str) -> Array:
    """sum_t of the mean over alpha and gamma, weights within the table."""
    count, parts = samples.shape[-1] * samples.shape[-2], []
    for l in range(layer.band_limit):
        part = np.zeros((len(samples), layer.field[l].multiplicity // samples.shape[1], samples.shape[1], 2 * l + 1))
        for i, n in enumerate(_orders(l, layer.orders)):
            for m in range(-l, l + 1):
                element = _element(tensors, name, "analysis", l, m, n)
                part[:, i, :, m + l] = np.einsum("bkxyz,xyz->bk", samples, element) / count
        parts.append(part.reshape(len(samples), -1))  # (batch, n and signal and m)
    return np.concatenate(parts, axis=1)


def _orders(l: int, N: int) -> range:
    return range(-min(l, N - 1), min(l, N - 1) + 1)


def _element(tensors: Tensors, name: str, table: str, l: int, m: int, n: int) -> Array:
    """The table's multiple of D^l_mn = (Z(alpha) J(beta) Z(gamma))_mn, (beta, alpha, gamma)."""
    alpha, gamma = tensors[f"{name}_trig"], tensors[f"{name}_around"]
    L, N = ((len(waves[0]) + 1) // 2 for waves in (alpha, gamma))
    first, second = (_leg(tensors[f"{name}_{table}"], L, N, l, abs(m), sign * abs(n)) for sign in (1, -1))
    second = (-1) ** n * second
    total = np.zeros((len(first), len(alpha), len(gamma)))
    for sign in (1, -1) if m and n else (1,):
        p, q = sign * abs(m), sign * abs(n)
        both = (first + sign * second) * {0: 1.0, 1: 0.5**0.5, 2: 0.5}[(m == 0) + (n == 0)]
        total += both[:, None, None] * _turn(m, p, alpha, L)[:, None] * _turn(q, n, gamma, N)
    return total


def _turn(m: int, p: int, waves: Array, L: int) -> Array:
    """Z_mp at every angle: cos(m angle) for p = m, sin(m angle) for p = -m; of waves trig_-(L-1) .. trig_L-1."""
    if p == m:
        return waves[:, abs(m) + L - 1] / (2**0.5 if m else 1.0)
    return (1 if m < 0 else -1) * waves[:, L - 1 - abs(m)] / 2**0.5


def _leg(rows: Array, L: int, N: int, l: int, m: int, n: int) -> Array:
    """The row of d^l_mn, m >= 0, of rows (m, n, l), l >= m >= |n|; else (-1)^(m-n) d^l_nm, or d^l_-n,-m."""
    if n > m:
        leg: Array = _leg(rows, L, N, l, n, m) * (-1) ** (n - m)
        return leg
    if -n > m:
        return _leg(rows, L, N, l, -n, -m)
    before = sum((L - k) * (2 * min(k, N - 1) + 1) for k in range(m)) + (n + min(m, N - 1)) * (L - m)
    row: Array = rows[before + l - m]
    return row


def correlation(
    layer: Correlation, field: Array, values: Array, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Random weights (signal in, signal out, point) and bias, and the output."""
    (into, out), (N, _) = layer.signals, layer.orders
    weight = random.normal(size=(into, out, values.shape[1]))
    bias = random.normal(size=out)
    scale = (3 / (into * values.shape[1]) * (1 if layer.on_rotations else 4 * pi)) ** 0.5
    parts, first, row = [], 0, 0
    for l in range(layer.band_limit):
        size, n = 2 * l + 1, min(2 * l + 1, 2 * N - 1)
        k = layer.multiplicities[l][0] // into
        # (batch, k, signal in, m)
        x = field[:, first : first + layer.multiplicities[l][0] * size].reshape(len(field), k, into, size)
        psi = np.einsum("nkg,iog->nkio", values[row : row + n * k].reshape(n, k, -1), weight) * scale
        z = np.einsum("nkio,bkim->bnom", psi, x) + (bias[:, None] if l == 0 else 0)
        parts.append(z.reshape(len(field), -1))  # (batch, n and signal out and m)
        first, row = first + layer.multiplicities[l][0] * size, row + n * k
    return weight, bias, np.concatenate(parts, axis=1)
