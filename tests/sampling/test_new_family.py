"""A radial family is one class: a toy in this file alone, sampled, planned, compiled and run with passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import PackageSpec, parse_layer
from basisgen.volumes.execution import Execution
from basisgen.volumes.sampling.families import FilterGroup, RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.products import Products


@dataclass(frozen=True)
class Differences:
    """The mean of all taps for J = 0, differences along x, y and z for J = 1."""

    name: str = "differences"
    separable: bool = True

    def describe(self) -> dict[str, Any]:
        return {}

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        of_degree = {0: np.ones((1, *grid.size)), 1: np.ascontiguousarray(grid.coordinates)}
        return tuple(FilterGroup(J, None, of_degree[J]) for J in degrees if J in of_degree)

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> Products:
        axes = [(np.arange(n) - (n - 1) / 2) * float(pitch) for n, pitch in zip(grid.size, grid.pitch, strict=True)]
        x, y, z = (np.stack([np.ones(len(axis)), axis]) for axis in axes)
        rows = {0: [[1, 0, 0, 0]], 1: [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]}  # of 000, 001, 010, 100
        return Products(grid, np.array([row for group in groups for row in rows[group.J]], float), (x, y, z), {})


FAMILY: RadialFamily = Differences()


def test_a_family_in_one_file_compiles_and_runs_both_ways() -> None:
    layer = parse_layer({"name": "Conv", "in": "1x0 + 1x1", "out": "2x0 + 1x1", "kernel_size": [3, 4, 3]})
    layer = replace(layer, radial=FAMILY, execution=Execution.SEPARABLE)
    with imported(compile_package(PackageSpec("toy", (layer,))), "toy_family") as package:
        conv = package.Conv().double()
        volume = torch.randn(1, 4, 6, 5, 7, dtype=torch.float64)
        torch.testing.assert_close(conv(volume), conv.to_conv3d()(volume))
        assert conv.kernel().abs().max() > 0
