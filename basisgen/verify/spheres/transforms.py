"""The tables of transforms to 60 digits and more, each number the nearest float64: what `transform_*` must hold.

    P_lm = sqrt((2l+1)/4pi (l-m)!/(l+m)!) P_l^m without the Condon-Shortley phase: sin^m times a polynomial of cos theta
    rings   gauss: roots of P_L (Newton); the others by their formula
    weights gauss: 2 / ((1-x^2) P_L'(x)^2); the others solve  sum_t w_t cos(k theta_t) = 2/(1-k^2) [k even]
            in closed form, by the discrete cosine transform
    mw      2 pi int P_lm(theta) I_m(theta, t) sin(theta) dtheta by 2L Gauss nodes, of which the northern half, with
            I_m of both halves added or subtracted, is enough; I_m by sines of differences

Numbers are Python's integers times 2^-bits, where the recursion, which at L = 128 loses 280 bits, leaves 400.
Source: as sphere grids: Driscoll, Healy 1994; McEwen, Wiaux 2011; Clenshaw, Curtis 1960.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import factorial, isqrt, prod

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres.rings import FIXED, Array, point_angles, ring_angles

ZERO = 1 << (FIXED - 200)  # what is smaller there is 0: there are such zeros, of algebraic coincidence
Fixed = NDArray[np.object_]  # of Python's integers

_LIMB = 16  # bits


def expected(name: str, grid: str, L: int, kept: int | None = None) -> dict[str, Array]:
    """The four tensors of one transform on a grid of band limit L, of degrees below `kept`, all unless given."""
    kept = kept or L
    bits = 400 + 3 * L
    angles = ring_angles(grid, L)
    cos, sin = _gauss(L, bits)[:2] if angles is None else _columns([_cos_sin(angle, bits) for angle in angles])
    synthesis, analysis = [], []
    if grid != "mw":
        weights = _gauss(L, bits)[2] if angles is None else np.array([_weight(grid, L, a, bits) for a in angles])
        weights = 2 * _pi(bits) * weights >> bits
    for m, rows in enumerate(_polynomials(kept, cos, bits)):
        power = _powers(sin, m, bits)
        synthesis.append(_floats(rows, power, bits))
        if grid != "mw":
            analysis.append(_floats(rows * weights >> bits, power, bits))
    trig = np.array([[_trig(m, angle, bits) for m in range(1 - kept, kept)] for angle in point_angles(grid, L)])
    return {
        f"{name}_analysis": np.concatenate(analysis or list(_analysis_of_mw(L, kept, bits))),
        f"{name}_synthesis": np.concatenate(synthesis),
        f"{name}_trig": _nearest(trig, bits),
        f"{name}_cos": _nearest(cos, bits),
    }


def _cos_sin(angle: Fraction, bits: int) -> tuple[int, int]:
    """cos and sin of pi times `angle`, exactly 0 and 1 where they are."""
    return _on_circle(angle.numerator % (2 * angle.denominator), angle.denominator, bits)


@lru_cache(1 << 14)
def _on_circle(above: int, below: int, bits: int) -> tuple[int, int]:
    with mpmath.workprec(bits + 32):
        angle = mpmath.mpf(above) / below
        return _fixed(mpmath.cospi(angle), bits), _fixed(mpmath.sinpi(angle), bits)


def _fixed(value: mpmath.mpf, bits: int) -> int:
    return int(mpmath.nint(mpmath.ldexp(value, bits)))


def _pi(bits: int) -> int:
    with mpmath.workprec(bits + 32):
        return _fixed(+mpmath.pi, bits)


def _columns(pairs: list[tuple[int, int]]) -> tuple[Fixed, Fixed]:
    first, second = zip(*pairs, strict=True)
    return np.array(first, object), np.array(second, object)


def _roots(squares: Fixed, bits: int) -> Fixed:
    return np.array([isqrt(square << bits) for square in squares.tolist()], object)


def _weight(grid: str, L: int, angle: Fraction, bits: int) -> int:
    """sum_k of (2 - [k = 0]) / n 2/(1-k^2) cos(k theta) over even k: midpoints halve nothing, poles the ends."""
    n = 2 * L if grid == "driscoll_healy" else 2 * L - 1
    total = 2 << bits
    for k in range(2, n, 2):
        total -= 4 * _cos_sin(k * angle, bits)[0] // (k * k - 1)
    return total // (n * (2 if grid == "equiangular" and angle in (0, 1) else 1))


def _gauss(n: int, bits: int) -> tuple[Fixed, Fixed, Fixed]:
    """Roots of P_n as cos and sin, from 1 to -1, and weights."""
    one = 1 << bits
    guesses = np.polynomial.legendre.leggauss(n)[0][::-1].tolist()
    x = np.array([int(guess * 2**60) << (bits - 60) if abs(guess) > 1e-12 else 0 for guess in guesses], object)
    for _ in range(6):  # 53 bits, and each time twice as many
        value, slope = _legendre(n, x, bits)
        x = x - (value << bits) // slope
    x[n // 2] *= 1 - n % 2  # the middle one of an odd number is 0
    slope = _legendre(n, x, bits)[1]
    square = one - (x * x >> bits)
    return x, _roots(square, bits), (2 * one << 2 * bits) // (square * (slope**2 >> bits))


def _legendre(n: int, x: Fixed, bits: int) -> tuple[Fixed, Fixed]:
    """P_n and its derivative."""
    one = 1 << bits
    before, present = np.zeros(len(x), object), np.full(len(x), one, object)
    for k in range(n):
        before, present = present, ((2 * k + 1) * (x * present >> bits) - k * before) // (k + 1)
    return present, (n * (before - (x * present >> bits)) << bits) // (one - (x * x >> bits))


def _polynomials(L: int, cos: Fixed, bits: int) -> Iterator[Fixed]:
    """P_lm / sin^m at the rings, (l, ring), l = m .. L-1; for m = 0 .. L-1."""
    pi = _pi(bits)
    for m in range(L):
        # P_mm = sqrt((2m+1)/4pi / (2m)!) (2m-1)!! sin^m
        square = Fraction(prod(range(1, 2 * m, 2)) ** 2 * (2 * m + 1), 4 * factorial(2 * m))
        top = isqrt((square.numerator << 3 * bits) // (square.denominator * pi))
        before, present = np.zeros(len(cos), object), np.full(len(cos), top, object)
        rows = []
        for l in range(m, L):
            rows.append(present)
            beyond = (l + 1) ** 2 - m * m
            up = isqrt(((2 * l + 1) * (2 * l + 3) << 2 * bits) // beyond)
            down = isqrt(((2 * l + 3) * (l * l - m * m) << 2 * bits) // ((2 * l - 1) * beyond)) if l > m else 0
            before, present = present, (up * (cos * present >> bits) - down * before) >> bits
        yield np.array(rows)


def _powers(sin: Fixed, m: int, bits: int) -> tuple[Fixed, list[int]]:
    """sin^m as mantissas of `bits` bits and exponents of 2; 0 at a pole."""
    with mpmath.workprec(bits):
        powers = [mpmath.ldexp(mpmath.mpf(value), -bits) ** m for value in sin.tolist()]
    more = [bits - int(power.man).bit_length() for power in powers]
    mantissas = [int(power.man) << k for power, k in zip(powers, more, strict=True)]
    return np.array(mantissas, object), [int(power.exp) - k for power, k in zip(powers, more, strict=True)]


def _floats(values: Fixed, power: tuple[Fixed, list[int]], bits: int) -> Array:
    """values (l, ring) times the power of the sine."""
    mantissa, exponent = power
    found = (values * mantissa >> bits).astype(np.float64)  # an integer becomes the nearest float64
    scaled: Array = np.ldexp(found, np.array(exponent)) + 0.0
    return scaled


def _nearest(values: Fixed, bits: int) -> Array:
    return np.ldexp(values.astype(np.float64), -bits) + 0.0


def _analysis_of_mw(L: int, kept: int, bits: int) -> Iterator[Array]:
    """The table of each order m, (l, ring)."""
    cos, sin, weights = (of[:L] for of in _gauss(2 * L, bits))
    weights = 2 * _pi(bits) * weights >> bits
    matrices = _interpolation(L, cos, sin, bits)
    for m, rows in enumerate(_polynomials(kept, cos, bits)):
        mantissa, exponent = _powers(sin, m, bits)
        shift = np.array([bits - FIXED - e for e in exponent], object)
        left = (rows * weights >> bits) * mantissa >> shift  # (l, node)
        found = np.zeros((kept - m, L), object)
        for odd in range(2):  # l - m: whether P_lm(pi - theta) = -P_lm(theta)
            found[odd::2] = _product(left[odd::2], matrices[m % 2, odd]) if len(left) > odd else 0
        yield _nearest(np.where(abs(found) < ZERO, 0, found), FIXED)


def _interpolation(L: int, cos: Fixed, sin: Fixed, bits: int) -> dict[tuple[int, int], Array]:
    """(m odd, l-m odd) -> I_m(theta) +- I_m(pi - theta), (node, ring), in limbs."""
    N, one = 2 * L - 1, 1 << bits
    with mpmath.workprec(bits + 32):
        halves = [mpmath.acos(mpmath.ldexp(mpmath.mpf(value), -bits)) / 2 for value in cos.tolist()]
        thetas = [*halves, *(mpmath.pi / 2 - half for half in halves)]
        of_node, of_nodes = (
            _columns([(_fixed(mpmath.cos(k * x), bits), _fixed(mpmath.sin(k * x), bits)) for x in thetas])
            for k in (1, N)
        )

    def kernel(t: int, sign: int) -> Fixed:
        """D(theta -+ theta_t) at all nodes, D(x) = sin(N x / 2) / (N sin(x / 2))."""
        (c, s), (cs, ss) = (_cos_sin(k * Fraction(2 * t + 1, 2 * N), bits) for k in (1, N))
        above = of_nodes[1] * cs - sign * of_nodes[0] * ss
        below = of_node[1] * c - sign * of_node[0] * s
        values: Fixed = above * one // (N * below)
        return values

    found = {}
    for m in range(2):
        columns = [kernel(t, 1) + (1 - 2 * m) * kernel(t, -1) for t in range(L - 1)]
        columns.append(kernel(L - 1, 1) * (1 - m))  # at the pole
        matrix = np.stack(columns, axis=1)
        for odd in range(2):
            folded = matrix[:L] + (1 - 2 * odd) * matrix[L:]
            found[m, odd] = _limbs(folded >> (bits - FIXED))
    return found


def _product(left: Fixed, right: Array) -> Fixed:
    """left (row, node) @ right in limbs (limb, node, column), numbers of FIXED bits, exact except in the last 20.

    With x = sum_i x_i 2^(16 i) every sum of products of limbs is below 2^53, an exact float64.
    """
    limbs = _limbs(left)
    n, _, columns = right.shape
    total: Fixed = np.zeros((len(left), columns), object)
    for k in reversed(range(n - 2, 2 * n - 1)):
        pairs = [limbs[i] @ right[k - i] for i in range(max(0, k - n + 1), min(k, n - 1) + 1)]
        total = (total << _LIMB) + np.sum(pairs, axis=0).astype(np.int64)
    shifted: Fixed = total << (_LIMB * (n - 2)) >> FIXED
    return shifted


def _limbs(values: Fixed) -> Array:
    """(limb, row, column), the last limb with the sign."""
    size = FIXED // 8 + 4
    body = b"".join([value.to_bytes(size, "little", signed=True) for value in values.ravel().tolist()])
    limbs = np.frombuffer(body, "<u2").reshape(*values.shape, size // 2)
    return np.array([*np.moveaxis(limbs, -1, 0)[:-1], limbs[..., -1].view("<i2")], np.float64)


def _trig(m: int, angle: Fraction, bits: int) -> int:
    """trig_m at pi times `angle`."""
    if m == 0:
        return 1 << bits
    cos, sin = _cos_sin(abs(m) * angle, bits)
    return isqrt(2 << 2 * bits) * (cos if m > 0 else sin) >> bits
