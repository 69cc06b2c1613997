"""Dependent profiles are left out: as many stay as the grid has room for, the span is the same, and verify agrees."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from basisgen.cli import main
from basisgen.testing import grids
from basisgen.volumes.sampling.defect import distinct_radii, unit_harmonics
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.independence import independent
from basisgen.volumes.sampling.shells import Cutoff, Shells

FAMILIES = st.sampled_from(
    [
        Hermite(n_max=3, scale=Fraction(1)),
        Hermite(),
        Shells(cutoff=Cutoff.SFCNN),
        Shells(cutoff=(2, 2, 2), radii=(Fraction(0), Fraction(1, 2), Fraction(1))),
    ]
)


def room(J: int, grid: VoxelGrid) -> int:
    """R: the distances of taps at which Y_J does not vanish."""
    _, index = distinct_radii(grid)
    there = np.abs(unit_harmonics(J, grid)).max(axis=0).reshape(-1) > 1e-12
    return len(set(index[there].tolist()))


@settings(max_examples=40)
@given(family=FAMILIES, grid=grids(max_size=3, max_dilation=1), J=st.integers(0, 2))
def test_as_many_profiles_stay_as_the_grid_has_room_for(family: Hermite | Shells, grid: VoxelGrid, J: int) -> None:
    grid = replace(grid, spacing=(Fraction(1),) * 3)
    if not room(J, grid):
        return
    groups = family.groups(grid, [J])
    if not groups:
        return
    kept, left_out = independent(groups)
    assert len(kept) == min(len(groups), room(J, grid)) and len(kept) + len(left_out) == len(groups)
    flat = [np.stack([g.values.reshape(-1) / np.linalg.norm(g.values) for g in part]) for part in (kept, groups)]
    assert [np.linalg.matrix_rank(part, tol=1e-9) for part in flat] == [len(kept)] * 2


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("family", [Hermite(), Shells(), Shells(cutoff=Cutoff.SFCNN)])
def test_nothing_is_left_out_of_the_usual_families(family: Hermite | Shells, size: int) -> None:
    groups = family.groups(VoxelGrid((size,) * 3), range(5))
    assert independent(groups) == (groups, ())


def test_a_separable_layer_of_two_taps_is_verified_and_told_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(
        'name = "p"\n[[conv]]\nname = "Conv"\nin = "1x0"\nout = "1x0 + 1x1"\nkernel_size = 2\n'
        'radial = { family = "hermite", n_max = 3 }\nexecution = "separable"\n'
    )
    compiled = CliRunner().invoke(main, ["compile", "p.toml"])
    assert "1x0 -> 1x0 + 1x1, 2 weights" in compiled.stdout
    assert "note: 1 profile of J = 0 and 1 profile of J = 1 left out of Conv" in compiled.stderr
    assert CliRunner().invoke(main, ["verify", "generated/p"]).exit_code == 0
