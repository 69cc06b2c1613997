"""The plan of a product: its paths, what they cost, and how many of all products they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from basisgen.layer import PlanDefaults
from basisgen.so3.field_type import Irrep
from basisgen.spheres.mixing import Degrees, Mixing, cost
from basisgen.spheres.product_spec import ProductSpec


@dataclass(frozen=True, eq=False)
class ProductPlan(PlanDefaults):
    """One product: its paths, and how many of all there are."""

    spec: ProductSpec
    dimensions: Mapping[Irrep, int]  # of all bilinear maps to an irrep
    coefficients: Mapping[Degrees, int]  # real, of each coupling
    by_triton: bool = False  # on a GPU, where that was measured to be faster than stock torch

    @property
    def weights(self) -> int:
        """The number of weights: 0, or those of a fused projection, which all channels share."""
        return sum(out * into for out, into in self.projection.values())

    @property
    def projection(self) -> dict[Irrep, tuple[int, int]]:
        """Irrep of a fused projection -> its fragments out and in."""
        spec = self.spec
        products = {term.irrep: term.multiplicity // spec.channels for term in spec.products.terms}
        terms = spec.projected.terms if spec.projected else ()
        return {term.irrep: (term.multiplicity // spec.channels, products[term.irrep]) for term in terms}

    @cached_property
    def entries(self) -> int:
        """Real coefficients of all paths, per channel: multiply-adds, two multiplications each."""
        return sum(self.coefficients[self.spec.degrees_of(path)] * path.fragments for path in self.spec.paths)

    @cached_property
    def cost(self) -> tuple[int, int]:
        """Complex coefficients per channel: of the paths, and of all products to the same degrees."""
        return complex_coefficients(self.spec), complex_coefficients(whole(self.spec))

    @property
    def mixing(self) -> str:
        """The mixing set in words."""
        mixing = self.spec.mixing.value if isinstance(self.spec.mixing, Mixing) else "a list of products"
        loops = {None: "", True: ", with self products", False: ", without self products"}[self.spec.self_products]
        return f"{mixing}{loops}"

    @property
    def paths_of(self) -> dict[Irrep, list[tuple[int, int]]]:
        """Irrep of the output -> (first term, second term) of each path, in order."""
        table: dict[Irrep, list[tuple[int, int]]] = {}
        for path in self.spec.paths:
            table.setdefault(path.out, []).append((path.first, path.second))
        return table

    def _cost_of_projection(self) -> dict[str, int]:
        """Its multiply-adds, and the numbers that are not stored."""
        if self.spec.projected is None:
            return {}
        adds = sum(out * into * irrep.dimension for irrep, (out, into) in self.projection.items())
        return {
            "multiply_adds_of_projection_per_channel": adds,
            "numbers_not_stored_per_channel": self.spec.products.dimension // self.spec.channels,
        }

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        own, of_all = self.cost
        return {
            "out": str(self.spec.out),
            "paths": sum(path.fragments for path in self.spec.paths),
            **({"on_gpu": "triton"} if self.by_triton else {}),
            "cost": {
                "coefficients_per_channel": self.entries,
                "complex_coefficients_per_channel": own,
                "complex_coefficients_of_all_products": of_all,
                "numbers_in_per_channel": self.spec.into.dimension // self.spec.channels,
                "numbers_out_per_channel": self.spec.out.dimension // self.spec.channels,
                **self._cost_of_projection(),
            },
        }


def complex_coefficients(spec: ProductSpec) -> int:
    """The number of complex coefficients of all paths, per channel."""
    return sum(cost(*spec.degrees_of(path)) * path.fragments for path in spec.paths)


def whole(spec: ProductSpec) -> ProductSpec:
    """The same layer with all products."""
    return replace(spec, mixing=Mixing.ALL, self_products=None)
