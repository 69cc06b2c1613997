"""What a package's spec and certificate say of layers between fields on the sphere. Untrusted, so read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

MAX_DEGREE = 256
FACTORS = (1, 1.5, 2, 4)  # of oversampling
MAX_POINTS = 1 << 12  # of a filter
CORRELATIONS = ("sphere_conv", "rotation_conv")

_TERM = re.compile(r"([1-9]\d{0,8})x(\d{1,3})([eo]?)", re.ASCII)

Pair = tuple[int, int]
Degrees = tuple[int, int, int]  # l1, l2, l


class StatementError(ValueError):
    """Spec or certificate do not say what they should."""


@dataclass(frozen=True)
class Term:
    """One term of a field type: copies of one irrep."""

    multiplicity: int
    degree: int
    parity: int | None


@dataclass(frozen=True)
class Output:
    """What is claimed of one irrep of a product: paths as pairs of terms, how many maps these are, how many exist."""

    degree: int
    parity: int | None
    paths: tuple[Pair, ...]
    number: int
    dimension: int


@dataclass(frozen=True)
class Product:
    """One product as spec and certificate state it."""

    name: str
    first: tuple[Term, ...]
    second: tuple[Term, ...] | None
    channels: int
    mixing: str  # all, tree, reduced or listed
    self_products: bool | None
    outputs: tuple[Output, ...]
    projected: tuple[Term, ...] | None = None  # one term per irrep; None: all products come out

    @property
    def projection(self) -> list[tuple[Output, int]]:
        """Of each irrep of the output: its products, and the fragments they are mapped to."""
        of = {(output.degree, output.parity): output for output in self.outputs}
        terms = self.projected or ()
        return [(of[term.degree, term.parity], term.multiplicity // self.channels) for term in terms]

    @property
    def weights(self) -> int:
        """Of the projection, shared by all channels."""
        return sum(output.number * fragments for output, fragments in self.projection)

    @property
    def factors(self) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
        """Both factors; the same one twice for a square."""
        return self.first, self.second or self.first

    def degrees(self, output: Output, pair: Pair) -> Degrees:
        """Degrees of one path."""
        return self.factors[0][pair[0]].degree, self.factors[1][pair[1]].degree, output.degree


@dataclass(frozen=True)
class Linear:
    """One linear map as the spec states it."""

    name: str
    into: tuple[Term, ...]
    out: tuple[Term, ...]
    maps: tuple[str, ...]
    channels: int
    channels_out: int

    @property
    def multiplicities(self) -> list[tuple[int, int]]:
        """The multiplicities in and out of every irrep of the output."""
        irreps = dict.fromkeys((term.degree, term.parity) for term in self.out)
        return [(_multiplicity(self.into, irrep), _multiplicity(self.out, irrep)) for irrep in irreps]

    @property
    def dimension(self) -> int:
        """That of all equivariant linear maps: numbers between copies of one irrep (Schur), none between others."""
        return sum(into * out for into, out in self.multiplicities)

    @property
    def weights(self) -> int:
        """What the factors hold: t fragments of k channels become t', then k'."""
        if not self.maps:
            return self.dimension
        total = 0
        for into, out in self.multiplicities:
            before, after = into // self.channels, out // self.channels_out
            total += before * after if "uniform" in self.maps else 0
            total += self.channels * after**2 if "channel" in self.maps else 0
            total += self.channels * self.channels_out * after if "cross" in self.maps else 0
        return total


@dataclass(frozen=True)
class Transform:
    """One transform as the spec states it."""

    name: str
    field: tuple[Term, ...]
    grid: str
    oversampling: float = 1.0
    on_rotations: bool = False

    @property
    def band_limit(self) -> int:
        """The band limit L."""
        return len(self.field)

    @property
    def of_grid(self) -> int:
        """The band limit of the grid."""
        return ceil(self.oversampling * self.band_limit)

    @property
    def orders(self) -> int:
        """The azimuthal band limit N of signals on the rotation group."""
        return orders(self.field)

    @property
    def tables(self) -> str:
        """What the names of its tensors begin with."""
        rotations = f"_rotations_{self.orders}" if self.on_rotations else ""
        kept = f"_{self.band_limit}" if self.of_grid > self.band_limit else ""
        return f"transform{rotations}_{self.grid}_{self.of_grid}{kept}"


@dataclass(frozen=True)
class Correlation:
    """One correlation over all rotations as the spec states it; angles over pi."""

    name: str
    on_rotations: bool  # the input
    into: tuple[Term, ...]
    out: tuple[Term, ...]
    near_identity: bool
    alphas: int
    gammas: int
    betas: tuple[Fraction, ...]
    max_gamma: Fraction
    table: str  # what the name of its tensor begins with

    @property
    def band_limit(self) -> int:
        """The band limit L of the output."""
        return len(self.out)

    @property
    def orders(self) -> tuple[int, int]:
        """The azimuthal band limits of the output's fragments n and the input's k."""
        return orders(self.out), min(orders(self.into), self.band_limit)

    @property
    def signals(self) -> tuple[int, int]:
        """The numbers of signals in and out."""
        return self.into[0].multiplicity, self.out[0].multiplicity

    @property
    def multiplicities(self) -> list[tuple[int, int]]:
        """The multiplicities in and out of every degree of the output."""
        return [(into.multiplicity, out.multiplicity) for into, out in zip(self.into, self.out, strict=False)]

    @property
    def points(self) -> list[tuple[Fraction, Fraction, Fraction]]:
        """alpha, beta, gamma of the filters' points, in order."""
        steps = [
            self.max_gamma * Fraction(2 * c - (self.gammas - 1), self.gammas - 1) if self.gammas > 1 else Fraction(0)
            for c in range(self.gammas)
        ]
        alphas = [Fraction(2 * a, self.alphas) for a in range(self.alphas)]
        return [
            (alpha, beta, gamma - (alpha if self.near_identity else 0))
            for beta in self.betas
            for alpha in alphas
            for gamma in steps
        ]

    @property
    def weights(self) -> int:
        """The number of weights: one for every signal in, signal out and point."""
        return self.signals[0] * self.signals[1] * self.alphas * len(self.betas) * self.gammas

    @property
    def dimension(self) -> int:
        """The dimension of all equivariant linear maps, by Schur's lemma."""
        return sum(into * out for into, out in self.multiplicities)


