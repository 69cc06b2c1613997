"""Mixing of fields at each voxel: the equivariant 1x1x1 convolution."""

import math

import torch
from torch import Tensor, nn

from .fields import FieldTypeLike, describe, split_terms, voxels_last
from .layer import FieldLayer


class Linear(FieldLayer):
    """Linear mixing of field copies of equal degree and parity: all an equivariant map can do at one voxel.

        g_w = sum_u W[w, u] f_u (+ bias_w for even scalars)        u: copies in, w: copies out, of one degree

    Weights are drawn with variance 1 / fan-in, so that unit variance is kept. By Schur's lemma no other degree mixes.

    State: weights, one (copy out, copies in) per term of `out_type`; bias (even scalar copy out) if `bias`.
    Raises ValueError if a term of `out_type` has a degree and parity that `in_type` lacks.
    """

    def __init__(self, in_type: FieldTypeLike, out_type: FieldTypeLike, *, bias: bool = True) -> None:
        super().__init__(in_type, out_type)
        self._sources = tuple(
            tuple(i for i, source in enumerate(self.in_type) if source[1:] == term[1:]) for term in self.out_type
        )
        self.weights = nn.ParameterList()
        for term, sources in zip(self.out_type, self._sources, strict=True):
            if not sources:
                raise ValueError(
                    f"Linear cannot make {term} from {describe(self.in_type)}, which has no field of that degree and "
                    "parity. Leave the term out, or use a convolution."
                )
            fan_in = sum(self.in_type[i].multiplicity for i in sources)
            self.weights.append(nn.Parameter(torch.randn(term.multiplicity, fan_in) / math.sqrt(fan_in)))
        scalars = sum(term.multiplicity for term in self.out_type if term.is_even_scalar)
        self.bias = nn.Parameter(torch.zeros(scalars)) if bias and scalars else None
        self._biases = [term.multiplicity if term.is_even_scalar else 0 for term in self.out_type]

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        self.check_dtype(fields, self.weights[0])
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        voxels = flat.shape[2]
        copies = [  # (batch, copy, component * voxel)
            part.reshape(batch, term.multiplicity, term.dimension * voxels)
            for part, term in zip(split_terms(flat, self.in_type), self.in_type, strict=True)
        ]
        biases = torch.split(self.bias, self._biases) if self.bias is not None else [None] * len(self.out_type)
        outputs = []
        for weight, sources, bias in zip(self.weights.parameters(), self._sources, biases, strict=True):
            source = copies[sources[0]] if len(sources) == 1 else torch.cat([copies[i] for i in sources], 1)
            mixed = torch.bmm(weight.expand(batch, *weight.shape), source)  # (batch, copy out, component * voxel)
            outputs.append(mixed + bias[:, None].to(mixed.dtype) if bias is not None and len(bias) else mixed)
        parts = zip(outputs, self.out_type, strict=True)
        # (batch, channel, *space)
        return torch.cat([output.reshape(batch, term.channels, *space) for output, term in parts], 1)
