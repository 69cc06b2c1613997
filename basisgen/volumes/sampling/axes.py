"""The functions h_a on the axes of a kernel: the few numbers on which the products of family `separable` rest.

h_0, h_2, .. are even and h_1, h_3, .. odd, h_a(-x) = (-1)^a h_a(x), orthonormal on the taps. What products they span
with a + b + c <= levels depends on h_a only up to the lower ones of its parity. So one starts from oscillator functions
e_a (see `hermite`), which are that already, and turns each towards the next of its parity,

    h_a = e_a + theta_a e_(a+2),     then Gram and Schmidt within a parity

With 3 taps and levels = 2 there is one such number, with 5 and 3 there are three, with 7 and 4 five: axes of one size
and pitch share them. They minimise, over the filters of J = 0, 1, 2 with kernels of the field's own covariance,

    log defect^2  +  log (defect^2 at half the bandwidth + 0.003^2)  +  0.3 sum over J of log (worst defect^2 + 0.01^2)

so that neither fine nor smooth fields, nor a single degree, pay for the others: below the two floors there is nothing
to gain. By BFGS from theta = 0, without BLAS and in a fixed order of sums; the result is rounded to 2^-12, far finer
than it matters and far coarser than what minimisers on two processors differ by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import Gaussian
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite, oscillator_taps
from basisgen.volumes.sampling.span import Axes, Span, least_defects, span

Array = NDArray[np.float64]

NOISE = 1e-5  # white noise in the input, as a part of its power
_DEGREES = (0, 1, 2)  # whose filters the functions are made for
_SMOOTH_FLOOR, _WORST_FLOOR, _WORST_WEIGHT = 0.003, 0.01, 0.3
_GAP = 0.5  # filters of a larger defect are not counted as any
_COST_OF_MOMENTS = 2.0  # what right moments of degree up to J may cost: a factor of each defect
_STEPS = 40
_ROUNDING = 2.0**12


@lru_cache(maxsize=64)
def made_axes(grid: VoxelGrid, levels: int, spectrum: Gaussian) -> Axes:
    """h_a at the taps of x, y and z, each (level, tap); a function of as many levels as the axis has taps is zero."""
    kinds = list(zip(grid.size, grid.pitch, strict=True))
    turns = [
        (axis, a) for axis in range(3) if kinds.index(kinds[axis]) == axis for a in _turned(grid.size[axis], levels)
    ]
    start = [_oscillators(grid, axis) for axis in range(3)]

    def axes(theta: Array) -> Axes:
        of_kind = {
            axis: _functions(start[axis], levels, {a: t for (at, a), t in zip(turns, theta, strict=True) if at == axis})
            for axis in set(map(kinds.index, kinds))
        }
        x, y, z = (of_kind[kinds.index(kind)] for kind in kinds)
        return x, y, z

    theta = np.zeros(len(turns))
    wanted = [found for J in _DEGREES if levels >= J for found in _wanted(span(J, levels, grid), axes(theta), spectrum)]
    if turns and wanted:
        found = minimize(
            lambda t: _objective(wanted, axes(t), spectrum), theta, method="BFGS", options={"maxiter": _STEPS}
        )
        theta = np.rint(found.x * _ROUNDING) / _ROUNDING
    return axes(theta)


def right_order(span: Span, axes: Axes, spectrum: Gaussian) -> int:
    """The highest degree <= J up to which right moments at most double the defect of every filter; -1 if none."""
    free, _ = least_defects(span, axes, spectrum, NOISE, -1)
    count = int((free <= _GAP).sum())
    for order in range(span.J, -1, -2):
        right, _ = least_defects(span, axes, spectrum, NOISE, order)
        if (right[:count] <= _COST_OF_MOMENTS * free[:count]).all():
            return order
    return -1


def _wanted(span: Span, axes: Axes, spectrum: Gaussian) -> list[tuple[Span, int, int]]:
    """A span with the number of its filters and the order of their moments; nothing if it holds none."""
    order = right_order(span, axes, spectrum)
    defects, _ = least_defects(span, axes, spectrum, NOISE, order)
    count = int((defects <= _GAP).sum())
    return [(span, count, order)] if count else []


def _objective(wanted: Sequence[tuple[Span, int, int]], axes: Axes, spectrum: Gaussian) -> float:
    smooth = Gaussian(spectrum.bandwidth / 2)
    energies, worst = np.zeros((2, 2)), 0.0  # (spectrum, error and total)
    for space, count, order in wanted:
        defects, v = least_defects(space, axes, spectrum, NOISE, order)
        forms = [(space.typed(axes, s), space.total(axes, s)) for s in (spectrum, smooth)]
        basis = np.array(orthonormal(v[:count]))  # (filter, i)
        covariance = np.einsum("ci,ij,dj->cd", basis, forms[0][1], basis)
        covariance *= count / np.trace(covariance)
        for row, (typed, total) in enumerate(forms):
            sums = [np.einsum("cd,ci,ij,dj->", covariance, basis, form, basis) for form in (total - typed, total)]
            energies[row] += sums
        worst += np.log(defects[count - 1] ** 2 + _WORST_FLOOR**2)
    fine, at_half = np.maximum(energies[:, 0], 0) / energies[:, 1]
    return float(np.log(fine + 1e-12) + np.log(at_half + _SMOOTH_FLOOR**2) + _WORST_WEIGHT * worst)


def _turned(taps: int, levels: int) -> range:
    """The functions of an axis that have a next one of their parity."""
    return range(min(levels + 1, taps - 2)) if taps > 2 else range(0)


def _oscillators(grid: VoxelGrid, axis: int) -> Array:
    """e_a of one axis, (level, tap), as many as it has taps; orthonormal, and even or odd to the bit."""
    size, pitch = grid.size[axis], grid.pitch[axis]
    return _orthonormal_by_parity(oscillator_taps(size - 1, size, pitch, Hermite().square_scale(grid)))


def _functions(start: Array, levels: int, theta: dict[int, float]) -> Array:
    """h_a, (level, tap)."""
    functions = np.zeros((levels + 1, start.shape[1]))
    for a in range(min(levels + 1, len(start))):
        functions[a] = start[a] + theta.get(a, 0.0) * start[min(a + 2, len(start) - 1)]
    return _orthonormal_by_parity(functions)


def _orthonormal_by_parity(functions: Array) -> Array:
    """Gram and Schmidt among the even and among the odd ones, in order; zeros stay."""
    result = np.zeros_like(functions)
    for a, function in enumerate(functions):
        rest = function.copy()
        for _ in range(2):
            for b in range(a % 2, a, 2):
                rest -= (rest * result[b]).sum() * result[b]
        norm = np.sqrt((rest**2).sum())
        result[a] = (rest + (-1) ** a * rest[::-1]) / 2 / norm if norm > 0 else 0
    return result
