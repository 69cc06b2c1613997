"""Wigner's small d in fixed point, with bounds on the errors: what harmonics and D^l of any rotation are made of.

    D^l(Y(alpha) X(beta) Y(gamma)) in the real basis, for orders m, n >= 0, its cosines (+) and sines (-):

        (+m,+n)   c (a cos(m alpha + n gamma) + b cos(m alpha - n gamma))     a = d^l_m,n(beta)
        (-m,-n)   c (a cos(m alpha + n gamma) - b cos(m alpha - n gamma))     b = (-1)^n d^l_m,-n(beta)
        (-m,+n)   c (a sin(m alpha + n gamma) + b sin(m alpha - n gamma))     c = 1, over sqrt(2) for m = 0, for n = 0
        (+m,-n)   c (b sin(m alpha - n gamma) - a sin(m alpha + n gamma))

Y, X are turns about the axes y and x. d is without the Condon-Shortley phase, (-1)^(m-n) times the usual one:

    d^m_mn = sqrt(C(2m, m-n)) cos(beta/2)^(m+n) sin(beta/2)^(m-n)      for m >= |n|
    d^l_mn = (-1)^(m-n) d^l_nm = d^l_-n,-m = d^l_-m,-n (-1)^(m-n)      for the others

and upwards in l, p = sqrt((l+1)^2 - m^2) sqrt((l+1)^2 - n^2):

    p l d_l+1 = (2l+1) (l (l+1) cos(beta) - m n) d_l - (l+1) sqrt(l^2 - m^2) sqrt(l^2 - n^2) d_l-1

All d_l of one pair of orders have the factor 2^m cos(beta/2)^(m+n) sin(beta/2)^(m-n), as small as 10^-280. Without it
they are polynomials of cos(beta), q_l, for which few bits are enough; `orders` keeps the factor apart.

Source: Varshalovich et al. 1988, section 4.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import comb

import numpy as np

from basisgen.errors import ProofError
from basisgen.spheres.fixed_point import Integers, root
from basisgen.spheres.sphere_grid import Rings

Orders = tuple[int, int]  # m, n


def canonical(L: int, N: int) -> list[Orders]:
    """Orders m >= |n| with m < L, |n| < N: the others follow by symmetry."""
    return [(m, n) for m in range(L) for n in range(-min(m, N - 1), min(m, N - 1) + 1)]


@dataclass(frozen=True, eq=False)
class Order:
    """d^l_mn = q_l p at every ring; p = mantissa 2^(exponent - bits), the mantissa of `bits` bits, or 0."""

    m: int
    n: int
    polynomials: Integers  # q_l, (degree, ring), l = m .. L-1
    mantissa: Integers  # (ring)
    exponent: list[int]  # (ring)
    size: int  # more than the largest q

    def shortened(self, bits: int) -> Order:
        """The same with so many bits fewer in the polynomials."""
        return replace(self, polynomials=self.polynomials >> bits)


def orders(L: int, N: int, grid: Rings, room: int) -> Iterator[Order]:
    """The canonical orders, one after another; q, and what it becomes times the mantissa, within 2^-(bits - room).

    Raises ProofError where the recursion lost more bits.
    """
    bits = grid.bits
    cos, sin = (_floating_powers(L, base, bits) for base in (grid.half_cos, grid.half_sin))
    for m, n in canonical(L, N):
        first = np.full(len(grid), root(Fraction(comb(2 * m, m - n), 4**m), bits), object)
        polynomials, size = _degrees(L, m, n, first, 1, grid, room)
        # sines and cosines of halves are 0, or more than 1 / 8L
        relative = 2 * m * ((grid.error + 1) * 8 * L + 4) + 4
        if (size * relative).bit_length() > room:
            raise ProofError(f"Wigner's d of orders {m}, {n} lost more than {room} bits")
        (a, d), (b, e) = cos[m + n], sin[m - n]
        mantissa, exponent = _normal(a * b, [x + y + m - bits for x, y in zip(d, e, strict=True)], bits)
        yield Order(m, n, np.array(polynomials), mantissa, exponent, size)


def small_d(L: int, N: int, grid: Rings, room: int) -> dict[Orders, list[Integers]]:
    """d^l_mn at every ring, l = m .. L-1, for the canonical orders; within 2^-(bits - room).

    Raises ProofError where the recursion lost more bits.
    """
    cos, sin = _powers(L, grid.half_cos, grid.bits), _powers(L, grid.half_sin, grid.bits)
    found = {}
    for m, n in canonical(L, N):
        top = root(Fraction(comb(2 * m, m - n)), grid.bits)
        first: Integers = np.array(top * (cos[m + n] * sin[m - n] >> grid.bits) >> grid.bits, object)
        error = ((top >> grid.bits) + 2) * (2 * m * (grid.error + 1) + 4)
        found[m, n] = _degrees(L, m, n, first, error, grid, room)[0]
    return found


def _powers(L: int, base: Integers, bits: int) -> list[Integers]:
    """base^k, k = 0 .. 2L-2; each within k (1 + error of the base) units."""
    found: list[Integers] = [np.full(len(base), 1 << bits, object)]
    for _ in range(2 * L - 2):
        found.append(found[-1] * base >> bits)
    return found


def _floating_powers(L: int, base: Integers, bits: int) -> list[tuple[Integers, list[int]]]:
    """base^k = mantissa 2^(exponent - bits), k = 0 .. 2L-2."""
    found = [(np.full(len(base), 1 << bits, object), [0] * len(base))]
    for _ in range(2 * L - 2):
        mantissa, exponent = found[-1]
        found.append(_normal(mantissa * base, [e - bits for e in exponent], bits))
    return found


def _normal(values: Integers, exponent: list[int], bits: int) -> tuple[Integers, list[int]]:
    """values 2^(exponent - bits), the values shortened to `bits` bits."""
    more = [max(0, value.bit_length() - bits) for value in values.tolist()]
    return values >> np.array(more, object), [e + k for e, k in zip(exponent, more, strict=True)]


def _degrees(L: int, m: int, n: int, first: Integers, error: int, grid: Rings, room: int) -> tuple[list[Integers], int]:
    """A multiple of d^l_mn for l = m .. L-1 from that of l = m, within `error`; and more than the largest."""
    bits = grid.bits
    row, before, error_before, size = first, np.zeros(len(grid), object), 0, 1
    found = []
    for l in range(m, L):
        found.append(row)
        above, here = ((l + 1) ** 2 - m * m) * ((l + 1) ** 2 - n * n), (l * l - m * m) * (l * l - n * n)
        up = root(Fraction(((2 * l + 1) * (l + 1)) ** 2, above), bits)
        down = root(Fraction((l + 1) ** 2 * here, max(l, 1) ** 2 * above), bits)
        shift = (m * n << bits) // (max(l, 1) * (l + 1))
        ahead: Integers = (up * ((grid.cos - shift) * row >> bits) - down * before) >> bits
        growth, size = (up >> bits) + 1, max(size, int(abs(row).max() >> bits) + 1)
        growth *= 2 if n else 1  # |cos - shift| is at most that
        error, error_before = growth * (error + size * (grid.error + 2)) + 2 * error_before + size + 8, error
        row, before = ahead, row
    if error_before.bit_length() > room:
        raise ProofError(f"Wigner's d of orders {m}, {n} lost more than {room} bits")
    return found, size
