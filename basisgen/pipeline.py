"""The recipe: from a spec to the files of a package. Read this module first.

    stage      from                          to                                  where
    solve      a claim of a layer            its exact solution                  volumes/kernels/solver.py, ...
    prove      the solution                  the same, proved exactly            volumes/kernels/proof.py, ...
    compute    layers, proven claims         float64 numbers, rounded once       volumes/sampling, ...
    plan       spec, claims, numbers         how a layer runs, and what it costs volumes/conv.py, ...
    render     plans                         {file name: bytes}                  emission/render.py

Every stage is a function of the layer's kind (`basisgen.layer.Kind`). All of it is pure; `basisgen.emission.write` puts
the files on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from basisgen.emission.package import PackagePlan
from basisgen.emission.render import render
from basisgen.errors import SamplingError, SpecError
from basisgen.layer import Claim, LayerSpec
from basisgen.parallel import each
from basisgen.spec import KINDS, PackageSpec

Proven = Mapping[Claim, Any]


def compile_package(spec: PackageSpec, jobs: int = 1) -> dict[str, bytes]:
    """Every file of the package a spec describes.

    Raises SpecError or SamplingError for what the caller can fix, ProofError for a bug of ours.
    """
    return render(plan(spec, jobs))


def plan(spec: PackageSpec, jobs: int = 1) -> PackagePlan:
    """Solves, proves, computes and plans every layer; layers that share their numbers compute them once.

    With several jobs, numbers are computed in separate processes.
    """
    sharing = share(spec.layers)
    proven = {kind.name: prove(layers_of(spec, kind.name)) for kind in spec.kinds}
    numbers = dict(zip(sharing, each(compute, sharing.values(), jobs), strict=True))
    name_of = {layer.name: name for name, layers in sharing.items() for layer in layers}
    layers = tuple(
        KINDS[layer.kind].plan(layer, proven[layer.kind], name_of[layer.name], numbers[name_of[layer.name]], spec.tuned)
        for layer in spec.layers
    )
    contributions = tuple(
        kind.gather([layer for layer in layers if layer.spec.kind == kind.name], proven[kind.name])
        for kind in spec.kinds
    )
    return PackagePlan(spec, layers, contributions)


def prove(layers: Sequence[LayerSpec]) -> Proven:
    """Every claim of layers of one kind, solved and proved, once each."""
    kind = KINDS[layers[0].kind]
    return {claim: _proven(kind.name, claim) for layer in layers for claim in kind.claims(layer)}


@lru_cache(maxsize=4096)
def _proven(kind: str, claim: Claim) -> Any:
    return KINDS[kind].prove(KINDS[kind].solve(claim))


def compute(layers: Sequence[LayerSpec]) -> Any:
    """The numbers of layers that share them. Another process makes its own proofs: none are sent."""
    try:
        return KINDS[layers[0].kind].compute(layers, prove(layers))
    except (SamplingError, SpecError) as error:
        raise type(error)(f"layer {layers[0].name!r}: {error}") from None


def layers_of(spec: PackageSpec, kind: str) -> list[LayerSpec]:
    """The layers of one kind, in order."""
    return [layer for layer in spec.layers if layer.kind == kind]


def share(layers: Sequence[LayerSpec]) -> dict[str, list[LayerSpec]]:
    """Name -> the layers that share the numbers of that name; numbered where one stem stands for several."""
    names: dict[tuple[str, str], str] = {}
    used: dict[str, int] = {}
    sharing: dict[str, list[LayerSpec]] = {}
    for layer in layers:
        stem, key = KINDS[layer.kind].shares(layer)
        if (stem, key) not in names:
            used[stem] = used.get(stem, 0) + 1
            names[stem, key] = stem if used[stem] == 1 else f"{stem}_{used[stem]}"
        sharing.setdefault(names[stem, key], []).append(layer)
    return sharing
