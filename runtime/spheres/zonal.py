"""Convolution of signals on the sphere with zonal filters: Esteves et al. 2018.

    (f * h)_lm = 2 pi sqrt(4 pi / (2l+1)) f_lm h_l

h_l, the spectrum of a filter that is symmetric about the pole, is learned at a few anchors and linear between them,
which makes the filter local. Source: arXiv:1711.06721, section 4; public code daniilidis-group/spherical-cnn.
"""

import math

import torch
from torch import Tensor, nn

from runtime.constants import constant
from runtime.fields import split_terms, voxels_last
from runtime.layer import FieldLayer
from runtime.spheres.signals import signal_type


class ZonalConv(FieldLayer):
    """Every signal out is a sum of signals in, each convolved with a separate zonal filter.

    channels, out_channels: signals in and out. limit: band limit of both. anchors: places in the spectrum where it is
    learned, from degree 0 to limit - 1, at equal distances. bias: one number for each signal out, at degree 0.

    State: weight (channel in, anchor, channel out), as in the source; bias (channel out).
    Raises ValueError if there are fewer degrees than anchors.
    """

    def __init__(self, channels: int, out_channels: int, limit: int, *, anchors: int = 8, bias: bool = False) -> None:
        if not 1 <= anchors <= limit:
            raise ValueError(f"ZonalConv: {anchors} anchors do not lie apart on {limit} degrees. Take 1 to {limit}.")
        super().__init__(signal_type(channels, limit), signal_type(out_channels, limit))
        self.limit, self.anchors = limit, anchors
        deviation = 1 / (math.pi * math.sqrt(limit * channels))  # the source's: the 2 of a rectifier is in it
        self.weight = nn.Parameter(torch.empty(channels, anchors, out_channels))
        nn.init.trunc_normal_(self.weight, 0.0, deviation, -2 * deviation, 2 * deviation)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def spectrum(self) -> Tensor:
        """What multiplies each degree, (degree, channel out, channel in)."""
        table = constant(_scaled, self.limit, self.anchors, dtype=self.weight.dtype, device=self.weight.device)
        return torch.einsum("la,iao->loi", table, self.weight)  # (degree, channel out, channel in)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        self.check_dtype(fields, self.weight)
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        parts = []
        pairs = zip(self.in_type, split_terms(flat, self.in_type), strict=True)
        for (term, part), out, matrix in zip(pairs, self.out_type, self.spectrum().unbind(0), strict=True):
            # (copy out, copy in) @ (batch, copy in, component and voxel)
            mixed = matrix @ part.reshape(batch, term.multiplicity, term.dimension * flat.shape[2])
            if term.degree == 0 and self.bias is not None:
                mixed = mixed + self.bias[:, None].to(mixed.dtype)
            parts.append(mixed.reshape(batch, out.channels, *space))  # (batch, channel out, *space)
        return torch.cat(parts, 1)


def _scaled(limit: int, anchors: int) -> Tensor:
    """float64 (degree, anchor): linear interpolation between anchors, times 2 pi sqrt(4 pi / (2l+1))."""
    degrees = torch.arange(limit, dtype=torch.float64)
    place = degrees * (anchors - 1) / max(limit - 1, 1)
    hats = (1 - (place[:, None] - torch.arange(anchors, dtype=torch.float64)).abs()).clamp_min(0)
    return hats * (2 * math.pi * (4 * math.pi / (2 * degrees + 1)).sqrt())[:, None]
