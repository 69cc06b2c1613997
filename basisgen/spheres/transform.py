"""The kind of layer `transform`: synthesis and analysis on a grid with an exact sampling theorem.

    kind = "transform"
    in = "8x0..15"             eight signals of band limit 16
    grid = "mw"                mw | gauss | driscoll_healy | equiangular
    max_error = 0.03           and further keys, for pointwise functions of the samples: see oversampling

On the sphere, or, with space = "rotations", on the rotation group, as in = "8x0..15r" or, of azimuthal band limit 3,
"8x0..15r3": fragments n = -min(l, N-1) .. min(l, N-1) of degree l, each of 8 signals. Numbers and proofs are those of
harmonic_tables and sphere_grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from basisgen.errors import SpecError
from basisgen.layer import Array, Contribution, Kind, PlanDefaults, SpecDefaults
from basisgen.reading import check_keys, one_of, quoted, required
from basisgen.so3.field_type import FieldType
from basisgen.spheres import source
from basisgen.spheres.harmonic_tables import Tables, tables
from basisgen.spheres.oversampling import OPTIONS as OVERSAMPLING_OPTIONS
from basisgen.spheres.oversampling import Oversampling, parse_oversampling
from basisgen.spheres.signal_type import rotation_type, signal_type
from basisgen.spheres.sphere_grid import Sampling, points_of_ring

KIND = "transform"
OPTIONS = ("grid", "space", *OVERSAMPLING_OPTIONS)
MAX_BAND_LIMIT = 128
MAX_NUMBERS = 1 << 20  # of one table on the rotation group

SOLUTION = "f_lm = sum_t analysis[|m|, l, t] 1/n sum_p f(t, p) trig_m(phi_p), of f = sum_lm f_lm P_l|m| trig_m"
PROVED = {
    "harmonics": "values on the rings by recursion in fixed point, error bounds carried along, rounded once to float64",
    "gauss": "each ring is a root of P_L, by a change of sign",
    "quadrature": "gauss, driscoll_healy, equiangular: sum_t w_t P_k = 2 [k = 0] for k = 0 .. 2L-2, to 60 digits; "
    "two harmonics below the band limit multiply to degree 2L-2 at most, so analysis after synthesis is the identity",
    "interpolation": "mw: cos(k theta), k < L, for even orders and sin(k theta) for odd ones are interpolated from the "
    "rings to Gauss nodes, to 60 digits; there the quadrature is exact",
    "identity": "of each order the float64 tables themselves, up to their rounding and that of their product",
    "longitude": "n points of a ring integrate orders up to n-1 exactly, and n >= 2L-1",
}
OVERSAMPLED = (
    "the grid is exact below its own band limit, which is larger: L is then that of the grid, and the tables hold the "
    "degrees of the signals. The error of a function is predicted for normal signals of that spectrum, values of "
    "variance 1, and random rotations: its mean square is twice the aliased power"
)
ON_ROTATIONS = {
    "solution": "F^l_mn = sum over rings t, points p, q, of the mean of f D^l_mn sqrt(2l+1): analysis[m, n, l, t] of "
    "the orders m of alpha and n of gamma, f = sum_lmn sqrt(2l+1) F^l_mn D^l_mn",
    "proved": "as on the sphere: two d^l_mn of the same orders multiply to a polynomial of degree 2L-2 at most in "
    "cos(beta); a function of orders m, n is continued over the pole with parity m + n",
}


class Space(Enum):
    """What signals are functions on."""

    SPHERE = "sphere"
    ROTATIONS = "rotations"


@dataclass(frozen=True)
class TransformSpec(SpecDefaults):
    """One transform: class name, the field of coefficients, the grid, what it is a grid on."""

    kind = KIND

    name: str
    into: FieldType
    grid: Sampling
    oversampling: Oversampling
    space: Space

    @property
    def out(self) -> FieldType:
        """The field that analysis gives back: the same."""
        return self.into

    @property
    def L(self) -> int:
        """The band limit."""
        return len(self.into.terms)

    @property
    def N(self) -> int | None:
        """The azimuthal band limit of signals on the rotation group."""
        return self.into.orders if self.space is Space.ROTATIONS else None

    @property
    def of_grid(self) -> int:
        """The band limit of the grid: L, or more."""
        return self.oversampling.of_grid(self.L)

    @property
    def error(self) -> float | None:
        """The predicted equivariance error of the function that the samples are for."""
        return self.oversampling.error(self.grid, self.L)

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        own = {"kind": KIND, "name": self.name, "in": str(self.into), "grid": self.grid.value}
        return {**own, "space": self.space.value, **self.oversampling.describe()}


@dataclass(frozen=True, eq=False)
class TransformPlan(PlanDefaults):
    """One transform and its tables."""

    spec: TransformSpec
    tables_name: str
    tables: Tables

    @property
    def weights(self) -> int:
        """The number of weights: 0."""
        return 0

    @property
    def rings(self) -> int:
        """How many."""
        return len(self.tables.cos_theta)

    @property
    def points(self) -> int:
        """The number of points of each ring: longitudes phi, or angles alpha."""
        return points_of_ring(self.spec.grid, self.spec.of_grid)

    @property
    def turns(self) -> int:
        """Angles gamma of a grid of rotations; 1 on the sphere."""
        return points_of_ring(self.spec.grid, self.spec.N) if self.spec.N else 1

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one signal, one way."""
        L, N = self.spec.L, self.spec.N
        if N is None:
            return self.rings * 2 * L * (self.points + L)
        return self.rings * (4 * L * N * (L + self.turns) + 2 * L * self.points * self.turns)

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        return {
            "tables": self.tables_name,
            "rings": self.rings,
            "points_of_each": self.points,
            **({"turns_of_each": self.turns} if self.spec.N else {}),
            **_sampled(self.spec),
            "cost": {"multiply_adds_per_signal": self.multiply_adds},
        }


