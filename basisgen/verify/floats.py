"""The float64 numbers of a package against the exact ones: |value - exact| <= 0.501 ulp, exact evaluated to 60 digits.

    clebsch_gordan_j_l   C[m, n; J, M], float64 (m, n, J and M together), J = |j-l|..j+l, for each M = -J..J
    filters              phi(|x|) Y_JM(x/|x|), float64 (group and M together, x, y, z)
    filters_products     E, float64 (group and M together, product): a + b + c <= N, by the sum, then in lexical order
    filters_x, _y, _z    h_a at the taps of an axis, float64 (a, tap)

An ulp is the distance of a float64 to its neighbour on the side of the exact number: 0.5 is correct rounding.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.statement import Certificate, Filters, Harmonic, Products

Exact = NDArray[np.object_]  # of mpmath numbers

MAX_ULPS = 0.501
DIGITS = 60
MAX_FORMULA = 2000  # characters
MAX_POWER = 200
MAX_EXPONENT = 10**30

_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def check_floats(certificate: Certificate, tensors: Mapping[str, NDArray[Any]]) -> tuple[int, float, list[str]]:
    """How many numbers were compared, the worst distance in ulps, and the complaints."""
    count, worst, complaints = 0, 0.0, []
    shapes = dict(_shapes(certificate))
    for name in sorted(shapes.keys() | tensors.keys()):
        where = f"basis.safetensors: {name}"
        if name not in tensors or name not in shapes:
            complaints.append(f"{where} is {'not in the certificate' if name in tensors else 'missing'}")
        elif tensors[name].dtype.name != "float64" or tensors[name].shape != shapes[name]:
            complaints.append(f"{where} is {tensors[name].dtype} {tensors[name].shape}, not float64 {shapes[name]}")
        else:
            try:
                with mpmath.workdps(DIGITS):
                    for part, element, exact in _exact(name, certificate):
                        distance, wrong = _compare(tensors[name][part], exact)
                        count, worst = count + exact.size, max(worst, distance)
                        complaints += [f"{where}, {element}, {complaint}" for complaint in wrong]
            except ValueError as error:
                complaints.append(f"certificate.json: {name}: {error}")
    return count, worst, complaints


def _compare(values: NDArray[Any], exact: Exact) -> tuple[float, list[str]]:
    worst, complaints = 0.0, []
    for index in np.ndindex(exact.shape):
        value = float(values[index])
        distance = _ulps(value, exact[index])
        worst = max(worst, distance)
        if not distance <= MAX_ULPS:
            complaints.append(f"entry {index}: {value!r} is {distance:.2f} ulp from {mpmath.nstr(exact[index], 20)}")
    return worst, complaints


def _shapes(certificate: Certificate) -> Iterator[tuple[str, tuple[int, ...]]]:
    for j, l in certificate.clebsch_gordan:
        yield f"clebsch_gordan_{j}_{l}", (2 * j + 1, 2 * l + 1, (2 * j + 1) * (2 * l + 1))
    for name, filters in certificate.filters.items():
        rows = sum(2 * J + 1 for J, _ in filters.groups)
        yield name, (rows, *filters.size)
        if filters.products is not None:
            levels = filters.products.levels
            yield f"{name}_products", (rows, math.comb(levels + 3, 3))
            for axis, taps in zip("xyz", filters.size, strict=True):
                yield f"{name}_{axis}", (levels + 1, taps)


def _exact(name: str, certificate: Certificate) -> Iterator[tuple[Any, str, Exact]]:
    """Each element of a tensor: where in the tensor, what it is, and its exact values."""
    if name in certificate.filters:
        yield from _exact_filters(certificate.filters[name], certificate.harmonics)
    stem, _, part = name.rpartition("_")
    if stem in certificate.filters and (products := certificate.filters[stem].products) is not None:
        yield from _exact_products(certificate.filters[stem], products, part)
    for (j, l), table in certificate.clebsch_gordan.items():
        if name == f"clebsch_gordan_{j}_{l}":
            for J in range(abs(j - l), j + l + 1):
                exact = np.full((2 * j + 1, 2 * l + 1, 2 * J + 1), mpmath.mpf(0))
                for (m, n, M), (sign, square) in table.get(J, {}).items():
                    exact[m + j, n + l, M + J] = sign * _root(square)
                first = J**2 - (j - l) ** 2
                yield np.s_[:, :, first : first + 2 * J + 1], f"pair {j} <- {l}, element J = {J}", exact


def _exact_filters(filters: Filters, harmonics: dict[int, dict[int, Harmonic]]) -> Iterator[tuple[Any, str, Exact]]:
    """phi(|x|) Y_JM(x/|x|) at x_i = (i - (size-1)/2) dilation spacing; 0 at x = 0 for J > 0."""
    half_steps = [dilation * spacing / 2 for dilation, spacing in zip(filters.dilation, filters.spacing, strict=True)]
    unit = math.lcm(*(step.denominator for step in half_steps))
    axes = [[int(h * unit) * (2 * i - n + 1) for i in range(n)] for h, n in zip(half_steps, filters.size, strict=True)]
    points = np.stack(np.meshgrid(*(np.array(axis, dtype=object) for axis in axes), indexing="ij"))  # x times unit
    squares = (points**2).sum(axis=0)
    stop = 0
    for J, formula in filters.groups:
        start, stop = stop, stop + 2 * J + 1
        if formula is None:
            continue
        radial = {0: mpmath.mpf(0)}
        for square in set(squares.flat):
            if square or J == 0:
                radial[square] = evaluate_profile(formula, _root(Fraction(square, unit**2))) / mpmath.sqrt(square) ** J
        factor = np.vectorize(radial.__getitem__, otypes=[object])(squares)
        exact = [
            factor
            * _root(norm)
            * sum(c * points[0] ** a * points[1] ** b * points[2] ** d for (a, b, d), c in p.items())
            for norm, p in harmonics[J].values()
        ]
        yield np.s_[start:stop], f"element J = {J}, profile {formula}", np.stack(exact)


def _exact_products(filters: Filters, products: Products, part: str) -> Iterator[tuple[Any, str, Exact]]:
    """E, or h_a(t) = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2) at the taps of an axis, t = x/s; mpmath's own H_a."""
    if part == "products":
        indices = (i for i in itertools.product(range(products.levels + 1), repeat=3) if sum(i) <= products.levels)
        columns = {index: column for column, index in enumerate(sorted(indices, key=lambda i: (sum(i), i)))}
        exact = np.full((len(products.rows), len(columns)), mpmath.mpf(0))
        for row, expansion in enumerate(products.rows):
            for powers, (sign, square) in expansion.items():
                exact[row, columns[powers]] = sign * _root(square)
        yield np.s_[:], "products", exact
    elif part in ("x", "y", "z"):
        axis = "xyz".index(part)
        n, pitch = filters.size[axis], filters.dilation[axis] * filters.spacing[axis]
        exact = np.full((products.levels + 1, n), mpmath.mpf(0))
        for tap in range(n):
            x = (tap - Fraction(n - 1, 2)) * pitch
            t = (-1 if x < 0 else 1) * _root(x**2 / products.square_scale)
            for a in range(products.levels + 1):
                exact[a, tap] = mpmath.hermite(a, t) * mpmath.exp(-(t**2) / 2) / mpmath.sqrt(2**a * math.factorial(a))
        yield np.s_[:], f"functions of {part}", exact


