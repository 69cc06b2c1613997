"""What the page says of layers between fields: facts, cost beside the full set, equivariance, drawings, code.

    a verified layer -> its view: facts, tables, figures, a statement, code to paste

Any other kind is shown by its field types, its weights and the cost in its manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from basisgen.commands.report import graphs, usage
from basisgen.commands.report.read import FieldLayer
from basisgen.so3.field_type import Irrep
from basisgen.spec import KINDS
from basisgen.spheres.activation_error import FUNCTIONS as PREDICTED
from basisgen.spheres.activation_error import OVERSAMPLING, rotation_activation_error
from basisgen.spheres.group_conv import GroupConvSpec
from basisgen.spheres.linear import LinearPlan, LinearSpec
from basisgen.spheres.mixing import Mixing, Pair, cost
from basisgen.spheres.oversampling import Activation, Oversampling
from basisgen.spheres.product_plan import complex_coefficients, whole
from basisgen.spheres.product_spec import ProductSpec
from basisgen.spheres.sphere_grid import Sampling
from basisgen.spheres.transform import TransformSpec
from basisgen.spheres.zonal import ZonalSpec, interpolation
from basisgen.text import counted, grouped, percent, times

EXACT = (
    "Commutes with every rotation, for any weights: proved. What a test measures is rounding, about 1e-7 in float32."
)
FUNCTIONS = ("relu", "abs", "tanh", "gelu", "silu")  # whose errors are shown
FINEST = 64  # band limit of a grid whose error is predicted for the page: larger ones take minutes
FINEST_OF_ROTATIONS = 16  # the same on the rotation group
MOST_GRAPHS = 16
NARROW = 4  # bytes of a float32
ENTRY = 8  # bytes of a coefficient in the table of a running product: two rows of 16 bits, a float32


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its name."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing and what it says."""

    picture: Markup
    says: str


View = tuple[list[tuple[str, str]], list[Table], list[Figure], str]  # facts, tables, figures, equivariance


def view(layer: FieldLayer, directory: Path) -> dict[str, Any]:
    """One layer for the template."""
    spec = layer.spec
    facts, tables, figures, statement = _VIEWS.get(spec.kind, _plain)(layer)
    return {
        "name": spec.name,
        "kind": KINDS[spec.kind].noun,
        "into": spec.into.brief(),
        "out": spec.gives.brief(),
        "in_channels": counted(spec.into.dimension, "channel"),
        "out_channels": counted(spec.gives.dimension, "channel"),
        "weights": grouped(layer.weights),
        "cost": grouped(_multiply_adds(layer)),
        "facts": facts,
        "tables": tables,
        "figures": figures,
        "equivariance": statement,
        "code": usage.field_layer(spec, directory),
    }


def _multiply_adds(layer: FieldLayer) -> int:
    """The multiply-adds of one sample, all channels together."""
    costs = layer.facts.get("cost", {})
    if isinstance(layer.spec, ProductSpec):
        return int(costs["coefficients_per_channel"]) * layer.spec.channels
    if isinstance(layer.spec, TransformSpec):
        return int(costs["multiply_adds_per_signal"]) * layer.spec.into.terms[0].multiplicity
    return int(costs.get("multiply_adds_per_sample", 0))


def _plain(layer: FieldLayer) -> View:
    costs = layer.facts.get("cost", {})
    return [(key.replace("_", " "), grouped(value)) for key, value in costs.items()], [], [], ""


def _product(layer: FieldLayer) -> View:
    spec = layer.spec
    assert isinstance(spec, ProductSpec)
    full, mixing = whole(spec), spec.mixing.value if isinstance(spec.mixing, Mixing) else "a list of products"
    paths, of = (sum(path.fragments for path in each.paths) for each in (spec, full))
    facts = [
        ("factors", "one field with itself" if spec.second is None else f"in and {spec.second.brief()}"),
        ("mixing set", f"{mixing}: {grouped(paths)} of {grouped(of)} products per channel"),
        ("channels", grouped(spec.channels)),
        *(
            [("drawn", f"{MOST_GRAPHS} of {len(spec.degrees)} degrees of the output")]
            if len(spec.degrees) > MOST_GRAPHS
            else []
        ),
        *([("projection", f"{spec.products.brief()} to {spec.projected.brief()}, fused")] if spec.projected else []),
    ]
    return facts, [_cost_table(layer, spec, full), _degree_table(spec, full)], _graphs(spec, full), EXACT


