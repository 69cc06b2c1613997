"""Fields on volumes: how to turn them, and how to make them from points.

A rotation r moves a field f to f'(x) = D(r) f(r^-1 x): every vector is carried to its new place and turned there.
Rotations are about the centre of the volume.
"""

import torch
from torch import Tensor

from runtime.fields import FieldTypeLike, as_field_type, split_terms
from runtime.so3 import wigner_d


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