def square_radii(filters: Filters) -> list[Fraction]:
    """|x|^2 of every tap, each value once."""
    axes = [
        {((i - Fraction(n - 1, 2)) * d * s) ** 2 for i in range(n)}
        for n, d, s in zip(filters.size, filters.dilation, filters.spacing, strict=True)
    ]
    return sorted({x + y + z for x, y, z in itertools.product(*axes)})


def evaluate_profile(formula: str, r: Any) -> Any:
    """phi(r) of a formula in r, whole numbers, + - * / ^, parentheses and exp.

    Raises ValueError for anything else: no other name, call or number is ever looked at.
    """
    try:
        if len(formula) > MAX_FORMULA or "**" in formula:
            raise ValueError
        return _value(ast.parse(formula.replace("^", "**"), mode="eval").body, r)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        raise ValueError(
            f"profile {formula!r:.100} is not a formula in r, whole numbers, + - * / ^, parentheses and exp"
        ) from None


def _value(node: ast.expr, r: Any) -> Any:
    match node:
        case ast.Name(id="r"):
            return r
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return mpmath.mpf(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, r)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))) if power <= MAX_POWER:
            return _value(left, r) ** power
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left, r), _value(right, r))
        case ast.Call(func=ast.Name(id="exp"), args=[argument], keywords=[]):
            exponent = _value(argument, r)
            if abs(exponent) < MAX_EXPONENT:
                return mpmath.exp(exponent)
    raise ValueError


def _root(square: Fraction) -> Any:
    return mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator)


def _ulps(value: float, exact: Any) -> float:
    """The distance of a float64 from the exact number, in units of the distance to its neighbour on that side."""
    if not math.isfinite(value):
        return math.inf
    difference = exact - mpmath.mpf(value)
    neighbour = math.nextafter(value, math.copysign(math.inf, difference))
    return float(abs(difference) / abs(mpmath.mpf(neighbour) - mpmath.mpf(value)))
