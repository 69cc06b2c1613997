"""The identity behind a separable layer, re-checked exactly: oscillator filters are sums of products.

    phi(|x|) Y_JM(x/|x|) = sum over a, b, c of  E[abc] h_a(x/s) h_b(y/s) h_c(z/s)
    phi(r) = r^J L_n^(J+1/2)(r^2/s^2) exp(-r^2/(2 s^2)),     h_a(t) = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2)

With t = x/s, and both sides divided by exp(-|t|^2/2) s^J sqrt(N), where Y = sqrt(N) P, this is

    L_n^(J+1/2)(|t|^2) P_JM(t) = sum over a, b, c of  q[abc] H_a(t_x) H_b(t_y) H_c(t_z)
    q = E / sqrt(2^(a+b+c) a! b! c! s^2J N)

an identity of polynomials with rational q, checked exactly. That the stated profile is phi is checked to 50 digits, at
the radius of every tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import factorial, isqrt, lcm

import mpmath

from basisgen.verify.floats import DIGITS, evaluate_profile, square_radii
from basisgen.verify.polynomials import Polynomial, add, times
from basisgen.verify.statement import Certificate, Filters, Harmonic, Powers, Products, Root

_R2: Polynomial = {(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1}


def check_products(certificate: Certificate) -> Iterator[str]:
    """The identity for every filter that is said to be a sum of products."""
    for name, filters in certificate.filters.items():
        if filters.products is not None:
            where = f"certificate.json: {name}"
            yield from _check_profiles(where, filters, filters.products)
            first = 0
            for (J, _), n in zip(filters.groups, filters.products.orders, strict=True):
                for M, harmonic in certificate.harmonics[J].items():
                    row = first + M + J
                    if not _is_identity(n, J, harmonic, filters.products.square_scale, filters.products.rows[row]):
                        yield f"{where}, row {row}: filter (J, M) = ({J}, {M}) is not the sum of its products"
                first += 2 * J + 1


def _check_profiles(where: str, filters: Filters, products: Products) -> Iterator[str]:
    with mpmath.workdps(DIGITS):
        square_scale = mpmath.mpf(products.square_scale.numerator) / products.square_scale.denominator
        squares = [mpmath.mpf(square.numerator) / square.denominator for square in square_radii(filters) if square]
        for (J, formula), n in zip(filters.groups, products.orders, strict=True):
            assert formula is not None, "`read_certificate` sees to it"
            for square in squares:
                r, t = mpmath.sqrt(square), square / square_scale
                terms = [mpmath.mpf(c.numerator) / c.denominator * t**i for i, c in enumerate(laguerre(n, J))]
                envelope = r**J * mpmath.exp(-t / 2)
                difference = abs(evaluate_profile(formula, r) - sum(terms) * envelope)
                if difference > mpmath.mpf(10) ** (10 - DIGITS) * sum(map(abs, terms)) * envelope:
                    yield f"{where}: profile {formula!r:.100} is not the oscillator's of n = {n}, J = {J}"
                    break


def _is_identity(n: int, J: int, harmonic: Harmonic, square_scale: Fraction, row: dict[Powers, Root]) -> bool:
    """Whether L_n P = sum of q H_a H_b H_c, every q rational."""
    ratios: dict[Powers, Fraction] = {}
    for powers, (sign, square) in row.items():
        norm = 2 ** sum(powers) * factorial(powers[0]) * factorial(powers[1]) * factorial(powers[2])
        ratio = square / (norm * square_scale**J * harmonic.square_norm)
        root = Fraction(isqrt(ratio.numerator), isqrt(ratio.denominator))
        if root**2 != ratio:
            return False
        ratios[powers] = sign * root
    coefficients = laguerre(n, J)
    common = lcm(*(number.denominator for number in (*ratios.values(), *coefficients)))
    excess: Polynomial = {}
    power = harmonic.polynomial
    for coefficient in coefficients:
        add(excess, int(common * coefficient), power)
        power = times(power, _R2)
    for (a, b, c), ratio in ratios.items():
        along = (
            {(i, 0, 0): v for i, v in hermite(a).items()},
            {(0, i, 0): v for i, v in hermite(b).items()},
            {(0, 0, i): v for i, v in hermite(c).items()},
        )
        add(excess, -int(common * ratio), times(times(*along[:2]), along[2]))
    return not excess


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


def hermite(a: int) -> dict[int, int]:
    """H_a, power -> coefficient: a! sum over m of (-1)^m (2x)^(a-2m) / (m! (a-2m)!)."""
    return {
        a - 2 * m: (-1) ** m * 2 ** (a - 2 * m) * factorial(a) // (factorial(m) * factorial(a - 2 * m))
        for m in range(a // 2 + 1)
    }
