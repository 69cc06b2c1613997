"""The spherical CNN of Cohen et al. 2018: correlations on the rotation group, ReLU on its samples, mean or max.

    S2 correlation -> [norm] ReLU -> SO(3) correlation -> [norm] ReLU -> .. -> mean or max over all rotations -> linear

Widths, band limits, grids and counts of parameters are those of the public code jonkhler/s2cnn; initial weights are
drawn for unit variance instead. Needs no compiled package.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.spheres.activation import RotationActivation
from runtime.spheres.group_conv import Angles, RotationConv, SphereConv, equatorial, near_identity
from runtime.spheres.rotation_transform import RotationTransform


@dataclass(frozen=True)
class CohenConfig:
    """Sizes of a network; the defaults are the code's for spherical MNIST.

    features: channels of the input and of every layer. limits: band limit of the input and of every layer. equator:
    filters around the equator, twice the band limit of points, instead of near the identity. norm: batch norm of
    samples. pool: what is read out of the last layer, `mean` or `max` over all rotations.
    """

    features: tuple[int, ...] = (1, 20, 40)
    limits: tuple[int, ...] = (30, 10, 6)
    classes: int = 10
    equator: bool = False
    norm: bool = False
    pool: str = "mean"

    def __post_init__(self) -> None:
        if len(self.features) != len(self.limits) or len(self.limits) < 2 or self.pool not in ("mean", "max"):
            raise ValueError(
                f"features {self.features} and limits {self.limits} are of the input and of every layer, as many of "
                f"both, and pool is 'mean' or 'max', got {self.pool!r}."
            )

    @classmethod
    def shrec17(cls) -> "CohenConfig":
        """The original network for SHREC17, six channels of 128 by 128."""
        return cls((6, 50, 70, 350), (128, 32, 22, 7), 55, equator=True, norm=True, pool="max")

    def grid(self, layer: int) -> Angles:
        """The grid of the filters of a layer, counted from 0."""
        if self.equator:
            return equatorial(2 * self.limits[layer])
        return near_identity(gammas=8 if layer else 1)

    def layers(self) -> nn.Sequential:
        """Correlations and activations in turn, from signals on the sphere to signals on the rotation group."""
        found: list[nn.Module] = []
        for layer in range(len(self.limits) - 1):
            sizes = (*self.features[layer : layer + 2], *self.limits[layer : layer + 2])
            make = RotationConv if layer else SphereConv
            channels, limit = sizes[1], sizes[3]
            function = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU()) if self.norm else nn.ReLU()
            activation = RotationActivation(RotationTransform(channels, limit), function)
            found += [make(*sizes, grid=self.grid(layer)), activation]
        return nn.Sequential(*found)


class Cohen(nn.Module):
    """Signals on the sphere (batch, channel) of `signal_type(features[0], limits[0])` -> (batch, classes)."""

    def __init__(self, config: CohenConfig | None = None) -> None:
        super().__init__()
        config = config or CohenConfig()
        self.pool = config.pool
        self.layers = config.layers()
        self.head = nn.Linear(config.features[-1], config.classes)

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, channel) -> (batch, classes)."""
        last = self.layers[-1]
        assert isinstance(last, RotationActivation) and isinstance(last.transform, RotationTransform)
        samples = last.function(last.transform.synthesis(self.layers[:-1](signals)))  # pooled as they are
        pooled = torch.amax(samples, (2, 3, 4)) if self.pool == "max" else last.transform.mean(samples)
        output: Tensor = self.head(pooled)
        return output
