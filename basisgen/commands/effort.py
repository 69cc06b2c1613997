"""How long it takes to compile a package and to check it, estimated from its spec before anything is done.

Seconds of an ordinary core, within a factor of two or so. Most of it is proportional to one count per kind of layer:

    conv        J below: filters of degree J are polynomials of it at every tap, per profile, or solve an eigenproblem
    product     coefficients of its couplings, longer integers at high degrees; trees are checked edge by edge
    transform   numbers of the tables, of L degrees, in more bits for more of them; on `mw`, sums over nodes
    others      numbers of the tables
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from basisgen.layer import LayerSpec
from basisgen.pipeline import share
from basisgen.spec import KINDS, PackageSpec
from basisgen.spheres.group_conv import GroupConvSpec
from basisgen.spheres.mixing import Mixing, cost
from basisgen.spheres.product_spec import ProductSpec
from basisgen.spheres.sphere_grid import Sampling, points_of_ring
from basisgen.spheres.transform import TransformSpec
from basisgen.volumes import conv_spec
from basisgen.volumes.conv_spec import ConvSpec


def effort(spec: PackageSpec) -> dict[str, float]:
    """Layer -> seconds; what several layers share counts for the first."""
    seconds = {layer.name: 0.0 for layer in spec.layers}
    claims: dict[tuple[str, Any], LayerSpec] = {}
    for layer in spec.layers:
        for claim in KINDS[layer.kind].claims(layer):
            claims.setdefault((layer.kind, claim), layer)
    for (kind, claim), layer in claims.items():
        seconds[layer.name] += _CLAIMS.get(kind, _nothing)(claim)
    for layers in share(spec.layers).values():
        kind = layers[0].kind
        for layer in layers if kind == "product" else layers[:1]:
            seconds[layer.name] += _NUMBERS[kind](layer)
    return seconds


def _nothing(claim: Any) -> float:
    return 0.0


def _of_pair(pair: Any) -> float:
    """Kernels from degree l to degree j, proved twice."""
    j, l = (irrep.degree for irrep in pair)
    return 2e-4 * float((2 * j + 1) * (2 * l + 1) * (2 * min(j, l) + 1))


def _of_coupling(degrees: tuple[int, int, int]) -> float:
    return 2 * cost(*degrees) * (5e-6 + 6e-8 * max(degrees))


def _of_filters(layer: ConvSpec) -> float:
    closed = layer.radial.name in ("shells", "hermite")
    return 0.2 + conv_spec.work(layer.into, layer.gives, layer.grid) * (4e-7 if closed else 4e-6)


def _of_trees(layer: ProductSpec) -> float:
    degrees = {term.irrep.degree for field in layer.factors for term in field.terms}
    named = layer.mixing in (Mixing.TREE, Mixing.REDUCED)
    return 2e-7 * len(layer.degrees) * len(degrees) ** (3 if layer.mixing is Mixing.TREE else 2) if named else 0.0


def _of_transform(layer: TransformSpec) -> float:
    L, N = layer.of_grid, layer.N
    rings = L if layer.grid in (Sampling.MW, Sampling.GAUSS) else 2 * L
    numbers = L * L * rings + points_of_ring(layer.grid, L) * L
    seconds = 3.3e-6 * numbers * (1 + L / 64)
    if layer.grid is Sampling.MW:
        seconds *= 2
    return seconds * (1 if N is None else 12 * N) * (2 if layer.oversampling.activation else 1)


def _of_filter(layer: GroupConvSpec) -> float:
    return 2e-5 * layer.rows * len(layer.grid.points) * (1 + layer.L / 64)


_CLAIMS: Mapping[str, Callable[[Any], float]] = {"conv": _of_pair, "product": _of_coupling}
_NUMBERS: Mapping[str, Callable[[Any], float]] = {
    "conv": _of_filters,
    "product": _of_trees,
    "linear": _nothing,
    "transform": _of_transform,
    "sphere_conv": _of_filter,
    "rotation_conv": _of_filter,
    "zonal": _nothing,
}
