"""Real Clebsch-Gordan coefficients C[j m, l n; J M]; every one is a signed square root of a rational.

Complex coefficients are integers S under a root that belongs to the degrees and orders,

    <j m l n|J M> = S(m, n) sqrt(kappa w_j(m) w_l(n) w_J(M)),        M = m + n,        w_l(m) = (l+m)! (l-m)!
    kappa = (2J+1) / ((j+l+J+1)! (j+l-J)! (J+j-l)! (J-j+l)!)
    S(m, J-m) = (-1)^(j-m) C(j+l-J, j-m),        the top row M = J, and every lower one by the ladder J- of the algebra:
    (J-M+1) S(m, n) = (j+m+1) S(m+1, n) + (l+n+1) S(m, n+1),        m + n = M-1

The real ones are C = (-i)^(j+l-J) sum Q[mu, m] Q[nu, n] conj(Q[mu+nu, M]) <j mu l nu|J mu+nu>, Q the change from real
to complex harmonics. Two terms meet in one coefficient, (mu, nu) and (-mu, -nu), equal up to a sign, so that

    C[m, n; M] = R(m, n, M) sqrt(kappa r_j(m) r_l(n) r_J(M)),        R integers,        r_l(m) = w_l(m) / (2 - [m=0])

Orthonormal: sum_mn C[m,n;J,M] C[m,n;J',M'] = delta delta. The signs are e3nn's: C = sqrt(2J+1) wigner_3j.
Source: Varshalovich et al. 1988, section 8.6.2 (ladder) and 8.5.1 (M = J).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from math import comb, factorial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.roots import SignedRoot

Coefficients = MappingProxyType[tuple[int, int, int], SignedRoot]
Orders = NDArray[np.int64]
Integers = NDArray[np.object_]  # Python's, of any size


@dataclass(frozen=True)
class IntegerCoupling:
    """The non-zero real coefficients of one coupling, C = R sqrt(kappa r_j(m) r_l(n) r_J(M)), sorted by (m, n, M)."""

    j: int
    l: int
    J: int
    orders: NDArray[np.int16]  # (coefficient, 3): m, n, M
    values: Integers  # (coefficient): R

    def __post_init__(self) -> None:
        assert self.J in coupled_degrees(self.j, self.l) and self.orders.shape == (len(self.values), 3)


def coupled_degrees(j: int, l: int) -> range:
    """The degrees J in the product of degrees j and l: |j-l|..j+l."""
    return range(abs(j - l), j + l + 1)


@cache
def clebsch_gordan(j: int, l: int, J: int) -> Coefficients:
    """The non-zero C[j m, l n; J M] as {(m, n, M): value}, sorted by (m, n, M); the indices are orders, -j..j etc."""
    coupling = integer_coupling(j, l, J)
    common = square_factor(j, l, J)
    by_j, by_l, by_J = ([square_root_factor(degree, m) for m in range(degree + 1)] for degree in (j, l, J))
    return MappingProxyType(
        {
            (m, n, M): SignedRoot(1 if R > 0 else -1, R * R * common * by_j[abs(m)] * by_l[abs(n)] * by_J[abs(M)])
            for (m, n, M), R in zip(coupling.orders.tolist(), coupling.values.tolist(), strict=True)
        }
    )


def square_factor(j: int, l: int, J: int) -> Fraction:
    """kappa."""
    return Fraction(
        2 * J + 1, factorial(j + l + J + 1) * factorial(j + l - J) * factorial(J + j - l) * factorial(J - j + l)
    )


def square_root_factor(l: int, m: int) -> Fraction:
    """r_l(m)."""
    return Fraction(factorial(l + m) * factorial(l - m), 2 if m else 1)


def integer_coupling(j: int, l: int, J: int) -> IntegerCoupling:
    """The coupling of degrees j and l to J in integers; not cached, so that thousands may pass."""
    assert J in coupled_degrees(j, l), f"degree {J} is not in the product of degrees {j} and {l}"
    mu, nu, S = _complex(j, l, J)
    orders, values = _real(j + l - J, mu, nu, S)
    order = np.lexsort(orders.T[::-1])
    return IntegerCoupling(j, l, J, orders[order].astype(np.int16), values[order])


def _complex(j: int, l: int, J: int) -> tuple[Orders, Orders, Integers]:
    """The non-zero S(mu, nu) with mu + nu >= 0; of the two with mu = -nu that with mu >= 0."""
    rows = np.array(_rows(j, l, J))  # (M = J..0, mu = -j..j)
    mu = np.broadcast_to(np.arange(-j, j + 1), rows.shape)
    M = np.arange(J, -1, -1)[:, None]
    kept = rows.astype(bool) & ((mu >= 0) | (M > 0))
    return mu[kept], (M - mu)[kept], rows[kept]


def _rows(j: int, l: int, J: int) -> list[Integers]:
    """S(m, M-m) for M = J, J-1, .. 0: rows over m = -j..j, zero where M-m is not an order of degree l."""
    m = np.arange(-j, j + 1)
    top = [(-1) ** (j - m) * comb(j + l - J, j - m) if abs(J - m) <= l else 0 for m in m.tolist()]
    rows = [np.array(top, object)]
    for M in range(J, 0, -1):
        n = M - 1 - m
        row = np.append(rows[-1][1:], 0) * (j + m + 1) + rows[-1] * (l + n + 1)
        row[np.abs(n) > l] = 0
        rows.append(row // (J - M + 1))
    return rows


def _real(excess: int, mu: Orders, nu: Orders, S: Integers) -> tuple[Orders, Integers]:
    """The real coefficients that complex ones reach: orders |m| = |mu|, |n| = |nu|, |M| = mu + nu, and R."""
    turned = S * np.where((mu == 0) & (nu == 0), 1, 2)  # both terms
    orders, values = [], []
    for signs in product((1, -1), repeat=3):
        m, n, M = (sign * np.abs(order) for sign, order in zip(signs, (mu, nu, mu + nu), strict=True))
        turns = _phase(mu, m) + _phase(nu, n) - _phase(mu + nu, M) - excess
        kept = turns % 2 == 0
        for sign, order in zip(signs, (mu, nu, mu + nu), strict=True):
            kept &= (order != 0) | (sign > 0)  # there is one order 0
        orders.append(np.stack([m, n, M], axis=1)[kept])
        values.append((turned * np.where(turns % 4 == 0, 1, -1))[kept])
    return np.concatenate(orders), np.concatenate(values)


def _phase(mu: Orders, m: Orders) -> Orders:
    """The power of i in Q[mu, m] sqrt(2): complex order mu, real order m = +-mu."""
    condon_shortley = np.where(mu > 0, 2 * (mu % 2), 0)
    return condon_shortley + np.where(m >= 0, 0, np.where(mu > 0, 1, -1))
