"""Polynomials in x, y, z with rational coefficients, and the infinitesimal rotations acting on them.

(X_a p)(x) = d/dt p(exp(t X_a) x) at t = 0 = (e_a cross x) . grad p,      a = x, y, z
"""

from __future__ import annotations

from typing import Any

from sympy import QQ
from sympy.polys.rings import ring

RING, X, Y, Z = ring("x,y,z", QQ)
COORDINATES = (X, Y, Z)

Polynomial = Any  # sympy.polys.rings.PolyElement, which sympy does not type


def rotate(polynomial: Polynomial, axis: int) -> Polynomial:
    """The derivative of a polynomial under rotation about one axis (0, 1, 2 = x, y, z)."""
    u, v = COORDINATES[(axis + 1) % 3], COORDINATES[(axis + 2) % 3]
    return u * polynomial.diff(v) - v * polynomial.diff(u)


def integer_terms(polynomial: Polynomial) -> dict[tuple[int, int, int], int]:
    """Exponents of x, y, z -> integer coefficient, in decreasing lexical order of exponents."""
    terms = {}
    for exponents, coefficient in sorted(polynomial.terms(), reverse=True):
        assert coefficient.denominator == 1, f"{polynomial} has a coefficient that is not an integer"
        terms[exponents] = int(coefficient.numerator)
    return terms
