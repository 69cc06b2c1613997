"""Fields on volumes: how to turn them, and how to make them from points.

A rotation r moves a field f to f'(x) = D(r) f(r^-1 x): every vector is carried to its new place and turned there.
Rotations are about the centre of the volume.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from runtime.fields import FieldTypeLike, as_field_type, split_terms
from runtime.layer import FieldLayer
from runtime.so3 import cube_turns, random_rotations, wigner_d


def mix_components(fields: Tensor, rotation: Tensor, field_type: FieldTypeLike) -> Tensor:
    """D(r) f at every voxel: the components of each field mixed, no voxel moved.

    fields: (batch, channel, *space). rotation: (3, 3), or (batch, 3, 3) for one rotation per sample.
    """
    terms = as_field_type(field_type)
    mixed = []
    for term, field in zip(terms, split_terms(fields, terms), strict=True):
        matrix = wigner_d(term.degree, rotation, term.parity).to(fields)
        copies = field.reshape(field.shape[0], term.multiplicity, term.dimension, -1)
        mixed.append((matrix[..., None, :, :] @ copies).reshape(field.shape))
    return torch.cat(mixed, 1)


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


def rotate_field(fields: Tensor, rotation: Tensor, field_type: FieldTypeLike) -> Tensor:
    """The field turned by any rotation about the centre, trilinear between the voxels, zero outside the volume.

    fields: (batch, channel, x, y, z), any sizes, cubic voxels. rotation: (3, 3), or (batch, 3, 3) for one per sample.
    """
    wide = mix_components(fields, rotation, field_type).to(torch.promote_types(fields.dtype, torch.float32))
    sizes = torch.tensor(fields.shape[2:], dtype=torch.float64)
    # grid_sample reads at (z, y, x), each from -1 to 1 over its size: x_old = r^-1 x_new in voxels, scaled to that
    in_voxels = rotation.double().cpu().mT.expand(len(fields), 3, 3)
    theta = (in_voxels * sizes / sizes[:, None]).flip(1, 2)
    theta = torch.cat([theta, torch.zeros(len(fields), 3, 1, dtype=torch.float64)], 2).to(wide)
    grid = F.affine_grid(theta, list(fields.shape), align_corners=False)
    return F.grid_sample(wide, grid, mode="bilinear", padding_mode="zeros", align_corners=False).to(fields.dtype)


class RandomRotation(FieldLayer):
    """Augmentation: a random rotation of every sample in training, nothing in evaluation.

    turns_only: draw from the 24 turns of the cube, which need no interpolation between voxels (cubic volumes only).
    """

    def __init__(self, in_type: FieldTypeLike, *, turns_only: bool = False) -> None:
        super().__init__(in_type)
        self.turns_only = turns_only

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same shape."""
        self.check_volume(fields)
        if not self.training:
            return fields
        if not self.turns_only:
            return rotate_field(fields, random_rotations(len(fields)), self.in_type)
        turns = cube_turns()[torch.randint(24, (len(fields),))]
        return torch.cat([turn_field(f[None], turn, self.in_type) for f, turn in zip(fields, turns, strict=True)])


