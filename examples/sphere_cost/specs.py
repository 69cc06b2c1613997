"""The package of the layers of one band limit and mixing set, and the multiply-adds of each layer."""

from __future__ import annotations

from math import prod
from typing import Any

from basisgen.emission.package import PackagePlan
from basisgen.spec import PackageSpec, parse_package
from examples.sphere_cost.layers import E3NN
from runtime.spheres import signal_type
from runtime.spheres.specs import spec_text


def spec(L: int, mixing: str, channels: int) -> PackageSpec:
    """The package of all layers of one band limit and mixing set."""
    field = signal_type(channels, L)
    product = {"kind": "product", "in": field, "mixing": mixing, "channels": channels}
    maps = {"kind": "linear", "out": field, "channels": channels}
    layers: list[dict[str, Any]] = [
        {"name": "Product", **product},
        {"name": "Dense", "kind": "linear", "in": "Product", "out": field},
        {"name": "Maps", **maps, "in": "Product", "maps": ["uniform", "channel", "cross"]},
        {"name": "Fused", **product, "out": field},
        {"name": "Behind", **maps, "in": field, "maps": ["channel", "cross"]},
    ]
    return parse_package(spec_text(f"sphere_cost_{mixing}_{L}", layers))


def multiply_adds(package: PackagePlan) -> dict[str, int]:
    """Of one sample, for each layer: coefficients that are not zero in the products, numbers of the matrices.

    e3nn's couplings are arrays with their zeros, (2 l1 + 1)(2 l2 + 1)(2 l + 1) numbers of a path.
    """
    plans: dict[str, Any] = {layer.spec.name: layer for layer in package.layers}
    product, projection = plans["Product"], plans["Fused"].facts()["cost"]
    K = product.spec.channels
    coupled = K * product.entries
    linear = {name: plans[name].multiply_adds[0] for name in ("Dense", "Maps", "Behind")}
    uniform = K * projection["multiply_adds_of_projection_per_channel"]
    arrays = [prod(2 * l + 1 for l in product.spec.degrees_of(path)) for path in product.spec.paths]
    return {
        "unconstrained": coupled + linear["Dense"],
        "constrained": coupled + linear["Maps"],
        "fused": coupled + uniform + linear["Behind"],
        E3NN: K * sum(arrays) + linear["Dense"],
    }