def parse_transform(name: str, table: Mapping[str, object]) -> TransformSpec:
    """A transform from its table, defaults merged in; settings that are None count as absent.

    Raises SpecError.
    """
    table = {key: value for key, value in table.items() if value is not None}
    check_keys(table, ("kind", "name", "in", *OPTIONS), "it")
    space = Space(one_of("space", table.get("space", Space.SPHERE.value), [space.value for space in Space]))
    into = (rotation_type if space is Space.ROTATIONS else signal_type)(required(table, "in", "it"), "in")
    if len(into.terms) > MAX_BAND_LIMIT:
        raise SpecError(
            f"in = {quoted(table['in'])}: band limit {len(into.terms)} is over the limit, {MAX_BAND_LIMIT}."
        )
    grid = Sampling(one_of("grid", required(table, "grid", "it"), [sampling.value for sampling in Sampling]))
    if space is Space.ROTATIONS:
        spec = TransformSpec(name, into, grid, Oversampling(), space)
        _check_rotations(spec, table)
        return spec
    oversampling = parse_oversampling(table, grid, len(into.terms), MAX_BAND_LIMIT)
    return TransformSpec(name, into, grid, oversampling, space)


def _check_rotations(spec: TransformSpec, table: Mapping[str, object]) -> None:
    assert spec.N is not None
    for key in OVERSAMPLING_OPTIONS:
        if key in table:
            raise SpecError(
                f"{key} is for space = 'sphere'. On the rotation group take a higher band limit in `in`, and give the "
                "signals' own to basisgen_runtime.spheres.RotationActivation(transform, limit=L)."
            )
    # rows (m, n, l), l >= m >= |n|, times rings
    rows = sum((spec.L - m) * min(2 * m + 1, 2 * spec.N - 1) for m in range(spec.L))
    numbers = rows * (spec.L if spec.grid in (Sampling.MW, Sampling.GAUSS) else 2 * spec.L)
    if numbers > MAX_NUMBERS:
        raise SpecError(
            f"its tables would have {numbers} numbers each, the limit is {MAX_NUMBERS}. Take a lower band limit, a "
            f"lower azimuthal one, as '{spec.into.terms[0].multiplicity}x0..{spec.L - 1}r3', or grid = 'mw'."
        )


def compute(specs: Sequence[TransformSpec], proven: Mapping[Any, Any]) -> Tables:
    """The tables of the grid, of the signals' degrees."""
    if specs[0].N is not None:
        return tables(specs[0].grid, specs[0].L, specs[0].N)
    L, found = specs[0].L, tables(specs[0].grid, specs[0].of_grid)
    kept = np.triu_indices(found.L)[1] < L  # rows (m, l), l >= m, in order of m, then l
    orders = slice(found.L - L, found.L + L - 1)
    return replace(
        found,
        analysis=found.analysis[kept],
        synthesis=found.synthesis[kept],
        trigonometric=np.ascontiguousarray(found.trigonometric[:, orders]),
    )


