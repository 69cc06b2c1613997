"""The steerable network of each preset and its conventional counterpart: same sizes, same strides, same training.

`sync`: batch norms take their means over the samples of all processes, on any device; nn.SyncBatchNorm needs a GPU.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

import runtime
from examples.common.on_sphere import convolutions, on_sphere
from examples.common.stack import ACTIVATIONS
from examples.tetris.preset import Preset
from examples.tetris.shapes import SHAPES


class Steerable(nn.Module):
    """Gated convolutions, each stride behind a low-pass, the mean over all voxels, and one linear map of its scalars.

    Scalars 0o, which a reflection negates, enter the linear map beside 0e: so mirror images can be told apart.
    With a transform in the package functions on the sphere take the place of gates, behind the stride.
    """

    def __init__(self, package: ModuleType, preset: Preset, *, sync: bool = False) -> None:
        super().__init__()
        size, layers = preset.raster.size, []
        function = ACTIVATIONS[preset.activation]
        for convolution, stride, padding in zip(convolutions(package), preset.strides, preset.paddings, strict=True):
            late = on_sphere(package, convolution.out_type, function)
            gate = [] if late else [runtime.Gate(convolution.out_type, activation=function)]
            layers += [convolution(padding=padding), *gate]
            size += 2 * padding - convolution.kernel_size[0] + 1
            if stride > 1:
                layers.append(_down(layers[-1].out_type, stride, size, preset.lowpass))
                size = (size + stride - 1) // stride
            if late:
                layers.append(late)
        layers.append(runtime.GlobalMean(layers[-1].out_type))
        if preset.feature_norm:
            eps, momentum = preset.feature_eps, preset.norm_momentum
            layers.append(runtime.BatchNorm(layers[-1].out_type, eps=eps, momentum=momentum, sync=sync))
        self.fields = nn.Sequential(*layers)
        self.feature_length = preset.feature_norm or 1.0
        self.classify = nn.Linear(sum(multiplicity for multiplicity, _, _ in layers[-1].out_type), len(SHAPES))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> logits (batch, 8)."""
        return self.classify(self.feature_length * self.fields(volumes))


class Conventional(nn.Module):
    """Plain convolutions with batch norm and ReLU, the same strides, global mean, linear."""

    def __init__(self, preset: Preset, *, sync: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        sizes = (preset.conventional_widths, preset.kernel_sizes, preset.strides, preset.paddings)
        for width, kernel_size, stride, padding in zip(*sizes, strict=True):
            conv = nn.Conv3d(channels, width, kernel_size, stride, padding, bias=False)
            norm = runtime.BatchNorm(f"{width}x0", momentum=preset.norm_momentum, sync=sync)
            layers += [conv, norm, nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classify = nn.Linear(channels, len(SHAPES))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> logits (batch, 8)."""
        return self.classify(self.features(volumes))


def _down(field_type: runtime.FieldType, stride: int, size: int, lowpass: bool) -> nn.Module:
    """Every `stride`-th voxel, behind a Gaussian; an even kernel for an even volume keeps the centre in its place.

    Without the Gaussian voxel 0 is kept, and the next `stride`-th ones: as many voxels.
    """
    if lowpass:
        return runtime.LowPass(field_type, stride=stride, kernel_size=6 if size % 2 == 0 else 5)
    return nn.AvgPool3d(1, stride)
