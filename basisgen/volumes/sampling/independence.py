"""Filters that are independent in space and dependent on the taps: all but the first of them are left out.

Sampled filters phi_b(|x|) Y_JM(x/|x|) of one J are determined by the values of phi_b at the distances from the origin
at which some tap has Y_J not zero. With R such distances at most R profiles are independent: one where the grid has
two taps per axis, for any number the family offers. The span stays, and every weight has a filter that no others make.

For shells and oscillator filters min(R, number of profiles) are independent, exactly: exp(r b / sigma^2) is a strictly
totally positive kernel, and polynomials of degree 0..n in r^2 are a Vandermonde system. In float64 a profile counts as
dependent where less than NEGLIGIBLE of it is not in the span of those before it; rounding leaves some 1e-16.
Source: Karlin, Total Positivity, 1968, chapter 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.families import FilterGroup

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-12


def independent(groups: Sequence[FilterGroup]) -> tuple[tuple[FilterGroup, ...], tuple[FilterGroup, ...]]:
    """The groups, in order, that are independent of those of their degree before them; and the others."""
    bases: dict[int, list[Array]] = {}
    kept, left_out = [], []
    for group in groups:
        basis = bases.setdefault(group.J, [])
        vector = group.values.reshape(-1) / np.abs(group.values).max()  # (M and tap)
        rest = _orthogonal_part(vector / _norm(vector), basis)
        if _norm(rest) > NEGLIGIBLE:
            basis.append(rest / _norm(rest))
            kept.append(group)
        else:
            left_out.append(group)
    return tuple(kept), tuple(left_out)


def _orthogonal_part(vector: Array, basis: Sequence[Array]) -> Array:
    """The part outside the span, by Gram and Schmidt, twice. Sums are in a fixed order, without BLAS."""
    for _ in range(2):
        for direction in basis:
            vector = vector - (direction * vector).sum() * direction
    return vector


def _norm(vector: Array) -> float:
    return float(np.sqrt((vector**2).sum()))
