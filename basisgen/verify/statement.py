"""certificate.json, read strictly: what a package claims, as exact numbers and polynomials. docs/certificate.md.

Everything in it is untrusted. Anything not in the documented form raises CertificateError; nothing is repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from basisgen.verify.canonical import read_json
from basisgen.verify.polynomials import Matrix, Polynomial, generators

FORMAT = 1
MAX_DEGREE = 24  # of a kernel; of a field half of it
MAX_TAPS_PER_AXIS = 21
MAX_DILATION = 16
MAX_LEVEL = 40
MAX_FORMULA_WORK = 10**8  # characters of formulas times taps of an octant: what evaluating them takes

Coefficients = dict[tuple[int, int, int], "Root"]  # (m, n, M) -> C[m, n; J, M]
Powers = tuple[int, int, int]  # a, b, c

PARTS = ("products", "x", "y", "z")  # of the tensors of filters that are sums of products

_KEYS = ["law", "solution", "proved", "harmonics", "clebsch_gordan", "pairs", "filters"]
_RATIONAL = re.compile(r"(\d{1,200})(?:/(\d{1,200}))?", re.ASCII)
_ROOT = re.compile(r"(-?)sqrt\((\d{1,200}(?:/\d{1,200})?)\)", re.ASCII)
_TERM = re.compile(r"(-|[+-] |)([0-9xyz^*]+)", re.ASCII)
_FACTOR = re.compile(r"(\d{1,400})|([xyz])(?:\^(\d\d?))?", re.ASCII)
_IRREP = re.compile(r"(\d{1,2})([eo]?)", re.ASCII)
_NAME = re.compile(r"\w{1,100}", re.ASCII)


class CertificateError(ValueError):
    """certificate.json is not in the documented form."""


class Root(NamedTuple):
    """The exact number sign * sqrt(square), sign in {-1, 1}."""

    sign: int
    square: Fraction


class Harmonic(NamedTuple):
    """|x|^l Y_lm(x/|x|) = sqrt(square_norm) * polynomial."""

    square_norm: Fraction
    polynomial: Polynomial


class Irrep(NamedTuple):
    """Degree, and parity +1, -1 or None."""

    degree: int
    parity: int | None

    def __str__(self) -> str:
        return f"{self.degree}{ {1: 'e', -1: 'o', None: ''}[self.parity] }"


class Pair(NamedTuple):
    """Kernels from fields `into` to fields `out`: their degrees J, and how many are said to exist."""

    out: Irrep
    into: Irrep
    degrees: tuple[int, ...]
    dimension: int

    def __str__(self) -> str:
        return f"pair {self.out} <- {self.into}"


class Products(NamedTuple):
    """Filters as sums of products: s^2, the n of each group, and of each filter (a, b, c) -> E."""

    square_scale: Fraction
    orders: tuple[int, ...]
    expansions: tuple[dict[Powers, Root], ...]

    @property
    def levels(self) -> int:
        """The largest a + b + c."""
        return max(sum(powers) for expansion in self.expansions for powers in expansion)


class Levels(NamedTuple):
    """Filters as sums of products of functions without a formula; a + b + c <= levels."""

    levels: int


class Filters(NamedTuple):
    """A filter tensor: its taps, and of each group of 2J+1 rows degree J and phi(r), None where the taps are free."""

    size: tuple[int, int, int]
    spacing: tuple[Fraction, Fraction, Fraction]
    dilation: tuple[int, int, int]
    groups: tuple[tuple[int, str | None], ...]
    products: Products | Levels | None  # of the filters of separable layers


@dataclass(frozen=True)
class Certificate:
    """The claims of a package."""

    harmonics: dict[int, dict[int, Harmonic]]  # l -> m -> harmonic
    clebsch_gordan: dict[tuple[int, int], dict[int, Coefficients]]  # (j, l) -> J -> coefficients
    pairs: tuple[Pair, ...]
    filters: dict[str, Filters]

    @cached_property
    def generators(self) -> dict[int, tuple[Matrix, ...]]:
        """l -> dD^l(X_a) of the polynomials, for a = x, y, z."""
        return {l: generators({m: h.polynomial for m, h in rows.items()}) for l, rows in self.harmonics.items()}


def read_sections(text: bytes) -> dict[str, Any]:
    """The sections of a certificate, of every kind of layers, as plain values.

    Raises CertificateError where it is not canonical JSON of the documented format.
    """
    try:
        table = read_json(text)
    except ValueError as error:
        raise CertificateError(f"it is not canonical JSON ({error!s:.200})") from None
    _demand(isinstance(table, dict) and next(iter(table), None) == "format", "it does not begin with its format")
    _demand(_is_integer(table["format"]) and table["format"] == FORMAT, f"its format is not {FORMAT}")
    return {key: value for key, value in table.items() if key != "format"}


def read_certificate(text: bytes, *, others: bool = False) -> Certificate:
    """What a certificate says of convolutions, cross-referenced; `others`: it has sections of other kinds of layers.

    Raises CertificateError that says where the text is not in the documented form.
    """
    table = read_sections(text)
    try:
        sections = [key for key in table if key in _KEYS or not others]
        _demand(sections == _KEYS, f"its keys are not format, {', '.join(_KEYS)}")
        certificate = Certificate(
            harmonics={_degree(key): _harmonics(key, rows) for key, rows in table["harmonics"].items()},
            clebsch_gordan={_degrees(key): _table(key, rows) for key, rows in table["clebsch_gordan"].items()},
            pairs=tuple(_pair(entry) for entry in table["pairs"]),
            filters={_match(_NAME, name)[0]: _filters(name, entry) for name, entry in table["filters"].items()},
        )
        _cross_reference(certificate)
    except CertificateError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise CertificateError(f"not in the documented form ({type(error).__name__}: {message})") from None
    return certificate


def read_rational(text: str) -> Fraction:
    """`3` or `3/5`; raises CertificateError for anything else."""
    numerator, denominator = _match(_RATIONAL, text).groups()
    _demand(denominator is None or int(denominator) > 0, f"{text!r} divides by zero")
    return Fraction(int(numerator), int(denominator or 1))


def read_polynomial(text: str, degree: int) -> Polynomial:
    """`2*z^2 - x^2 - y^2`, of terms of a degree; raises CertificateError for anything else."""
    polynomial: Polynomial = {}
    most = (degree + 1) * (degree + 2) // 2
    terms = re.split(r" (?=[+-] )", text, maxsplit=most)
    _demand(len(terms) <= most, f"a polynomial of degree {degree} has more than {most} terms")
    for term in terms:
        sign, factors = _match(_TERM, term).groups()
        coefficient, exponents = (-1 if sign.startswith("-") else 1), dict.fromkeys("xyz", 0)
        for factor in factors.split("*"):
            number, axis, power = _match(_FACTOR, factor).groups()
            if number:
                coefficient *= int(number)
            else:
                exponents[axis] += int(power or 1)
        monomial = (exponents["x"], exponents["y"], exponents["z"])
        _demand(sum(monomial) == degree, f"{text!r:.100} is not homogeneous of degree {degree}")
        _demand(coefficient != 0 and monomial not in polynomial, f"{text!r:.100} has a term of zero, or one twice")
        polynomial[monomial] = coefficient
    return polynomial


def read_irrep(text: str) -> Irrep:
    """`2`, `2e` or `2o`; raises CertificateError for anything else."""
    degree, parity = _match(_IRREP, text).groups()
    return Irrep(_degree(degree), {"e": 1, "o": -1, "": None}[parity])


def read_grid(
    size: Any, spacing: Any, dilation: Any
) -> tuple[tuple[int, int, int], tuple[Fraction, Fraction, Fraction], tuple[int, int, int]]:
    """Taps per axis, voxel spacing as rationals, dilation; raises CertificateError for anything else."""
    for numbers, most in ((size, MAX_TAPS_PER_AXIS), (dilation, MAX_DILATION)):
        good = isinstance(numbers, list) and all(_is_integer(n) and 1 <= n <= most for n in numbers)
        _demand(good, f"{numbers!r:.100} is not a grid")
    lengths = [read_rational(length) for length in spacing]
    _demand(len(size) == len(dilation) == len(lengths) == 3 and min(lengths) > 0, "a grid has three axes")
    return tuple(size), (lengths[0], lengths[1], lengths[2]), tuple(dilation)


def _harmonics(key: str, rows: list[list[str]]) -> dict[int, Harmonic]:
    l = _degree(key)
    _demand(len(rows) == 2 * l + 1, f"{len(rows)} harmonics of degree {l}, there are {2 * l + 1}")
    harmonics = {}
    for m, (norm, polynomial) in zip(range(-l, l + 1), rows, strict=True):
        harmonics[m] = Harmonic(read_rational(norm), read_polynomial(polynomial, l))
        _demand(harmonics[m].square_norm > 0, f"harmonic ({l}, {m}) is zero")
    return harmonics


def _table(key: str, table: dict[str, list[list[Any]]]) -> dict[int, Coefficients]:
    j, l = _degrees(key)
    return {_degree(J): _coefficients(f"clebsch_gordan {j} {l}, J = {J}", j, l, int(J), table[J]) for J in table}


def _coefficients(where: str, j: int, l: int, J: int, rows: list[list[Any]]) -> Coefficients:
    coefficients: Coefficients = {}
    for m, n, M, text in rows:
        _demand(_is_order(m, j) and _is_order(n, l) and _is_order(M, J), f"{where}: orders {m, n, M} do not exist")
        _demand((m, n, M) not in coefficients, f"{where}: entry {m, n, M} is there twice")
        coefficients[m, n, M] = _root(text, f"{where}: entry {m, n, M}")
    _demand(bool(coefficients), f"{where}: no entry")
    return coefficients


def _root(text: str, where: str) -> Root:
    sign, square = _match(_ROOT, text).groups()
    root = Root(-1 if sign else 1, read_rational(square))
    _demand(root.square > 0, f"{where} is zero")
    return root


def _pair(entry: dict[str, Any]) -> Pair:
    _demand(list(entry) == ["out", "in", "J", "dimension"], f"pair {entry!r:.100} is not out, in, J, dimension")
    out, into, degrees = read_irrep(entry["out"]), read_irrep(entry["in"]), tuple(entry["J"])
    _demand(max(out.degree, into.degree) <= MAX_DEGREE // 2, f"pair {out} <- {into} is beyond degree {MAX_DEGREE // 2}")
    _demand((out.parity is None) == (into.parity is None), f"pair {entry!r:.100} is of two groups")
    _demand(all(map(_is_integer, (*degrees, entry["dimension"]))), f"pair {entry!r:.100} has degrees of another type")
    _demand(list(degrees) == sorted(set(degrees)), f"pair {out} <- {into}: degrees J = {list(degrees)} do not increase")
    return Pair(out, into, degrees, entry["dimension"])


def _filters(name: str, entry: dict[str, Any]) -> Filters:
    keys = ["grid", "rows", "products"]
    _demand(list(entry) in (keys[:2], keys), f"filters {name} are not grid, rows, or grid, rows, products")
    _demand(list(entry["grid"]) == ["size", "spacing", "dilation"], f"grid of {name} is not size, spacing, dilation")
    groups = tuple((J, formula) for J, formula in entry["rows"])
    for J, formula in groups:
        _demand(_is_integer(J) and 0 <= J <= MAX_DEGREE, f"{name}: bad degree {J!r:.100}")
        _demand(formula is None or isinstance(formula, str), f"{name}: bad formula {formula!r:.100}")
    return Filters(*read_grid(**entry["grid"]), groups, _sums(name, groups, entry.get("products")))


def _sums(name: str, groups: tuple[tuple[int, str | None], ...], entry: Any) -> Products | Levels | None:
    if entry is None or "levels" not in entry:
        return None if entry is None else _products(name, groups, **entry)
    _demand(list(entry) == ["levels"], f"products of {name} are not levels, or square_scale, orders, expansion")
    levels = entry["levels"]
    _demand(_is_integer(levels) and 0 <= levels <= MAX_LEVEL, f"{name}: no level {levels!r:.100}")
    return Levels(levels)


def _products(
    name: str,
    groups: tuple[tuple[int, str | None], ...],
    square_scale: str,
    orders: list[int],
    expansion: list[list[Any]],
) -> Products:
    _demand(read_rational(square_scale) > 0, f"{name}: the scale of its products is zero")
    _demand(all(_is_integer(n) and 0 <= n <= MAX_LEVEL for n in orders), f"{name}: {orders!r:.100} are not orders")
    _demand(len(orders) == len(groups), f"{name} has {len(orders)} orders, and {len(groups)} groups of rows")
    _demand(all(formula is not None for _, formula in groups), f"{name} has products of taps without a formula")
    level = [J + 2 * n for (J, _), n in zip(groups, orders, strict=True) for _ in range(2 * J + 1)]
    _demand(max(level, default=0) <= MAX_LEVEL, f"{name} has products beyond level {MAX_LEVEL}")
    expansions: list[dict[Powers, Root]] = [{} for _ in level]
    for row, a, b, c, text in expansion:
        _demand(_is_integer(row) and 0 <= row < len(expansions), f"{name}: its products speak of a row {row!r:.100}")
        _demand(all(_is_integer(n) and 0 <= n <= MAX_LEVEL for n in (a, b, c)), f"{name}: no product {a, b, c}")
        _demand((a, b, c) not in expansions[row], f"{name}: product {a, b, c} of row {row} is there twice")
        _demand(a + b + c == level[row], f"{name}: product {a, b, c} of row {row} is not of its level, {level[row]}")
        expansions[row][a, b, c] = _root(text, f"{name}: product {a, b, c} of row {row}")
    _demand(all(expansions), f"{name} has a row that is not a sum of products")
    return Products(read_rational(square_scale), tuple(orders), tuple(expansions))


def _cross_reference(certificate: Certificate) -> None:
    """Every degree has its harmonics, every pair its coefficients, and nothing is there that no pair needs."""
    wanted: dict[tuple[int, int], set[int]] = {}
    for pair in certificate.pairs:
        wanted.setdefault((pair.out.degree, pair.into.degree), set()).update(pair.degrees)
    irreps = [(pair.out, pair.into) for pair in certificate.pairs]
    _demand(len(set(irreps)) == len(irreps), "a pair is there twice")
    _demand(wanted.keys() == certificate.clebsch_gordan.keys(), "clebsch_gordan and pairs are of different degrees")
    for (j, l), degrees in wanted.items():
        has, needs = sorted(certificate.clebsch_gordan[j, l]), sorted(degrees)
        _demand(has == needs, f"clebsch_gordan {j} {l} has J = {has}, its pairs need J = {needs}")
    used = {degree for (j, l), degrees in wanted.items() for degree in (j, l, *degrees)}
    has, needs = sorted(certificate.harmonics), sorted(used)
    _demand(has == needs, f"there are harmonics of degrees {has}, the pairs need {needs}")
    work = sum(map(_formula_work, certificate.filters.values()))
    _demand(work <= MAX_FORMULA_WORK, f"its formulas are too long for their taps to be evaluated: {work} characters")
    for name, filters in certificate.filters.items():
        _demand(not name.startswith("clebsch_gordan_"), f"filters {name} are named like Clebsch-Gordan coefficients")
        stem, _, part = name.rpartition("_")
        _demand(
            stem not in certificate.filters or part not in PARTS, f"filters {name} are named like products of {stem}"
        )
        for J, _ in filters.groups:
            _demand(J in used, f"{name} has filters of degree {J}, which no pair needs")


def _formula_work(filters: Filters) -> int:
    characters = sum(map(len, {formula for _, formula in filters.groups if formula is not None}))
    return characters * prod((n + 1) // 2 for n in filters.size)


def _degrees(text: str) -> tuple[int, int]:
    j, l = text.split(" ")
    return _degree(j), _degree(l)


def _degree(text: str) -> int:
    _demand(text in _DEGREES, f"{text!r:.100} is not a degree from 0 to {MAX_DEGREE}")
    return int(text)


def _match(pattern: re.Pattern[str], text: Any) -> re.Match[str]:
    match = pattern.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise CertificateError(f"cannot read {text!r:.100}")
    return match


def _is_order(value: Any, degree: int) -> bool:
    return _is_integer(value) and abs(value) <= degree


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _demand(condition: bool, complaint: str) -> None:
    if not condition:
        raise CertificateError(complaint)


_DEGREES = {str(degree) for degree in range(MAX_DEGREE + 1)}
