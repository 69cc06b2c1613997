"""Filters as equivariant as the grid allows: of all taps, those with the least energy that is not of type J.

With the quadratic forms of `defect`, total(F) = F^T k F and typed(F) = |Q^T F|^2 where k_J = Q Q^T over radii, solve

    typed(F) = lambda total(F),      defect^2 = 1 - lambda

By Courant and Fischer the first n eigenfilters span the n-dimensional space of least worst defect: no other n filters
of degree J, with any profiles, have a smaller one. The defects have a wide gap (5^3 taps, J = 1: .015 .10 | .68);
what lies beyond it hardly is of degree J at all.

The filters kept are an orthonormal basis of that space, those of the least defect first (see `bases`).

Two conditions keep the optimum from exploiting what the spectrum W does not mind:

* Moments (see `moments`). At long wavelengths a field is a polynomial, to which the response must be that of an exact
  filter of type J. Otherwise a constant leaks into J = 4 on a cube and into J = 2 on every other grid, a gradient into
  J = 3, and on smooth fields little else is left. With the moments of degree up to J right, the error falls as the
  wavelength squared; with those of J + 2, as its fourth power. They are imposed up to the highest degree, at most
  J + 4, at which no filter worth having has a defect more than a tenth larger (up to degree 3 or J: a half larger): on
  3^3 taps 3 for J = 1 (.062 -> .088) and 2 for J = 2 (.173 -> .252); on 5^3 taps 4 for J = 0, 3 for J = 1, 2 for J = 2
  (.034 -> .036), 3 for J = 3 (.074 -> .086), 2 for J = 4 (.149 -> .171); on 7^3 taps 4, 5, 4, 3 and 4.
* Noise: white, a hundred-thousandth of the field's power. It keeps filters off the frequencies that W leaves empty (the
  fine axes of an anisotropic volume), where they would amplify the noise of an input.

    F = (k + noise)^-1 (Q a - P b),      P the moments that must vanish, b such that P^T F = 0

k is a product over the axes, so it is inverted axis by axis, and Q has some twenty to forty columns: no matrix over
taps is ever built. Cost per J, for n taps per axis and r columns: 6 r (2J+1) n^4 multiplications, memory r (2J+1) n^3;
for J = 0..6 together, on one core: n = 9 in 0.5 s, 11 in 1, 15 in 4, 21 in 20 s.
Sums over taps are taken in a fixed order, without BLAS: the taps are the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.errors import SamplingError, SpecError
from basisgen.reading import Settings
from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import Gaussian, along_axes, distinct_radii, unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.moments import wrong_moments
from basisgen.volumes.sampling.symmetry import sign_of, symmetrised

Array = NDArray[np.float64]

NOISE = 1e-5  # white noise in the input, as a part of its power
_COST_OF_MOMENTS = 1.1  # what right moments may cost: a factor of the defect
_COST_OF_LOW_MOMENTS = 1.5  # the same for those of degree up to J, or up to _CUBIC
_CUBIC = 3
_MORE_ORDERS = 4  # moments of degree over J + 4, or over _HIGHEST_ORDER, are left alone
_HIGHEST_ORDER = 8
_WORTH_HAVING = 0.4  # filters of a larger defect do not count when moments are paid for
_HOPELESS = 0.95  # with a larger defect, under a tenth of the energy is of type J
_NEGLIGIBLE = 1e-14  # what the columns of Q may leave of k_J, as a part of its trace


@dataclass(frozen=True)
class Optimal:
    """Least-defect filters: all with no combination above `max_defect`, or `count[J]` of each degree.

    `bandwidth` is the Gaussian spectrum's, as a fraction of the Nyquist frequency; less of it is the choice for inputs
    without fine detail.
    """

    max_defect: Fraction = Fraction(3, 10)
    count: tuple[int, ...] | None = None
    bandwidth: Fraction = Gaussian().bandwidth

    @classmethod
    def parse(cls, settings: Settings) -> Optimal:
        """Reads max_defect or count, and bandwidth. Raises SpecError where both are given."""
        return cls(*parse_cut(settings, cls.max_defect, cls.bandwidth))

    @property
    def name(self) -> str:
        """`optimal`."""
        return "optimal"

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {
            "max_defect": str(self.max_defect) if self.count is None else None,
            "count": None if self.count is None else list(self.count),
            "bandwidth": str(self.bandwidth),
        }

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; float64 of unit norm, exactly symmetric as `symmetry.symmetrised` says."""
        return tuple(group for J in degrees for group in self._groups(J, grid))

    @property
    def separable(self) -> bool:
        """False: the filters are not sums of products."""
        return False

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> None:
        """See RadialFamily."""

    def _groups(self, J: int, grid: VoxelGrid) -> list[FilterGroup]:
        spectrum = Gaussian(self.bandwidth)
        defects, filters = with_right_moments(J, grid, spectrum)
        number = wanted_number(J, defects, grid, self.max_defect, self.count)
        if not number:
            return []
        return [FilterGroup(J, None, _canonical(filter, J, grid)) for filter in orthonormal(filters[:number])]


