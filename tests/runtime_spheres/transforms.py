"""Small dense transforms for the tests, made of harmonics and D^l at the points of a grid: no part of the product."""

import math

import numpy as np
import torch
from torch import nn

from runtime.fields import as_field_type, split_terms
from runtime.so3 import wigner_d
from runtime.spheres.rings import directions
from runtime.spheres.signals import band_limit, harmonics, signal_type


def gauss_rings(limit):
    """Colatitudes and weights (ring,), the weights of an integral over the sphere with 2 limit - 1 longitudes."""
    nodes, weights = np.polynomial.legendre.leggauss(limit)
    return torch.from_numpy(np.arccos(nodes[::-1].copy())), torch.from_numpy(weights[::-1].copy()) * 2 * math.pi


class Synthesis(nn.Module):
    """Channels (batch, channel, *space) of whole signals -> (batch, copy, point, *space)."""

    def __init__(self, table, copies, degrees):
        super().__init__()
        self.degrees = degrees
        self.in_type = as_field_type([(copies * fragments, l, None) for l, fragments in enumerate(degrees)])
        self.out_type = self.in_type  # samples have none
        self.copies = copies
        self.register_buffer("table", table, persistent=False)  # (point, coefficient)

    def forward(self, fields):
        parts = zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        packed = [torch.unflatten(part, 1, (self.copies, term.channels // self.copies)) for term, part in parts]
        return torch.einsum("pc,bkc...->bkp...", self.table.to(fields), torch.cat(packed, 2))


class Analysis(Synthesis):
    """The inverse; the table is (coefficient, point)."""

    def forward(self, samples):
        packed = torch.einsum("cp,bkp...->bkc...", self.table.to(samples), samples)
        sizes = [fragments * (2 * l + 1) for l, fragments in enumerate(self.degrees)]
        return torch.cat([part.flatten(1, 2) for part in torch.split(packed, sizes, 2)], 1)


def sphere_pair(copies, limit, factor=2.0, kept=None):
    """Synthesis and analysis on a Gauss grid of `factor` times the band limit."""
    kept = kept or limit
    grid = math.ceil(factor * limit)
    colatitudes, weights = gauss_rings(grid)
    points = directions(colatitudes, 2 * grid - 1).reshape(-1, 3)
    area = (weights / (2 * grid - 1)).repeat_interleave(2 * grid - 1)
    assert band_limit(signal_type(copies, limit)) == limit
    return (
        Synthesis(harmonics(limit, points), copies, [1] * limit),
        Analysis(harmonics(kept, points).mT * area, copies, [1] * kept),
    )


def rotation_pair(copies, limit, factor=2.0):
    """The same on the rotation group, alpha and gamma equidistant, beta at Gauss nodes."""
    grid = math.ceil(factor * limit)
    colatitudes, weights = gauss_rings(grid)
    turns = 2 * math.pi * torch.arange(2 * grid - 1, dtype=torch.float64) / (2 * grid - 1)

    def about(axis, angle):  # axis 1 is the pole
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        r = torch.eye(3, dtype=torch.float64).repeat(*angle.shape, 1, 1)
        r[..., i, i] = r[..., j, j] = angle.cos()
        r[..., j, i], r[..., i, j] = angle.sin(), -angle.sin()
        return r

    r = about(1, turns)[:, None, None] @ about(0, colatitudes)[:, None] @ about(1, turns)  # (alpha, beta, gamma)
    area = (weights / weights.sum() / (2 * grid - 1) ** 2)[None, :, None].expand(r.shape[:3]).reshape(-1)
    rows = []
    for l in range(limit):
        # f(R) = sum_mn f_nm D_mn(R) sqrt(2l+1): m is mixed by rotations, n numbers the fragments
        rows.append(wigner_d(l, r.reshape(-1, 3, 3)).mT.flatten(1) * math.sqrt(2 * l + 1))
    table = torch.cat(rows, 1)
    degrees = [2 * l + 1 for l in range(limit)]
    return Synthesis(table, copies, degrees), Analysis(table.mT * area, copies, degrees)