@dataclass(frozen=True)
class Zonal:
    """One zonal convolution as the spec states it."""

    name: str
    into: tuple[Term, ...]
    out: tuple[Term, ...]
    anchors: int

    @property
    def filters(self) -> int:
        """The number of filters: one for each signal in and signal out."""
        return self.into[0].multiplicity * self.out[0].multiplicity

    @property
    def table(self) -> str:
        """The name of its tensor."""
        return f"zonal_{len(self.out)}_{self.anchors}"


@dataclass(frozen=True)
class Statement:
    """All layers of these kinds."""

    products: tuple[Product, ...]
    linear: tuple[Linear, ...]
    transforms: tuple[Transform, ...]
    zonal: tuple[Zonal, ...]
    correlations: tuple[Correlation, ...]


def read_statement(entries: Mapping[str, Mapping[str, Any]], sections: Mapping[str, Any]) -> Statement:
    """The layers of these kinds: `entries` is the spec by name, `sections` what the certificate says.

    Raises StatementError.
    """
    try:
        return Statement(
            tuple(_product(entry, sections["products"]["layers"][entry["name"]]) for entry in _of(entries, "product")),
            tuple(_linear(entry) for entry in _of(entries, "linear")),
            tuple(_transform(entry, sections) for entry in _of(entries, "transform")),
            tuple(
                Zonal(entry["name"], read_type(entry["in"]), read_type(entry["out"]), int(entry["anchors"]))
                for entry in _of(entries, "zonal")
            ),
            tuple(
                _correlation(entry, sections[kind]["layers"][entry["name"]])
                for kind in CORRELATIONS
                for entry in _of(entries, kind)
            ),
        )
    except StatementError:
        raise
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, ZeroDivisionError) as error:
        message = " ".join(str(error).split())[:200]
        raise StatementError(f"not in the documented form ({type(error).__name__}: {message})") from None


def read_type(text: str) -> tuple[Term, ...]:
    """`8x0 + 8x1e`; raises StatementError."""
    return tuple(_term(part) for part in text.split(" + "))


