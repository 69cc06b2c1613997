"""Any grid: odd, even, rectangular, anisotropic, dilated. Filters obey every turn that maps their grid onto itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basisgen.so3.field_type import Irrep
from basisgen.so3.wigner import wigner_d
from basisgen.volumes.sampling.families import FilterGroup, RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid, turn_taps
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.optimal import Optimal
from basisgen.volumes.sampling.sample import SampledFilters
from basisgen.volumes.sampling.shells import Cutoff, Shells
from basisgen.volumes.sampling.symmetry import residual, turn_matrix

FAMILIES: list[RadialFamily] = [Shells(), Hermite(n_max=3), Optimal()]

grids = st.builds(
    VoxelGrid,
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.sampled_from([Fraction(1), Fraction(3, 10), Fraction(7, 3)])] * 3),
    st.tuples(*[st.integers(1, 2)] * 3),
)


@given(grids)
@settings(max_examples=60, deadline=None)
def test_turns_map_taps_to_taps(grid: VoxelGrid) -> None:
    x = grid.coordinates
    assert len(grid.turns) in (8, 16, 48)
    assert np.array_equal(grid.turns[0], np.eye(3))
    for g in grid.turns:
        np.testing.assert_allclose(turn_taps(x, g), np.einsum("ab,bxyz->axyz", g, x), atol=1e-15)


@given(grids, st.sampled_from(FAMILIES))
@settings(max_examples=40, deadline=None)
def test_filters_obey_the_turns_of_their_grid(grid: VoxelGrid, family: RadialFamily) -> None:
    """F(g x) = D^J(g) F(x), with D^J from the generators' exponential, not from ours of the turns."""
    single_tap = grid.size == (1, 1, 1)
    for group in family.groups(grid, [0] if single_tap and family.name != "optimal" else range(4)):
        scale = np.abs(group.values).max()
        for g in grid.turns:
            D = wigner_d(Irrep(group.J, (-1) ** group.J), g.astype(np.float64))
            expected = np.einsum("mn,nxyz->mxyz", D, group.values)
            np.testing.assert_allclose(turn_taps(group.values, g), expected, atol=1e-13 * scale)
        assert residual(group, grid) < 1e-14


@pytest.mark.parametrize(
    ("grid", "turns"),
    [
        (VoxelGrid((5, 5, 5)), 48),
        (VoxelGrid((4, 4, 4)), 48),
        (VoxelGrid((5, 5, 3)), 16),
        (VoxelGrid((3, 5, 5)), 16),
        (VoxelGrid((5, 5, 5), (Fraction(1), Fraction(1), Fraction(3))), 16),
        (VoxelGrid((5, 5, 5), (Fraction(1), Fraction(1), Fraction(2)), (2, 2, 1)), 48),
        (VoxelGrid((3, 4, 5)), 8),
        (VoxelGrid((5, 5, 5), (Fraction(1), Fraction(2), Fraction(3))), 8),
    ],
    ids=str,
)
def test_which_turns_keep_a_grid(grid: VoxelGrid, turns: int) -> None:
    assert len(grid.turns) == turns


@pytest.mark.parametrize("J", range(7))
def test_turn_matrices_against_the_exponential_of_the_generators(J: int) -> None:
    for g in VoxelGrid((3, 3, 3)).turns:
        np.testing.assert_allclose(turn_matrix(J, g), wigner_d(Irrep(J, (-1) ** J), g.astype(float)), atol=1e-13)


def test_residual_sees_one_damaged_tap() -> None:
    grid = VoxelGrid((5, 5, 5))
    for group in Shells().groups(grid, range(3)):
        values = group.values.copy()
        values[0, 0, 1, 2] += 1e-9 * np.abs(values).max()
        assert residual(group, grid) < 1e-15 < 1e-10 < residual(FilterGroup(group.J, "", values), grid)


def test_radii_are_physical() -> None:
    """A 3 mm axis of three taps reaches as far as a 1 mm axis of seven: the same voxel values at the same places."""
    fine = VoxelGrid((7, 7, 7))
    coarse = VoxelGrid((7, 7, 3), (Fraction(1), Fraction(1), Fraction(3)))
    family = Shells(cutoff=(2, 2, 2), sigma=Fraction(1), radii=(Fraction(1), Fraction(2), Fraction(3)))
    for a, b in zip(family.groups(fine, [0, 2]), family.groups(coarse, [0, 2]), strict=True):
        assert np.array_equal(a.values[..., ::3], b.values)


def test_a_spacing_in_other_units_changes_nothing() -> None:
    """Lengths the family chooses follow the grid's units: values are the same in mm and in voxels."""
    voxels, metres = VoxelGrid((4, 5, 5)), VoxelGrid((4, 5, 5), (Fraction(3, 7),) * 3)
    for a, b in zip(Shells().groups(voxels, range(4)), Shells().groups(metres, range(4)), strict=True):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-15)
    for a, b in zip(Optimal().groups(voxels, range(4)), Optimal().groups(metres, range(4)), strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-10)
    for a, b in zip(Hermite().groups(voxels, range(4)), Hermite().groups(metres, range(4)), strict=True):
        np.testing.assert_allclose(a.values / np.abs(a.values).max(), b.values / np.abs(b.values).max(), rtol=1e-14)


def test_dilation_spreads_the_same_taps() -> None:
    plain, dilated = VoxelGrid((5, 5, 5)), VoxelGrid((5, 5, 5), dilation=(2, 2, 2))
    for family in FAMILIES[::2]:
        for a, b in zip(family.groups(plain, range(3)), family.groups(dilated, range(3)), strict=True):
            np.testing.assert_allclose(a.values, b.values, atol=1e-10)


def test_cutoffs_by_name() -> None:
    assert [Cutoff.CONSERVATIVE.largest_degree(b) for b in range(4)] == [0, 2, 4, 6]
    assert [Cutoff.COMPROMISE.largest_degree(b) for b in range(4)] == [0, 3, 5, 7]
    assert [Cutoff.SFCNN.largest_degree(b) for b in range(4)] == [0, 4, 6, 8]
    counts = [sum(group.J == J for group in Shells().groups(VoxelGrid((5, 5, 5)), range(7))) for J in range(7)]
    assert counts == [3, 2, 2, 2, 1, 1, 0]


def test_rows_of_sampled_filters_follow_the_groups() -> None:
    grid = VoxelGrid((5, 5, 5))
    sampled = SampledFilters(grid, Shells(cutoff=Cutoff.CONSERVATIVE).groups(grid, [0, 1, 2]))
    assert sampled.ranges == {0: (0, 3), 1: (3, 9), 2: (9, 19)}
    assert sampled.values.shape == (19, 5, 5, 5)