def parse_cut(
    settings: Settings, max_defect: Fraction, bandwidth: Fraction
) -> tuple[Fraction, tuple[int, ...] | None, Fraction]:
    """Reads max_defect or count, and bandwidth, and gives what is left out its default.

    Raises SpecError where max_defect and count are given.
    """
    largest = settings.positive("max_defect", most=Fraction(9, 10))
    count = settings.integers("count")
    if largest is not None and count is not None:
        raise SpecError("radial settings max_defect and count exclude one another. Leave one out.")
    part = settings.positive("bandwidth", least=Fraction(1, 20), most=Fraction(2))
    return largest or max_defect, count, part or bandwidth


def wanted_number(J: int, defects: Array, grid: VoxelGrid, max_defect: Fraction, count: tuple[int, ...] | None) -> int:
    """How many of the filters of degree J, whose defects increase, a family takes.

    Raises SamplingError where `count` asks for more than there are with any energy of type J.
    """
    if count is None:
        return int((defects <= float(max_defect)).sum())
    wanted = count[J] if len(count) > J else 0
    available = int((defects <= _HOPELESS).sum())
    if wanted > available:
        raise SamplingError(
            f"count asks for {wanted} filters of degree J = {J}, a {grid} grid has {available} with any "
            f"resemblance to one (defect under {_HOPELESS}). Lower the count, or enlarge the kernel."
        )
    return wanted


def eigenfilters(J: int, grid: VoxelGrid, spectrum: Gaussian, noise: float = 0, order: int = -1) -> tuple[Array, Array]:
    """All filters with energy of type J, by increasing defect: defects (filter), taps (filter, M, x, y, z).

    The noise counts as error. Moments of degree up to `order` are right. The taps are not normalised.
    """
    radii, index = distinct_radii(grid)
    columns = _factor(spectrum.radial_part(J, radii, grid) / (2 * J + 1))
    filters = columns[:, index].reshape(-1, 1, *grid.size) * unit_harmonics(J, grid)  # (column, M, x, y, z)

    (a, u), (b, v), (c, w) = (np.linalg.eigh(k) for k in spectrum.axis_correlations(grid))
    root = np.sqrt(np.maximum(np.einsum("x,y,z->xyz", a, b, c), 0) + noise)  # of k + noise, on its own axes
    whitened = along_axes(filters, (u.T, v.T, w.T)) / root  # (column, M, x, y, z)
    # (M, x, y, z) each
    wrong = [along_axes(moment, (u.T, v.T, w.T)) / root for moment in wrong_moments(J, grid, order)]
    for direction in orthonormal(wrong):
        # (column, M, x, y, z)
        whitened -= np.einsum("Mxyz,aMxyz->a", direction, whitened)[:, None, None, None, None] * direction
    flat = whitened.reshape(len(whitened), -1)  # (column, M and tap)
    part, combinations = np.linalg.eigh(np.einsum("ax,bx->ab", flat, flat))  # (filter); (column, filter)
    increasing = np.argsort(-part, kind="stable")
    solutions = np.einsum("ab,aMxyz->bMxyz", combinations[:, increasing], whitened) / root  # (filter, M, x, y, z)
    defects: Array = np.sqrt(np.clip(1 - part[increasing], 0, 1))
    return defects, along_axes(solutions, (u, v, w))


def with_right_moments(J: int, grid: VoxelGrid, spectrum: Gaussian) -> tuple[Array, Array]:
    """`eigenfilters` with right moments to the highest order whose cost the module's rule allows."""
    if J > 0 and grid.size == (1, 1, 1):  # nothing but the origin, where Y_J is zero
        return np.zeros(0), np.zeros((0, 2 * J + 1, 1, 1, 1))
    free = eigenfilters(J, grid, spectrum, NOISE)
    worth_having = max(1, int((free[0] <= _WORTH_HAVING).sum()))
    highest = min(J + _MORE_ORDERS, max(J, _HIGHEST_ORDER), max(J, min(grid.size)))
    for order in range(highest - (highest - J) % 2, -1, -2):
        cost = _COST_OF_LOW_MOMENTS if order <= max(J, _CUBIC) else _COST_OF_MOMENTS
        right = eigenfilters(J, grid, spectrum, NOISE, order)
        if (right[0][:worth_having] <= cost * free[0][:worth_having]).all():
            return right
    return free


def _factor(kernel: Array) -> Array:
    """Q^T, (column, radius), of a positive kernel = Q Q^T: Cholesky with pivots, until nothing is left but rounding."""
    rest, columns = kernel.copy(), []
    smallest = _NEGLIGIBLE * np.trace(kernel)
    while (diagonal := np.diag(rest)).max() > smallest:
        pivot = int(np.argmax(diagonal))
        columns.append(rest[pivot] / np.sqrt(rest[pivot, pivot]))
        rest -= np.multiply.outer(columns[-1], columns[-1])
    return np.stack(columns)


def _canonical(filters: Array, J: int, grid: VoxelGrid) -> Array:
    """Exact symmetry, and a sign that rounding does not choose."""
    filters = symmetrised(filters, J, grid)
    return filters * sign_of(filters, J, grid)
