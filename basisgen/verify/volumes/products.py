"""The identity behind a separable layer, re-checked exactly: oscillator filters are sums of products.

    phi(|x|) Y_JM(x/|x|) = sum over a, b, c of  E[abc] h_a(x/s) h_b(y/s) h_c(z/s)
    phi(r) = r^J L_n^(J+1/2)(r^2/s^2) exp(-r^2/(2 s^2)),     h_a(t) = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2)

Both sides are polynomials times exp(-|t|^2/2), t = x/s. In the polynomials,

    L_n^(J+1/2)(|t|^2) P_JM(t) = sum over a, b, c of  q[abc] H_a(t_x) H_b(t_y) H_c(t_z)          Y = sqrt(N) P
    q = E / sqrt(2^(a+b+c) a! b! c! s^2J N)

every term satisfies (Laplacian - 2 t.grad + 2 N) p = 0 with the level N = J + 2n = a + b + c, and a polynomial solution
is known from its terms of degree N: those of lower degree follow from them. So it is enough that leading terms agree,

    (-1)^n / n! |t|^2n P_JM(t) = sum of  q[abc] 2^N t_x^a t_y^b t_z^c

with rational q, exactly. That the stated profile is phi is checked to 50 digits, at the radius of every tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import factorial, isqrt

import mpmath
import numpy as np

from basisgen.verify.floats import DIGITS, evaluate_profile, square_radii
from basisgen.verify.polynomials import Polynomial, times
from basisgen.verify.statement import Certificate, Filters, Harmonic, Powers, Products, Root

_sqrt, _exp = (np.frompyfunc(function, 1, 1) for function in (mpmath.sqrt, mpmath.exp))
_R2: Polynomial = {(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1}


def check_products(certificate: Certificate) -> Iterator[str]:
    """The identity for every filter that is said to be a sum of products."""
    for name, filters in certificate.filters.items():
        products, where = filters.products, f"certificate.json: {name}"
        if isinstance(products, Products):
            yield from _check_profiles(where, filters, products)
            first = 0
            for (J, _), n in zip(filters.groups, products.orders, strict=True):
                for M, harmonic in certificate.harmonics[J].items():
                    row = first + M + J
                    if not _is_identity(n, J, harmonic, products.square_scale, products.expansions[row]):
                        yield f"{where}, row {row}: filter (J, M) = ({J}, {M}) is not the sum of its products"
                first += 2 * J + 1


def _check_profiles(where: str, filters: Filters, products: Products) -> Iterator[str]:
    with mpmath.workdps(DIGITS):
        square_scale = mpmath.mpf(products.square_scale.numerator) / products.square_scale.denominator
        squares = np.array([mpmath.mpf(q.numerator) / q.denominator for q in square_radii(filters) if q], object)
        r, t = _sqrt(squares), squares / square_scale
        for (J, profile), n in zip(filters.groups, products.orders, strict=True):
            assert profile is not None, "read_certificate refuses products of taps without a formula"
            terms = [mpmath.mpf(c.numerator) / c.denominator * t**i for i, c in enumerate(laguerre(n, J))]
            envelope = r**J * _exp(-t / 2)
            difference = abs(evaluate_profile(profile, r) - sum(terms) * envelope)
            if np.any(difference > mpmath.mpf(10) ** (10 - DIGITS) * sum(map(abs, terms)) * envelope):
                yield f"{where}: profile {profile!r:.100} is not the oscillator's of n = {n}, J = {J}"


def _is_identity(n: int, J: int, harmonic: Harmonic, square_scale: Fraction, expansion: dict[Powers, Root]) -> bool:
    """Whether the leading terms agree, every q rational."""
    ratios: dict[Powers, Fraction] = {}
    for powers, (sign, square) in expansion.items():
        norm = 2 ** sum(powers) * factorial(powers[0]) * factorial(powers[1]) * factorial(powers[2])
        ratio = square / (norm * square_scale**J * harmonic.square_norm)
        root = Fraction(isqrt(ratio.numerator), isqrt(ratio.denominator))
        if root**2 != ratio:
            return False
        ratios[powers] = sign * root * 2 ** sum(powers)
    leading = harmonic.polynomial
    for _ in range(n):
        leading = times(leading, _R2)
    return ratios == {powers: Fraction((-1) ** n * value, factorial(n)) for powers, value in leading.items()}


def laguerre(n: int, J: int) -> list[Fraction]:
    """The coefficients of L_n^(J+1/2)(t): (i+1) L_i+1 = (2i + 1 + J + 1/2 - t) L_i - (i + J + 1/2) L_i-1."""
    alpha = Fraction(2 * J + 1, 2)
    before, now = [Fraction(0)], [Fraction(1)]
    for i in range(n):
        following = [(2 * i + 1 + alpha) * c for c in now] + [Fraction(0)]
        for k, c in enumerate(now):
            following[k + 1] -= c
        for k, c in enumerate(before):
            following[k] -= (i + alpha) * c
        before, now = now, [c / (i + 1) for c in following]
    return now
