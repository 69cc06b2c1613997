"""Atoms as volumes, for the experiments on proteins."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from runtime.volumes.rotate import voxelize


@dataclass(frozen=True)
class Raster:
    """How atoms become volumes: `size` voxels per axis of `spacing` angstrom, Gaussians of `sigma` angstrom."""

    size: int
    spacing: float
    sigma: float

    def densities(self, points: Tensor, kinds: Tensor, channels: int) -> Tensor:
        """(sample, atom, 3) in angstrom and (sample, atom) -> (sample, channel, x, y, z); kind -1 is padding."""
        return voxelize(points, kinds, channels=channels, size=self.size, spacing=self.spacing, sigma=self.sigma)