def notes(layer: TransformPlan) -> tuple[str, ...]:
    """What the samples were chosen for, what error that leaves, and what it costs."""
    spec, activation = layer.spec, layer.spec.oversampling.activation
    if activation is None:
        return ()
    return (
        f"note: {spec.name} is {spec.oversampling.factor:g} times oversampled: {activation.words} has a predicted "
        f"equivariance error of {spec.error:g}, at {source.grouped(layer.multiply_adds)} multiply-adds per signal, one "
        "way.",
    )


def _sampled(spec: TransformSpec) -> dict[str, Any]:
    """What a manifest and a certificate say of oversampling, where there is any, or a function."""
    if not (described := spec.oversampling.describe()):
        return {}
    error = {"predicted_error": spec.error} if spec.oversampling.activation else {}
    return {"sampled": {**described, "oversampling": spec.oversampling.factor, **error}}


def gather(layers: Sequence[TransformPlan], proven: Mapping[Any, Any]) -> Contribution:
    """The tables, what is claimed of them, and the module that the classes inherit from."""
    found = {layer.tables_name: layer for layer in layers}
    tensors: dict[str, Array] = {}
    for name, layer in found.items():
        tensors |= {
            f"{name}_analysis": layer.tables.analysis,
            f"{name}_synthesis": layer.tables.synthesis,
            f"{name}_trig": layer.tables.trigonometric,
            f"{name}_cos": layer.tables.cos_theta,
        }
        if layer.tables.around is not None:
            tensors[f"{name}_around"] = layer.tables.around
    rotations = any(layer.spec.N for layer in layers)
    sampled = {layer.spec.name: of["sampled"] for layer in layers if (of := _sampled(layer.spec))}
    section = {
        "solution": SOLUTION,
        "proved": {**PROVED, **({"oversampled": OVERSAMPLED} if sampled else {})},
        **({"rotations": ON_ROTATIONS} if rotations else {}),
        "tables": {name: _claim(layer) for name, layer in found.items()},
        **({"layers": sampled} if sampled else {}),
    }
    sources = source.shared("transform.py", *(["rotation_transform.py"] if rotations else []))
    return Contribution(tensors, {"transforms": section}, {}, sources)


def _claim(layer: TransformPlan) -> dict[str, Any]:
    sizes = {"band_limit": layer.spec.of_grid, "rings": layer.rings, "points": layer.points}
    more = {"azimuthal_band_limit": layer.spec.N, "turns": layer.turns} if layer.spec.N else {}
    return {"grid": layer.spec.grid.value, **sizes, **more}


def _module(layer: TransformPlan, made_by: str, basis_sha256: str) -> str:
    spec = layer.spec
    return source.render(
        "transform.py.jinja",
        made_by=made_by,
        name=spec.name,
        field=spec.into.brief(),
        grid=spec.grid.value,
        L=spec.L,
        N=spec.N,
        turns=layer.turns,
        oversampling=f"{spec.oversampling.factor:g}",
        activation=spec.oversampling.activation and spec.oversampling.activation.words,
        error=f"{spec.error:g}" if spec.error is not None else "",
        signals=spec.into.terms[0].multiplicity,
        rings=layer.rings,
        points=layer.points,
        multiply_adds=source.grouped(layer.multiply_adds),
        channels=spec.into.dimension,
        field_type=source.terms(spec.into, "    field_type = "),
        tables=layer.tables_name,
        basis_sha256=basis_sha256,
    )


def _stem(spec: TransformSpec) -> tuple[str, str]:
    kept = f"_{spec.L}" if spec.of_grid > spec.L else ""
    rotations = f"_rotations_{spec.N}" if spec.N else ""
    stem = f"transform{rotations}_{spec.grid.value}_{spec.of_grid}{kept}"
    return stem, stem


TRANSFORM = Kind(
    name=KIND,
    noun="transform",
    options=OPTIONS,
    reserved=frozenset({"SphereTransform", "RotationTransform"}),
    parse=parse_transform,
    claims=lambda spec: (),
    solve=lambda claim: claim,
    prove=lambda claim: claim,
    shares=_stem,
    compute=compute,
    plan=lambda spec, proven, name, numbers, tuned: TransformPlan(spec, name, numbers),
    gather=gather,
    source=_module,
    notes=notes,
)
