"""The kind of layer `product`: products of fields, channel by channel, over a mixing set.

    h^l_p[M] = sum_mn C[l1 m, l2 n; l M] f^l1_t[m] g^l2_t'[n],      one p per path (l1, l2 -> l), fragments t and t'

Source: Cobb et al. 2021, arXiv:2010.11661, section 3 (channel-wise tensor-product activation, degree mixing sets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.layer import Array, Contribution, Kind
from basisgen.so3.clebsch_gordan import integer_coupling
from basisgen.spheres import source
from basisgen.spheres.couplings import Floats, ProvenInteger, prove, rounded
from basisgen.spheres.mixing import Degrees, Mixing
from basisgen.spheres.product_plan import ProductPlan
from basisgen.spheres.product_proof import prove_product
from basisgen.spheres.product_spec import KIND, OPTIONS, ProductSpec, parse_product
from basisgen.tuning import Tuning

SOLUTION = "h[M] = sum_mn C[l1 m, l2 n; l M] f[m] g[n], one per path (l1, l2 -> l) and pair of fragments of f and g"
PROVED = {
    "coupled": "every C obeys the intertwiner identity for the turns about x, y and z; C[.., M] has length 1",
    "independent": "no two paths to one irrep multiply the same fragments",
    "complete": "with mixing all: their number is the multiplicity of D^l in the product of the factors, "
    "in the symmetric square where both are one field, counted from weights",
    "tree": "with mixing tree: it spans the degrees, and each edge is a cheapest one across its cut",
}


@dataclass(frozen=True, eq=False)
class Couplings:
    """Coefficients of couplings one after another, sorted by degrees."""

    degrees: NDArray[np.int64]  # (coupling, 3): l1, l2, l
    counts: NDArray[np.int64]  # (coupling)
    orders: NDArray[np.uint8]  # (coefficient, 3): m + l1, n + l2, M + l
    values: Floats  # (coefficient)


def claims(spec: ProductSpec) -> tuple[Degrees, ...]:
    """Every coupling of a layer, once."""
    return tuple(dict.fromkeys(spec.degrees_of(path) for path in spec.paths))


def compute(specs: Sequence[ProductSpec], proven: Mapping[Degrees, ProvenInteger]) -> Couplings:
    """The couplings of all layers of a package in float64, each number correctly rounded."""
    degrees = sorted({claim for spec in specs for claim in claims(spec)})
    values = [rounded(proven[path]) for path in degrees]
    return Couplings(
        np.array(degrees, np.int64),
        np.array([len(of) for of in values], np.int64),
        np.concatenate([proven[path].coupling.orders + np.array(path) for path in degrees]).astype(np.uint8),
        np.concatenate(values),
    )


def plan(
    spec: ProductSpec, proven: Mapping[Degrees, ProvenInteger], name: str, numbers: Couplings, tuned: Tuning | None
) -> ProductPlan:
    """Proves of the layer as a whole what can be proved of it. On a GPU it runs in stock torch unless measured."""
    coefficients = {path: len(proven[path].coupling.values) for path in claims(spec)}
    by_triton = tuned is not None and tuned.choice(spec.name) == "triton"
    return ProductPlan(spec, prove_product(spec), coefficients, by_triton)


def gather(layers: Sequence[ProductPlan], proven: Mapping[Degrees, ProvenInteger]) -> Contribution:
    """The couplings, what is claimed, and the modules that the classes inherit from."""
    couplings = compute([layer.spec for layer in layers], proven)
    tensors: dict[str, Array] = {
        "coupling_degrees": couplings.degrees,
        "coupling_counts": couplings.counts,
        "coupling_orders": couplings.orders,
        "coupling_values": couplings.values,
    }
    claimed = {
        "solution": SOLUTION,
        "proved": PROVED,
        "couplings": couplings.degrees.tolist(),
        "layers": {layer.spec.name: _claim(layer) for layer in layers},
    }
    projected = ["projected.py"] if any(layer.spec.projected for layer in layers) else []
    by_triton = ["on_triton.py", "triton.py"] if any(layer.by_triton for layer in layers) else []
    sources = source.shared("product.py", "compiled.py", "product.cpp", *projected, *by_triton)
    return Contribution(tensors, {"products": claimed}, {}, sources)


def _claim(layer: ProductPlan) -> dict[str, Any]:
    """Of each irrep of the output: its paths as pairs of terms, how many maps these are, and how many exist."""
    outputs = []
    for irrep, pairs in layer.paths_of.items():
        terms = [list(pair) for pair in pairs]
        number = sum(path.fragments for path in layer.spec.paths if path.out == irrep)
        outputs.append({"irrep": str(irrep), "paths": terms, "number": number, "dimension": layer.dimensions[irrep]})
    mixing = layer.spec.mixing
    weights = {"weights": layer.weights} if layer.spec.projected else {}
    return {"mixing": mixing.value if isinstance(mixing, Mixing) else "listed", "of": outputs, **weights}


PRODUCT = Kind(
    name=KIND,
    noun="product",
    options=OPTIONS,
    reserved=frozenset({"TensorProduct", "ProjectedProduct", "TritonProducts"}),
    parse=parse_product,
    claims=claims,
    solve=lambda path: integer_coupling(*path),
    prove=prove,
    shares=lambda spec: ("couplings", ""),
    compute=compute,
    plan=plan,
    gather=gather,
    source=source.product_module,
)
