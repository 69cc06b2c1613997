"""The float64 numbers of a package against the exact ones: each must be the nearest float64, and zero is 0.0.

    clebsch_gordan_j_l   C[m, n; J, M], float64 (m, n, J and M together), J = |j-l|..j+l, for each M = -J..J
    filters              phi(|x|) Y_JM(x/|x|), float64 (group and M together, x, y, z)
    filters_products     E, float64 (group and M together, product): a + b + c <= N, by the sum, then in lexical order
    filters_x, _y, _z    h_a at the taps of an axis, float64 (a, tap)

A filter is a real factor of |x|, to 60 digits, times an integer polynomial, exactly, rounded once:

    phi(|x|) Y_JM(x/|x|) = sqrt(N) phi(|x|) |x|^-J * P_JM(x)

P_JM is even or odd in each of x, y and z, so the taps with x, y, z >= 0 tell the others. Where phi is small, exact
arithmetic tells whether it is 0. What remains in doubt are numbers within 10^-40 of the middle between two float64.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.polynomials import Polynomial
from basisgen.verify.statement import PARTS, Certificate, Filters, Harmonic, Products, Root
from basisgen.verify.surds import vanishes
from basisgen.verify.tensors import Form, Shape, Tensor

Exact = NDArray[np.object_]  # of Python's integers, or of mpmath numbers
Factor = tuple[int, int]  # mantissa, exponent of 2
Part = tuple[Any, str, Tensor]  # where in a tensor, what it is, the numbers that belong there

DIGITS = 60
MAX_FORMULA = 2000  # characters
MAX_POWER = 200
MAX_EXPONENT = 10**30

_SHOWN = 3  # complaints about one element
_SMALLEST = -1080  # an exponent of 2: anything below is nearest to 0

_FORMULA = re.compile(r"[rexp0-9+*/^() -]*", re.ASCII)
_exp = np.frompyfunc(mpmath.exp, 1, 1)
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def tensor_forms(certificate: Certificate) -> dict[str, Form]:
    """Type and shape of every tensor of the convolutions, by name."""
    shapes: dict[str, Shape] = {}
    for j, l in certificate.clebsch_gordan:
        shapes[f"clebsch_gordan_{j}_{l}"] = (2 * j + 1, 2 * l + 1, (2 * j + 1) * (2 * l + 1))
    for name, filters in certificate.filters.items():
        rows = sum(2 * J + 1 for J, _ in filters.groups)
        shapes[name] = (rows, *filters.size)
        if filters.products is not None:
            levels = filters.products.levels
            shapes[f"{name}_products"] = (rows, math.comb(levels + 3, 3))
            for axis, taps in zip("xyz", filters.size, strict=True):
                shapes[f"{name}_{axis}"] = (levels + 1, taps)
    return {name: ("F64", shape) for name, shape in shapes.items()}


def check_floats(certificate: Certificate, tensors: Mapping[str, Tensor]) -> tuple[int, list[str]]:
    """How many numbers were compared, and the complaints; rows without a formula are passed over."""
    count, complaints = 0, []
    for name in sorted(tensor_forms(certificate).keys() & tensors.keys()):
        tensor = tensors[name]
        try:
            with mpmath.workdps(DIGITS):
                for part, element, exact in _exact(name, certificate):
                    count += exact.size
                    where = f"basis.safetensors: {name}, {element}"
                    complaints += [f"{where}, {wrong}" for wrong in differences(tensor[part], exact)]
        except ValueError as error:
            complaints.append(f"certificate.json: {name}: {error}")
    return count, complaints


def differences(values: Tensor, exact: Tensor) -> Iterator[str]:
    """The entries that are not the same bits, the first few one by one."""
    bits = f"u{values.dtype.itemsize}"
    wrong = np.argwhere(np.ascontiguousarray(values).view(bits) != np.ascontiguousarray(exact).view(bits))
    for index in wrong[:_SHOWN]:
        value, right = values[tuple(index)].item(), exact[tuple(index)].item()
        yield f"entry {tuple(map(int, index))}: {value!r} is not {right!r}"
    if len(wrong) > _SHOWN:
        yield f"and {len(wrong) - _SHOWN} entries more"


def free_rows(filters: Filters) -> list[slice]:
    """The rows of a filter tensor that have no formula, group by group."""
    stops = list(itertools.accumulate(2 * J + 1 for J, _ in filters.groups))
    return [
        slice(stop - 2 * J - 1, stop)
        for (J, formula), stop in zip(filters.groups, stops, strict=True)
        if formula is None
    ]


def _exact(name: str, certificate: Certificate) -> Iterator[Part]:
    """Each element of a tensor: where in the tensor, what it is, and its exact values, rounded."""
    stem, _, part = name.rpartition("_")
    if name in certificate.filters:
        yield from _exact_filters(certificate.filters[name], certificate.harmonics)
    elif stem in certificate.filters and part in PARTS:
        if isinstance(products := certificate.filters[stem].products, Products):
            yield from _exact_products(certificate.filters[stem], products, part)
    else:
        j, l = map(int, name.split("_")[2:])
        for J in range(abs(j - l), j + l + 1):
            exact = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
            for (m, n, M), root in certificate.clebsch_gordan[j, l].get(J, {}).items():
                exact[m + j, n + l, M + J] = _rounded(root)
            first = J**2 - (j - l) ** 2
            yield np.s_[:, :, first : first + 2 * J + 1], f"pair {j} <- {l}, element J = {J}", exact


def _exact_filters(filters: Filters, harmonics: Mapping[int, Mapping[int, Harmonic]]) -> Iterator[Part]:
    """phi(|x|) Y_JM(x/|x|) at x_i = (i - (size-1)/2) dilation spacing; 0 at x = 0 for J > 0."""
    half_steps = [dilation * spacing / 2 for dilation, spacing in zip(filters.dilation, filters.spacing, strict=True)]
    unit = math.lcm(*(step.denominator for step in half_steps))
    steps = zip((int(step * unit) for step in half_steps), filters.size, strict=True)
    axes = [np.array([step * (2 * i - n + 1) for i in range(n // 2, n)], object) for step, n in steps]  # >= 0
    squares = (axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).reshape(-1)  # |x|^2 of a tap
    radii = sorted(set(squares))
    profiles: dict[tuple[str, bool], list[Any]] = {}
    polynomials: dict[int, list[Exact]] = {}
    stop = 0
    for J, formula in filters.groups:
        start, stop = stop, stop + 2 * J + 1
        if formula is None:
            continue
        at_origin = J > 0 and radii[0] == 0
        if (formula, at_origin) not in profiles:
            lengths = [Fraction(square, unit**2) for square in radii[at_origin:]]
            profiles[formula, at_origin] = [mpmath.mpf(0)] * at_origin + _profile_values(formula, lengths)
        if J not in polynomials:
            polynomials = {J: [_evaluate(harmonic.polynomial, axes) for harmonic in harmonics[J].values()]}
        radial = [
            phi if at_origin and not square else phi / mpmath.sqrt(square) ** J
            for square, phi in zip(radii, profiles[formula, at_origin], strict=True)
        ]
        exact = np.empty((2 * J + 1, *filters.size))
        for row, ((norm, polynomial), values) in enumerate(zip(harmonics[J].values(), polynomials[J], strict=True)):
            root = mpmath.sqrt(mpmath.mpf(norm.numerator) / norm.denominator)
            factors = {square: _factor(root * phi) for square, phi in zip(radii, radial, strict=True)}
            rounded = [_nearest(*factors[square], value) for square, value in zip(squares, values, strict=True)]
            # (x, y, z) of the octant -> (tap)
            exact[row] = _unfolded(np.array(rounded).reshape(*map(len, axes)), filters.size, polynomial)
        yield np.s_[start:stop], f"element J = {J}, profile {formula}", exact


def _profile_values(formula: str, squares: Sequence[Fraction]) -> list[Any]:
    """phi(r) for each r^2: to 60 digits, and 0 where it is 0, which rounding would hide."""
    r = np.array([_root(square) for square in squares], object)
    values = list(evaluate_profile(formula, r) + 0 * r)
    small = mpmath.mpf(10) ** (-DIGITS // 2) * max(map(abs, values), default=0)
    return [
        mpmath.mpf(0) if abs(value) <= small and vanishes(parsed_profile(formula), square) else value
        for square, value in zip(squares, values, strict=True)
    ]


def _evaluate(polynomial: Polynomial, axes: Sequence[Exact]) -> Exact:
    """An integer polynomial at the points of a grid, flattened."""
    powers = [
        [axis**k for k in range(1 + max(exponents[i] for exponents in polynomial))] for i, axis in enumerate(axes)
    ]
    total: Exact = np.zeros(tuple(map(len, axes)), object)
    for (a, b, c), coefficient in polynomial.items():
        total += (coefficient * powers[0][a])[:, None, None] * (powers[1][b][:, None] * powers[2][c])
    return total.reshape(-1)  # (x, y, z) -> (point)


def _unfolded(values: Tensor, size: Sequence[int], polynomial: Polynomial) -> Tensor:
    """The values at all taps from those at x, y, z >= 0: of a polynomial that is even or odd along each axis."""
    parities = {(a % 2, b % 2, c % 2) for a, b, c in polynomial}
    if len(parities) != 1:
        raise ValueError("a harmonic is neither even nor odd along an axis")
    for axis, (n, odd) in enumerate(zip(size, parities.pop(), strict=True)):
        mirrored = np.flip(values, axis)[(slice(None),) * axis + (slice(0, n // 2),)]
        values = np.concatenate([-mirrored if odd else mirrored, values], axis)
    return values + 0.0  # -0.0 becomes 0.0


def _factor(number: Any) -> Factor:
    return int(number.man) * (-1 if number < 0 else 1), int(number.exp)


def _nearest(mantissa: int, exponent: int, factor: int) -> float:
    """The float64 nearest to mantissa * 2^exponent * factor."""
    product = mantissa * factor
    if product.bit_length() + exponent < _SMALLEST:
        return 0.0
    if product.bit_length() + exponent > 1024:
        raise ValueError("a number is out of range")
    return float(product << exponent) if exponent >= 0 else product / (1 << -exponent)


def _exact_products(filters: Filters, products: Products, part: str) -> Iterator[Part]:
    """E, or h_a(t) = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2) at the taps of an axis, t = x/s."""
    if part == "products":
        indices = (i for i in itertools.product(range(products.levels + 1), repeat=3) if sum(i) <= products.levels)
        columns = {index: column for column, index in enumerate(sorted(indices, key=lambda i: (sum(i), i)))}
        exact = np.zeros((len(products.expansions), len(columns)))
        for row, expansion in enumerate(products.expansions):
            for powers, root in expansion.items():
                exact[row, columns[powers]] = _rounded(root)
        yield np.s_[:], "products", exact
        return
    axis = "xyz".index(part)
    n, pitch = filters.size[axis], filters.dilation[axis] * filters.spacing[axis]
    exact = np.zeros((products.levels + 1, n))
    for tap in range(n):
        x = (tap - Fraction(n - 1, 2)) * pitch
        square = x**2 / products.square_scale
        t = (-1 if x < 0 else 1) * _root(square)
        for a, even in enumerate(_hermite(products.levels, square)):
            norm = mpmath.exp(-(t**2) / 2) / mpmath.sqrt(2**a * math.factorial(a))
            exact[a, tap] = _nearest(*_factor(even.numerator * t ** (a % 2) * norm / even.denominator), 1)
    yield np.s_[:], f"functions of {part}", exact


def _hermite(levels: int, square: Fraction) -> list[Fraction]:
    """H_a(t), without the factor t of odd a, for a = 0 .. levels at t^2: H_(a+1) = 2 t H_a - 2 a H_(a-1), exactly."""
    values = [Fraction(1), Fraction(2)]
    for a in range(1, levels):
        values.append(2 * values[a] * (square if a % 2 else 1) - 2 * a * values[a - 1])
    return values[: levels + 1]


def square_radii(filters: Filters) -> list[Fraction]:
    """|x|^2 of every tap, each value once."""
    axes = [
        {((i - Fraction(n - 1, 2)) * d * s) ** 2 for i in range(n)}
        for n, d, s in zip(filters.size, filters.dilation, filters.spacing, strict=True)
    ]
    return sorted({x + y + z for x, y, z in itertools.product(*axes)})


def evaluate_profile(formula: str, r: Any) -> Any:
    """phi(r) of a formula in r, whole numbers, + - * / ^, parentheses and exp; r a number of mpmath's, or many.

    Raises ValueError for anything else: no other name, call or number is ever looked at.
    """
    try:
        return _value(parsed_profile(formula), r)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        raise ValueError(
            f"profile {formula!r:.100} is not a formula in r, whole numbers, + - * / ^, parentheses and exp"
        ) from None


def parsed_profile(formula: str) -> ast.expr:
    """The expression of a formula; `evaluate_profile` looks at what is in it."""
    if len(formula) > MAX_FORMULA or "**" in formula or not _FORMULA.fullmatch(formula):
        raise ValueError
    return ast.parse(formula.replace("^", "**"), mode="eval").body


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
            if np.all(abs(exponent) < MAX_EXPONENT):
                return _exp(exponent)
    raise ValueError


@lru_cache(1 << 16)
def _rounded(root: Root) -> float:
    """The float64 nearest to a signed root."""
    return root.sign * _nearest(*_factor(_root(root.square)), 1)


def _root(square: Fraction) -> Any:
    return mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator)
