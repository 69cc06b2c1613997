"""Couplings of high degree, thousands at a time: proved exactly in integers, and rounded once to float64.

Write a coupling as C[m, n; M] = R(m, n, M) sqrt(kappa r_j(m) r_l(n) r_J(M)), R integers (so3.clebsch_gordan). The
generators are antisymmetric, so the intertwiner identity (1'') reads, for the turns about x, y, z and every (m, n, M),

    sum_m' g_j[m, m'] R(m', n, M) + sum_n' g_l[n, n'] R(m, n', M) + sum_M' g_J[M, M'] R(m, n, M') = 0              (1'')

with g_l[m, m'] = 2 dD^l(X_a)[m, m'] sqrt(r_l(m') / r_l(m)), which are integers, at most two in each row. The sums are
done in limbs, R = sum_k R_k 2^(40 k), so that every partial sum is an exact float64 integer; the carries must end at 0.

    (0) orthonormal  by (1'') and Schur's lemma C^T C is a number times 1; the column M = 0 says that it is 1
    (1) equivariant  (1'')

No floating point that rounds. `prove` does not know how a coupling was found.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.roots import rational_root
from basisgen.algebra.rounding import float_of_root
from basisgen.errors import ProofError
from basisgen.so3.clebsch_gordan import IntegerCoupling, square_factor, square_root_factor
from basisgen.so3.generators import generator

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

LIMB = 40  # bits; 2^40 times 6 generator elements below 2^10 stays below 2^53
MAX_DEGREE = 250  # orders then fit into eight bits, elements of generators into ten

_Pair = tuple[Floats | float, Floats | float, Whole | int]  # (high + low) 2^power
_SEAL = object()


@dataclass(frozen=True)
class ProvenInteger:
    """A coupling in integers that has passed the exact proof. Only `prove` makes one."""

    coupling: IntegerCoupling
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise ProofError("a ProvenInteger is made by basisgen.spheres.couplings.prove and by nothing else")


def prove(coupling: IntegerCoupling) -> ProvenInteger:
    """Proves a coupling equivariant and orthonormal, exactly.

    Raises ProofError that names the coupling and the first violation.
    """
    name = f"coupling (j, l, J) = ({coupling.j}, {coupling.l}, {coupling.J})"
    assert max(coupling.j, coupling.l, coupling.J) <= MAX_DEGREE
    limbs = _limbs(coupling.values)
    for axis in range(3):
        wrong = _violations(coupling, limbs, axis)
        if len(wrong):
            m, n, M = wrong[0].tolist()
            raise ProofError(
                f"{name} is not equivariant: {len(wrong)} of the identities fail, "
                f"the first for the turn about {'xyz'[axis]} at (m, n, M) = ({m}, {n}, {M})"
            )
    if _square_length(coupling) != 1:
        raise ProofError(f"{name}: column M = 0 of C is not normalised")
    return ProvenInteger(coupling, _SEAL)


def rounded(proven: ProvenInteger) -> Floats:
    """The coefficients in float64, each the number nearest to the exact one.

    Products of pairs of float64 (about 100 bits) decide nearly all; the few within 2^-40 ulp of a tie are done exactly.
    """
    coupling = proven.coupling
    square = square_factor(coupling.j, coupling.l, coupling.J)
    high, low, power = _pairs(coupling.values)
    factors: list[_Pair] = [_root(square), *(_roots_of(coupling, position) for position in range(3))]
    for more_high, more_low, more_power in factors:
        high, low = _times(high, low, more_high, more_low)
        power = power + more_power
    ulp = np.spacing(np.abs(high))
    near_tie = np.minimum(np.abs(np.abs(low) - ulp / 2), np.abs(np.abs(low) - ulp / 4)) < ulp * 2.0**-40
    result = np.ldexp(high, power)
    for index in np.nonzero(near_tie)[0].tolist():
        exact = coupling.values[index] ** 2 * square
        for degree, order in zip((coupling.j, coupling.l, coupling.J), coupling.orders[index].tolist(), strict=True):
            exact *= square_root_factor(degree, abs(order))
        result[index] = np.sign(high[index]) * float_of_root(exact)
    return result


def _violations(coupling: IntegerCoupling, limbs: list[Floats], axis: int) -> Whole:
    """The (m, n, M) where (1'') fails for one axis, (violation, 3)."""
    degrees = np.array((coupling.j, coupling.l, coupling.J))
    strides = np.array([(2 * coupling.l + 1) * (2 * coupling.J + 1), 2 * coupling.J + 1, 1])
    place = coupling.orders.astype(np.int64) + degrees  # (coefficient, 3)
    key = place @ strides  # (coefficient, 3) @ (3)
    keys, elements = [], []
    for position, degree in enumerate(degrees.tolist()):
        rows, values = _columns(degree, axis)
        for slot in range(rows.shape[1]):
            row = rows[place[:, position], slot]
            keys.append(key + (row - place[:, position]) * strides[position])
            elements.append(values[place[:, position], slot])
    identities, where = np.unique(np.concatenate(keys), return_inverse=True)
    carry = np.zeros(len(identities), np.int64)
    for limb in limbs:
        products = np.concatenate([element * limb for element in elements])
        total = carry + np.bincount(where, products, len(carry)).astype(np.int64)
        wrong = total & ((1 << LIMB) - 1)
        if wrong.any():
            return _orders(identities[wrong != 0], degrees)
        carry = total >> LIMB
    return _orders(identities[carry != 0], degrees)


def _orders(keys: Whole, degrees: Whole) -> Whole:
    return np.stack(np.unravel_index(keys, tuple((2 * degrees + 1).tolist())), axis=1) - degrees


@cache
def _columns(l: int, axis: int) -> tuple[Whole, Floats]:
    """g_l by columns: for each order m' (first axis) up to two rows m, counted from 0, and the elements there."""
    rows, values = np.zeros((2 * l + 1, 2), np.int64), np.zeros((2 * l + 1, 2))
    count = [0] * (2 * l + 1)
    for (m, n), element in sorted(generator(l, axis).items()):
        magnitude = rational_root(4 * element.square * square_root_factor(l, abs(n)) / square_root_factor(l, abs(m)))
        assert magnitude is not None and magnitude.denominator == 1, f"g_{l} is not an integer at {(m, n)}"
        slot, count[n + l] = count[n + l], count[n + l] + 1
        rows[n + l, slot], values[n + l, slot] = m + l, element.sign * magnitude
    return rows, values


