"""The plan of a convolution: its paths in the order of their weights, how it runs, and what that costs.

A path is one (out term, in term, J) of a layer, with one weight per pair of field copies and radial profile:

    kernel[m, n] = sum over paths and profiles of  weight * scale * C[m, n; J, M] * filter[J, M] / |filter[J]|
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from basisgen.errors import SpecError
from basisgen.so3.field_type import Irrep, Term
from basisgen.tuning import Tuning
from basisgen.volumes import execution
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.execution import Cost, Execution, Smallest
from basisgen.volumes.kernels.proof import ProvenBasis
from basisgen.volumes.notes import notes
from basisgen.volumes.sampling.defect import Defects
from basisgen.volumes.sampling.sample import SampledFilters

Pair = tuple[Irrep, Irrep]  # out, in


@dataclass(frozen=True, eq=False)
class Numbers:
    """What convolutions on one grid with one radial family share."""

    filters: SampledFilters
    defects: Defects


@dataclass(frozen=True)
class TermPath:
    """The kernels of degree J from one term of the input to one term of the output."""

    out_term: int
    in_term: int
    J: int
    profiles: int
    weights: int  # profiles * multiplicity out * multiplicity in


@dataclass(frozen=True, eq=False)
class ConvPlan:
    """One convolution: which filters it takes from which tensor, and its paths in the order of its weights."""

    spec: ConvSpec
    filter_tensor: str
    numbers: Numbers
    paths: tuple[TermPath, ...]
    cost: Cost  # of the way it runs, on a large volume at stride 1
    smallest: Smallest | None = None  # None: always as the cost says

    def __post_init__(self) -> None:
        assert self.paths, "a layer has at least one path"
        assert all(path.J in self.filters.ranges for path in self.paths)

    @property
    def filters(self) -> SampledFilters:
        """The filters of its tensor, also those it does not use."""
        return self.numbers.filters

    @property
    def execution(self) -> Execution:
        """Dense or separable: what `auto` became."""
        return Execution.DENSE if self.cost.passes_before is None else Execution.SEPARABLE

    @property
    def predicted_ratio(self) -> float:
        """The predicted time over that of a plain convolution of the same shape, on a large volume."""
        return execution.predicted_ratio(self.cost, self.spec.into.dimension, self.spec.gives.dimension, self.taps)

    @property
    def ranges(self) -> dict[int, tuple[int, int]]:
        """For each degree the layer uses, its first filter in the tensor and one past its last."""
        used = {path.J for path in self.paths}
        return {J: span for J, span in self.filters.ranges.items() if J in used}

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted."""
        return sum(path.weights for path in self.paths)

    @property
    def variance(self) -> dict[int, float]:
        """Degree J -> expected kernel energy per radial profile, at initialisation: sum of (weight * scale)^2."""
        fan_in = [0] * len(self.spec.gives.terms)
        for path in self.paths:
            fan_in[path.out_term] += path.profiles * self.spec.into.terms[path.in_term].multiplicity
        variance: dict[int, float] = {}
        for path in self.paths:
            out = self.spec.gives.terms[path.out_term]
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
        return self.spec.gives.dimension * self.spec.into.dimension * self.taps

    @property
    def silent_terms(self) -> tuple[str, ...]:
        """The terms of the output that no path reaches: their channels are zero, apart from a bias."""
        return tuple(map(str, self._silent))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know beyond that, with the cure."""
        return notes(self.spec, self.filters, self._silent)

    @property
    def _silent(self) -> list[Term]:
        reached = {path.out_term for path in self.paths}
        return [term for o, term in enumerate(self.spec.gives.terms) if o not in reached]

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        return {
            "filter_tensor": self.filter_tensor,
            "weights": self.weights,
            "dense_weights": self.dense_weights,
            "defect_of_random_weights": round(self.numbers.defects.layer(self.variance), 4),
            "execution": self.execution.value,
            "cost": {
                "multiply_adds_per_voxel": self.cost.multiply_adds,
                "multiply_adds_per_voxel_of_conv3d": self.dense_weights,
                "numbers_moved_per_voxel": self.cost.numbers_moved,
                "assembly_multiply_adds": self.cost.assembly,
                "predicted_ratio_to_conv3d": round(self.predicted_ratio, 2),
            },
        }


def pairs(spec: ConvSpec) -> tuple[Pair, ...]:
    """Every (out irrep, in irrep) of a layer, once, in order of appearance."""
    product = ((out.irrep, into.irrep) for out in spec.gives.terms for into in spec.into.terms)
    return tuple(dict.fromkeys(product))


def plan_layer(
    spec: ConvSpec,
    proven: Mapping[Pair, ProvenBasis],
    filter_tensor: str,
    numbers: Numbers,
    tuned: Tuning | None = None,
) -> ConvPlan:
    """Lists the paths of a layer, and chooses how it runs.

    Raises SpecError where no path is left: no pair of terms has an allowed J with a filter on the grid.
    """
    paths = []
    for o, out in enumerate(spec.gives.terms):
        for i, into in enumerate(spec.into.terms):
            for J in proven[out.irrep, into.irrep].degrees:
                profiles = sum(group.J == J for group in numbers.filters.groups)
                if profiles:
                    paths.append(TermPath(o, i, J, profiles, profiles * out.multiplicity * into.multiplicity))
    if not paths:
        raise SpecError(
            f"layer '{spec.name}': no kernel maps '{spec.into}' to '{spec.out}': no pair of terms has a degree J in "
            f"|j-l|..j+l{' of the right parity' if spec.out.has_parity else ''} with a filter on the {spec.grid} grid. "
            "Change the field types or enlarge the kernel."
        )
    cost, smallest = choose_execution(spec, numbers, tuple(paths), tuned)
    return ConvPlan(spec, filter_tensor, numbers, tuple(paths), cost, smallest)


def choose_execution(
    spec: ConvSpec, numbers: Numbers, paths: tuple[TermPath, ...], tuned: Tuning | None = None
) -> tuple[Cost, Smallest | None]:
    """The cost of the way the spec names, or, for `auto`, of the one measured, else predicted, to be faster.

    And, of a layer that may run either way, from how many voxels on it is separable.
    """
    into, out, taps = spec.into.dimension, spec.gives.dimension, int(np.prod(spec.grid.size))
    filters = numbers.filters
    ranges = [filters.ranges[J] for J in {path.J for path in paths}]
    number = sum(stop - start for start, stop in ranges)
    dense = execution.dense(into, out, taps, number)
    wanted, measured = spec.execution, None
    if wanted is Execution.AUTO and tuned is not None and (choice := tuned.choice(spec.name)) is not None:
        measured = execution.measured_of(tuned, spec.name)
        way = Execution(choice)
        on_cpu = measured is not None and not measured.on_gpu  # else each device has its own smallest volume
        wanted = way if measured is None or (on_cpu and way is Execution.DENSE) else wanted
    if wanted is Execution.DENSE or filters.products is None:
        return dense, None
    levels, smallest = filters.products.levels, None
    if wanted is Execution.AUTO:
        smallest = execution.smallest_volumes(into, out, taps, levels, number, measured)
        if not (smallest.on_cpu or smallest.on_gpu or smallest.on_gpu_in_16_bits):
            return dense, None
    return execution.separable(into, out, levels, number), smallest
