"""Real couplings by Racah's sum, each number the nearest float64: what `coupling_*` of basis.safetensors must hold.

    <j m l n|J M>^2 = (2J+1) (J+M)!(J-M)!(j+m)!(j-m)!(l+n)!(l-n)! / ((j+l+J+1)! (j+l-J)! (J+j-l)! (J-j+l)!)  S^2
    S = sum_k (-1)^k C(j+l-J, k) C(J+j-l, j-m-k) C(J-j+l, l+n-k)

    real harmonics   m > 0: (Y_-m + (-1)^m Y_m) / sqrt(2)      m < 0: i (Y_-|m| - (-1)^m Y_|m|) / sqrt(2)
    C = i^(j+l-J) sum U[m, mu] U[n, nu] conj(U[M, mu+nu]) <j mu l nu|J mu+nu>,      U: real from complex harmonics
Source: Racah 1942, Phys. Rev. 62, 438, equation 16.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product
from math import comb, factorial, isqrt

import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres.statement import Degrees

Array = NDArray[np.generic]


def expected(paths: list[Degrees]) -> dict[str, Array]:
    """The tensors of some couplings, sorted by degrees; coefficients sorted by (m, n, M)."""
    tables = [sorted(coupling(*path).items()) for path in paths]
    return {
        "coupling_degrees": np.array(paths, np.int64),
        "coupling_counts": np.array([len(table) for table in tables], np.int64),
        "coupling_orders": np.array(
            [(m + j, n + l, M + J) for (j, l, J), table in zip(paths, tables, strict=True) for (m, n, M), _ in table],
            np.uint8,
        ),
        "coupling_values": np.array([value for table in tables for _, value in table]),
    }


def coupling(j: int, l: int, J: int) -> dict[Degrees, float]:
    """(m, n, M) -> the non-zero C, the nearest float64."""
    found: dict[Degrees, float] = {}
    for mu in range(-j, j + 1):
        for nu in range(max(-l, -J - mu), min(l, J - mu) + 1):
            M = mu + nu
            if M < 0 or (M == 0 and mu < 0):
                continue  # the other of the two terms of a coefficient
            S = _racah(j, mu, l, nu, J)
            if not S:
                continue
            terms = 1 if mu == nu == 0 else 2
            halves = (mu != 0) + (nu != 0) + (M != 0)
            size = _nearest(S * S * terms * terms * _norm(j, mu, l, nu, J) / 2**halves)
            for m, n, N in product({mu, -mu}, {nu, -nu}, {M, -M}):
                turns = (_phase(m, mu) + _phase(n, nu) - _phase(N, M) + j + l - J) % 4
                if turns % 2 == 0:
                    found[m, n, N] = size if (turns == 0) == (S > 0) else -size
    return found


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
def _factor(j: int, l: int, J: int) -> Fraction:
    return Fraction(
        2 * J + 1, factorial(j + l + J + 1) * factorial(j + l - J) * factorial(J + j - l) * factorial(J - j + l)
    )


def _norm(j: int, m: int, l: int, n: int, J: int) -> Fraction:
    return _factor(j, l, J) * (_weight(j, abs(m)) * _weight(l, abs(n)) * _weight(J, abs(m + n)))


def _phase(m: int, mu: int) -> int:
    """The power of i in U[m, mu] sqrt(2)."""
    if m > 0:
        return 2 * (m % 2) if mu > 0 else 0
    if m < 0:
        return 3 + 2 * (m % 2) if mu > 0 else 1
    return 0


def _nearest(square: Fraction) -> float:
    """The float64 nearest to the root of a rational: an integer root of 130 bits and more, the rest in a sticky bit."""
    shift = 260 - square.numerator.bit_length() + square.denominator.bit_length()
    shift = max(0, shift + shift % 2)
    whole, rest = divmod(square.numerator << shift, square.denominator)
    root = isqrt(whole)
    return (2 * root + (rest != 0 or root * root != whole)) / (1 << (shift // 2 + 1))
