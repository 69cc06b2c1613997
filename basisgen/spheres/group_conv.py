"""The kinds `sphere_conv` and `rotation_conv`: correlation with learned filters over all rotations.

    kind = "sphere_conv"               kind = "rotation_conv"
    in = "6x0..15"                     in = "Conv1"
    out = "20x0..9r"                   out = "40x0..5r"              signals on the rotation group, 2l+1 fragments
    grid = "near_identity"             grid = "equatorial"           where the filters have values: rotation_grid

    z^l_mn = sum_i x^l_m(i) psi^l_n(i)                z^l_mn = sum_ik x^l_mk(i) psi^l_nk(i)
    psi^l_n = sum_g k(g) Y_ln(g)                      psi^l_nk = sum_g k(g) D^l_nk(g)

By Schur's lemma, D^l being irreducible and of real type, an equivariant linear map between such fields is a matrix psi
per degree, from fragments k and signals i to fragments n and signals o: their dimension is the sum over degrees of
copies in times copies out. That count is the claim.
Source: Cohen et al. 2018, arXiv:1801.10130, section 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from basisgen.errors import SpecError
from basisgen.layer import Contribution, Kind, PlanDefaults, SpecDefaults
from basisgen.reading import check_keys, exact_number, one_of, quoted, required, whole
from basisgen.so3.field_type import FieldType
from basisgen.spheres import source
from basisgen.spheres.fixed_point import Floats
from basisgen.spheres.rotation_grid import RotationGrid, Shape, values_on_rotations, values_on_sphere
from basisgen.spheres.signal_type import rotation_type, signal_type

SPHERE, ROTATIONS = "sphere_conv", "rotation_conv"
OPTIONS = ("grid", "alphas", "betas", "max_beta")
OF_ROTATIONS = ("gammas", "max_gamma")
LAYOUT = "1"  # of the weights; part of their fingerprint
MAX_BAND_LIMIT = 128
MAX_POINTS = 1 << 12  # of a filter
MAX_RINGS = 64  # angles beta
MAX_NUMBERS = 1 << 20  # of the table of harmonics or D^l
MAX_WEIGHTS = 1 << 30

SOLUTION = {
    SPHERE: "z^l_mn = sum_i x^l_m(i) psi^l_n(i), psi^l_n = sum_g k(g) Y_ln(g), Y_ln(g) in the table",
    ROTATIONS: "z^l_mn = sum_ik x^l_mk(i) psi^l_nk(i), psi^l_nk = sum_g k(g) D^l_nk(g), D^l_nk(g) in the table",
}
PROVED = {
    "equivariant": "a rotation mixes m, which psi leaves alone",
    "complete": "Schur's lemma: D^l is irreducible and of real type, so every equivariant linear map mixes its copies "
    "by numbers, psi, and no degree meets another: the dimension is the sum of copies in times copies out",
    "numbers": "by recursion in fixed point, error bounds carried along, rounded once to float64",
}


@dataclass(frozen=True)
class GroupConvSpec(SpecDefaults):
    """One correlation: class name, field types, where filters have values."""

    name: str
    into: FieldType
    out: FieldType
    grid: RotationGrid

    @property
    def L(self) -> int:
        """The band limit of the output."""
        return len(self.out.terms)

    @property
    def orders(self) -> tuple[int, int]:
        """Azimuthal band limits below that of the output: of its n and of the input's k."""
        return self.out.orders or 1, min(self.into.orders or 1, self.L)

    @property
    def signals(self) -> tuple[int, int]:
        """The numbers of signals in and out."""
        return self.into.terms[0].multiplicity, self.out.terms[0].multiplicity

    @property
    def multiplicities(self) -> list[tuple[int, int]]:
        """The multiplicities in and out of every degree of the output."""
        pairs = zip(self.into.terms, self.out.terms, strict=False)
        return [(into.multiplicity, out.multiplicity) for into, out in pairs]

    @property
    def rows(self) -> int:
        """The number of rows of the table: (degree, n), or (degree, n, k)."""
        into, out = self.signals
        return sum((a // into) * (b // out) for a, b in self.multiplicities)

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        grid = self.grid
        of_rotations = {"gammas": grid.gammas, "max_gamma": str(grid.max_gamma)} if self.kind == ROTATIONS else {}
        return {
            "kind": self.kind,
            "name": self.name,
            "in": str(self.into),
            "out": str(self.out),
            "grid": grid.shape.value,
            "alphas": grid.alphas,
            "betas": grid.betas,
            "max_beta": str(grid.max_beta),
            **of_rotations,
        }


class SphereConvSpec(GroupConvSpec):
    """A correlation of signals on the sphere."""

    kind = SPHERE


class RotationConvSpec(GroupConvSpec):
    """A correlation of signals on the rotation group."""

    kind = ROTATIONS


@dataclass(frozen=True, eq=False)
class GroupConvPlan(PlanDefaults):
    """One correlation and its table."""

    spec: GroupConvSpec
    table: str  # its name
    values: Floats  # (degree and n, or degree and n and k; point)

    @property
    def weights(self) -> int:
        """Values of the filters."""
        into, out = self.spec.signals
        return into * out * len(self.spec.grid)

    @property
    def dimension(self) -> int:
        """The dimension of all equivariant linear maps between the types."""
        return sum(into * out for into, out in self.spec.multiplicities)

    @property
    def assembly(self) -> int:
        """Multiply-adds from filters to matrices, once per call."""
        return self.spec.rows * self.weights

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one sample at one site."""
        return sum(into * out * (2 * l + 1) for l, (into, out) in enumerate(self.spec.multiplicities))

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        return {
            "table": self.table,
            "points": len(self.spec.grid),
            "weights": self.weights,
            "dimension": self.dimension,
            "cost": {"multiply_adds_per_sample": self.multiply_adds, "multiply_adds_of_filters": self.assembly},
        }


def parse(kind: str, name: str, table: Mapping[str, object]) -> GroupConvSpec:
    """A correlation from its table, defaults merged in; settings that are None count as left out.

    Raises SpecError.
    """
    table = {key: value for key, value in table.items() if value is not None}
    check_keys(table, ("kind", "name", "in", "out", *_options(kind)), "it")
    on_sphere = kind == SPHERE
    into = (signal_type if on_sphere else rotation_type)(required(table, "in", "it"), "in")
    out = rotation_type(required(table, "out", "it"), "out")
    if into.has_parity:
        raise SpecError(
            f"in = {quoted(into.brief())} has a parity, which functions of rotations lack. Write it as '8x0..15'."
        )
    if len(out.terms) > min(len(into.terms), MAX_BAND_LIMIT):
        raise SpecError(
            f"out = {quoted(out.brief())} has band limit {len(out.terms)}, in = {quoted(into.brief())} has "
            f"{len(into.terms)}, and the limit is {MAX_BAND_LIMIT}: a correlation makes no degrees. Take fewer."
        )
    spec = (SphereConvSpec if on_sphere else RotationConvSpec)(
        name, into, out, _grid(table, len(into.terms), on_sphere)
    )
    _check_size(spec)
    return spec


def _grid(table: Mapping[str, object], L: int, on_sphere: bool) -> RotationGrid:
    """Defaults are those of the public code: rings near the identity, or 2L points on the equator."""
    shape = Shape(one_of("grid", required(table, "grid", "it"), [shape.value for shape in Shape]))
    near = shape is Shape.NEAR_IDENTITY
    alphas = whole(table, "alphas", 8 if near else 2 * L, 1, MAX_POINTS)
    betas = whole(table, "betas", 3 if near else 1, 1, MAX_RINGS)
    gammas = 1 if on_sphere else whole(table, "gammas", 8 if near else 1, 1, MAX_POINTS)
    max_beta = _angle(table, "max_beta", Fraction(1, 8) if near else Fraction(0), Fraction(1 if near else "1/2"))
    max_gamma = Fraction(0) if on_sphere else _angle(table, "max_gamma", Fraction(2 if near else 0), Fraction(2))
    if near and not max_beta:
        raise SpecError('max_beta = 0 puts all points at the identity. Take more, as max_beta = "1/8", a part of pi.')
    for key, count, most in (("betas", betas, max_beta), ("gammas", gammas, max_gamma)):
        if count > 1 and not most:
            raise SpecError(
                f"{key} = {count} and max_{key[:-1]} = 0: the points coincide. Give max_{key[:-1]}, or one."
            )
    if alphas * betas * gammas > MAX_POINTS:
        raise SpecError(f"the filters have {alphas * betas * gammas} points, the limit is {MAX_POINTS}. Take fewer.")
    return RotationGrid(shape, alphas, betas, gammas, max_beta, max_gamma)


def _angle(table: Mapping[str, object], key: str, default: Fraction, most: Fraction) -> Fraction:
    value = table.get(key, default)
    number = exact_number(value)
    if number is None or not 0 <= number <= most or (number and number < Fraction(1, 1000)):
        raise SpecError(f'{key} = {quoted(value)} is not 0 or a part of pi from 1/1000 to {most}, as {key} = "1/8".')
    return number


def _check_size(spec: GroupConvSpec) -> None:
    numbers, (into, out) = spec.rows * len(spec.grid), spec.signals
    if numbers > MAX_NUMBERS:
        raise SpecError(
            f"its table would have {numbers} numbers, the limit is {MAX_NUMBERS}. Take fewer points, a lower band "
            f"limit, or a lower azimuthal one, as '{out}x0..{spec.L - 1}r3'."
        )
    if max(into * out * len(spec.grid), sum(a * b for a, b in spec.multiplicities)) > MAX_WEIGHTS:
        raise SpecError(
            f"the filters or their matrices would have more than {MAX_WEIGHTS} numbers. Take fewer signals."
        )


def compute(specs: Sequence[GroupConvSpec], proven: Mapping[Any, Any]) -> Floats:
    """Harmonics or D^l at the points."""
    spec, (N, K) = specs[0], specs[0].orders
    if spec.kind == SPHERE:
        return values_on_sphere(spec.grid, spec.L, N)
    return values_on_rotations(spec.grid, spec.L, N, K)


def gather(layers: Sequence[GroupConvPlan], proven: Mapping[Any, Any]) -> Contribution:
    """The tables, what is claimed, and the modules that the classes inherit from."""
    kind = layers[0].spec.kind
    claimed = {
        layer.spec.name: {
            "table": layer.table,
            "multiplicities": [list(pair) for pair in layer.spec.multiplicities],
            "weights": layer.weights,
            "dimension": layer.dimension,
        }
        for layer in layers
    }
    section = {"solution": SOLUTION[kind], "proved": PROVED, "layers": claimed}
    tensors = {f"{layer.table}_values": layer.values for layer in layers}
    return Contribution(tensors, {kind: section}, {}, source.shared("linear.py", "group_conv.py"))


def _stem(spec: GroupConvSpec) -> tuple[str, str]:
    return f"{spec.kind}_{spec.grid.shape.value}_{spec.L}", repr((spec.grid, spec.L, spec.orders))


def _fingerprint(spec: GroupConvSpec) -> str:
    """16 hexadecimal digits, equal for layers whose weights are interchangeable: of types and grid, no names."""
    facts = (f"{spec.kind} {LAYOUT}", str(spec.into), str(spec.out), [[str(x) for x in p] for p in spec.grid.points])
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _module(layer: GroupConvPlan, made_by: str, basis_sha256: str) -> str:
    """The text of one correlation."""
    spec = layer.spec
    rows: list[tuple[str, ...]] = [("irrep", "in", "out")]
    rows += [(str(l), str(into), str(out)) for l, (into, out) in enumerate(spec.multiplicities)]
    return source.render(
        "group_conv.py.jinja",
        made_by=made_by,
        name=spec.name,
        space="sphere" if spec.kind == SPHERE else "rotation group",
        base="SphereConv" if spec.kind == SPHERE else "RotationConv",
        group=spec.into.group,
        into=spec.into.brief(),
        out=spec.out.brief(),
        grid=spec.grid.words,
        weights=source.grouped(layer.weights),
        dimension=source.grouped(layer.dimension),
        assembly=source.grouped(layer.assembly),
        multiply_adds=source.grouped(layer.multiply_adds),
        table="\n".join(source.aligned(rows, 1)),
        in_channels=spec.into.dimension,
        out_channels=spec.out.dimension,
        in_type=source.terms(spec.into, "    in_type = "),
        out_type=source.terms(spec.out, "    out_type = "),
        points=len(spec.grid),
        fingerprint=_fingerprint(spec),
        basis_sha256=basis_sha256,
        tables=layer.table,
    )


def _options(kind: str) -> tuple[str, ...]:
    return OPTIONS if kind == SPHERE else OPTIONS + OF_ROTATIONS


def _kind(name: str, noun: str) -> Kind:
    return Kind(
        name=name,
        noun=noun,
        options=_options(name),
        reserved=frozenset({"SphereConv", "RotationConv"}),
        parse=lambda layer, table: parse(name, layer, table),
        claims=lambda spec: (),
        solve=lambda claim: claim,
        prove=lambda claim: claim,
        shares=_stem,
        compute=compute,
        plan=lambda spec, proven, name, numbers, tuned: GroupConvPlan(spec, name, numbers),
        gather=gather,
        source=_module,
    )


SPHERE_CONV = _kind(SPHERE, "sphere correlation")
ROTATION_CONV = _kind(ROTATIONS, "rotation correlation")
