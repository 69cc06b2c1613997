"""What certificate.json says of convolutions: the exact solution they rest on, in a plain format to read and re-check.

    harmonics       l -> for m = -l..l, [square norm, polynomial]: |x|^l Y_lm(x/|x|) = sqrt(square norm) * polynomial
    clebsch_gordan  "j l" -> J -> [m, n, M, C[m, n; J, M]], every one a signed root, sqrt(p/q) or -sqrt(p/q)
    pairs           for each pair of irreps: the degrees J of its kernels, and the dimension of all solutions
    filters         for each filter tensor: the grid, and degree J and radial profile phi(r) of each group of rows;
                    for separable layers also the sum of products that each row is: [row, a, b, c, E]

docs/certificate.md says it in full; `basisgen.verify.checker` reads it and trusts nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basisgen.algebra.polynomials import integer_terms
from basisgen.couplings.coupling import Degrees
from basisgen.couplings.proof import ProvenCoupling
from basisgen.so3.clebsch_gordan import Coefficients
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import SolidHarmonic, harmonics
from basisgen.volumes.kernels.constraint import number_of_solutions
from basisgen.volumes.kernels.proof import ProvenBasis
from basisgen.volumes.sampling.products import Products
from basisgen.volumes.sampling.sample import SampledFilters

LAW = "kappa(g x) = D^j(g) kappa(x) D^l(g)^-1, where Y_l(g x) = D^l(g) Y_l(x)"
SOLUTION = "kappa(x)[m, n] = phi(|x|) * sum_M C[m, n; J, M] * Y_JM(x/|x|), one for each J of a pair"
PROVED = {
    "equivariant": "(X_a x).grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a), a = x, y, z, as polynomials; "
    "with parity also kappa(-x) = p_out p_in kappa(x)",
    "independent": "the values of the kernels at one point of an axis have full rank over the rationals",
    "complete": "their number is the dimension of Hom(D^l, D^j) over the stabiliser of the axis",
}


def sections(
    proven: Mapping[tuple[Irrep, Irrep], ProvenBasis],
    couplings: Mapping[Degrees, ProvenCoupling],
    filters: Mapping[str, SampledFilters],
    products: Mapping[str, Products],
) -> dict[str, Any]:
    """The sections of the certificate as plain JSON values."""
    of_fields = {irrep.degree for pair in proven for irrep in pair}
    of_kernels = {J for basis in proven.values() for J in basis.degrees}
    return {
        "law": LAW,
        "solution": SOLUTION,
        "proved": PROVED,
        "harmonics": {
            str(l): [_harmonic(harmonic) for harmonic in harmonics(l)] for l in sorted(of_fields | of_kernels)
        },
        "clebsch_gordan": _coefficients(proven, couplings),
        "pairs": [_pair(basis) for basis in proven.values()],
        "filters": {
            name: _filters(of) | ({"products": dict(products[name].statement)} if name in products else {})
            for name, of in filters.items()
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


def _harmonic(harmonic: SolidHarmonic) -> list[str]:
    return [str(harmonic.square_norm), polynomial_text(harmonic)]


def _coefficients(
    proven: Mapping[tuple[Irrep, Irrep], ProvenBasis], couplings: Mapping[Degrees, ProvenCoupling]
) -> dict[str, dict[str, list[list[object]]]]:
    tables: dict[str, dict[int, Coefficients]] = {f"{out.degree} {into.degree}": {} for out, into in proven}
    for (j, l, J), of in couplings.items():
        tables[f"{j} {l}"][J] = of.coupling.coefficients
    return {
        pair: {str(J): [[*index, str(value)] for index, value in table[J].items()] for J in sorted(table)}
        for pair, table in tables.items()
    }


def _pair(proven: ProvenBasis) -> dict[str, Any]:
    out, into = proven.out, proven.into
    return {
        "out": str(out),
        "in": str(into),
        "J": list(proven.degrees),
        "dimension": number_of_solutions(out, into),
    }


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
