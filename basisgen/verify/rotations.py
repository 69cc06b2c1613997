"""Representations in numbers, from the certificate: D^l of any rotation and of the cube's turns, and the law itself.

D^l(exp(sum_a w_a X_a)) = exp(sum_a w_a dD^l(X_a))        D^{l,p}(-g) = p D^l(g)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.polynomials import Matrix, Polynomial, inner
from basisgen.verify.statement import Certificate, Harmonic, Irrep

Array = NDArray[Any]
Turn = NDArray[np.int64]  # a signed permutation matrix
Indices = NDArray[np.int64]
Harmonics = dict[int, Harmonic]

MAX_RESIDUAL = 1e-13
MAX_ROUNDING = 1e-14
TINY = 1e-100
ROTATIONS = 3
DIGITS = 30

_CROSS = np.array(  # (X_a x) = e_a cross x
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
)


def check_rotations(certificate: Certificate, random: np.random.Generator) -> tuple[float, list[str]]:
    """The unsampled kernels under random rotations: the worst relative residual of the law at random points."""
    worst, complaints = 0.0, []
    angles = random.normal(size=(ROTATIONS, 3))
    points = random.normal(size=(ROTATIONS, 3))
    turned_points = [_rotate(w, x) for w, x in zip(angles, points, strict=True)]
    D = {
        l: [rotation_matrix(harmonics, certificate.generators[l], w) for w in angles]
        for l, harmonics in certificate.harmonics.items()
    }
    Y = {l: [_values(harmonics, x.tolist()) for x in points] for l, harmonics in certificate.harmonics.items()}
    turned = {l: [_values(harmonics, x) for x in turned_points] for l, harmonics in certificate.harmonics.items()}
    for (j, l), table in certificate.clebsch_gordan.items():
        for J, coefficients in table.items():
            C = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
            for (m, n, M), (sign, square) in coefficients.items():
                C[m + j, n + l, M + J] = sign * float(square) ** 0.5
            for k in range(ROTATIONS):
                expected = D[j][k] @ (C @ Y[J][k]) @ D[l][k].T  # (m, m) @ (m, n, M) @ (M) @ (n, n)
                residual = float(np.linalg.norm(C @ turned[J][k] - expected) / np.linalg.norm(expected))
                worst = max(worst, residual)
                if not residual <= MAX_RESIDUAL:
                    where = f"certificate.json: pair {j} <- {l}, element J = {J}"
                    complaints.append(f"{where}: a random rotation leaves {residual:.1e}")
    return worst, complaints


def check_symmetry(certificate: Certificate, tensors: Mapping[str, Array]) -> tuple[float, list[str]]:
    """F(g x) = D^J(g) F(x) for filters without a formula, under every turn g of their grid, where D^J(-1) = (-1)^J.

    To the bit where D^J(g) is a signed permutation of the components, else to the rounding of float64.
    """
    worst, complaints = 0.0, []
    for name, filters in certificate.filters.items():
        stop, steps = 0, pitch(filters.dilation, filters.spacing)
        for J, formula in filters.groups:
            start, stop = stop, stop + 2 * J + 1
            values = tensors[name][start:stop].reshape(2 * J + 1, -1)  # (M, tap)
            where = f"basis.safetensors: {name}, element J = {J}, rows {start} to {stop - 1}"
            if not TINY < abs(values).max(initial=0) < 1 / TINY:
                complaints.append(f"{where}: is zero or out of range")
                continue
            for g in [] if formula is not None else turns_of(filters.size, steps, mirrors=True):
                D = turn_matrix(Irrep(J, (-1) ** J), certificate.harmonics[J], g)
                turned, mixed = values[:, permutation(filters.size, steps, g)], D @ values  # (M, M) @ (M, tap)
                residual = float(abs(turned - mixed).max() / abs(values).max())
                worst = max(worst, residual)
                permutes = bool((np.count_nonzero(D, axis=0) == 1).all())
                if not residual <= (0 if permutes else MAX_ROUNDING):
                    complaints.append(f"{where}: the turn {g.tolist()} leaves {residual:.1e}")
    return worst, complaints


def rotation_matrix(harmonics: Harmonics, generators: Sequence[Matrix], w: Array) -> Array:
    """D^l of the rotation by |w| about w."""
    l = max(harmonics)
    exponent = np.zeros((2 * l + 1, 2 * l + 1))
    for angle, generator in zip(w, generators, strict=True):
        for (m, k), value in generator.items():  # of P; of Y = sqrt(N) P:
            root = float(harmonics[m].square_norm / harmonics[k].square_norm) ** 0.5
            exponent[m + l, k + l] += angle * float(value) * root
    return _exponential(exponent)


def turn_matrix(irrep: Irrep, harmonics: Harmonics, g: Turn) -> Array:
    """D of a signed permutation g of the axes, proper or not: Y(g x) = D^l(g) Y(x), by substitution."""
    l = irrep.degree
    matrix = np.zeros((2 * l + 1, 2 * l + 1))
    for m, (norm, polynomial) in harmonics.items():
        substituted = _substitute(polynomial, g)
        for k, (other_norm, other) in harmonics.items():
            if value := inner(substituted, other):
                matrix[m + l, k + l] = value / inner(other, other) * float(norm / other_norm) ** 0.5
    improper = np.linalg.det(g) < 0
    return matrix * ((irrep.parity or 1) * (-1) ** l if improper else 1)


def turns_of(size: Sequence[int], steps: Sequence[Fraction], *, mirrors: bool) -> list[Turn]:
    """The rotations of the cube, or with mirrors all its 48 elements, that map a centred grid onto itself."""
    turns = []
    for images, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        g = np.zeros((3, 3), dtype=np.int64)
        g[range(3), list(images)] = signs
        if permutation(size, steps, g) is not None and (mirrors or np.linalg.det(g) > 0):
            turns.append(g)
    return turns


def generating(turns: Sequence[Turn]) -> list[Turn]:
    """Some turns of a group whose products are all of them: what commutes with these commutes with all."""
    chosen: list[Turn] = []
    reached = {np.eye(3, dtype=np.int64).tobytes()}
    for g in turns:
        if g.tobytes() not in reached:
            chosen.append(g)
            reached = _products(chosen)
    return chosen


def _products(turns: Sequence[Turn]) -> set[bytes]:
    found = {np.eye(3, dtype=np.int64).tobytes(): np.eye(3, dtype=np.int64)}
    new = list(found.values())
    while new:
        products = {(g @ h).tobytes(): g @ h for h in new for g in turns}
        new = [h for key, h in products.items() if key not in found]
        found |= products
    return set(found)


def permutation(size: Sequence[int], steps: Sequence[Fraction], g: Turn) -> Indices | None:
    """For each point x of a centred grid the flat index of g x; None where g x is not a point of the grid."""
    images, signs = abs(g).argmax(axis=1), g.sum(axis=1)
    if any((size[axis], steps[axis]) != (size[image], steps[image]) for axis, image in enumerate(images)):
        return None
    index = np.indices(size).reshape(3, -1)  # (axis, point)
    turned = [index[i] if sign > 0 else size[i] - 1 - index[i] for i, sign in zip(images, signs, strict=True)]
    flat: Indices = np.ravel_multi_index(tuple(turned), tuple(size)).astype(np.int64)
    return flat


def pitch(dilation: Sequence[int], spacing: Sequence[Fraction]) -> list[Fraction]:
    """The distance of neighbouring taps, per axis."""
    return [d * s for d, s in zip(dilation, spacing, strict=True)]


def _exponential(antisymmetric: Array) -> Array:
    """exp(A), from the eigenvalues of the Hermitian iA."""
    values, vectors = np.linalg.eigh(1j * antisymmetric)
    result: Array = (vectors * np.exp(-1j * values) @ vectors.conj().T).real
    return result


def _rotate(w: Array, point: Array) -> list[Any]:
    """The point turned by |w| about w, to 30 digits."""
    with mpmath.workdps(DIGITS):
        exponent = mpmath.matrix(np.einsum("a,aik->ik", w, _CROSS).tolist())
        return list(mpmath.expm(exponent) * mpmath.matrix(point.tolist()))


def _values(harmonics: Harmonics, point: Sequence[Any]) -> Array:
    """|x|^l Y_l(x/|x|) at one point, evaluated to 30 digits because the terms of a polynomial cancel."""
    with mpmath.workdps(DIGITS):
        x, y, z = map(mpmath.mpf, point)
        return np.array(
            [
                float(mpmath.sqrt(mpmath.mpf(norm.numerator) / norm.denominator))
                * float(sum(c * x**a * y**b * z**d for (a, b, d), c in polynomial.items()))
                for norm, polynomial in harmonics.values()
            ]
        )


def _substitute(polynomial: Polynomial, g: Turn) -> Polynomial:
    """P(g x): axis i becomes sign_i times axis image_i."""
    images, signs = abs(g).argmax(axis=1), g.sum(axis=1)
    substituted = {}
    for exponents, coefficient in polynomial.items():
        powers, sign = [0, 0, 0], 1
        for axis in range(3):
            powers[images[axis]] = exponents[axis]
            sign *= int(signs[axis]) ** exponents[axis]
        substituted[powers[0], powers[1], powers[2]] = sign * coefficient
    return substituted
