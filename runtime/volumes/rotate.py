"""Fields on volumes: how to turn them, and how to make them from points.

A rotation r moves a field f to f'(x) = D(r) f(r^-1 x): every vector is carried to its new place and turned there.
Rotations are about the centre of the volume, in space: voxels are cubes unless `voxel_spacing` says otherwise.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..fields import FieldTypeLike, as_field_type, channel_count, describe, split_terms, voxels_last
from ..layer import FieldLayer, check_real, is_readable, lengths_per_axis, per_axis
from ..so3 import CUBE_TURNS, cube_turns, random_rotations, wigner_d

Spacing = float | Iterable[float]  # of the voxels, the same along x, y and z or one for each


def mix_components(fields: Tensor, rotation: Tensor, field_type: FieldTypeLike) -> Tensor:
    """D(r) f at every voxel: the components of each field mixed, no voxel moved.

    fields: (batch, channel, *space). rotation: (3, 3), or (batch, 3, 3) for one rotation per sample.
    Raises TypeError for integer and complex fields, ValueError for another number of channels.
    """
    terms = as_field_type(field_type)
    check_real(fields, "a rotation of fields")
    if fields.ndim < 2 or fields.shape[1] != channel_count(terms):
        raise ValueError(
            f"field type {describe(terms)} has {channel_count(terms)} channels, on axis 1, but the fields have shape "
            f"{tuple(fields.shape)}."
        )
    flat, mixed = voxels_last(fields), []
    for term, field in zip(terms, split_terms(flat, terms), strict=True):
        matrix = wigner_d(term.degree, rotation, term.parity).to(fields)
        # (batch, copy, component, voxel)
        copies = field.reshape(field.shape[0], term.multiplicity, term.dimension, field.shape[2])
        mixed.append((matrix[..., None, :, :] @ copies).reshape(field.shape))  # of (batch, copy, component, voxel)
    return torch.cat(mixed, 1).reshape(fields.shape)


def turn_field(fields: Tensor, turn: Tensor, field_type: FieldTypeLike) -> Tensor:
    """The field turned by an element of the cube group: exact, as voxels map to voxels.

    fields: (batch, channel, x, y, z), or (batch, channel) for fields without a place. turn: (3, 3) signed permutation.
    """
    fields = mix_components(fields, turn, field_type)
    if fields.ndim == 2:
        return fields
    axes = turn.abs().argmax(1).tolist()  # axis i of the result is axis axes[i] of the field, reversed if negative
    flipped = [2 + i for i, axis in enumerate(axes) if turn[i, axis] < 0]
    return fields.permute(0, 1, *(2 + axis for axis in axes)).flip(flipped)


def rotate_field(
    fields: Tensor, rotation: Tensor, field_type: FieldTypeLike, *, voxel_spacing: Spacing = 1.0
) -> Tensor:
    """The field turned by any rotation about the centre, trilinear between the voxels, zero outside the volume.

    fields: (batch, channel, x, y, z), any sizes. rotation: (3, 3), or (batch, 3, 3) for one per sample. Voxels are
    cubes unless `voxel_spacing` says otherwise; its unit does not matter.
    """
    wide = mix_components(fields, rotation, field_type).to(torch.promote_types(fields.dtype, torch.float32))
    spacing = lengths_per_axis("rotate_field: voxel_spacing", voxel_spacing)
    extents = torch.cat(
        [torch.full((1,), n * s, dtype=torch.float64) for n, s in zip(fields.shape[2:], spacing, strict=True)]
    ).to(rotation.device)
    # grid_sample reads at (z, y, x), each from -1 to 1 over its extent: x_old = r^-1 x_new in space, scaled to that
    theta = rotation.double().mT.expand(fields.shape[0], 3, 3) * extents / extents[:, None]
    theta = torch.cat([theta.flip(1, 2), theta.new_zeros(fields.shape[0], 3, 1)], 2).to(wide)
    if fields.shape[0] == 0:  # torch makes no grid for no sample
        return wide.to(fields.dtype)
    grid = F.affine_grid(theta, list(fields.shape), align_corners=False)
    return F.grid_sample(wide, grid, mode="bilinear", padding_mode="zeros", align_corners=False).to(fields.dtype)


class RandomRotation(FieldLayer):
    """Augmentation: a random rotation of every sample in training, nothing in evaluation.

    Voxels are cubes unless `voxel_spacing` says otherwise. turns_only: draw from the turns of the cube that map the
    voxels of the volume to one another, which need no interpolation between them: all 24 for cubes and equal sizes,
    fewer where spacings or sizes differ.
    """

    def __init__(self, in_type: FieldTypeLike, *, turns_only: bool = False, voxel_spacing: Spacing = 1.0) -> None:
        super().__init__(in_type)
        self.turns_only = turns_only
        self.voxel_spacing = lengths_per_axis("RandomRotation: voxel_spacing", voxel_spacing)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same shape."""
        self.check_volume(fields)
        if not self.training:
            return fields
        if not self.turns_only:
            rotations = random_rotations(fields.shape[0]).to(fields.device)
            return rotate_field(fields, rotations, self.in_type, voxel_spacing=self.voxel_spacing)
        kinds = tuple(zip(fields.shape[2:], self.voxel_spacing, strict=True))
        allowed = [n for n, (axes, _) in enumerate(CUBE_TURNS[:24]) if tuple(kinds[axis] for axis in axes) == kinds]
        turns = cube_turns()[allowed][torch.randint(len(allowed), (fields.shape[0],))].to(fields.device)
        return _moved(mix_components(fields, turns, self.in_type), turns)


