"""Family `optimal`: its theorem, its cuts, its symmetry and its bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import Gaussian, SingleFrequency, energies, unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.moments import commuting_maps
from basisgen.volumes.sampling.optimal import NOISE, Optimal, eigenfilters, with_right_moments
from basisgen.volumes.sampling.shells import Shells
from basisgen.volumes.sampling.symmetry import residual, turn_matrix

ANISOTROPIC = VoxelGrid((7, 7, 3), (Fraction(1), Fraction(1), Fraction(3)))


def cube(size: int) -> VoxelGrid:
    return VoxelGrid((size, size, size))


def check_theorem(grid: VoxelGrid, degrees: range, cost_of_moments: float = 1) -> int:
    """At equal count, no other filters have a smaller worst defect over their span; how many cases were compared.

    The theorem is the eigenfilters'; the family's filters, whose moments are right, keep within `cost_of_moments`.
    """
    compared = 0
    for J in degrees:
        defects, _ = eigenfilters(J, grid, Gaussian())
        for family in (Shells(), Hermite()):
            groups = list(family.groups(grid, [J]))
            if groups:
                theirs = energies(groups, grid).worst
                ours = Optimal(count=(0,) * J + (len(groups),)).groups(grid, [J])
                assert defects[len(groups) - 1] <= theirs, (grid, J, family)
                assert energies(list(ours), grid).worst <= cost_of_moments * theirs, (grid, J, family)
                compared += 1
    return compared


@pytest.mark.parametrize("size", [3, 5, 7])
def test_no_other_filters_span_less_defect(size: int) -> None:
    assert check_theorem(cube(size), range(7), {3: 1.5, 5: 1.25, 7: 1.15}[size]) >= 6


@pytest.mark.slow
def test_no_other_filters_span_less_defect_of_nine_taps() -> None:
    assert check_theorem(cube(9), range(9), 1.5) >= 14


def test_no_other_filters_span_less_defect_on_other_grids() -> None:
    assert check_theorem(ANISOTROPIC, range(5), 1.1) >= 4
    assert check_theorem(VoxelGrid((4, 6, 5)), range(5), 1.1) >= 6


def test_random_perturbations_of_the_best_filter_are_worse() -> None:
    """The negative side of the theorem: the optimum is an optimum, not merely small."""
    grid, random = cube(5), np.random.default_rng(0)
    (best,) = Optimal(count=(0, 1)).groups(grid, [1])
    least = energies([best], grid).random
    for size in (1e-3, 1e-2, 1e-1):
        other = FilterGroup(1, "", best.values + size * random.normal(size=best.values.shape))
        assert energies([other], grid).random > least


@pytest.mark.parametrize("J", [0, 1, 3])
def test_the_eigenvalue_is_the_defect(J: int) -> None:
    grid = cube(5)
    defects, filters = eigenfilters(J, grid, Gaussian())
    groups = [FilterGroup(J, "", taps) for taps in filters[:4]]
    np.testing.assert_allclose(energies(groups, grid).each[1:], defects[1:4], rtol=1e-5)
    assert energies(groups, grid).worst == pytest.approx(defects[3], rel=1e-5)


RIGHT_MOMENTS = [  # up to which degree
    (cube(5), 2, 2),
    (cube(3), 2, 2),
    (cube(5), 3, 3),
    (cube(5), 4, 2),
    (cube(7), 3, 3),
    (cube(7), 4, 4),
    (ANISOTROPIC, 1, 1),
    (ANISOTROPIC, 2, 0),
    (VoxelGrid((5, 6, 7)), 2, 0),
]


@pytest.mark.parametrize(("grid", "J", "order"), RIGHT_MOMENTS, ids=str)
def test_polynomials_are_answered_by_their_part_of_degree_J(grid: VoxelGrid, J: int, order: int) -> None:
    """Monomials of degree < J by nothing, the solid harmonics S_JM alike. The symmetry alone does not see to it."""
    x, y, z = grid.coordinates / np.abs(grid.coordinates).max()
    lower = np.array([x**a * y**b * z**c for a, b, c in product(range(order + 1), repeat=3) if a + b + c < J])
    lower = lower.reshape(-1, *grid.size)
    (group,) = Optimal(count=(0,) * J + (1,)).groups(grid, [J])
    _, free = eigenfilters(J, grid, Gaussian(), NOISE)
    unconstrained = free[0] / np.linalg.norm(free[0])

    def excess(filters: np.ndarray) -> float:
        radius = np.sqrt((grid.coordinates**2).sum(axis=0)) / np.abs(grid.coordinates).max()
        answers = np.einsum("Mxyz,mxyz->Mm", filters, radius**J * unit_harmonics(J, grid))
        uneven = answers - np.trace(answers) / (2 * J + 1) * np.eye(2 * J + 1) if order == J else 0
        return float(max(np.abs(np.einsum("Mxyz,pxyz->Mp", filters, lower)).max(initial=0), np.abs(uneven).max()))

    assert excess(group.values) < 1e-12
    assert excess(unconstrained) > 1e-4


@pytest.mark.parametrize(("grid", "J", "order"), RIGHT_MOMENTS, ids=str)
def test_right_moments_cost_little_and_serve_smooth_fields(grid: VoxelGrid, J: int, order: int) -> None:
    wave = SingleFrequency(2 * np.pi / 32 / float(max(grid.pitch)))
    _, free = eigenfilters(J, grid, Gaussian(), NOISE)
    unconstrained = [FilterGroup(J, "", free[0])]
    constrained = list(Optimal(count=(0,) * J + (1,)).groups(grid, [J]))
    assert energies(constrained, grid).random <= 1.51 * energies(unconstrained, grid).random
    assert energies(constrained, grid, wave).random < energies(unconstrained, grid, wave).random


@pytest.mark.parametrize(("size", "J", "power"), [(3, 1, 4), (3, 2, 2), (5, 1, 4), (5, 2, 2)])
def test_with_right_moments_the_error_falls_as_a_power_of_the_wavelength(size: int, J: int, power: int) -> None:
    """The square with those of degree up to J, the fourth with those of J + 2."""
    grid = cube(size)
    group = list(Optimal(count=(0,) * J + (1,)).groups(grid, [J]))
    errors = [energies(group, grid, SingleFrequency(2 * np.pi / wavelength)).random for wavelength in (12, 24)]
    assert errors[0] / errors[1] == pytest.approx(2**power, rel=0.05)


def test_commuting_maps_commute() -> None:
    for grid, count in ((cube(3), 4), (ANISOTROPIC, 11), (VoxelGrid((3, 4, 5)), 21)):
        maps = commuting_maps(4, 4, grid)
        assert len(maps) == count
        np.testing.assert_allclose(maps[0], np.eye(9) / 3)
        for B in maps:
            for turn in grid.turns:
                D = turn_matrix(4, turn)
                np.testing.assert_allclose(D @ B, B @ D, atol=1e-14)


def test_noise_costs_next_to_nothing_on_a_cube() -> None:
    for J in range(4):
        quiet, _ = eigenfilters(J, cube(5), Gaussian())
        noisy, _ = eigenfilters(J, cube(5), Gaussian(), NOISE)
        np.testing.assert_allclose(noisy[:3] ** 2, quiet[:3] ** 2, atol=20 * NOISE)


def test_noise_keeps_filters_off_the_frequencies_a_coarse_axis_leaves_empty() -> None:
    """Energy of the taps, which is what white noise meets, over the energy of the response."""
    for noise, least, most in ((1e-9, 50, 1e4), (NOISE, 0, 20)):
        _, filters = eigenfilters(2, ANISOTROPIC, Gaussian(), noise)
        gain = 1 / energies([FilterGroup(2, "", filters[0])], ANISOTROPIC).total[0, 0]
        assert least < gain < most


def test_max_defect_cuts() -> None:
    grid = cube(5)
    counts = {}
    for limit in (Fraction(1, 20), Fraction(1, 5), Fraction(4, 5)):
        groups = Optimal(max_defect=limit).groups(grid, range(4))
        counts[limit] = [sum(group.J == J for group in groups) for J in range(4)]
        assert all(energies([group], grid).random <= float(limit) for group in groups)
    assert counts == {
        Fraction(1, 20): [2, 1, 1, 0],
        Fraction(1, 5): [3, 2, 1, 1],
        Fraction(4, 5): [4, 3, 3, 2],
    }


@pytest.mark.parametrize("J", [0, 1, 2])
def test_filters_of_a_degree_are_orthonormal_and_the_first_ones_the_best(J: int) -> None:
    """So a random kernel is white in their span, and fewer filters are the head of more."""
    grid = cube(7)
    filters = np.stack([group.values.reshape(-1) for group in Optimal(count=(3, 3, 3)).groups(grid, [J])])
    np.testing.assert_allclose(filters @ filters.T, np.eye(3), atol=1e-12)
    _, eigen = with_right_moments(J, grid, Gaussian())
    for n in (1, 2, 3):
        flat = np.stack(orthonormal(eigen[:n])).reshape(n, -1)
        np.testing.assert_allclose(filters[:n] @ flat.T @ flat, filters[:n], atol=1e-9)


def test_count_is_per_degree() -> None:
    groups = Optimal(count=(2, 0, 1)).groups(cube(5), range(5))
    assert [(group.J, group.formula) for group in groups] == [(0, None), (0, None), (2, None)]


def test_a_narrower_bandwidth_serves_smoother_fields() -> None:
    grid, smooth = cube(5), Gaussian(Fraction(7, 20))
    for J in (1, 2, 3):
        wide, narrow = (
            energies(list(Optimal(count=(1, 1, 1, 1), bandwidth=b).groups(grid, [J])), grid, smooth).worst
            for b in (Fraction(1, 2), Fraction(7, 20))
        )
        assert narrow < 0.95 * wide


@pytest.mark.parametrize("grid", [cube(3), cube(6), cube(7), ANISOTROPIC, VoxelGrid((3, 4, 5))], ids=str)
def test_symmetry_is_exact_to_rounding(grid: VoxelGrid) -> None:
    groups = Optimal().groups(grid, range(7))
    assert max(residual(group, grid) for group in groups) < 1e-14
    for group in groups:
        assert np.linalg.norm(group.values) == pytest.approx(1, abs=1e-12)


def test_mirrors_and_turns_about_the_polar_axis_are_exact_to_the_bit() -> None:
    """Their D^J are signed permutations; the axis of the harmonics is y."""
    for group in Optimal().groups(cube(5), range(5)):
        values, J = group.values, group.J
        signs = {axis: np.ones(2 * J + 1) for axis in range(3)}
        for M in range(-J, J + 1):
            signs[0][M + J] = 1 if M >= 0 else -1  # x is the sine's axis
            signs[1][M + J] = (-1) ** (J + M)
            signs[2][M + J] = (-1) ** M if M >= 0 else (-1) ** (M + 1)
        for axis, sign in signs.items():
            assert np.array_equal(np.flip(values, axis + 1), sign[:, None, None, None] * values), (J, axis)
        swapped = values.transpose(0, 3, 2, 1)  # x <-> z: each (M, -M) to itself or to one another
        for M in range(1, J + 1):
            pair, images = values[[J + M, J - M]], swapped[[J + M, J - M]]
            assert np.array_equal(np.sort(np.abs(pair), axis=0), np.sort(np.abs(images), axis=0))


BYTES = """
import hashlib
from fractions import Fraction
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.moments import commuting_maps
from basisgen.volumes.sampling.optimal import Optimal
grids = [VoxelGrid((9, 9, 9)), VoxelGrid((7, 6, 5), (Fraction(1), Fraction(13, 10), Fraction(17, 10)))]
values = [group.values.tobytes() for grid in grids for group in Optimal().groups(grid, range(5))]
print(hashlib.sha256(b"".join(values)).hexdigest())
"""


def test_bytes_depend_on_neither_threads_nor_hash_seed() -> None:
    digests = set()
    for threads, seed in (("1", "0"), ("2", "1")):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", BYTES], env=environment, capture_output=True, text=True, check=True)
        digests.add(run.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2
