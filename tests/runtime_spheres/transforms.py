"""Small dense transforms for the tests, made of harmonics and D^l at the points of a grid: no part of the product."""

import math

import numpy as np
import torch
from torch import nn

from runtime.fields import as_field_type, split_terms
from runtime.so3 import wigner_d
from runtime.spheres.rings import directions
from runtime.spheres.signals import harmonics


def gauss_rings(limit):
    """Colatitudes and weights (ring,), the weights of an integral over the sphere with 2 limit - 1 longitudes."""
    nodes, weights = np.polynomial.legendre.leggauss(limit)
    return torch.from_numpy(np.arccos(nodes[::-1].copy())), torch.from_numpy(weights[::-1].copy()) * 2 * math.pi


class Transform(nn.Module):
    """Channels (batch, channel) of whole signals <-> (batch, copy, point)."""

    def __init__(self, synthesis, analysis, multiplicity, degrees):
        super().__init__()
        self.sizes = [fragments * (2 * l + 1) for l, fragments in enumerate(degrees)]
        self.field_type = as_field_type([(multiplicity * fragments, l, None) for l, fragments in enumerate(degrees)])
        self.multiplicity = multiplicity
        self.register_buffer("to_points", synthesis, persistent=False)  # (point, coefficient)
        self.register_buffer("to_coefficients", analysis, persistent=False)

    def synthesis(self, fields):
        parts = split_terms(fields, self.field_type)
        packed = [
            torch.unflatten(part, 1, (self.multiplicity, size)) for part, size in zip(parts, self.sizes, strict=True)
        ]
        return torch.cat(packed, 2) @ self.to_points.to(fields).mT

    def analysis(self, samples):
        packed = samples @ self.to_coefficients.to(samples).mT
        return torch.cat([part.flatten(1, 2) for part in torch.split(packed, self.sizes, 2)], 1)


def sphere_transform(multiplicity, limit):
    """On a Gauss grid."""
    colatitudes, weights = gauss_rings(limit)
    points = directions(colatitudes, 2 * limit - 1).reshape(-1, 3)
    area = (weights / (2 * limit - 1)).repeat_interleave(2 * limit - 1)
    table = harmonics(limit, points)
    return Transform(table, table.mT * area, multiplicity, [1] * limit)


def rotation_transform(multiplicity, limit):
    """The same on the rotation group, alpha and gamma equidistant, beta at Gauss nodes."""
    grid = limit
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
    return Transform(table, table.mT * area, multiplicity, degrees)