def _limbs(values: NDArray[np.object_]) -> list[Floats]:
    """R_k of R = sum_k R_k 2^(40 k), each of R's sign and below 2^40."""
    sign, rest, limbs = np.where(values < 0, -1.0, 1.0), np.abs(values), []
    while rest.any():
        limbs.append((rest & ((1 << LIMB) - 1)).astype(np.float64) * sign)
        rest = rest >> LIMB
    return limbs


def _square_length(coupling: IntegerCoupling) -> Fraction:
    """sum_mn C[m, n; 0]^2."""
    middle = coupling.orders[:, 2] == 0
    # twice r is an integer
    by_j, by_l = (
        [int(2 * square_root_factor(degree, m)) for m in range(degree + 1)] for degree in (coupling.j, coupling.l)
    )
    total: int = sum(
        R * R * by_j[abs(m)] * by_l[abs(n)]
        for R, (m, n, _) in zip(coupling.values[middle].tolist(), coupling.orders[middle].tolist(), strict=True)
    )
    scale = square_factor(coupling.j, coupling.l, coupling.J) * square_root_factor(coupling.J, 0)
    return total * scale / 4


def _pairs(values: NDArray[np.object_]) -> tuple[Floats, Floats, Whole]:
    """Integers as high + low, two float64 each."""
    high = values.astype(np.float64)
    rest = values - np.array([int(value) for value in high.tolist()], object)
    return high, rest.astype(np.float64), np.zeros(len(values), np.int64)


def _roots_of(coupling: IntegerCoupling, position: int) -> tuple[Floats, Floats, Whole]:
    degree = (coupling.j, coupling.l, coupling.J)[position]
    at = np.abs(coupling.orders[:, position])
    high, low, power = _root_table(degree)
    return high[at], low[at], power[at]


@cache
def _root_table(l: int) -> tuple[Floats, Floats, Whole]:
    """sqrt(r_l(m)) for m = 0..l."""
    high, low, power = zip(*(_root(square_root_factor(l, m)) for m in range(l + 1)), strict=True)
    return np.array(high), np.array(low), np.array(power)


def _root(square: Fraction) -> tuple[float, float, int]:
    """sqrt(square) = (high + low) 2^power to 110 bits, high in [1/2, 2]."""
    shift = 220 - square.numerator.bit_length() + square.denominator.bit_length()
    shift += shift % 2
    root = isqrt((square.numerator << shift) // square.denominator if shift >= 0 else square // (1 << -shift))
    scale = root.bit_length()
    high = root / (1 << scale)
    return high, (root - int(high * (1 << scale))) / (1 << scale), scale - shift // 2


def _times(a: Floats, a_low: Floats, b: Floats | float, b_low: Floats | float) -> tuple[Floats, Floats]:
    """(a + a_low) (b + b_low) as high + low; relative error below 2^-100 (Dekker 1971)."""
    product = a * b
    a_high, b_high = _head(a), _head(np.asarray(b))
    a_tail, b_tail = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_tail + a_tail * b_high) + a_tail * b_tail
    error = error + (a * b_low + a_low * b)
    high = product + error
    return high, error - (high - product)


def _head(a: Floats) -> Floats:
    """The upper 26 bits (Veltkamp)."""
    big = a * 134217729.0
    head: Floats = big - (big - a)
    return head
