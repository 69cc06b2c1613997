"""The spherical CNN of Cohen et al. 2018: correlations on the rotation group, ReLU on its samples, mean or max.

    S2 correlation -> [norm] ReLU -> SO(3) correlation -> [norm] ReLU -> .. -> mean or max over all rotations -> linear

Widths, band limits, grids and counts of parameters are those of the public code jonkhler/s2cnn; initial weights are
drawn for unit variance instead.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .activation import RotationActivation
from .signals import rotation_type, signal_type
from .specs import spec_text


@dataclass(frozen=True)
class CohenConfig:
    """Sizes of a network; the defaults are the code's for spherical MNIST.

    features: channels of the input and of every layer. limits: band limit of the input and of every layer. equator:
    filters around the equator, twice the band limit of points, instead of near the identity. norm: batch norm of
    samples. pool: what is read out of the last layer, `mean` or `max` over all rotations. grid: of the samples, the
    code's, or `mw`, half as many.
    """

    features: tuple[int, ...] = (1, 20, 40)
    limits: tuple[int, ...] = (30, 10, 6)
    classes: int = 10
    equator: bool = False
    norm: bool = False
    pool: str = "mean"
    grid: str = "driscoll_healy"

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

    def spec(self, name: str = "cohen") -> str:
        """The spec of the package to compile: `Conv1`, `Grid1`, `Conv2`, `Grid2`, .."""
        return spec_text(name, self.spec_layers())

    def spec_layers(self) -> list[dict[str, Any]]:
        """The same as tables: of every layer a correlation, and the transform to its samples and back."""
        found: list[dict[str, Any]] = []
        before: Any = signal_type(self.features[0], self.limits[0])
        filters = "equatorial" if self.equator else "near_identity"
        for i, (channels, limit) in enumerate(zip(self.features[1:], self.limits[1:], strict=True), 1):
            kind = "sphere_conv" if i == 1 else "rotation_conv"
            conv = {"kind": kind, "name": f"Conv{i}", "in": before, "out": rotation_type(channels, limit)}
            transform = {"kind": "transform", "name": f"Grid{i}", "in": f"Conv{i}", "space": "rotations"}
            found += [{**conv, "grid": filters}, {**transform, "grid": self.grid}]
            before = f"Conv{i}"
        return found

    def layers(self, package: ModuleType) -> nn.Sequential:
        """Correlations and activations in turn, from signals on the sphere to signals on the rotation group."""
        found: list[nn.Module] = []
        for i, channels in enumerate(self.features[1:], 1):
            function = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU()) if self.norm else nn.ReLU()
            transform: nn.Module = getattr(package, f"Grid{i}")()
            found += [getattr(package, f"Conv{i}")(), RotationActivation(transform, function)]
        return nn.Sequential(*found)


class Cohen(nn.Module):
    """Signals on the sphere (batch, channel) of `signal_type(features[0], limits[0])` -> (batch, classes).

    package: the module compiled from `config.spec()`.
    """

    def __init__(self, package: ModuleType, config: CohenConfig | None = None) -> None:
        super().__init__()
        config = config or CohenConfig()
        self.pool = config.pool
        self.layers = config.layers(package)
        self.head = nn.Linear(config.features[-1], config.classes)

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, channel) -> (batch, classes)."""
        last = self.layers[-1]
        assert isinstance(last, RotationActivation)
        transform: Any = last.transform
        samples = last.function(transform.synthesis(self.layers[:-1](signals)))  # pooled as they are
        # over (batch, signal, beta, alpha, gamma)
        pooled = torch.amax(samples, (2, 3, 4)) if self.pool == "max" else transform.mean(samples)
        output: Tensor = self.head(pooled)
        return output
