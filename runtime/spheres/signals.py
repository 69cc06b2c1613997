"""Signals on the sphere as coefficients: made from points, evaluated, smoothed, rotated.

    f(u) = sum_l sum_m f_lm Y_lm(u),    l < band limit,    integral Y_lm Y_l'm' du = delta delta

Components and phases are those of fields (`runtime.so3`), the pole of the sphere is y. Coefficients have one of two
forms: packed (..., coefficient), number l^2 + l + m; or channels (batch, channel, *space) of the field type
`signal_type(multiplicity, limit)`, which layers take: degree by degree, the copies of each.
"""

import math

import torch
from torch import Tensor

from ..fields import FieldType, FieldTypeLike, as_field_type, describe, split_terms
from ..layer import FieldLayer
from ..so3 import random_rotations, spherical_harmonics
from ..volumes.rotate import mix_components


def signal_type(multiplicity: int, limit: int) -> FieldType:
    """The field type of K = `multiplicity` signals of one band limit: Kx0 + Kx1 + .. + Kx(limit - 1)."""
    return as_field_type([(multiplicity, degree, None) for degree in range(limit)])


def rotation_type(multiplicity: int, limit: int) -> FieldType:
    """The field type of signals on the rotation group: 2 l + 1 fragments of each degree, of `multiplicity` signals."""
    return as_field_type([((2 * degree + 1) * multiplicity, degree, None) for degree in range(limit)])


def band_limit(field_type: FieldTypeLike) -> int:
    """The band limit of a field type made of whole signals. Raises ValueError for any other type."""
    terms = as_field_type(field_type)
    if [term.degree for term in terms] != list(range(len(terms))) or len({term.multiplicity for term in terms}) > 1:
        raise ValueError(
            f"field type {describe(terms)} is not made of signals: write every degree 0, 1, 2, .. once, in this order, "
            "with one multiplicity, as signal_type(multiplicity, limit) does."
        )
    return len(terms)


def as_channels(coefficients: Tensor) -> Tensor:
    """Packed (batch, copy, coefficient, *space) -> channels (batch, channel, *space)."""
    limit = _limit_of(coefficients, 2)
    degrees = torch.split(coefficients, [2 * l + 1 for l in range(limit)], 2)  # (batch, copy, m, *space)
    # (batch, copy, m, *space) -> (batch, channel, *space)
    return torch.cat([part.flatten(1, 2) for part in degrees], 1)


def as_packed(fields: Tensor, field_type: FieldTypeLike) -> Tensor:
    """Channels (batch, channel, *space) of whole signals -> packed (batch, copy, coefficient, *space)."""
    terms = as_field_type(field_type)
    band_limit(terms)
    parts = zip(terms, split_terms(fields, terms), strict=True)
    # (batch, copy, coefficient, *space)
    return torch.cat([torch.unflatten(part, 1, (term.multiplicity, term.dimension)) for term, part in parts], 2)


def harmonics(limit: int, points: Tensor) -> Tensor:
    """Y_lm at unit vectors (..., 3), l < limit, orthonormal on the sphere: (..., coefficient)."""
    degrees = [spherical_harmonics(degree, points) for degree in range(limit)]
    return torch.cat(degrees, -1) / math.sqrt(4 * math.pi)


def sphere_points(count: int) -> Tensor:
    """Unit vectors spread evenly over the sphere along a golden spiral: float64 (count, 3)."""
    index = torch.arange(count, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / count, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)


def evaluate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Values at unit vectors: packed (..., coefficient) and points (point, 3) -> (..., point)."""
    # (..., coefficient) @ (coefficient, point)
    return coefficients @ harmonics(_limit_of(coefficients, -1), points).to(coefficients).mT


def fit(points: Tensor, values: Tensor, limit: int, *, ridge: float = 0.0) -> Tensor:
    """The signal of band limit `limit` closest to values at scattered points, by least squares.

    points: unit vectors (point, 3). values: (..., point). ridge: weight of the signal's own mean square beside the mean
    square error, for points that leave it open. Returns packed (..., coefficient), with gradients to values.

    Raises ValueError if there are fewer points than coefficients and no ridge.
    """
    count = points.shape[0]
    if count < limit**2 and ridge <= 0:
        raise ValueError(
            f"{count} points do not determine the {limit**2} coefficients of band limit {limit}. "
            f"Take a limit of at most {math.isqrt(count)}, or a ridge > 0."
        )
    table = harmonics(limit, points.double()) * math.sqrt(4 * math.pi / count)
    target = values.double() * math.sqrt(4 * math.pi / count)
    if ridge > 0:
        more = math.sqrt(ridge) * torch.eye(limit**2, dtype=table.dtype, device=table.device)
        table = torch.cat([table, more])
        target = torch.cat([target, target.new_zeros(*target.shape[:-1], limit**2)], -1)
    coefficients: Tensor = target @ torch.linalg.pinv(table).mT  # (..., point) @ (point, coefficient)
    return coefficients.to(values)


def point_density(points: Tensor, weights: Tensor, limit: int) -> Tensor:
    """Coefficients of a sum of point masses, f_lm = sum_i weight_i Y_lm(u_i): exact, with gradients to both.

    points: unit vectors (..., point, 3). weights: (..., point). Returns packed (..., coefficient). A sum of masses is
    not band limited; what is cut off is everything of degree `limit` and above. `smooth` makes Gaussians of it.
    """
    return (weights.unsqueeze(-2) @ harmonics(limit, points)).squeeze(-2)  # (..., 1, point) @ (..., point, coefficient)


def smooth(coefficients: Tensor, width: float) -> Tensor:
    """A signal spread by diffusion: a point becomes a Gaussian of `width` radians. f_lm exp(-l (l+1) width^2 / 2).

    coefficients: packed (..., coefficient); the same shape comes back. The integral over the sphere stays.
    """
    degrees = torch.arange(_limit_of(coefficients, -1), dtype=torch.float64)
    factors = torch.exp(-degrees * (degrees + 1) * width**2 / 2).repeat_interleave(2 * degrees.long() + 1)
    return coefficients * factors.to(coefficients)


def power_spectrum(coefficients: Tensor) -> Tensor:
    """Mean square of a coefficient of each degree, invariant: packed (..., coefficient) -> (..., degree)."""
    limit = _limit_of(coefficients, -1)
    degrees = torch.split(coefficients, [2 * l + 1 for l in range(limit)], -1)
    return torch.stack([part.square().mean(-1) for part in degrees], -1)


def rotate_signal(fields: Tensor, rotation: Tensor, field_type: FieldTypeLike) -> Tensor:
    """Signals turned exactly, f(r^-1 u): every degree is mixed by D^l(r).

    fields: channels (batch, channel, *space) of any field type; the places of `space` stay where they are. rotation:
    (3, 3), or (batch, 3, 3) for one per sample. Returns the same shape. Improper ones need parities.
    """
    return mix_components(fields, rotation, field_type)


class RandomSignalRotation(FieldLayer):
    """Augmentation: each sample's signals turned exactly by a different rotation, drawn uniformly.

    Nothing happens in evaluation.
    """

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        if not self.training:
            return fields
        return rotate_signal(fields, random_rotations(fields.shape[0]).to(fields.device), self.in_type)


def _limit_of(coefficients: Tensor, axis: int) -> int:
    count = coefficients.shape[axis]
    limit = math.isqrt(count)
    if limit * limit != count or count == 0:
        raise ValueError(
            f"axis {axis} of shape {tuple(coefficients.shape)} has {count} coefficients, which is not a square: a "
            "signal of band limit L has L^2."
        )
    return limit
