"""Representations in numbers, from the certificate: D^l of any rotation, D^l of the cube's turns, and the law itself.

D^l(exp(sum_a w_a X_a)) = exp(sum_a w_a dD^l(X_a))        D^{l,p}(-g) = p D^l(g)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.checker import generators
from basisgen.verify.polynomials import Polynomial, inner
from basisgen.verify.statement import Certificate, Harmonic, Irrep

Array = NDArray[Any]
Harmonics = dict[int, Harmonic]

MAX_RESIDUAL = 1e-13
ROTATIONS = 3


def check_rotations(certificate: Certificate, random: np.random.Generator) -> tuple[float, list[str]]:
    """The unsampled kernels under random rotations: the worst relative residual of the law at random points."""
    worst, complaints = 0.0, []
    angles = random.normal(size=(ROTATIONS, 3)) * 2
    points = random.normal(size=(ROTATIONS, 3))
    turned_points = [exponential(np.einsum("a,aik->ik", w, _CROSS)) @ x for w, x in zip(angles, points, strict=True)]
    D = {l: [rotation_matrix(harmonics, w) for w in angles] for l, harmonics in certificate.harmonics.items()}
    Y = {l: [_values(harmonics, x) for x in points] for l, harmonics in certificate.harmonics.items()}
    turned = {l: [_values(harmonics, x) for x in turned_points] for l, harmonics in certificate.harmonics.items()}
    for (j, l), table in certificate.clebsch_gordan.items():
        for J, coefficients in table.items():
            C = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
            for (m, n, M), (sign, square) in coefficients.items():
                C[m + j, n + l, M + J] = sign * float(square) ** 0.5
            for k in range(ROTATIONS):
                expected = D[j][k] @ (C @ Y[J][k]) @ D[l][k].T
                residual = float(abs(C @ turned[J][k] - expected).max() / abs(expected).max())
                worst = max(worst, residual)
                if not residual <= MAX_RESIDUAL:
                    complaints.append(
                        f"certificate.json: pair {j} <- {l}, element J = {J}: a random rotation leaves {residual:.1e}"
                    )
    return worst, complaints


def rotation_matrix(harmonics: Harmonics, w: Array) -> Array:
    """D^l of the rotation by |w| about w."""
    return exponential(
        sum(angle * generator for angle, generator in zip(w, _generator_matrices(harmonics), strict=True))
    )


def turn_matrix(irrep: Irrep, harmonics: Harmonics, g: Array) -> Array:
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


def cube_turns(*, mirrors: bool) -> Iterator[Array]:
    """The 24 rotations that map a cube onto itself, or all 48 elements with the mirrors, as signed permutations."""
    for images, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        g = np.zeros((3, 3), dtype=int)
        g[range(3), list(images)] = signs
        if mirrors or np.linalg.det(g) > 0:
            yield g


def exponential(antisymmetric: Array) -> Array:
    """exp(A), from the eigenvalues of the Hermitian iA."""
    values, vectors = np.linalg.eigh(1j * antisymmetric)
    result: Array = (vectors * np.exp(-1j * values) @ vectors.conj().T).real
    return result


def _generator_matrices(harmonics: Harmonics) -> list[Array]:
    """dD^l(X_a) for the orthonormal Y = sqrt(N) P, float64."""
    l = max(harmonics)
    matrices = []
    for generator in generators(harmonics):
        matrix = np.zeros((2 * l + 1, 2 * l + 1))
        for (m, k), value in generator.items():
            matrix[m + l, k + l] = float(value) * float(harmonics[m].square_norm / harmonics[k].square_norm) ** 0.5
        matrices.append(matrix)
    return matrices


def _values(harmonics: Harmonics, point: Array) -> Array:
    """|x|^l Y_l(x/|x|) at one float64 point, evaluated to 30 digits because the terms of a polynomial cancel."""
    with mpmath.workdps(30):
        x, y, z = map(mpmath.mpf, map(float, point))
        return np.array(
            [
                float(mpmath.sqrt(mpmath.mpf(norm.numerator) / norm.denominator))
                * float(sum(c * x**a * y**b * z**d for (a, b, d), c in polynomial.items()))
                for norm, polynomial in harmonics.values()
            ]
        )


def _substitute(polynomial: Polynomial, g: Array) -> Polynomial:
    """P(g x): axis i becomes sign_i times axis image_i."""
    images, signs = abs(g).argmax(axis=1), g.sum(axis=1)
    substituted = {}
    for exponents, coefficient in polynomial.items():
        powers = [0, 0, 0]
        for axis in range(3):
            powers[images[axis]] = exponents[axis]
            coefficient *= int(signs[axis]) ** exponents[axis]
        substituted[powers[0], powers[1], powers[2]] = coefficient
    return substituted


# (X_a x) = e_a cross x
_CROSS = np.array(
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
)
