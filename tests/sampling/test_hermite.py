"""Family `hermite`: its defaults are the best, and its filters are sums of products of 1D functions, exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import factorial

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import eval_genlaguerre, eval_hermite

from basisgen.algebra.roots import SignedRoot
from basisgen.errors import ProofError
from basisgen.volumes.sampling.cartesian import cartesian_expansion, prove_expansion
from basisgen.volumes.sampling.defect import Gaussian, energies
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite, laguerre


def cube(size: int) -> VoxelGrid:
    return VoxelGrid((size, size, size))


def worst_defect(family: Hermite, grid: VoxelGrid) -> float:
    """Over the span of the filters of a degree, of the worst degree."""
    groups = family.groups(grid, range(family.levels(grid) + 1))
    degrees = sorted({group.J for group in groups})
    return max(energies([group for group in groups if group.J == J], grid).worst for J in degrees)


@pytest.mark.parametrize(("size", "n_max", "worst"), [(3, 2, 0.183), (5, 3, 0.146), (6, 4, 0.176)])
def test_default_scale_is_the_best_within_two_percent(size: int, n_max: int, worst: float) -> None:
    grid = cube(size)
    default = Hermite()
    s = float(default.square_scale(grid)) ** 0.5
    at_default = worst_defect(default, grid)
    best = minimize_scalar(
        lambda scale: worst_defect(Hermite(scale=Fraction(scale).limit_denominator(1000)), grid),
        bounds=(0.8 * s, 1.25 * s),
        method="bounded",
        options={"xatol": 0.01},
    )
    assert default.levels(grid) == n_max
    assert at_default == pytest.approx(worst, abs=1e-3)
    assert best.fun <= at_default * (1 + 1e-3) and at_default <= 1.02 * best.fun
    assert best.x == pytest.approx(s, rel=0.03)


def test_defaults_follow_the_widest_pitch_and_the_smallest_extent() -> None:
    flat = VoxelGrid((9, 9, 3), (Fraction(1), Fraction(1), Fraction(3)))
    assert Hermite().levels(flat) == Hermite().levels(cube(3)) == 2
    assert Hermite().square_scale(flat) == 9 * Hermite().square_scale(cube(3))
    assert Hermite(n_max=5, scale=Fraction(2)).square_scale(flat) == 4


def test_levels_count_the_filters() -> None:
    groups = Hermite(n_max=4).groups(cube(7), range(9))
    assert [sum(group.J == J for group in groups) for J in range(9)] == [3, 2, 2, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("n", "J"), [(0, 0), (1, 0), (3, 0), (2, 1), (4, 3)])
def test_laguerre_polynomials_equal_scipys(n: int, J: int) -> None:
    t = np.linspace(0, 5, 7)
    values = sum(float(c) * t**i for i, c in enumerate(laguerre(n, J)))
    np.testing.assert_allclose(values, eval_genlaguerre(n, J + 0.5, t), rtol=1e-12, atol=1e-12)


LEVELS = [(n, J) for J in range(7) for n in range(4) if J + 2 * n <= 7]


@pytest.mark.parametrize("N", range(7))
def test_the_change_of_basis_of_a_level_is_orthogonal(N: int) -> None:
    powers = [p for p in product(range(N + 1), repeat=3) if sum(p) == N]
    rows = []
    for J in range(N % 2, N + 1, 2):
        expansion = cartesian_expansion((N - J) // 2, J)
        rows += [[float(expansion.get((M, p), SignedRoot(0, Fraction(0)))) for p in powers] for M in range(-J, J + 1)]
    matrix = np.array(rows)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(powers)), atol=1e-14)


@pytest.mark.parametrize(("n", "J"), [(0, 1), (1, 1), (2, 0), (1, 3)])
def test_sampled_filters_are_sums_of_products(n: int, J: int) -> None:
    """In floating point, with scipy's Hermite polynomials, on an anisotropic grid: up to one factor per (n, J)."""
    grid = VoxelGrid((5, 4, 7), (Fraction(1), Fraction(6, 5), Fraction(1, 2)))
    family = Hermite(n_max=J + 2 * n)
    filters = family.groups(grid, [J])[n].values
    s = float(family.square_scale(grid)) ** 0.5

    def h(a: int, x: np.ndarray) -> np.ndarray:
        return eval_hermite(a, x / s) * np.exp(-((x / s) ** 2) / 2) / (2**a * factorial(a)) ** 0.5

    x, y, z = grid.coordinates
    sums = np.zeros_like(filters)
    for (M, (a, b, c)), value in cartesian_expansion(n, J).items():
        sums[M + J] += float(value) * h(a, x) * h(b, y) * h(c, z)
    factor = np.vdot(sums, filters) / np.vdot(sums, sums)
    assert factor > 0
    np.testing.assert_allclose(filters, factor * sums, atol=1e-13 * np.abs(filters).max())


@pytest.mark.parametrize(("n", "J"), LEVELS)
def test_a_damaged_expansion_is_refused(n: int, J: int) -> None:
    """The negative control of the proof: one sign, one square, one term less, one irrational ratio."""
    expansion = dict(cartesian_expansion(n, J))
    prove_expansion(n, J, expansion)
    index, value = next(iter(expansion.items()))
    for damaged in (-value, SignedRoot(value.sign, value.square * 4), SignedRoot(value.sign, value.square * 2)):
        with pytest.raises(ProofError):
            prove_expansion(n, J, expansion | {index: damaged})
    with pytest.raises(ProofError):
        prove_expansion(n, J, {key: root for key, root in expansion.items() if key != index})


def test_oscillator_filters_are_smooth_in_the_designed_spectrum() -> None:
    """At five taps, a filter of level 1 errs less than a shell of the same degree."""
    grid = cube(5)
    (group, *_) = Hermite().groups(grid, [1])
    assert energies([group], grid, Gaussian()).random < 0.03
