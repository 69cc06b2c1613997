"""The two networks most experiments train: convolutions one after another, the mean over all voxels, a linear map.

The conventional one has as many channels where the steerable one has fields; sizes, strides and training are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor, nn

import runtime
from examples.common.on_sphere import Unchanged, convolutions, on_sphere

ACTIVATIONS = {"relu": nn.functional.relu, "silu": nn.functional.silu}


@dataclass(frozen=True)
class Stack:
    """What the preset says of both networks.

    strides         of the convolutions in order
    padding         voxels around the volume; -1: as many as keep its size
    size            voxels per axis of the input, needed to keep strided grids centred on it
    norm            batch norm: of the steerable fields before every convolution but the first, of the conventional
                    channels after every convolution
    activation      relu or silu, of scalars and channels
    feature_norm    batch norm of the features, after the mean over the voxels
    """

    strides: tuple[int, ...]
    size: int
    padding: int = -1
    norm: bool = True
    activation: str = "relu"
    feature_norm: bool = False


class SteerableStack(nn.Module):
    """Gated blocks, each stride behind a low-pass; the last convolution of the package gives scalars only.

    With a transform in the package functions on the sphere take the place of gates, behind the stride.

    Raises ValueError unless there is a stride for every convolution of the package.
    """

    def __init__(self, package: ModuleType, stack: Stack, classes: int) -> None:
        super().__init__()
        blocks, size = [], stack.size
        function = ACTIVATIONS[stack.activation]
        for index, (convolution, stride) in enumerate(zip(convolutions(package), stack.strides, strict=True)):
            kernel = convolution.kernel_size[0]
            padding = kernel // 2 if stack.padding < 0 else stack.padding
            size += 2 * padding - kernel + 1
            late = on_sphere(package, convolution.out_type, function)
            block = runtime.GatedBlock(
                convolution(padding=padding),
                stride=stride,
                low_pass_size=6 if size % 2 == 0 else 5,  # an even kernel for an even size keeps the centre in place
                norm=runtime.BatchNorm if stack.norm and index else None,
                activation=Unchanged if late else lambda terms: runtime.Gate(terms, activation=function),
            )
            blocks += [block, late] if late else [block]
            size = (size + stride - 1) // stride
        out_type = blocks[-1].out_type
        if any(term.degree for term in out_type):
            raise ValueError(f"the last convolution gives {runtime.fields.describe(out_type)}: write scalars only.")
        self.fields = nn.Sequential(*blocks, runtime.GlobalMean(out_type))
        self.classify = _classifier(sum(term.multiplicity for term in out_type), classes, stack.feature_norm)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> logits (batch, class)."""
        return self.classify(self.fields(volumes))


class ConventionalStack(nn.Module):
    """Plain strided convolutions with batch norm; `widths` are their channels out."""

    def __init__(self, in_channels: int, widths: Sequence[int], kernel_size: int, stack: Stack, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        padding = kernel_size // 2 if stack.padding < 0 else stack.padding
        activation = {"relu": nn.ReLU, "silu": nn.SiLU}[stack.activation]
        for width, stride in zip(widths, stack.strides, strict=True):
            layers.append(nn.Conv3d(in_channels, width, kernel_size, stride, padding, bias=not stack.norm))
            layers += [nn.BatchNorm3d(width), activation()] if stack.norm else [activation()]
            in_channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classify = _classifier(in_channels, classes, stack.feature_norm)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> logits (batch, class)."""
        return self.classify(self.features(volumes))


def _classifier(features: int, classes: int, norm: bool) -> nn.Module:
    linear = nn.Linear(features, classes)
    return nn.Sequential(nn.BatchNorm1d(features), linear) if norm else linear
