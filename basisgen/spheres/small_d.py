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

Source: Varshalovich et al. 1988, section 4.8.
"""

from __future__ import annotations

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


def small_d(L: int, N: int, grid: Rings, room: int) -> dict[Orders, list[Integers]]:
    """d^l_mn at every ring, l = m .. L-1, for the canonical orders; within 2^-(bits - room).

    Raises ProofError where the recursion lost more bits.
    """
    cos, sin = _powers(L, grid.half_cos, grid.bits), _powers(L, grid.half_sin, grid.bits)
    return {(m, n): _degrees(L, m, n, cos[m + n] * sin[m - n] >> grid.bits, grid, room) for m, n in canonical(L, N)}


def _powers(L: int, base: Integers, bits: int) -> list[Integers]:
    """base^k, k = 0 .. 2L-2; each within k (1 + error of the base) units."""
    found: list[Integers] = [np.full(len(base), 1 << bits, object)]
    for _ in range(2 * L - 2):
        found.append(found[-1] * base >> bits)
    return found


def _degrees(L: int, m: int, n: int, power: Integers, grid: Rings, room: int) -> list[Integers]:
    """d^l_mn for l = m .. L-1, of the product of powers of which d^m_mn is a multiple."""
    bits = grid.bits
    top = root(Fraction(comb(2 * m, m - n)), bits)
    row: Integers = np.array(top * power >> bits, object)
    before = np.zeros(len(grid), object)
    error, error_before = ((top >> bits) + 2) * (2 * m * (grid.error + 1) + 4), 0
    found = []
    for l in range(m, L):
        found.append(row)
        above, here = ((l + 1) ** 2 - m * m) * ((l + 1) ** 2 - n * n), (l * l - m * m) * (l * l - n * n)
        up = root(Fraction(((2 * l + 1) * (l + 1)) ** 2, above), bits)
        down = root(Fraction((l + 1) ** 2 * here, max(l, 1) ** 2 * above), bits)
        shift = (m * n << bits) // (max(l, 1) * (l + 1))
        ahead: Integers = (up * ((grid.cos - shift) * row >> bits) - down * before) >> bits
        growth = 2 * ((up >> bits) + 1)  # |cos - shift| is at most 2
        error, error_before = growth * (error + grid.error + 2) + 2 * error_before + 8, error
        row, before = ahead, row
    if error_before.bit_length() > room:
        raise ProofError(f"Wigner's d of orders {m}, {n} lost more than {room} bits")
    return found
