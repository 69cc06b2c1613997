"""From proven, sampled layers to everything a package holds, as frozen data: paths, tables, tensors, certificate.

A path is one (out term, in term, J) of a layer, with one weight per pair of field copies and radial profile:

    kernel[m, n] = sum over paths and profiles of  weight * scale * C[m, n; J, M] * filter[J, M] / |filter[J]|
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from basisgen.couplings.coupling import Degrees
from basisgen.couplings.proof import ProvenCoupling
from basisgen.couplings.tables import Tensor, orthogonal_matrix
from basisgen.emission import cost
from basisgen.emission.cost import Cost
from basisgen.errors import SpecError
from basisgen.so3.field_type import Irrep
from basisgen.spec import Execution, LayerSpec, PackageSpec, Tuning
from basisgen.volumes.kernels.proof import ProvenBasis
from basisgen.volumes.sampling.products import Products
from basisgen.volumes.sampling.sample import SampledFilters

Pair = tuple[Irrep, Irrep]  # out, in


@dataclass(frozen=True)
class Path:
    """The kernels of degree J from one term of the input to one term of the output."""

    out_term: int
    in_term: int
    J: int
    profiles: int
    weights: int  # profiles * copies out * copies in


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One convolution: which filters it takes from which tensor, and its paths in the order of its weights."""

    spec: LayerSpec
    filter_tensor: str
    filters: SampledFilters
    paths: tuple[Path, ...]
    cost: Cost  # of the way it runs

    def __post_init__(self) -> None:
        assert self.paths, "a layer has at least one path"
        assert all(path.J in self.filters.rows for path in self.paths)

    @property
    def execution(self) -> Execution:
        """Dense or separable: what `auto` became."""
        return Execution.DENSE if self.cost.passes_before is None else Execution.SEPARABLE

    @property
    def predicted_ratio(self) -> float:
        """The predicted time over that of a plain convolution of the same shape, on a large volume."""
        return cost.predicted_ratio(self.cost, self.spec.into.dimension, self.spec.out.dimension, self.taps)

    @property
    def rows(self) -> dict[int, tuple[int, int]]:
        """Of the degrees the layer uses: first row in the filter tensor, and the one past the last."""
        used = {path.J for path in self.paths}
        return {J: rows for J, rows in self.filters.rows.items() if J in used}

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted."""
        return sum(path.weights for path in self.paths)

    @property
    def variance(self) -> dict[int, float]:
        """Degree J -> expected kernel energy per radial profile, at initialisation: sum of (weight * scale)^2."""
        fan_in = [0] * len(self.spec.out.terms)
        for path in self.paths:
            fan_in[path.out_term] += path.profiles * self.spec.into.terms[path.in_term].multiplicity
        variance: dict[int, float] = {}
        for path in self.paths:
            out = self.spec.out.terms[path.out_term]
            energy = path.weights / path.profiles * out.irrep.dimension / fan_in[path.out_term]
            variance[path.J] = variance.get(path.J, 0.0) + energy
        return variance

    @property
    def taps(self) -> int:
        """The number of taps of the kernel."""
        return int(np.prod(self.spec.grid.size))

    @property
    def dense_weights(self) -> int:
        """The number of weights of a plain convolution of the same shape."""
        return self.spec.out.dimension * self.spec.into.dimension * self.taps

    @property
    def silent_terms(self) -> tuple[str, ...]:
        """The terms of the output that no path reaches: their channels are zero, but for a bias."""
        reached = {path.out_term for path in self.paths}
        return tuple(str(term) for o, term in enumerate(self.spec.out.terms) if o not in reached)


@dataclass(frozen=True, eq=False)
class PackagePlan:
    """A package: layers, shared tensors by name, and the proven bases behind them."""

    spec: PackageSpec
    layers: tuple[LayerPlan, ...]
    tensors: Mapping[str, Tensor]
    products: Mapping[str, Products]  # of the filter tensors of separable layers
    proven: Mapping[Pair, ProvenBasis]
    couplings: Mapping[Degrees, ProvenCoupling]


def pairs(spec: LayerSpec) -> tuple[Pair, ...]:
    """Every (out irrep, in irrep) of a layer, once, in order of appearance."""
    product = ((out.irrep, into.irrep) for out in spec.out.terms for into in spec.into.terms)
    return tuple(dict.fromkeys(product))


def plan_layer(
    spec: LayerSpec,
    proven: Mapping[Pair, ProvenBasis],
    filters: SampledFilters,
    filter_tensor: str,
    tuned: Tuning | None = None,
) -> LayerPlan:
    """Lists the paths of a layer, and chooses how it runs.

    Raises SpecError where no path is left: no pair of terms has an allowed J with a filter on the grid.
    """
    paths = []
    for o, out in enumerate(spec.out.terms):
        for i, into in enumerate(spec.into.terms):
            for J in proven[out.irrep, into.irrep].degrees:
                profiles = sum(group.J == J for group in filters.groups)
                if profiles:
                    paths.append(Path(o, i, J, profiles, profiles * out.multiplicity * into.multiplicity))
    if not paths:
        raise SpecError(
            f"layer '{spec.name}': no kernel maps '{spec.into}' to '{spec.out}': no pair of terms has a degree J in "
            f"|j-l|..j+l{' of the right parity' if spec.out.has_parity else ''} with a filter on the {spec.grid} grid. "
            "Change the field types or enlarge the kernel."
        )
    return LayerPlan(spec, filter_tensor, filters, tuple(paths), choose_execution(spec, filters, tuple(paths), tuned))


def choose_execution(
    spec: LayerSpec, filters: SampledFilters, paths: tuple[Path, ...], tuned: Tuning | None = None
) -> Cost:
    """The cost of the way the spec names, or, for `auto`, of the one measured, else predicted, to be faster."""
    into, out, taps = spec.into.dimension, spec.out.dimension, int(np.prod(spec.grid.size))
    used = {J: filters.rows[J] for J in {path.J for path in paths}}
    rows = sum(stop - start for start, stop in used.values())
    dense = cost.dense(into, out, taps, rows)
    wanted = spec.execution
    if wanted is Execution.AUTO and tuned is not None:
        wanted = tuned.choice(spec.name) or wanted
    if wanted is Execution.DENSE or filters.products is None:
        return dense
    separable = cost.separable(into, out, filters.products.levels, rows)
    return (
        separable
        if wanted is Execution.SEPARABLE or cost.predicted_ratio(separable, into, out, taps) < cost.WORTHWHILE
        else dense
    )


def plan_package(
    spec: PackageSpec,
    proven: Mapping[Pair, ProvenBasis],
    filters: Mapping[str, SampledFilters],
    tensor_of_layer: Mapping[str, str],
) -> PackagePlan:
    """Plans every layer and gathers the tensors they share."""
    layers = tuple(
        plan_layer(layer, proven, filters[tensor_of_layer[layer.name]], tensor_of_layer[layer.name], spec.tuned)
        for layer in spec.layers
    )
    products = {
        layer.filter_tensor: layer.filters.products
        for layer in layers
        if layer.execution is Execution.SEPARABLE and layer.filters.products is not None
    }
    tensors = {name: sampled.values for name, sampled in filters.items()}
    for name, of_filters in products.items():
        tensors[f"{name}_products"] = of_filters.matrix
        tensors |= {f"{name}_{axis}": taps for axis, taps in zip("xyz", of_filters.taps, strict=True)}
    couplings = _couplings(proven.values())
    for j, l in dict.fromkeys((out.degree, into.degree) for out, into in proven):
        tensors[f"clebsch_gordan_{j}_{l}"] = orthogonal_matrix(j, l, couplings.values())
    return PackagePlan(spec, layers, tensors, products, proven, couplings)


def _couplings(proven: Iterable[ProvenBasis]) -> dict[Degrees, ProvenCoupling]:
    """The couplings of all pairs, once each, by (j, l, J); pairs that differ in parity share them."""
    return {of.coupling.degrees: of for basis in proven for of in basis.couplings}
