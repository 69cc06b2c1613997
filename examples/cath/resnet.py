"""The two ResNets of 34 layers: Weiler et al. 2018; He et al. 2016.

    stem 7^3 -> stages of 3, 4, 6 and 3 residual blocks of 3^3 convolutions -> global mean -> linear

Steerable: multiplicities 2, 4, 8, 16 of the degrees 0 to 3, the last convolution 256 scalars. Conventional: 32, 64, 128
and 256 channels. Stages 2 to 4 begin with a stride of 2.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

import runtime
from runtime.fields import FieldType, channel_count

BLOCKS = (3, 4, 6, 3)


class SteerableResNet34(nn.Module):
    """Gated residual blocks, (norm, conv, gate, norm, conv; add; gate), and dropout of whole fields after each.

    package: convolutions `Stem`, `Same<s>` within stage s = 1..4, `Widen<s>` into it for s = 2..4, and `Last`. Strides
    are behind the source's average over 3^3 voxels, which on even sizes moves the centre by half a voxel; ours is the
    ready network of `specs/paper_optimal.toml`.
    """

    def __init__(self, package: ModuleType, classes: int, *, dropout: float) -> None:
        super().__init__()
        stem = runtime.GatedBlock(package.Stem())
        layers: list[nn.Module] = [stem]
        for stage, count in enumerate(BLOCKS, start=1):
            same = getattr(package, f"Same{stage}")
            for block in range(count):
                widens = stage > 1 and block == 0
                first = getattr(package, f"Widen{stage}") if widens else same
                last = package.Last if (stage, block) == (len(BLOCKS), count - 1) else same
                layers.append(
                    runtime.ResidualBlock(
                        first(),
                        last(),
                        norm=runtime.BatchNorm,
                        downsample=_average if widens else None,
                    )
                )
                layers.append(runtime.FieldDropout(layers[-1].out_type, dropout))
        out_type = layers[-1].out_type
        self.fields = nn.Sequential(*layers, runtime.GlobalMean(out_type))
        self.classify = nn.Linear(channel_count(out_type), classes)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> logits (batch, class)."""
        return self.classify(self.fields(volumes))


class ResNet34(nn.Module):
    """Conventional blocks, (conv, norm, ReLU, conv, norm; add; ReLU); 1^3 convolutions where sizes change."""

    def __init__(self, classes: int, *, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(1, width, 7, padding=3, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
        channels = width
        for stage, count in enumerate(BLOCKS):
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(_BasicBlock(channels, width << stage, stride))
                channels = width << stage
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classify = nn.Linear(channels, classes)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> logits (batch, class)."""
        return self.classify(self.features(volumes))


class _BasicBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv3d(channels, width, 1, stride, bias=False), nn.BatchNorm3d(width))

    def forward(self, volumes: Tensor) -> Tensor:
        return nn.functional.relu(self.change(volumes) + self.shortcut(volumes))


def _average(field_type: FieldType) -> nn.Module:
    return runtime.AveragePool(field_type, 3, 2, padding=1)
