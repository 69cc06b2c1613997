"""The symmetry that sampling leaves exact: filters under the turns g that map their grid onto itself.

    F(g x) = D^J(g) F(x),      D^J(-1) = (-1)^J, the natural parity of Y_J

For a cubic grid these are the 48 turns of the cube; with one odd axis (size or pitch) 16, with three different axes 8.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import factorial, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.polynomials import integer_terms
from basisgen.algebra.roots import SignedRoot
from basisgen.so3.harmonics import harmonics
from basisgen.volumes.sampling.defect import unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import Turn, VoxelGrid, turn_taps

Array = NDArray[np.float64]
Terms = dict[tuple[int, int, int], int]

_FIXED_POINT = 52  # bits after the binary point; sums of 48 such numbers below 2 fit an int64


def residual(group: FilterGroup, grid: VoxelGrid) -> float:
    """The largest |F(g x) - D^J(g) F(x)| over turns, taps and M, relative to the largest |F|."""
    errors = (
        np.abs(turn_taps(group.values, turn) - np.tensordot(turn_matrix(group.J, turn), group.values, 1)).max()
        for turn in grid.turns
    )
    return float(max(errors) / np.abs(group.values).max())


def symmetrised(values: Array, J: int, grid: VoxelGrid) -> Array:
    """The mean of D^J(g)^T F(g x) over the turns, for values (M, x, y, z) of at most 1.

    To rounding for turns whose D^J has irrational entries. For those that only permute components and change signs,
    exact to the bit: this second mean is taken in integers.
    """
    return mean_over_turns(values, J, grid, turn_taps)


def mean_over_turns(values: Array, J: int, grid: VoxelGrid, turned: Callable[[Any, Turn], Any]) -> Array:
    """`symmetrised` of anything (M, ..) that stands for a function F; `turned` makes that of F(g x) from it."""
    turns = [(turn, turn_matrix(J, turn)) for turn in grid.turns]
    mean = np.asarray(sum(np.einsum("Mm,M...->m...", D, turned(values, turn)) for turn, D in turns)) / len(turns)
    whole = [(turn, np.rint(D).astype(np.int64)) for turn, D in turns if np.array_equal(D, np.rint(D))]
    integers = np.rint(np.ldexp(mean, _FIXED_POINT)).astype(np.int64)
    total = sum(np.einsum("Mm,M...->m...", D, turned(integers, turn)) for turn, D in whole)
    exact: Array = np.ldexp(np.asarray(total).astype(np.float64), -_FIXED_POINT) / len(whole)
    return exact


def sign_of(filters: Array, J: int, grid: VoxelGrid) -> float:
    """1 or -1, with which s(x) = F(x) . Y_J is positive where it is largest, of filters (M, x, y, z).

    Of equally large s the first tap counts, so that rounding does not choose.
    """
    projected = (filters * unit_harmonics(J, grid)).sum(axis=0).reshape(-1)  # (tap)
    size = np.abs(projected)
    first = int(np.argmax(size > (1 - 1e-9) * size.max()))
    return 1.0 if projected[first] > 0 else -1.0


def turn_matrix(J: int, turn: Turn) -> Array:
    """D^J(g) of natural parity, float64 (M, M'), each entry correctly rounded: Y_J(g x) = D^J(g) Y_J(x)."""
    images = np.abs(turn).argmax(axis=0)
    return _turn_matrix(J, tuple(images.tolist()), tuple(turn[images, range(3)].tolist()))


@cache
def _turn_matrix(J: int, images: tuple[int, ...], signs: tuple[int, ...]) -> Array:
    """Projects every R_JM(g x) on the R_JM', which are orthogonal in <p, q> = sum over monomials of a! b! c! p q.

    The product is Fischer's, under which the multiplication by x_i is adjoint to d/dx_i; rotations keep it.
    """
    solid = harmonics(J)
    terms = [integer_terms(harmonic.polynomial) for harmonic in solid]
    turned = [_turned_terms(polynomial, images, signs) for polynomial in terms]
    matrix = np.zeros((2 * J + 1, 2 * J + 1))
    for column, into in enumerate(terms):
        norm = _fischer(into, into)
        for row, polynomial in enumerate(turned):
            if part := _fischer(polynomial, into):
                ratio = solid[row].square_norm / solid[column].square_norm
                matrix[row, column] = float(SignedRoot(1 if part > 0 else -1, Fraction(part, norm) ** 2 * ratio))
    matrix.setflags(write=False)
    return matrix


def _turned_terms(terms: Terms, images: tuple[int, ...], signs: tuple[int, ...]) -> Terms:
    """p(g x), where (g x)[images[a]] = signs[a] x[a]."""
    turned = {}
    for exponents, coefficient in terms.items():
        a, b, c = (exponents[image] for image in images)
        turned[a, b, c] = coefficient * signs[0] ** a * signs[1] ** b * signs[2] ** c
    return turned


def _fischer(p: Terms, q: Terms) -> int:
    return sum(prod(map(factorial, monomial)) * p[monomial] * q[monomial] for monomial in p.keys() & q.keys())
