"""certificate.json: the exact solution a package rests on, in a plain format a mathematician can read and re-check.

    harmonics       J -> for M = -J..J, [square norm, polynomial]: |x|^J Y_JM(x/|x|) = sqrt(square norm) * polynomial
    clebsch_gordan  "j l" -> J -> [m, n, M, C[m, n; J, M]], every one a signed root, sqrt(p/q) or -sqrt(p/q)
    pairs           for each pair of irreps: the degrees J of its kernels, and what was proved of them
    filters         for each filter tensor: the grid, the family, and the radial profile phi(r) of each group of rows

The kernel of a pair is kappa(x)[m, n] = phi(|x|) sum_M C[m, n; J, M] Y_JM(x/|x|). docs/certificate.md says it in full.
"""

from __future__ import annotations

import json
from typing import Any

from basisgen.algebra.polynomials import integer_terms
from basisgen.emission.plan import PackagePlan
from basisgen.kernels.constraint import number_of_solutions
from basisgen.kernels.proof import ProvenBasis
from basisgen.sampling.sample import SampledFilters
from basisgen.so3.clebsch_gordan import Coefficients
from basisgen.so3.harmonics import SolidHarmonic, harmonics

FORMAT = 1


def certificate(plan: PackagePlan) -> dict[str, Any]:
    """The certificate as plain JSON values."""
    degrees = sorted({J for basis in plan.proven.values() for J in basis.degrees})
    return {
        "format": FORMAT,
        "law": "kappa(r x) = D^j(r) kappa(x) D^l(r)^-1",
        "solution": "kappa(x)[m, n] = phi(|x|) * sum_M C[m, n; J, M] * Y_JM(x/|x|)",
        "harmonics": {str(J): [_harmonic(harmonic) for harmonic in harmonics(J)] for J in degrees},
        "clebsch_gordan": _coefficients(plan),
        "pairs": [_proved(basis) for basis in plan.proven.values()],
        "filters": {name: _filters(filters) for name, filters in _filter_tensors(plan).items()},
    }


def polynomial_text(harmonic: SolidHarmonic) -> str:
    """`2*z^2 - x^2 - y^2`, terms in decreasing lexical order of the exponents of x, y, z."""
    text = ""
    for exponents, coefficient in integer_terms(harmonic.polynomial).items():
        powers = [
            axis if power == 1 else f"{axis}^{power}" for axis, power in zip("xyz", exponents, strict=True) if power
        ]
        magnitude = [] if abs(coefficient) == 1 and powers else [str(abs(coefficient))]
        sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
        text += sign + "*".join(magnitude + powers)
    return text


def to_json(value: Any) -> str:
    """JSON with one line per innermost list or scalar: readable, and small differences stay small."""
    return _render(value, "") + "\n"


def _render(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        lines = (f"{inner}{json.dumps(key)}: {_render(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value):
        return "[\n" + ",\n".join(inner + _render(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value)


def _harmonic(harmonic: SolidHarmonic) -> list[str]:
    return [str(harmonic.square_norm), polynomial_text(harmonic)]


def _coefficients(plan: PackagePlan) -> dict[str, dict[str, list[list[object]]]]:
    tables: dict[str, dict[int, Coefficients]] = {}
    for (out, into), proven in plan.proven.items():
        table = tables.setdefault(f"{out.degree} {into.degree}", {})
        table.update({element.J: element.coefficients for element in proven.basis.elements})
    return {
        pair: {str(J): [[*index, str(value)] for index, value in table[J].items()] for J in sorted(table)}
        for pair, table in tables.items()
    }


def _proved(proven: ProvenBasis) -> dict[str, Any]:
    basis = proven.basis
    return {
        "out": str(basis.out),
        "in": str(basis.into),
        "J": list(proven.degrees),
        "equivariant": "(X_a x).grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a) for a = x, y, z, as polynomials",
        "independent": f"the values on one axis have rank {len(basis.elements)} over the rationals",
        "complete": f"dim Hom over the stabiliser of an axis is {number_of_solutions(basis.out, basis.into)}",
    }


def _filter_tensors(plan: PackagePlan) -> dict[str, SampledFilters]:
    return {layer.filter_tensor: layer.filters for layer in plan.layers}


def _filters(filters: SampledFilters) -> dict[str, Any]:
    grid = filters.grid
    return {
        "grid": {
            "size": list(grid.size),
            "spacing": [str(spacing) for spacing in grid.spacing],
            "dilation": list(grid.dilation),
        },
        "rows": [[group.J, group.profile] for group in filters.groups],
    }
