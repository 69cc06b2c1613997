"""D^l of a rotation, for people: Wigner's small d as exact polynomials, and how D^l is made of them.

    d^l_mn(beta) = sqrt((l+m)! (l-m)! / ((l+n)! (l-n)!)) sin(beta/2)^(m-n) cos(beta/2)^(m+n) P(cos beta),    m >= |n|
    P = P_(l-m)^(m-n, m+n), Jacobi's polynomials, with rational coefficients

without the Condon-Shortley phase. Source: Varshalovich et al. 1988, section 4.3.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial, gcd, lcm, sqrt

from basisgen.commands.show_product import latex_root, plain_root
from basisgen.errors import SpecError

MAX_DEGREE = 24
RULES = (
    "D[m, n] = a cos(m alpha + n gamma) + b cos(m alpha - n gamma)",
    "D[-m, -n] = a cos(m alpha + n gamma) - b cos(m alpha - n gamma)",
    "D[-m, n] = a sin(m alpha + n gamma) + b sin(m alpha - n gamma)",
    "D[m, -n] = b sin(m alpha - n gamma) - a sin(m alpha + n gamma)",
)


@dataclass(frozen=True)
class SmallD:
    """sqrt(square) s^(m-n) c^(m+n) P(x): c, s = cos, sin(beta/2), x = cos(beta), P from x^0 on, whole and coprime."""

    m: int
    n: int
    square: Fraction
    polynomial: tuple[int, ...]

    def at(self, cos: float) -> float:
        """The value where cos(beta) is given."""
        polynomial = sum(a * cos**k for k, a in enumerate(self.polynomial))
        half_sin, half_cos = sqrt((1 - cos) / 2), sqrt((1 + cos) / 2)
        return sqrt(self.square) * half_sin ** (self.m - self.n) * half_cos ** (self.m + self.n) * polynomial


def small_d(l: int) -> list[SmallD]:
    """The d^l_mn with m >= |n|, exactly; raises SpecError for a degree that nobody can read."""
    if not 0 <= l <= MAX_DEGREE:
        raise SpecError(f"degree {l} is not one of 0 to {MAX_DEGREE}, the limit for `show`.")
    return [_exact(l, m, n) for m in range(l + 1) for n in range(-m, m + 1)]


def as_text(l: int) -> str:
    """One line per function, then the rules."""
    lines = [
        f"D^{l} of Y(alpha) X(beta) Y(gamma), turns about the axes y and x; c = cos(beta/2), s = sin(beta/2), "
        "x = cos(beta)\n",
        *(f"d[{d.m}, {d.n}] = {_product(d, plain_root, _plain_power)}" for d in small_d(l)),
        "\nd[m, n] = (-1)^(m-n) d[n, m] = d[-n, -m]; for m, n >= 0, a = d[m, n] and b = (-1)^n d[m, -n], each over "
        "sqrt(2) for m = 0, and for n = 0:\n",
        *RULES,
    ]
    return "\n".join(lines)


def as_latex(l: int) -> str:
    """The same."""
    lines = [f"d_{{{d.m},{d.n}}} = {_product(d, latex_root, _latex_power)}" for d in small_d(l)]
    rules = [re.sub(r"\[(.*?)\]", r"_{\1}", re.sub(r"(cos|sin|alpha|gamma)", r"\\\1", rule)) for rule in RULES]
    return "\n".join([*lines, *rules])


def as_json(l: int) -> str:
    """A list of [m, n, square of the factor, coefficients of P from x^0 on]."""
    entries = [[d.m, d.n, str(d.square), list(d.polynomial)] for d in small_d(l)]
    return json.dumps({"degree": l, "small_d": entries}, indent=1)


STYLES: dict[str, Callable[[int], str]] = {"text": as_text, "latex": as_latex, "json": as_json}


def _exact(l: int, m: int, n: int) -> SmallD:
    """P = sum_k C(l-n, l-m-k) C(l+n, k) ((x-1)/2)^k ((x+1)/2)^(l-m-k)."""
    degree = l - m
    total = [Fraction(0)] * (degree + 1)
    for k in range(degree + 1):
        weight = Fraction(comb(l - n, degree - k) * comb(l + n, k), 2**degree)
        for i in range(k + 1):
            for j in range(degree - k + 1):  # (x-1)^k (x+1)^(degree-k)
                total[i + j] += weight * comb(k, i) * (-1) ** (k - i) * comb(degree - k, j)
    common = lcm(*(value.denominator for value in total))
    whole = [int(value * common) for value in total]
    divisor = gcd(*whole)
    square = Fraction(factorial(l + m) * factorial(l - m), factorial(l + n) * factorial(l - n))
    return SmallD(m, n, square * Fraction(divisor, common) ** 2, tuple(a // divisor for a in whole))


def _product(d: SmallD, root: Callable[[Fraction], str], power: Callable[[str, int], str]) -> str:
    parts = [root(d.square), power("c", d.m + d.n), power("s", d.m - d.n)]
    if d.polynomial != (1,):
        parts.append(f"({_sum(d.polynomial, power)})")
    return " ".join(part for part in parts if part) or "1"


def _sum(polynomial: tuple[int, ...], power: Callable[[str, int], str]) -> str:
    text = ""
    for k in reversed(range(len(polynomial))):
        if (a := polynomial[k]) == 0:
            continue
        sign = ("-" if a < 0 else "") if not text else (" - " if a < 0 else " + ")
        text += sign + " ".join(part for part in ("" if abs(a) == 1 and k else str(abs(a)), power("x", k)) if part)
    return text


def _plain_power(base: str, k: int) -> str:
    return "" if k == 0 else base if k == 1 else f"{base}^{k}"


def _latex_power(base: str, k: int) -> str:
    return "" if k == 0 else base if k == 1 else f"{base}^{{{k}}}"