def _moved(fields: Tensor, turns: Tensor) -> Tensor:
    """Every voxel of a sample carried to its place by a turn, (batch, 3, 3), that maps the grid to itself."""
    axes = [2 * torch.arange(n, device=fields.device) - (n - 1) for n in fields.shape[2:]]  # twice the offset
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).to(torch.float64)  # (3, voxel)
    x, y, z = (turns.to(places).mT @ places).long().unbind(1)  # where each voxel comes from: (batch, voxel) each
    _, _, X, Y, Z = fields.shape
    sources = (((x + X - 1) // 2) * Y + (y + Y - 1) // 2) * Z + (z + Z - 1) // 2
    flat = fields.flatten(2)  # (batch, channel, voxel)
    return flat.gather(2, sources.unsqueeze(1).expand(flat.shape)).reshape(fields.shape)


def voxelize(
    points: Tensor,
    kinds: Tensor,
    *,
    channels: int,
    size: int | Iterable[int],
    spacing: Spacing = 1.0,
    sigma: float | None = None,
    unit_sum: bool = True,
    chunk: int = 1024,
) -> Tensor:
    """Density of points (atoms): one Gaussian each, one scalar channel per kind.

        density[b, c, x] = sum over points i of kind c:  exp(-|x - p_i|^2 / (2 sigma^2)) / norm_i

    points: (batch, point, 3), in the unit of `spacing`, relative to the centre of the volume. kinds: integers
    (batch, point); a negative kind marks padding of short samples, with any coordinates. spacing: of the
    voxels, one number for cubes or three. sigma: half the longest side of a voxel unless given. unit_sum: every point
    sums to 1 over an infinite grid, so that one near the border loses what lies outside; otherwise its peak is 1.
    Points are worked on `chunk` at a time, which bounds the memory.

    Returns (batch, channel, x, y, z) on the device and in the dtype of `points`, with gradients to them.
    Raises ValueError if the shapes do not fit, sigma is not positive, a point is not finite or a kind is not below
    `channels`. On other devices than the CPU, under a compiler or a transform, the last two give a sample of NaN
    instead: nothing waits for the device.
    """
    check_real(points, "voxelize")
    sizes, spacings = per_axis("voxelize: size", size), lengths_per_axis("voxelize: spacing", spacing)
    _check_points(points, kinds, channels, sigma)
    deviation = 0.5 * max(spacings) if sigma is None else sigma
    points = torch.where((kinds < 0)[..., None], 0.0, points)
    points = torch.where((kinds >= channels)[..., None], math.nan, points)
    volume = points.new_zeros(points.shape[0], channels * sizes[0], sizes[1] * sizes[2])
    members = (kinds[..., None] == torch.arange(channels, device=kinds.device)).to(points)  # (batch, point, channel)
    for part, member in zip(torch.split(points, chunk, 1), torch.split(members, chunk, 1), strict=True):
        x, y, z = (_profile(part[..., i], sizes[i], spacings[i], deviation, unit_sum) for i in range(3))
        rows = (member.unsqueeze(3) * x.unsqueeze(2)).flatten(2)  # (batch, point, channel * x)
        planes = (y.unsqueeze(3) * z.unsqueeze(2)).flatten(2)  # (batch, point, y * z)
        volume = torch.baddbmm(volume, rows.mT, planes)  # (batch, channel * x, y * z)
    return volume.reshape(points.shape[0], channels, *sizes)  # (batch, channel, x, y, z)


def _check_points(points: Tensor, kinds: Tensor, channels: int, sigma: float | None) -> None:
    if points.ndim != 3 or points.shape[2] != 3 or kinds.shape != points.shape[:2]:
        raise ValueError(
            f"voxelize takes points (batch, point, 3) and kinds (batch, point), got {tuple(points.shape)} and "
            f"{tuple(kinds.shape)}. Pad shorter samples with points of kind -1."
        )
    if sigma is not None and not 0 < sigma < math.inf:
        raise ValueError(f"voxelize takes a sigma above 0, in the unit of spacing, got {sigma!r}.")
    if is_readable(points, kinds) and kinds.numel():
        if kinds.max() >= channels:
            raise ValueError(f"voxelize: kind {int(kinds.max())} has no channel, there are {channels}, counted from 0.")
        wrong = ((kinds >= 0) & ~points.isfinite().all(2)).nonzero()
        if len(wrong):
            sample, point = wrong[0].tolist()
            raise ValueError(
                f"voxelize: point {point} of sample {sample} is {points[sample, point].tolist()}. "
                "Give points that are padding the kind -1."
            )


def _profile(positions: Tensor, size: int, spacing: float, sigma: float, unit_sum: bool) -> Tensor:
    """A Gaussian along one axis: positions (batch, point) from the centre -> (batch, point, voxel).

    With k voxels from the nearest one, which is delta away, d^2 = delta^2 + k (k - 2 delta): the nearest voxel's share
    is taken out, so that however narrow the Gaussian, the sum over the grid is not zero.
    """
    precision = 2 * max(sigma / spacing, 1e-6) ** 2
    place = positions / spacing + (size - 1) / 2
    nearest = place.detach().round()
    delta = (place - nearest)[..., None]
    k = torch.arange(size, device=positions.device, dtype=positions.dtype) - nearest[..., None]
    values = torch.exp(-k * (k - 2 * delta) / precision)
    if not unit_sum:
        return values * torch.exp(-delta.square() / precision)
    reach = int(6 * sigma / spacing) + 2
    lattice = torch.arange(-reach, reach + 1, device=positions.device, dtype=positions.dtype)
    return values / torch.exp(-lattice * (lattice - 2 * delta) / precision).sum(2, keepdim=True)


def gradient(scalars: Tensor, *, voxel_spacing: Spacing = 1.0) -> Tensor:
    """Gradient of scalar fields, by central differences: what degree 1 means.

    (batch, copy, x, y, z) of `nx0e` -> (batch, 3 copies, x, y, z) of `nx1o`: component i is the derivative along axis
    i, per unit of `voxel_spacing` (per voxel, and voxels are cubes, unless given), and a rotated scalar field has the
    rotated vectors as its gradient. Zero outside the volume.
    """
    spacing = _spacing_of_volume(scalars, "gradient", voxel_spacing)
    # (batch, copy and component, x, y, z)
    return torch.stack([_derivative(scalars, axis) / spacing[axis] for axis in range(3)], 2).flatten(1, 2)


def curl(vectors: Tensor, *, voxel_spacing: Spacing = 1.0) -> Tensor:
    """Curl of vector fields, by central differences: degree 1 to degree 1, and the parity changes.

    (batch, 3 copies, x, y, z) of `nx1o` -> the same of `nx1e`: (curl f)_i = d_j f_k - d_k f_j, with (i, j, k) cyclic;
    per unit of `voxel_spacing` (per voxel, and voxels are cubes, unless given).
    """
    spacing = _spacing_of_volume(vectors, "curl", voxel_spacing)
    if vectors.shape[1] % 3:
        raise ValueError(f"curl takes vector fields, three channels each, got {vectors.shape[1]} channels.")
    components = vectors.reshape(vectors.shape[0], vectors.shape[1] // 3, 3, *vectors.shape[2:]).unbind(2)

    def along(axis: int, component: int) -> Tensor:
        return _derivative(components[component], axis) / spacing[axis]

    parts = [along(1, 2) - along(2, 1), along(2, 0) - along(0, 2), along(0, 1) - along(1, 0)]
    return torch.stack(parts, 2).flatten(1, 2)  # (batch, copy and component, x, y, z)


def _spacing_of_volume(fields: Tensor, taker: str, voxel_spacing: Spacing) -> Sequence[float]:
    check_real(fields, taker)
    if fields.ndim != 5:
        raise ValueError(f"{taker} takes volumes (batch, channel, x, y, z), got shape {tuple(fields.shape)}.")
    return lengths_per_axis(f"{taker}: voxel_spacing", voxel_spacing)


def _derivative(fields: Tensor, axis: int) -> Tensor:
    """(f(x + 1) - f(x - 1)) / 2 along one spatial axis, zero outside."""
    before, after = [0] * 6, [0] * 6
    before[2 * (2 - axis) : 2 * (2 - axis) + 2] = 1, -1
    after[2 * (2 - axis) : 2 * (2 - axis) + 2] = -1, 1
    return (F.pad(fields, after) - F.pad(fields, before)) / 2