def _cost_table(layer: FieldLayer, spec: ProductSpec, full: ProductSpec) -> Table:
    real = int(layer.facts["cost"]["coefficients_per_channel"])
    own, of = complex_coefficients(spec), complex_coefficients(full)
    is_full = own == of
    about = real if is_full else round(real / own * of)
    written, at_most = (field.dimension // spec.channels * NARROW for field in (spec.out, full.products))
    rows = [
        ("coefficients, complex basis", grouped(own), grouped(of), _fewer(of, own)),
        (
            "multiply-adds per channel: coefficients, real basis",
            grouped(real),
            _about(about, is_full),
            _fewer(about, real),
        ),
        ("bytes of the table, float32", grouped(ENTRY * real), _about(ENTRY * about, is_full), _fewer(about, real)),
        ("bytes written per channel, float32", grouped(written), grouped(at_most), _fewer(at_most, written)),
    ]
    return Table("Cost", ("", "this layer", "all products", "fewer"), rows)


def _fewer(of: int, own: int) -> str:
    return "the same" if of == own else times(of, own)


def _about(number: int, exact: bool) -> str:
    return grouped(number) if exact else f"about {float(f'{number:.2g}'):,.0f}"


def _degree_table(spec: ProductSpec, full: ProductSpec) -> Table:
    own, of = _by_irrep(spec), _by_irrep(full)
    rows = [
        (str(irrep), grouped(number), grouped(of[irrep][0]), grouped(entries), grouped(of[irrep][1]))
        for irrep, (number, entries) in own.items()
    ]
    return Table("By degree of the output", ("l", "paths", "all paths", "coefficients", "of all"), rows, folded=True)


def _by_irrep(spec: ProductSpec) -> dict[Irrep, tuple[int, int]]:
    """Irrep -> its paths, fragments counted, and their complex coefficients."""
    found: dict[Irrep, tuple[int, int]] = {}
    for path in spec.paths:
        number, entries = found.get(path.out, (0, 0))
        more = cost(*spec.degrees_of(path)) * path.fragments
        found[path.out] = number + path.fragments, entries + more
    return found


def _graphs(spec: ProductSpec, full: ProductSpec) -> list[Figure]:
    degrees = _shown(spec.degrees)
    first, second = (sorted({term.irrep.degree for term in field.terms}) for field in spec.factors)
    figures = []
    for l in degrees:
        kept, possible = _edges(spec, l), _edges(full, l)
        title = f"l = {l}: {counted(len(kept), 'product')} of {len(possible)}"
        draw = (
            graphs.mixing_graph(first, kept, possible, title)
            if spec.second is None
            else graphs.bipartite_graph(first, second, kept, title)
        )
        figures.append(Figure(draw, title))
    return figures


def _shown(degrees: Sequence[int]) -> list[int]:
    """All degrees, or some at equal distances."""
    if len(degrees) <= MOST_GRAPHS:
        return list(degrees)
    return [degrees[round(i)] for i in np.linspace(0, len(degrees) - 1, MOST_GRAPHS)]


def _edges(spec: ProductSpec, l: int) -> set[Pair]:
    found = (spec.degrees_of(path) for path in spec.paths if path.out.degree == l)
    return {(min(a, b), max(a, b)) if spec.second is None else (a, b) for a, b, _ in found}


def _linear(layer: FieldLayer) -> View:
    spec = layer.spec
    assert isinstance(spec, LinearSpec)
    plan = LinearPlan(spec)
    own, dense = plan.multiply_adds
    maps = ", ".join(spec.maps) or "one matrix per irrep"
    rows = [
        ("weights", grouped(plan.weights), grouped(plan.dimension), _fewer(plan.dimension, plan.weights)),
        ("multiply-adds per sample", grouped(own), grouped(dense), _fewer(dense, own)),
        (
            "bytes of the weights, float32",
            grouped(NARROW * plan.weights),
            grouped(NARROW * plan.dimension),
            _fewer(plan.dimension, plan.weights),
        ),
    ]
    facts = [("maps", maps), ("of all maps", _share(plan.weights, plan.dimension))]
    return facts, [Table("Cost", ("", "this layer", "all linear maps", "fewer"), rows)], [], EXACT


def _share(weights: int, dimension: int) -> str:
    """What share of all equivariant linear maps the weights give; Schur's lemma says how many there are."""
    if weights >= dimension:
        return f"all: they have dimension {grouped(dimension)}, by Schur’s lemma"
    return f"{grouped(weights)} weights; all have dimension {grouped(dimension)}, by Schur’s lemma"


def _zonal(layer: FieldLayer) -> View:
    spec = layer.spec
    assert isinstance(spec, ZonalSpec)
    dimension = int(layer.facts["dimension"])
    facts = [
        ("filters", f"linear between {counted(spec.anchors, 'anchor')} on degrees 0 to {spec.L - 1}"),
        ("of all maps", _share(layer.weights, dimension)),
    ]
    table = np.array(interpolation((spec.L, spec.anchors)).hats, float)
    figure = Figure(graphs.hats(table, "share of each anchor by degree"), "the share of each anchor, by degree")
    return facts, [], [figure], EXACT


def _correlation(layer: FieldLayer) -> View:
    spec = layer.spec
    assert isinstance(spec, GroupConvSpec)
    dimension, cost = int(layer.facts["dimension"]), layer.facts["cost"]
    facts = [
        ("filters", spec.grid.words),
        (
            "weights",
            f"{grouped(layer.weights)} values of filters; all equivariant maps have dimension {grouped(dimension)}",
        ),
        ("multiply-adds from filters to matrices", f"{grouped(int(cost['multiply_adds_of_filters']))}, once per call"),
    ]
    into, out = spec.signals
    rows = [(str(l), str(a // into), str(b // out), grouped(a * b)) for l, (a, b) in enumerate(spec.multiplicities)]
    head = ("l", "fragments in", "fragments out", "dimension of all maps")
    return facts, [Table("By degree", head, rows, folded=True)], [], EXACT


def _transform(layer: FieldLayer) -> View:
    spec = layer.spec
    assert isinstance(spec, TransformSpec)
    if spec.N is not None:
        return _rotation_transform(layer, spec, spec.N)
    samples = int(layer.facts["rings"]) * int(layer.facts["points_of_each"])
    factor, activation = spec.oversampling.factor, spec.oversampling.activation
    facts = [
        ("grid", f"{spec.grid.value}: {layer.facts['rings']} rings of {layer.facts['points_of_each']}"),
        ("samples", f"{grouped(samples)} for {grouped(spec.L**2)} coefficients; {factor:g} times oversampled"),
    ]
    if activation is not None and spec.error is not None:
        facts.append(("chosen for", f"{activation.words}: predicted equivariance error {percent(spec.error)}"))
    statement = (
        f"Exact below band limit {spec.L}: analysis after synthesis is the identity, proved. A pointwise function on "
        "the samples commutes with rotations up to what it aliases; the errors below are predicted, in the root mean "
        "square."
    )
    return facts, _error_tables(spec), [], statement


def _rotation_transform(layer: FieldLayer, spec: TransformSpec, N: int) -> View:
    beta, alpha, gamma = (int(layer.facts[key]) for key in ("rings", "points_of_each", "turns_of_each"))
    coefficients = spec.into.dimension // spec.into.terms[0].multiplicity
    facts = [
        ("grid", f"{spec.grid.value}: {beta} angles beta, {alpha} alpha, {gamma} gamma"),
        ("samples", f"{grouped(beta * alpha * gamma)} for {grouped(coefficients)} coefficients"),
        ("azimuthal band limit", f"orders |n| < {N}"),
    ]
    statement = (
        f"Exact below band limit {spec.L}: analysis after synthesis is the identity, proved. A pointwise function on "
        "the samples commutes with rotations up to what it aliases."
    )
    predicted = spec.grid is Sampling.DRISCOLL_HEALY and N == spec.L <= FINEST_OF_ROTATIONS
    return facts, [_rotation_errors(spec.L)] if predicted else [], [], statement


@lru_cache(maxsize=64)
def _rotation_errors(L: int) -> Table:
    factors = [factor for factor in OVERSAMPLING if ceil(factor * L) <= FINEST_OF_ROTATIONS]
    rows = []
    for name in FUNCTIONS:
        errors = (rotation_activation_error(PREDICTED[name], [1.0] * L, ceil(factor * L))[0] for factor in factors)
        rows.append((name, *(percent(error) if error > 1e-6 else "rounding" for error in errors)))
    head = ("function", *(f"{factor:g}x" for factor in factors))
    return Table("Equivariance error by oversampling, white signals", head, rows)


def _error_tables(spec: TransformSpec) -> list[Table]:
    factors = [factor for factor in OVERSAMPLING if ceil(factor * spec.L) <= FINEST]
    activation = spec.oversampling.activation
    spectra = dict.fromkeys([(activation.spectrum if activation else 0.0), 0.0])
    names = dict.fromkeys([*([activation.function] if activation else []), *FUNCTIONS])
    found = []
    for spectrum in spectra if factors else ():
        rows = [
            (name, *(_error(spec, Activation(name, spectrum, None), factor) for factor in factors)) for name in names
        ]
        words = Activation("", spectrum, None).words.removeprefix(" on ")
        points = tuple(f"{factor:g}x" for factor in factors)
        found.append(Table(f"Equivariance error by oversampling, {words}", ("function", *points), rows))
    return found


@lru_cache(maxsize=1024)
def _error(spec: TransformSpec, activation: Activation, factor: float) -> str:
    error = Oversampling(factor, activation).error(spec.grid, spec.L)
    return percent(error) if error else "rounding"


_VIEWS: Mapping[str, Callable[[FieldLayer], View]] = {
    "product": _product,
    "linear": _linear,
    "zonal": _zonal,
    "sphere_conv": _correlation,
    "rotation_conv": _correlation,
    "transform": _transform,
}
