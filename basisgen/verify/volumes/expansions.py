"""Filters said to be sums of products of functions that have no formula: the numbers agree, and turn with the grid.

    F_row(x, y, z) = sum over a + b + c <= levels of  E[row, abc] h_a(x) h_b(y) h_c(z)      to rounding
    h_a(-x) = (-1)^a h_a(x)                                                                 to the bit
    h_a the same on axes of one size and pitch                                              to the bit
    E[J, g abc] = D^J(g) E[J, abc]        for every turn g of the grid              as in `check_symmetry`

where g abc are the powers, and the sign, of h_a h_b h_c at the turned place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.verify.rotations import MAX_ROUNDING, Turn, pitch, turn_matrix, turns_of
from basisgen.verify.statement import Certificate, Filters, Irrep, Levels

Array = NDArray[Any]

MAX_DIFFERENCE = 1e-13  # of the largest tap of a filter


def check_expansions(certificate: Certificate, tensors: Mapping[str, Array]) -> tuple[int, float, list[str]]:
    """How many filters were compared with their sums, the largest difference, and the complaints."""
    number, worst, complaints = 0, 0.0, []
    for name, filters in certificate.filters.items():
        if not isinstance(filters.products, Levels):
            continue
        where = f"basis.safetensors: {name}"
        E, axes = tensors[f"{name}_products"], [tensors[f"{name}_{axis}"] for axis in "xyz"]
        if not all(np.isfinite(tensor).all() for tensor in (E, *axes)):
            complaints.append(f"{where}: its products are not all finite numbers")
            continue
        differences = _differences(tensors[name], E, axes, filters.products.levels)
        number, worst = number + len(E), max(worst, float(differences.max(initial=0)))
        wrong = np.flatnonzero(~(differences <= MAX_DIFFERENCE))
        complaints += [f"{where}, row {row}: is not the sum of its products" for row in wrong.tolist()]
        complaints += [f"{where}: {complaint}" for complaint in _asymmetries(filters, axes)]
        for J, degree, residual, allowed in _residuals(certificate, filters, E):
            worst = max(worst, residual)
            if not residual <= allowed:
                complaints.append(f"{where}, products of element J = {J}, rows {degree}: a turn leaves {residual:.1e}")
    return number, worst, complaints


def _differences(taps: Array, E: Array, axes: list[Array], levels: int) -> Array:
    """The largest difference of a tap from the sum for every row, relative to the largest tap."""
    total = np.zeros_like(taps)
    for column, (a, b, c) in enumerate(powers(levels)):
        product = axes[0][a][:, None, None] * axes[1][b][:, None] * axes[2][c]
        total += E[:, column, None, None, None] * product
    largest = abs(taps).reshape(len(taps), -1).max(axis=1)  # (filter)
    differences: Array = abs(taps - total).reshape(len(taps), -1).max(axis=1) / np.maximum(largest, 1e-300)  # (filter)
    return differences


def _asymmetries(filters: Filters, axes: list[Array]) -> Iterator[str]:
    kinds = list(zip(filters.size, pitch(filters.dilation, filters.spacing), strict=True))
    for axis, (name, h) in enumerate(zip("xyz", axes, strict=True)):
        signs = (-1.0) ** np.arange(len(h))
        if not np.array_equal(h[:, ::-1], signs[:, None] * h):
            yield f"the functions of {name} are not even and odd in turn"
        twin = kinds.index(kinds[axis])
        if not np.array_equal(h, axes[twin]):
            yield f"the functions of {name} and {'xyz'[twin]} differ"


def _residuals(certificate: Certificate, filters: Filters, E: Array) -> Iterator[tuple[int, str, float, float]]:
    """For each group and turn: degree, rows, the largest difference, and what is allowed."""
    assert isinstance(filters.products, Levels)
    places = powers(filters.products.levels)
    turns = turns_of(filters.size, pitch(filters.dilation, filters.spacing), mirrors=True)
    images = [_turned(places, g) for g in turns]
    stop = 0
    for J, _ in filters.groups:
        start, stop = stop, stop + 2 * J + 1
        values = E[start:stop]
        for g, (columns, signs) in zip(turns, images, strict=True):
            D = turn_matrix(Irrep(J, (-1) ** J), certificate.harmonics[J], g)
            turned = np.zeros_like(values)
            turned[:, columns] = values * signs
            permutes = bool((np.count_nonzero(D, axis=0) == 1).all())
            residual = float(abs(turned - D @ values).max(initial=0))  # (M, M) @ (M, product)
            yield J, f"{start} to {stop - 1}", residual, 0.0 if permutes else MAX_ROUNDING * float(abs(values).max())


def _turned(places: list[tuple[int, int, int]], g: Turn) -> tuple[list[int], Array]:
    """Which product h_a(x) h_b(y) h_c(z) is at the turned place, and its sign."""
    axes, signs = abs(g).argmax(axis=1), g.sum(axis=1)  # (g x)_i = sign_i x_axis_i
    column = {abc: index for index, abc in enumerate(places)}
    columns, factors = [], []
    for abc in places:
        image = [0, 0, 0]
        for power, axis in zip(abc, axes, strict=True):
            image[axis] = power
        columns.append(column[image[0], image[1], image[2]])
        factors.append(float(np.prod(signs.astype(float) ** np.array(abc))))
    return columns, np.array(factors)


def powers(levels: int) -> list[tuple[int, int, int]]:
    """Every (a, b, c) with a + b + c <= levels, by the sum, then in lexical order."""
    level = range(levels + 1)
    found = [(a, b, c) for a, b, c in itertools.product(level, level, level) if a + b + c <= levels]
    return sorted(found, key=lambda abc: (sum(abc), abc))
