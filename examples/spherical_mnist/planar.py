"""The plain network for comparison: ordinary convolutions on a map of longitude and latitude."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.spheres import directions, harmonics, panorama_rings


@dataclass(frozen=True)
class PlanarConfig:
    """limit: of the input. rows: of the map, which has twice as many columns. widths: of the convolutions."""

    limit: int = 20
    rows: int = 28
    widths: tuple[int, ...] = (16, 32, 48, 64)
    classes: int = 10


class Planar(nn.Module):
    """Packed coefficients (batch, coefficient) -> a map, sampled exactly -> convolutions of 3^2 -> (batch, class).

    Batch norm, ReLU and a pool of 2^2 behind each convolution but the last, which the mean over the map follows.
    """

    table: Tensor

    def __init__(self, config: PlanarConfig) -> None:
        super().__init__()
        points = directions(panorama_rings(config.rows), 2 * config.rows)  # (row, column, 3)
        self.register_buffer("table", harmonics(config.limit, points).float().permute(2, 0, 1), persistent=False)
        layers: list[nn.Module] = []
        for before, width in zip((1, *config.widths), config.widths, strict=False):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        layers[-1] = nn.AdaptiveAvgPool2d(1)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(config.widths[-1], config.classes))

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, coefficient) -> (batch, class)."""
        maps = torch.tensordot(signals, self.table, 1)  # (batch, coefficient) with (coefficient, row, column)
        logits: Tensor = self.layers(maps[:, None])
        return logits