def _of(entries: Mapping[str, Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries.values() if entry["kind"] == kind]


def _oversampling(entry: Mapping[str, Any], sections: Mapping[str, Any]) -> float:
    """The oversampling that the spec states, or that was chosen for a `max_error`."""
    said = entry.get("oversampling", 1)
    factor = sections["transforms"]["layers"][entry["name"]]["oversampling"] if said is None else said
    if factor not in FACTORS:
        raise StatementError(f"{entry['name']} has oversampling {factor!r:.50}")
    return float(factor)


def _linear(entry: Mapping[str, Any]) -> Linear:
    channels, after = int(entry["channels"] or 1), int(entry["out_channels"] or 1)
    return Linear(
        entry["name"], read_type(entry["in"]), read_type(entry["out"]), tuple(entry["maps"] or ()), channels, after
    )


def _multiplicity(terms: tuple[Term, ...], irrep: tuple[int, int | None]) -> int:
    return sum(term.multiplicity for term in terms if (term.degree, term.parity) == irrep)


def orders(terms: tuple[Term, ...]) -> int:
    """N of signals on the rotation group, min(2l+1, 2N-1) fragments of degree l = 0 .. L-1; raises StatementError."""
    signals = terms[0].multiplicity
    limit = (terms[-1].multiplicity // signals + 1) // 2
    for l, term in enumerate(terms):
        if term != Term(signals * min(2 * l + 1, 2 * limit - 1), l, None):
            raise StatementError(f"{term.multiplicity}x{term.degree} is not a degree of signals on the rotation group")
    return limit


def _transform(entry: Mapping[str, Any], sections: Mapping[str, Any]) -> Transform:
    field, factor = read_type(entry["in"]), _oversampling(entry, sections)
    found = Transform(entry["name"], field, entry["grid"], factor, entry["space"] == "rotations")
    if found.on_rotations:
        orders(found.field)
    return found


def _correlation(entry: Mapping[str, Any], claim: Mapping[str, Any]) -> Correlation:
    on_rotations = entry["kind"] == "rotation_conv"
    near, most = entry["grid"] == "near_identity", Fraction(entry["max_beta"])
    count, gammas = int(entry["betas"]), int(entry["gammas"]) if on_rotations else 1
    if near:
        betas = [most * b / count for b in range(1, count + 1)]
    else:
        betas = [Fraction(1, 2) + (most * (2 * b - count + 1) / (count - 1) if count > 1 else 0) for b in range(count)]
    max_gamma = Fraction(entry["max_gamma"]) if on_rotations else Fraction(0)
    into, out = read_type(entry["in"]), read_type(entry["out"])
    numbers = near, int(entry["alphas"]), gammas, tuple(betas), max_gamma
    found = Correlation(entry["name"], on_rotations, into, out, *numbers, str(claim["table"]))
    if found.alphas * found.gammas * count > MAX_POINTS or len(out) > len(into) or found.orders[1] < 1:
        raise StatementError(f"{found.name} is not a correlation of signals")
    return found


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None or int(match[2]) > MAX_DEGREE:
        raise StatementError(f"{text!r:.100} is not a term of a field type")
    return Term(int(match[1]), int(match[2]), {"e": 1, "o": -1, "": None}[match[3]])


def _product(entry: Mapping[str, Any], claim: Mapping[str, Any]) -> Product:
    first = read_type(entry["in"])
    second = None if entry["second"] is None else read_type(entry["second"])
    outputs = tuple(_output(output) for output in claim["of"])
    mixing = entry["mixing"] if isinstance(entry["mixing"], str) else "listed"
    if claim["mixing"] != mixing:
        raise StatementError(f"{entry['name']} has mixing {mixing}, its certificate says {claim['mixing']!r:.50}")
    projected = read_type(entry["out"]) if "out" in entry else None
    made = Product(
        entry["name"], first, second, int(entry["channels"]), mixing, entry["self_products"], outputs, projected
    )
    if projected is not None and claim["weights"] != made.weights:
        raise StatementError(f"{made.name} has {made.weights} weights, its certificate says {claim['weights']!r:.50}")
    return made


def _output(output: Mapping[str, Any]) -> Output:
    irrep = _term(f"1x{output['irrep']}")
    pairs = tuple((int(i), int(j)) for i, j in output["paths"])
    if any(i < 0 or j < 0 for i, j in pairs):
        raise StatementError("a path has a negative term")
    return Output(irrep.degree, irrep.parity, pairs, int(output["number"]), int(output["dimension"]))
