"""The recipe: from a spec to the files of a package. Read this module first.

    spec -> solve -> prove -> sample -> plan -> render -> {file name: bytes}

Everything here is pure; `basisgen.emission.write` puts the files on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from basisgen.emission.plan import PackagePlan, Pair, pairs, plan_package
from basisgen.emission.render import render
from basisgen.errors import SamplingError, SpecError
from basisgen.spec import LayerSpec, PackageSpec
from basisgen.volumes.kernels.proof import ProvenBasis, prove
from basisgen.volumes.kernels.solver import solve
from basisgen.volumes.sampling.sample import SampledFilters, sample


def compile_package(spec: PackageSpec, jobs: int = 1) -> dict[str, bytes]:
    """Every file of the package a spec describes.

    Raises SpecError or SamplingError for what the caller can mend, ProofError for a bug of ours.
    """
    return render(plan(spec, jobs))


def plan(spec: PackageSpec, jobs: int = 1) -> PackagePlan:
    """Solves, proves and samples every layer; pairs, and filters of one grid and radial family, are shared.

    With several jobs the filters of each grid and family are sampled in a process of their own.
    """
    tensor_of_layer = _name_filters(spec)
    sharing: dict[str, list[LayerSpec]] = {}
    for layer in spec.layers:
        sharing.setdefault(tensor_of_layer[layer.name], []).append(layer)
    if jobs > 1 and len(sharing) > 1:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from signal import SIG_DFL, SIGINT, signal

        context, at_ctrl_c = get_context("spawn"), (SIGINT, SIG_DFL)  # they end without a word
        with ProcessPoolExecutor(min(jobs, len(sharing)), context, signal, at_ctrl_c) as pool:
            sampled = pool.map(_prove_and_sample, sharing.values())
            proven = _prove(spec.layers)
            filters = dict(zip(sharing, sampled, strict=True))
    else:
        proven = _prove(spec.layers)
        filters = {tensor: _sample(layers, proven) for tensor, layers in sharing.items()}
    return plan_package(spec, proven, filters, tensor_of_layer)


def _prove(layers: Iterable[LayerSpec]) -> dict[Pair, ProvenBasis]:
    return {pair: prove(solve(*pair)) for layer in layers for pair in pairs(layer)}


def _sample(layers: list[LayerSpec], proven: Mapping[Pair, ProvenBasis]) -> SampledFilters:
    needed = {pair: proven[pair] for layer in layers for pair in pairs(layer)}
    try:
        return sample(needed.values(), layers[0].radial, layers[0].grid)
    except (SamplingError, SpecError) as error:
        raise type(error)(f"layer {layers[0].name!r}: {error}") from None


def _prove_and_sample(layers: list[LayerSpec]) -> SampledFilters:
    """In a process of its own: a proof cannot be sent, it is made anew."""
    return _sample(layers, _prove(layers))


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
