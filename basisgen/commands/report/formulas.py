"""The exact kernels of a certificate as matrices of polynomials in x, y, z, in few and simple roots.

|x|^J kappa^J(x)[m, n] = sum_M C[m, n; J, M] sqrt(N_JM) P_JM(x) = sqrt(square) * sum of sqrt(s) * integer polynomial
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from basisgen.verify.statement import Certificate

Exponents = tuple[int, int, int]
Product = tuple[int, int, int, Fraction, Fraction, Mapping[Exponents, int]]  # m, n, sign, square, norm, polynomial
Entry = dict[int, dict[Exponents, Fraction]]  # square-free s -> polynomial: sum of sqrt(s) * polynomial


@dataclass(frozen=True)
class ExactKernel:
    """|x|^J kappa^J(x) = sqrt(square) * entries; rows m = -j..j, columns n = -l..l, integer coefficients."""

    J: int
    square: Fraction
    entries: tuple[tuple[Entry, ...], ...]

    @property
    def terms(self) -> int:
        """The number of monomials to write."""
        return sum(len(polynomial) for row in self.entries for entry in row for polynomial in entry.values())


def exact_kernel(certificate: Certificate, j: int, l: int, J: int) -> ExactKernel:
    """kappa^J from degree l to degree j, as a certificate states it, its common factor taken out."""
    coefficients = certificate.clebsch_gordan[j, l][J].items()
    harmonics = certificate.harmonics[J]
    return simplified(J, j, l, ((m, n, sign, square, *harmonics[M]) for (m, n, M), (sign, square) in coefficients))


def simplified(J: int, j: int, l: int, products: Iterable[Product]) -> ExactKernel:
    """The matrix of the sums over M of sign sqrt(square) sqrt(norm) polynomial, in few roots, common factor out."""
    entries = [[Entry() for _ in range(2 * l + 1)] for _ in range(2 * j + 1)]
    for m, n, sign, square, norm, polynomial in products:
        factor, s = root(square * norm)
        total = entries[m + j][n + l].setdefault(s, {})
        for exponents, coefficient in polynomial.items():
            total[exponents] = total.get(exponents, Fraction(0)) + sign * factor * coefficient
    return _common_factor_out(J, [[_without_zeros(entry) for entry in row] for row in entries])


def root(square: Fraction) -> tuple[Fraction, int]:
    """(factor, s), s square-free, with sqrt(square) = factor * sqrt(s)."""
    rest, whole, free, prime = square.numerator * square.denominator, 1, 1, 2
    while rest > 1:
        prime = prime if prime**2 <= rest else rest
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        whole, free = whole * prime ** (power // 2), free * prime ** (power % 2)
        prime += 1
    return Fraction(whole, square.denominator), free


def _common_factor_out(J: int, entries: list[list[Entry]]) -> ExactKernel:
    """Takes the commonest root and the largest rational factor out of the matrix."""
    commonest = min(_roots(entries).items(), key=lambda item: (-item[1], item[0]))[0]
    relative = [[_relative(entry, commonest) for entry in row] for row in entries]
    content = _content(
        coefficient
        for row in relative
        for entry in row
        for polynomial in entry.values()
        for coefficient in polynomial.values()
    )
    divided = tuple(
        tuple(
            {
                s: {exponents: value / content for exponents, value in polynomial.items()}
                for s, polynomial in entry.items()
            }
            for entry in row
        )
        for row in relative
    )
    return ExactKernel(J, content**2 * commonest, divided)


def _roots(entries: list[list[Entry]]) -> Counter[int]:
    return Counter(s for row in entries for entry in row for s in entry)


def _relative(entry: Entry, commonest: int) -> Entry:
    """The entry divided by sqrt(commonest)."""
    relative: Entry = {}
    for s, polynomial in entry.items():
        whole = gcd(s, commonest)  # sqrt(s / commonest) = sqrt(s * commonest) / commonest, and both are square-free
        factor, rest = Fraction(whole, commonest), s * commonest // whole**2
        relative[rest] = {exponents: factor * value for exponents, value in polynomial.items()}
    return relative


def _content(values: Iterable[Fraction]) -> Fraction:
    """The largest rational of which all are whole multiples."""
    numerator, denominator = 0, 1
    for value in values:
        numerator, denominator = gcd(numerator, value.numerator), lcm(denominator, value.denominator)
    return Fraction(numerator, denominator)


def _without_zeros(entry: Entry) -> Entry:
    kept = {
        s: {exponents: value for exponents, value in polynomial.items() if value} for s, polynomial in entry.items()
    }
    return {s: polynomial for s, polynomial in kept.items() if polynomial}
