"""From spherical to Cartesian oscillator functions, exactly: what lets a layer run as three passes along x, y and z.

In units of the scale s, the orthonormal functions of level N = a + b + c = J + 2n are

    h_a(x) h_b(y) h_c(z),   h_a(x) = (2^a a!)^(-1/2) H_a(x) exp(-x^2/2)
    Psi_nJM(x) = kappa_nJ L_n^(J+1/2)(|x|^2) |x|^J Y_JM(x/|x|) exp(-|x|^2/2),      kappa^2 = 2^(J+n) n! / (2J+2n+1)!!

both times pi^(-3/4), with Y "component" normalised. A turn of the space commutes with the oscillator's Hamiltonian, so
either set spans the level and the change between them is an orthogonal matrix:

    Psi_nJM(x) = sum over a + b + c = N of  O[M, abc] h_a(x) h_b(y) h_c(z)

Both sides are polynomials times one Gaussian, so their leading terms decide: with H_a = 2^a x^a + .., the coefficient
of x^a y^b z^c in (-1)^n/n! |x|^2n |x|^J Y_JM is 2^N (2^N a! b! c!)^(-1/2) O / kappa. So O is a signed root.
Source: Szego, Orthogonal Polynomials, 5.1 and 5.5, for the polynomials.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import factorial, prod
from types import MappingProxyType

from sympy import QQ

from basisgen.algebra.polynomials import COORDINATES, RING, Polynomial
from basisgen.algebra.roots import SignedRoot, rational_root
from basisgen.errors import ProofError
from basisgen.so3.harmonics import SolidHarmonic, harmonics
from basisgen.volumes.sampling.products import Powers

Expansion = Mapping[tuple[int, Powers], SignedRoot]  # (M, (a, b, c)) -> O

_R2 = sum((x**2 for x in COORDINATES), RING.zero)


@cache
def cartesian_expansion(n: int, J: int) -> Expansion:
    """The non-zero O[M, abc] of Psi_nJM, M = -J..J, sorted by M, then (a, b, c); proved before it is returned."""
    expansion = {}
    for harmonic in harmonics(J):
        leading = (QQ((-1) ** n, factorial(n)) * _R2**n * harmonic.polynomial).terms()
        for powers, coefficient in sorted(leading):
            term = Fraction(int(coefficient.numerator), int(coefficient.denominator)) / 2 ** (J + 2 * n)
            square = term**2 * _square_factor(n, harmonic, powers)
            expansion[harmonic.order, powers] = SignedRoot(1 if term > 0 else -1, square)
    prove_expansion(n, J, expansion)
    return MappingProxyType(expansion)


def prove_expansion(n: int, J: int, expansion: Expansion) -> None:
    """Checks Psi_nJM = sum O h_a h_b h_c as an identity of rational polynomials, for every M.

    Both sides are divided by exp(-|x|^2/2), kappa and the harmonic's square root. Raises ProofError.
    """
    for harmonic in harmonics(J):
        exact = RING.zero
        for i, c in enumerate(laguerre(n, J)):
            exact += QQ(c.numerator, c.denominator) * _R2**i * harmonic.polynomial
        for (M, powers), value in expansion.items():
            if harmonic.order == M:
                factor = rational_root(value.square / _square_factor(n, harmonic, powers))
                if factor is None:
                    raise ProofError(f"O[{M}, {powers}] = {value} of Psi ({n}, {J}) is not commensurate")
                product = prod((_hermite(a, x) for a, x in zip(powers, COORDINATES, strict=True)), start=RING.one)
                exact -= value.sign * QQ(factor.numerator, factor.denominator) * product
        if exact != 0:
            raise ProofError(f"the expansion of Psi ({n}, {J}, {harmonic.order}) leaves {exact}")


def laguerre(n: int, J: int) -> tuple[Fraction, ...]:
    """The coefficients of L_n^(J+1/2)(t), of t^0, t^1, .. t^n: (-1)^i / i! binomial(n + J + 1/2, n - i)."""
    return tuple(
        Fraction((-1) ** i, factorial(i) * factorial(n - i))
        * prod(Fraction(2 * (J + m) + 1, 2) for m in range(i + 1, n + 1))
        for i in range(n + 1)
    )


def square_kappa(n: int, J: int) -> Fraction:
    """kappa_nJ^2, which makes Psi_nJM orthonormal up to pi^(-3/4)."""
    return Fraction(2 ** (J + n) * factorial(n), prod(range(1, 2 * (J + n) + 2, 2)))


def _square_factor(n: int, harmonic: SolidHarmonic, powers: Powers) -> Fraction:
    """The square of O over the rational coefficient of H_a H_b H_c: kappa^2 times the norms of Y and of the h."""
    square_h: int = 2 ** sum(powers) * prod(map(factorial, powers))
    return square_kappa(n, harmonic.degree) * harmonic.square_norm * square_h


def _hermite(a: int, x: Polynomial) -> Polynomial:
    """H_a(x): H_0 = 1, H_1 = 2x, H_a+1 = 2x H_a - 2a H_a-1."""
    before, now = RING.zero, RING.one
    for i in range(a):
        before, now = now, 2 * x * now - 2 * i * before
    return now