def voxelize(
    points: Tensor,
    kinds: Tensor,
    *,
    channels: int,
    size: int | tuple[int, int, int],
    spacing: float = 1.0,
    sigma: float | None = None,
    unit_sum: bool = True,
    chunk: int = 1024,
) -> Tensor:
    """Density of points (atoms): one Gaussian each, one scalar channel per kind.

        density[b, c, x] = sum over points i of kind c:  exp(-|x - p_i|^2 / (2 sigma^2)) / norm_i

    points: (batch, point, 3), in the unit of `spacing`, relative to the centre of the volume. kinds: integers
    (batch, point); a negative kind is no point (padding of short samples). spacing: of the voxels. sigma: half a voxel
    unless given. unit_sum: every point sums to 1 over the endless grid, so that one near the border loses what lies
    outside; otherwise its peak is 1. Points are worked on `chunk` at a time, which bounds the memory.

    Returns (batch, channel, x, y, z) on the device and in the dtype of `points`, with gradients to them.
    Raises ValueError if the shapes do not fit or a kind is not below `channels`.
    """
    sizes = (size, size, size) if isinstance(size, int) else size
    if points.ndim != 3 or points.shape[2] != 3 or kinds.shape != points.shape[:2]:
        raise ValueError(
            f"voxelize takes points (batch, point, 3) and kinds (batch, point), got {tuple(points.shape)} and "
            f"{tuple(kinds.shape)}. Pad shorter samples with points of kind -1."
        )
    if kinds.numel() and int(kinds.max()) >= channels:
        raise ValueError(f"voxelize: kind {int(kinds.max())} has no channel, there are {channels}, counted from 0.")
    width = 0.5 if sigma is None else sigma / spacing
    volume = points.new_zeros(len(points), channels * sizes[0], sizes[1] * sizes[2])
    members = (kinds[..., None] == torch.arange(channels, device=kinds.device)).to(points)  # (batch, point, channel)
    for part, member in zip(torch.split(points, chunk, 1), torch.split(members, chunk, 1), strict=True):
        x, y, z = (_profile(part[..., i] / spacing, sizes[i], width, unit_sum) for i in range(3))
        rows = (member.unsqueeze(3) * x.unsqueeze(2)).flatten(2)  # (batch, point, channel * x)
        planes = (y.unsqueeze(3) * z.unsqueeze(2)).flatten(2)  # (batch, point, y * z)
        volume = torch.baddbmm(volume, rows.mT, planes)
    return volume.view(len(points), channels, *sizes)


def _profile(positions: Tensor, size: int, width: float, unit_sum: bool) -> Tensor:
    """A Gaussian along one axis: positions (batch, point) in voxels from the centre -> (batch, point, voxel)."""
    voxels = torch.arange(size, device=positions.device, dtype=positions.dtype) - (size - 1) / 2
    values = torch.exp(-((voxels - positions[..., None]) ** 2) / (2 * width**2))
    if not unit_sum:
        return values
    reach = int(6 * width) + 2
    lattice = torch.arange(-reach, reach + 1, device=positions.device, dtype=positions.dtype)
    offset = positions - (size - 1) / 2
    total = torch.exp(-((lattice - (offset - offset.round())[..., None]) ** 2) / (2 * width**2)).sum(2, keepdim=True)
    return values / total


def gradient(scalars: Tensor) -> Tensor:
    """Gradient of scalar fields, by central differences: what degree 1 means.

    (batch, copy, x, y, z) of `nx0e` -> (batch, 3 copies, x, y, z) of `nx1o`: component i is the derivative along axis
    i, and a rotated scalar field has the rotated vectors as its gradient. Zero outside the volume.
    """
    return torch.stack([_derivative(scalars, axis) for axis in range(3)], 2).flatten(1, 2)


def curl(vectors: Tensor) -> Tensor:
    """Curl of vector fields, by central differences: degree 1 to degree 1, and the parity changes.

    (batch, 3 copies, x, y, z) of `nx1o` -> the same of `nx1e`: (curl f)_i = d_j f_k - d_k f_j, with (i, j, k) cyclic.
    """
    x, y, z = torch.unflatten(vectors, 1, (-1, 3)).unbind(2)
    parts = [
        _derivative(z, 1) - _derivative(y, 2),
        _derivative(x, 2) - _derivative(z, 0),
        _derivative(y, 0) - _derivative(x, 1),
    ]
    return torch.stack(parts, 2).flatten(1, 2)


def _derivative(fields: Tensor, axis: int) -> Tensor:
    """(f(x + 1) - f(x - 1)) / 2 along one spatial axis, zero outside."""
    before, after = [0] * 6, [0] * 6
    before[2 * (2 - axis) : 2 * (2 - axis) + 2] = 1, -1
    after[2 * (2 - axis) : 2 * (2 - axis) + 2] = -1, 1
    return (F.pad(fields, after) - F.pad(fields, before)) / 2
