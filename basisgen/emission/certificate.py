"""certificate.json: the exact solution a package rests on, in a plain format a mathematician can read and re-check.

    harmonics       l -> for m = -l..l, [square norm, polynomial]: |x|^l Y_lm(x/|x|) = sqrt(square norm) * polynomial
    clebsch_gordan  "j l" -> J -> [m, n, M, C[m, n; J, M]], every one a signed root, sqrt(p/q) or -sqrt(p/q)
    pairs           for each pair of irreps: the degrees J of its kernels, and the dimension of all solutions
    filters         for each filter tensor: the grid, and degree J and radial profile phi(r) of each group of rows;
                    for separable layers also the sum of products that each row is: [row, a, b, c, E]

docs/certificate.md says it in full; `basisgen.verify.checker` reads it and trusts nothing of it.
"""

from __future__ import annotations

import json
from typing import Any

from basisgen.algebra.polynomials import integer_terms
from basisgen.emission.plan import PackagePlan, Pair
from basisgen.so3.clebsch_gordan import Coefficients
from basisgen.so3.harmonics import SolidHarmonic, harmonics
from basisgen.volumes.kernels.constraint import number_of_solutions
from basisgen.volumes.kernels.proof import ProvenBasis
from basisgen.volumes.sampling.sample import SampledFilters

FORMAT = 1
LAW = "kappa(g x) = D^j(g) kappa(x) D^l(g)^-1, where Y_l(g x) = D^l(g) Y_l(x)"
SOLUTION = "kappa(x)[m, n] = phi(|x|) * sum_M C[m, n; J, M] * Y_JM(x/|x|), one for each J of a pair"
PROVED = {
    "equivariant": "(X_a x).grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a), a = x, y, z, as polynomials; "
    "with parity also kappa(-x) = p_out p_in kappa(x)",
    "independent": "the values of the kernels at one point of an axis have full rank over the rationals",
    "complete": "their number is the dimension of Hom(D^l, D^j) over the stabiliser of the axis",
}


def certificate(plan: PackagePlan) -> dict[str, Any]:
    """The certificate as plain JSON values."""
    harmonic_degrees = sorted({degree for pair, basis in plan.proven.items() for degree in _degrees(pair, basis)})
    return {
        "format": FORMAT,
        "law": LAW,
        "solution": SOLUTION,
        "proved": PROVED,
        "harmonics": {str(l): [_harmonic(harmonic) for harmonic in harmonics(l)] for l in harmonic_degrees},
        "clebsch_gordan": _coefficients(plan),
        "pairs": [_pair(basis) for basis in plan.proven.values()],
        "filters": {
            name: _filters(filters)
            | ({"products": dict(plan.products[name].statement)} if name in plan.products else {})
            for name, filters in _filter_tensors(plan).items()
        },
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
    tables: dict[str, dict[int, Coefficients]] = {f"{out.degree} {into.degree}": {} for out, into in plan.proven}
    for (j, l, J), proven in plan.couplings.items():
        tables[f"{j} {l}"][J] = proven.coupling.coefficients
    return {
        pair: {str(J): [[*index, str(value)] for index, value in table[J].items()] for J in sorted(table)}
        for pair, table in tables.items()
    }


def _degrees(pair: Pair, proven: ProvenBasis) -> set[int]:
    """Every degree whose harmonics the statement of a pair needs: j and l for D^j and D^l, J for the kernels."""
    out, into = pair
    return {out.degree, into.degree, *proven.degrees}


def _pair(proven: ProvenBasis) -> dict[str, Any]:
    out, into = proven.out, proven.into
    return {
        "out": str(out),
        "in": str(into),
        "J": list(proven.degrees),
        "dimension": number_of_solutions(out, into),
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
        "rows": [[group.J, group.formula] for group in filters.groups],
    }
