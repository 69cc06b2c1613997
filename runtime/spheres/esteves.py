"""The spherical network of Esteves et al. 2018, two branches: zonal filters, PReLU on samples, area-weighted pooling.

Each layer: analysis -> zonal convolution -> synthesis -> batch norm without scale -> PReLU [-> 2x2 weighted average].
At layers that pool the first branch also receives the second. Widths, anchors and counts of parameters are those of the
public code (daniilidis-group/spherical-cnn, params/model-64.txt). The rings of the generated grid lie half a step south
of the code's.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .pooling import SphereMean, WeightedAveragePool
from .signals import as_channels, as_packed, signal_type
from .specs import spec_text

BRANCHES = ("First", "Second")


@dataclass(frozen=True)
class EstevesConfig:
    """Sizes of a two-branch network; the defaults are the source's.

    size: rings and longitudes of the input. widths: of each layer. pools: layers behind which the samples are halved,
    where the first branch receives the second. auxiliary: a second head, on the second branch.
    """

    size: int = 64
    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 128, 128)
    pools: tuple[int, ...] = (2, 4, 6)
    anchors: int = 8
    classes: int = 40
    auxiliary: bool = True

    def __post_init__(self) -> None:
        smallest = self.size >> len(self.pools)
        if smallest < 4 or smallest % 2 or smallest << len(self.pools) != self.size:
            raise ValueError(f"size {self.size} cannot be halved {len(self.pools)} times down to 4 rings or more.")

    @property
    def sizes(self) -> list[int]:
        """The number of rings at each layer."""
        return [self.size >> sum(pool < layer for pool in self.pools) for layer in range(len(self.widths))]

    def spec(self, name: str = "esteves") -> str:
        """The spec of the package to compile: a transform of one signal for each size, `Transform64`, ..; and the
        filters of each layer in both branches, `First1`, `Second1`, `First2`, .."""
        return spec_text(name, self.spec_layers())

    def spec_layers(self) -> list[dict[str, Any]]:
        """The same as tables."""
        sizes = sorted(set(self.sizes), reverse=True)
        transform = {"kind": "transform", "grid": "driscoll_healy"}
        layers: list[dict[str, Any]] = [
            {**transform, "name": f"Transform{n}", "in": signal_type(1, n // 2)} for n in sizes
        ]
        for layer, (width, size) in enumerate(zip(self.widths, self.sizes, strict=True)):
            before, limit = (self.widths[layer - 1] if layer else 1), size // 2
            for branch in BRANCHES:
                arriving = 2 * before if branch == "First" and layer in self.pools else before
                ends = {"in": signal_type(arriving, limit), "out": signal_type(width, limit)}
                anchors = min(self.anchors, limit)
                layers.append({"kind": "zonal", "name": f"{branch}{layer + 1}", **ends, "anchors": anchors})
        return layers


class Esteves(nn.Module):
    """Two-branch network: samples (batch, 2, size, size), a channel for each branch -> (batch, classes).

    package: the module compiled from `config.spec()`.
    """

    def __init__(self, package: ModuleType, config: EstevesConfig | None = None) -> None:
        super().__init__()
        config = config or EstevesConfig()
        self.pools = config.pools
        transforms = {n: getattr(package, f"Transform{n}")() for n in set(config.sizes)}
        self.branches = nn.ModuleList(
            nn.ModuleList(
                ZonalBlock(transforms[size], getattr(package, f"{branch}{layer}")(bias=False))
                for layer, size in enumerate(config.sizes, 1)
            )
            for branch in BRANCHES
        )
        self.pooling = nn.ModuleList(
            WeightedAveragePool(_colatitudes(transforms[config.sizes[pool]])) for pool in config.pools
        )
        self.mean = SphereMean(_colatitudes(transforms[config.sizes[-1]]))
        self.head = nn.Linear(2 * config.widths[-1], config.classes)
        self.auxiliary = nn.Linear(config.widths[-1], config.classes) if config.auxiliary else None

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, 2, ring, longitude) -> (batch, classes)."""
        output: Tensor = self.head(torch.cat(self.features(samples), 1))
        return output

    def both(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of both heads, whose losses the source adds."""
        if self.auxiliary is None:
            raise ValueError("this network has no second head: make it with auxiliary=True.")
        first, second = self.features(samples)
        return self.head(torch.cat([first, second], 1)), self.auxiliary(second)

    def features(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """What the branches say of the whole sphere, (batch, width) each."""
        first, second = samples[:, :1], samples[:, 1:]
        pooling = iter(self.pooling)
        for layer, (block, other) in enumerate(zip(*self.branches, strict=True)):
            if layer in self.pools:
                first = torch.cat([first, second], 1)
            first, second = block(first), other(second)
            if layer in self.pools:
                pool = next(pooling)
                first, second = pool(first), pool(second)
        return self.mean(first), self.mean(second)


class ZonalBlock(nn.Module):
    """Zonal convolution between samples, batch norm without scale, PReLU for each channel.

    transform, conv: generated layers, the transform of one signal.
    """

    def __init__(self, transform: Any, conv: Any) -> None:
        super().__init__()
        self.transform, self.conv = transform, conv
        out_channels: int = conv.signals_out
        self.norm = nn.BatchNorm2d(out_channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(out_channels, 1, 1))
        self.activation = nn.PReLU(out_channels, 0.1)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, channel, ring, longitude) -> (batch, channel out, ring, longitude)."""
        batch, channels = samples.shape[:2]
        packed = self.transform.analysis(samples.flatten(0, 1).unsqueeze(1))  # (batch and channel, coefficient)
        # (batch, channel, coefficient) -> (batch, channel and coefficient)
        fields = self.conv(as_channels(packed.reshape(batch, channels, packed.shape[1])))
        mixed = as_packed(fields, self.conv.out_type)  # (batch, channel out, coefficient)
        # (batch, channel out, ring, longitude)
        output = self.transform.synthesis(mixed.flatten(0, 1)).reshape(batch, mixed.shape[1], *samples.shape[2:])
        activated: Tensor = self.activation(self.norm(output) + self.shift)
        return activated


def _colatitudes(transform: Any) -> Tensor:
    heights: Tensor = transform.directions()[:, 0, 1]
    return heights.clamp(-1, 1).arccos()
