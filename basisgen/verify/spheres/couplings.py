"""Real couplings by Racah's sum, each number the nearest float64: what `coupling_*` of basis.safetensors must hold.

    <j m l n|J M>^2 = (2J+1) (J+M)!(J-M)!(j+m)!(j-m)!(l+n)!(l-n)! / ((j+l+J+1)! (j+l-J)! (J+j-l)! (J-j+l)!)  S^2
    S = sum_k (-1)^k C(j+l-J, k) C(J+j-l, j-m-k) C(J-j+l, l+n-k)

    real harmonics   m > 0: (Y_-m + (-1)^m Y_m) / sqrt(2)      m < 0: i (Y_-|m| - (-1)^m Y_|m|) / sqrt(2)
    C = i^(j+l-J) sum U[m, mu] U[n, nu] conj(U[M, mu+nu]) <j mu l nu|J mu+nu>,      U: real from complex harmonics
Source: Racah 1942, Phys. Rev. 62, 438, equation 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import comb, factorial, gcd, isqrt, ldexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres.statement import Degrees

Array = NDArray[Any]


def expected(paths: list[Degrees]) -> dict[str, Array]:
    """The tensors of some couplings, sorted by degrees; coefficients sorted by (m, n, M)."""
    orders, values = [], []
    for path in paths:
        places, numbers = zip(*sorted(coupling(*path).items()), strict=True)
        orders.append((np.array(places) + path).astype(np.uint8))
        values.append(np.array(numbers))
    return {
        "coupling_degrees": np.array(paths, np.int64),
        "coupling_counts": np.array([len(of) for of in values], np.int64),
        "coupling_orders": np.concatenate(orders),
        "coupling_values": np.concatenate(values),
    }


def coupling(j: int, l: int, J: int) -> dict[Degrees, float]:
    """(m, n, M) -> the non-zero C, the nearest float64."""
    found: dict[Degrees, float] = {}
    above, below = _factor(j, l, J)
    for mu in range(-j, j + 1):
        for nu in range(max(-l, -J - mu), min(l, J - mu) + 1):
            M = mu + nu
            if M < 0 or (M == 0 and mu < 0):
                continue  # the other of the two terms of a coefficient
            S = _racah(j, mu, l, nu, J)
            if not S:
                continue
            terms = 1 if mu == nu == 0 else 2
            square = S * S * terms * terms * _weight(j, abs(mu)) * _weight(l, abs(nu)) * _weight(J, M)
            size = _nearest(square * above, below << ((mu != 0) + (nu != 0) + (M != 0)))
            first = j + l - J if S > 0 else j + l - J + 2
            for m, a in _phases(mu):
                for n, b in _phases(nu):
                    for N, c in _phases(M):
                        turns = (first + a + b - c) % 4
                        if turns % 2 == 0:
                            found[m, n, N] = size if turns == 0 else -size
    return found


def tables(tensors: Mapping[str, Array]) -> dict[Degrees, tuple[Array, Array]]:
    """Degrees -> (m, n, M) and C of every coefficient, of the tensors of some couplings."""
    if "coupling_degrees" not in tensors:
        return {}
    stops = np.cumsum(tensors["coupling_counts"])[:-1]
    orders, values = (np.split(tensors[f"coupling_{part}"], stops) for part in ("orders", "values"))
    paths = map(tuple, tensors["coupling_degrees"].tolist())
    return {path: (o.astype(np.int64) - path, v) for path, o, v in zip(paths, orders, values, strict=True)}


def _racah(j: int, m: int, l: int, n: int, J: int) -> int:
    a, b, c = j + l - J, J + j - l, J - j + l
    low, high = max(0, l - J - m, j - J + n), min(a, j - m, l + n)
    A, B, C = _row(a), _row(b), _row(c)
    return sum((-A[k] if k % 2 else A[k]) * B[j - m - k] * C[l + n - k] for k in range(low, high + 1))


@cache
def _row(n: int) -> list[int]:
    return [comb(n, k) for k in range(n + 1)]


@cache
def _weight(l: int, m: int) -> int:
    return factorial(l + m) * factorial(l - m)


@cache
def _factor(j: int, l: int, J: int) -> tuple[int, int]:
    """Numerator and denominator of the factor."""
    below = factorial(j + l + J + 1) * factorial(j + l - J) * factorial(J + j - l) * factorial(J - j + l)
    divisor = gcd(2 * J + 1, below)
    return (2 * J + 1) // divisor, below // divisor


@cache
def _phases(mu: int) -> tuple[tuple[int, int], ...]:
    """The orders m of real harmonics in which mu is, and the powers of i in U[m, mu] sqrt(2)."""
    odd = mu % 2
    if mu > 0:
        return (mu, 2 * odd), (-mu, 3 + 2 * odd)
    return ((mu, 1), (-mu, 0)) if mu else ((0, 0),)


def _nearest(above: int, below: int) -> float:
    """The float64 nearest to the root of above / below: an integer root of 64 bits, and a sticky bit."""
    shift = 130 - above.bit_length() + below.bit_length()
    shift += shift % 2
    whole, rest = divmod(above << shift, below) if shift >= 0 else divmod(above, below << -shift)
    root = isqrt(whole)
    return ldexp(2 * root + (rest != 0 or root * root != whole), -(shift // 2) - 1)
