"""The kind of layer `conv`: what the compiler does with convolutions, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from basisgen.couplings.coupling import Degrees
from basisgen.couplings.proof import ProvenCoupling
from basisgen.couplings.tables import orthogonal_matrix
from basisgen.layer import Array, Contribution, Kind
from basisgen.volumes import claims, conv_spec, source
from basisgen.volumes.conv_plan import ConvPlan, Numbers, Pair, pairs, plan_layer
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.execution import Execution
from basisgen.volumes.kernels.proof import ProvenBasis, prove
from basisgen.volumes.kernels.solver import solve
from basisgen.volumes.sampling.defect import measure
from basisgen.volumes.sampling.sample import sample


def compute(specs: Sequence[ConvSpec], proven: Mapping[Pair, ProvenBasis]) -> Numbers:
    """Samples the filters of layers that share them, and measures their defects, once."""
    first = specs[0]
    needed = dict.fromkeys(pair for spec in specs for pair in pairs(spec))
    filters = sample([proven[pair] for pair in needed], first.radial, first.grid)
    return Numbers(filters, measure(filters))


def gather(layers: Sequence[ConvPlan], proven: Mapping[Pair, ProvenBasis]) -> Contribution:
    """The tensors the layers share, what is claimed of them, and the modules their classes inherit from."""
    numbers = {layer.filter_tensor: layer.numbers for layer in layers}
    separable = {layer.filter_tensor for layer in layers if layer.execution is Execution.SEPARABLE}
    products = {name: of.filters.products for name, of in numbers.items() if name in separable and of.filters.products}
    couplings = _couplings(proven)
    tensors: dict[str, Array] = {name: of.filters.values for name, of in numbers.items()}
    for name, expansion in products.items():
        tensors[f"{name}_products"] = expansion.matrix
        tensors |= {f"{name}_{axis}": taps for axis, taps in zip("xyz", expansion.taps, strict=True)}
    for j, l in dict.fromkeys((out.degree, into.degree) for out, into in proven):
        tensors[f"clebsch_gordan_{j}_{l}"] = orthogonal_matrix(j, l, couplings.values())
    return Contribution(
        tensors,
        claims.sections(proven, couplings, {name: of.filters for name, of in numbers.items()}, products),
        {"filters": {name: {"defect": of.defects.describe()} for name, of in numbers.items()}},
        source.shared(separable=bool(products)),
    )


def _couplings(proven: Mapping[Pair, ProvenBasis]) -> dict[Degrees, ProvenCoupling]:
    """The couplings of all pairs, once each, by (j, l, J); pairs that differ in parity share them."""
    return {of.coupling.degrees: of for basis in proven.values() for of in basis.couplings}


def _shares(spec: ConvSpec) -> tuple[str, str]:
    """Layers of one grid and radial family share their filters."""
    facts = spec.describe()
    key = json.dumps([facts[part] for part in ("kernel_size", "voxel_spacing", "dilation", "radial")])
    return f"filters_{spec.grid}", key


CONV = Kind(
    name=conv_spec.KIND,
    noun="convolution",
    options=conv_spec.OPTIONS,
    reserved=frozenset({"SteerableConv3d", "SeparableConv3d", "Filters", "TermPath"}),
    parse=conv_spec.parse_conv,
    claims=pairs,
    solve=lambda pair: solve(*pair),
    prove=prove,
    shares=_shares,
    compute=compute,
    plan=plan_layer,
    gather=gather,
    source=source.module,
    notes=lambda layer: layer.notes,
)
