"""The recipe: from a spec to the files of a package. Read this module first.

    spec -> solve -> prove -> sample -> plan -> render -> {file name: bytes}

Everything here is pure; `basisgen.emission.write` puts the files on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from basisgen.emission.plan import PackagePlan, Pair, pairs, plan_package
from basisgen.emission.render import render
from basisgen.kernels.proof import ProvenBasis, prove
from basisgen.kernels.solver import solve
from basisgen.sampling.sample import SampledFilters, sample
from basisgen.spec import LayerSpec, PackageSpec


def compile_package(spec: PackageSpec) -> dict[str, bytes]:
    """Every file of the package a spec describes.

    Raises SpecError or SamplingError for what the caller can mend, ProofError for a bug of ours.
    """
    return render(plan(spec))


def plan(spec: PackageSpec) -> PackagePlan:
    """Solves, proves and samples every layer; pairs, and filters of one grid and radial family, are shared."""
    proven = {pair: prove(solve(*pair)) for layer in spec.layers for pair in pairs(layer)}
    tensor_of_layer = _name_filters(spec)
    filters = {}
    for tensor in dict.fromkeys(tensor_of_layer.values()):
        sharing = [layer for layer in spec.layers if tensor_of_layer[layer.name] == tensor]
        filters[tensor] = _sample(sharing, proven)
    return plan_package(spec, proven, filters, tensor_of_layer)


def _sample(layers: list[LayerSpec], proven: Mapping[Pair, ProvenBasis]) -> SampledFilters:
    needed = {pair: proven[pair] for layer in layers for pair in pairs(layer)}
    return sample(needed.values(), layers[0].radial, layers[0].grid)


def _name_filters(spec: PackageSpec) -> dict[str, str]:
    """Layer -> name of its filter tensor: by the grid's size, numbered where grids or families of one size differ."""
    names: dict[str, str] = {}
    used: dict[str, int] = {}
    tensor_of_layer = {}
    for layer in spec.layers:
        facts = layer.describe()
        key = json.dumps([facts[part] for part in ("kernel_size", "voxel_spacing", "dilation", "radial")])
        if key not in names:
            stem = f"filters_{layer.grid}"
            used[stem] = used.get(stem, 0) + 1
            names[key] = stem if used[stem] == 1 else f"{stem}_{used[stem]}"
        tensor_of_layer[layer.name] = names[key]
    return tensor_of_layer
