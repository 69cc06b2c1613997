"""Real Clebsch-Gordan coefficients C[j m, l n; J M] in closed form; every one is a signed square root of a rational.

Complex coefficients are Racah's, written with binomials so that the sum is over integers:

    <j m l n|J M>^2 = (2J+1) (J+M)!(J-M)!(j+m)!(j-m)!(l+n)!(l-n)! / ((j+l+J+1)! (j+l-J)! (J+j-l)! (J-j+l)!)  S^2
    S = sum_k (-1)^k C(j+l-J, k) C(J+j-l, j-m-k) C(J-j+l, l+n-k),        the sign of the coefficient is that of S.

The real ones are C = (-i)^(j+l-J) sum Q[mu, m] Q[nu, n] conj(Q[mu+nu, M]) <j mu l nu|J mu+nu>, Q the change from real
to complex harmonics. At most two terms meet in one coefficient, (mu, nu) and (-mu, -nu), equal up to a sign, so the sum
of roots is again one root. Orthonormal: sum_mn C[m,n;J,M] C[m,n;J',M'] = delta delta. The signs are e3nn's:
C = sqrt(2J+1) wigner_3j.
Source: Racah, Phys. Rev. 62, 438 (1942), eq. 16.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import comb, factorial
from types import MappingProxyType

from basisgen.algebra.roots import SignedRoot

Coefficients = MappingProxyType[tuple[int, int, int], SignedRoot]


def coupled_degrees(j: int, l: int) -> range:
    """The degrees J in the product of degrees j and l: |j-l|..j+l."""
    return range(abs(j - l), j + l + 1)


@cache
def clebsch_gordan(j: int, l: int, J: int) -> Coefficients:
    """The non-zero C[j m, l n; J M] as {(m, n, M): value}, sorted by (m, n, M); the indices are orders, -j..j etc."""
    assert J in coupled_degrees(j, l), f"degree {J} is not in the product of degrees {j} and {l}"
    coefficients = {}
    for m in range(-j, j + 1):
        for n in range(-l, l + 1):
            for M in sorted({s * t for s in (-1, 1) for t in (abs(m) + abs(n), abs(abs(m) - abs(n)))}):
                if abs(M) <= J and (value := _real(j, m, l, n, J, M)).sign:
                    coefficients[m, n, M] = value
    return MappingProxyType(coefficients)


def _real(j: int, m: int, l: int, n: int, J: int, M: int) -> SignedRoot:
    """One real coefficient: the sum over the complex terms that reach it."""
    roots = (m != 0) + (n != 0) + (M != 0)  # each non-zero order brings a factor 1/sqrt(2)
    total, square = 0, Fraction(0)
    for mu in {m, -m}:
        for nu in {n, -n}:
            if abs(mu + nu) == abs(M):
                sign, square = _complex(j, mu, l, nu, J)
                quarter_turns = _phase(mu, m) + _phase(nu, n) - _phase(mu + nu, M) - (j + l - J)
                total += sign * (1, 0, -1, 0)[quarter_turns % 4]
    return SignedRoot((total > 0) - (total < 0), total**2 * square / 2**roots)


def _phase(mu: int, m: int) -> int:
    """The power of i in Q[mu, m] sqrt(2): complex order mu, real order m = +-mu."""
    condon_shortley = 2 * (mu % 2) if mu > 0 else 0
    if m >= 0:
        return condon_shortley
    return condon_shortley + (1 if mu > 0 else -1)


@cache
def _complex(j: int, m: int, l: int, n: int, J: int) -> tuple[int, Fraction]:
    """Sign and square of <j m l n|J m+n>."""
    M = m + n
    if abs(M) > J:
        return 0, Fraction(0)
    low, high = max(0, l - J - m, j - J + n), min(j + l - J, j - m, l + n)
    total = sum(
        (-1) ** k * comb(j + l - J, k) * comb(J + j - l, j - m - k) * comb(J - j + l, l + n - k)
        for k in range(low, high + 1)
    )
    numerator = (2 * J + 1) * _product(J + M, J - M, j + m, j - m, l + n, l - n)
    denominator = _product(j + l + J + 1, j + l - J, J + j - l, J - j + l)
    return (total > 0) - (total < 0), Fraction(total**2 * numerator, denominator)


def _product(*arguments: int) -> int:
    product = 1
    for argument in arguments:
        product *= factorial(argument)
    return product
