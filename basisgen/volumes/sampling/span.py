"""Filters of one degree within the span of products, as small matrices: their defects, and the least of them.

    F_M(x, y, z) = sum over i and a + b + c <= levels of  v[i] Q[i, M, abc] h_a(x) h_b(y) h_c(z)

The Q are an orthonormal basis of all expansions that obey the turns g of the grid, F(g x) = D^J(g) F(x). They know
nothing of the functions h but their parity, h_a(-x) = (-1)^a h_a(x), and that axes which change places have the same.
With h orthonormal on the taps of each axis, |F|^2 = |v|^2, and with `defect`'s quadratic forms

    total(F) = v.T v,     T[i, i'] = sum over M, abc, a'b'c' of  Q Q' k[a, a'] k[b, b'] k[c, c'],     k = h k_axis h
    typed(F) = v.Y v,     Y[i, i'] = sum over radii of  s[i, r] k_J(r, r') s[i', r'] / (2J+1)

A sum over taps has one term for every orbit of taps under the turns: what is summed is the same all along an orbit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import Gaussian, distinct_radii, unit_harmonics
from basisgen.volumes.sampling.grid import Turn, VoxelGrid, turn_taps
from basisgen.volumes.sampling.moments import wrong_moments
from basisgen.volumes.sampling.products import Powers, product_indices
from basisgen.volumes.sampling.symmetry import mean_over_turns, turn_matrix

Array = NDArray[np.float64]
Axes = tuple[Array, Array, Array]  # h_a at the taps of x, y and z, (level, tap)

_FEW_LEVELS = 2  # with which a degree has filters of one shape alone
_LONG_WAVE = 0.55  # of the spectrum's width: the frequency at which these are right
_WHOLE = 0.5  # between the eigenvalues 0 and 1 of a projector


@dataclass(frozen=True, eq=False)
class Span:
    """The filters of degree J that are sums of products; everything of them that does not depend on the functions."""

    J: int
    grid: VoxelGrid
    levels: int
    combinations: Array  # Q, (i, M, product)
    pairs: tuple[Array, NDArray[np.intp]]  # sum over M of Q Q', (i, i', pair); the pairs of products, (2, pair)
    orbits: NDArray[np.intp]  # the indices of one tap of each orbit, (axis, orbit)
    projections: Array  # sum over an orbit of Q . Y_J, (i, product, orbit)
    powers: NDArray[np.intp]  # a, b and c of every product, (axis, product)

    def total(self, axes: Axes, spectrum: Gaussian) -> Array:
        """T, (i, i'), of orthonormal functions on the axes."""
        pair_forms, (p, q) = self.pairs
        k = np.ones(len(p))
        for h, powers, correlation in zip(axes, self.powers, _correlations(spectrum, self.grid), strict=True):
            form = np.einsum("at,bt->ab", h, np.einsum("ts,bs->bt", correlation, h))
            k *= form[powers[p], powers[q]]
        total: Array = np.einsum("ijp,p->ij", pair_forms, k)
        return total

    def typed(self, axes: Axes, spectrum: Gaussian) -> Array:
        """Y, (i, i')."""
        s = np.einsum("ipr,pr->ir", self.projections, self._values(axes))
        k = _radial_part(self.J, spectrum, self.grid)
        typed: Array = np.einsum("ir,jr->ij", np.einsum("ir,rs->is", s, k), s)
        return typed

    def moments(self, axes: Axes, order: int, spectrum: Gaussian) -> Array:
        """The moments of degree up to `order` that vanish for filters of type J, (moment, i).

        The one number of a 3-tap filter of J = 2 makes its answer right to waves of one length. Infinite length costs
        much at 4 to 6 voxels, where fields have their detail; 7.3 voxels (for the default bandwidth) cost little.
        """
        frequency = _LONG_WAVE * spectrum.frequency(self.grid) if self.levels <= _FEW_LEVELS else 0.0
        taps = _wrong_on_orbits(self.J, self.grid, self.levels, order, frequency)
        moments: Array = np.einsum("mipr,pr->mi", taps, self._values(axes))
        return moments

    def _values(self, axes: Axes) -> Array:
        """Every product at one tap of each orbit, (product, orbit)."""
        a, b, c = self.powers
        x, y, z = self.orbits
        values: Array = axes[0][:, x][a] * axes[1][:, y][b] * axes[2][:, z][c]
        return values


def least_defects(span: Span, axes: Axes, spectrum: Gaussian, noise: float, order: int) -> tuple[Array, Array]:
    """The span's filters by increasing defect: defects (filter), v (filter, i); as `optimal.eigenfilters` for all taps.

    The noise counts as error. Moments of degree up to `order` are right; filters of which none is left have defect 1.
    """
    total = span.total(axes, spectrum) + noise * np.eye(len(span.combinations))
    scale, rotation = np.linalg.eigh(total)
    whitening = rotation / np.sqrt(scale)  # (i, direction)
    typed = np.einsum("ia,ij,jb->ab", whitening, span.typed(axes, spectrum), whitening)
    free = np.eye(len(scale))
    for wrong in (
        orthonormal(np.einsum("mi,ia->ma", span.moments(axes, order, spectrum), whitening)) if order >= 0 else []
    ):
        free -= np.multiply.outer(wrong, wrong)
    part, vectors = np.linalg.eigh(np.einsum("ab,bc,cd->ad", free, typed, free))
    increasing = np.argsort(-part, kind="stable")
    defects: Array = np.sqrt(np.clip(1 - part[increasing], 0, 1))
    return defects, np.einsum("ia,ab,bf->fi", whitening, free, vectors[:, increasing])


@lru_cache(maxsize=64)
def span(J: int, levels: int, grid: VoxelGrid) -> Span:
    """The span of products up to `levels` on a grid. A function of as many levels as the axis has taps is zero."""
    Q = combinations(J, levels, grid)
    first, size = _orbits(grid)
    Y = unit_harmonics(J, grid).reshape(2 * J + 1, -1)[:, first]  # (M, orbit)
    powers = np.array(product_indices(levels))
    p, q = np.nonzero((powers[:, None] % 2 == powers % 2).all(axis=2))
    return Span(
        J=J,
        grid=grid,
        levels=levels,
        combinations=Q,
        pairs=(np.einsum("iMp,jMp->ijp", Q[:, :, p], Q[:, :, q]), np.stack([p, q])),
        orbits=np.stack(np.unravel_index(first, grid.size)),
        projections=np.einsum("iMp,Mr,r->ipr", Q, Y, size),
        powers=powers.T,
    )


def combinations(J: int, levels: int, grid: VoxelGrid) -> Array:
    """Q, (i, M, product): of each orbit of products under the turns, those that the turns which keep one allow."""
    powers = product_indices(levels)
    column = {abc: p for p, abc in enumerate(powers)}
    turns = [(turn, turn_matrix(J, turn)) for turn in grid.turns]
    seen: set[Powers] = set()
    found = [np.zeros((0, 2 * J + 1, len(powers)))]
    for abc in powers:
        if abc in seen or any(power >= taps for power, taps in zip(abc, grid.size, strict=True)):
            continue
        images = [(*turned_product(abc, turn), D) for turn, D in turns]
        seen |= {image for image, _, _ in images}
        keeps = [sign * D for image, sign, D in images if image == abc]
        allowed, vectors = np.linalg.eigh(sum(keeps) / len(keeps))
        for vector in vectors[:, allowed > _WHOLE].T:
            Q = np.zeros((2 * J + 1, len(powers)))
            for image, sign, D in images:  # F(g x) = D F(x): the coefficient of h_image is that of h_abc, turned back
                Q[:, column[image]] = sign * np.einsum("Mm,M->m", D, vector)
            found.append(Q[None] / np.sqrt((Q**2).sum()))
    return np.concatenate(found)


def turned_product(abc: Powers, turn: Turn) -> tuple[Powers, int]:
    """h_a h_b h_c at the turned place g x, as a product at x: its powers, and its sign."""
    images = np.abs(turn).argmax(axis=0)
    a, b, c = (abc[image] for image in images)
    signs = turn[images, range(3)]
    return (a, b, c), int(np.prod(signs ** np.array([a, b, c])))


def symmetrised_expansion(expansion: Array, space: Span) -> Array:
    """`symmetry.symmetrised` of an expansion (M, product) of numbers of at most 1."""
    powers = product_indices(space.levels)
    column = {abc: p for p, abc in enumerate(powers)}

    def turned(values: Array, turn: Turn) -> Array:
        images = [turned_product(abc, turn) for abc in powers]
        result = np.zeros_like(values)
        result[:, [column[image] for image, _ in images]] = values * [sign for _, sign in images]
        return result

    return mean_over_turns(expansion, space.J, space.grid, turned)


@lru_cache(maxsize=16)
def _correlations(spectrum: Gaussian, grid: VoxelGrid) -> Axes:
    return spectrum.axis_correlations(grid)


@lru_cache(maxsize=64)
def _radial_part(J: int, spectrum: Gaussian, grid: VoxelGrid) -> Array:
    """k_J / (2J+1) between the orbits, (orbit, orbit)."""
    radii, index = distinct_radii(grid)
    orbit = index[_orbits(grid)[0]]
    part: Array = spectrum.radial_part(J, radii, grid)[np.ix_(orbit, orbit)] / (2 * J + 1)
    return part


@lru_cache(maxsize=8)
def _orbits(grid: VoxelGrid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The flat index of the first tap of every orbit under the turns, and the number of its taps."""
    index = np.arange(int(np.prod(grid.size))).reshape(grid.size)  # (x, y, z)
    least = np.min([turn_taps(index, turn).reshape(-1) for turn in grid.turns], axis=0)  # (tap)
    first, size = np.unique(least, return_counts=True)
    return first, size


@lru_cache(maxsize=64)
def _wrong_on_orbits(J: int, grid: VoxelGrid, levels: int, order: int, frequency: float) -> Array:
    """The wrong moments' taps times Q, summed over M and over each orbit: (moment, i, product, orbit)."""
    Q, (first, size) = combinations(J, levels, grid), _orbits(grid)
    taps: Sequence[Array] = wrong_moments(J, grid, order, frequency)
    flat = np.array([moment.reshape(2 * J + 1, -1)[:, first] for moment in taps])  # (moment, M, orbit)
    moments: Array = np.einsum("iMp,mMr,r->mipr", Q, flat.reshape(-1, 2 * J + 1, len(first)), size)
    return moments
