"""Products of fields: the nonlinearity that mixes degrees."""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from .constants import constant
from .fields import FieldType, FieldTypeLike, Term, as_field_type, describe, split_terms, voxels_last
from .layer import FieldLayer
from .so3 import coupling


class TensorProductActivation(FieldLayer):
    """Products of fields copy by copy, coupled to all degrees up to `max_degree`; follow it by Linear to mix them.

        h_k = sum_mn C^(l l' -> J)[m, n, k] f_m g_n        for every pair of terms f, g and every J

    C is orthonormal, so that independent fields of unit variance have products of unit variance. The square of a term
    has even J only: f x f = 0. Parities multiply. Meant for low degrees: the intermediate values are those of f g^T.

    in_type: terms of one multiplicity. out_type: one term per product, ordered by degree, then by the pair of terms.
    Raises ValueError if the multiplicities differ.
    Source: Kondor, Lin and Trivedi, "Clebsch-Gordan Nets", 2018; channel-wise as in Cobb et al., 2021.
    """

    def __init__(self, in_type: FieldTypeLike, *, max_degree: int) -> None:
        in_type = as_field_type(in_type)
        if len({term.multiplicity for term in in_type}) > 1:
            raise ValueError(
                f"TensorProductActivation multiplies copy by copy, but the terms of {describe(in_type)} differ in "
                "multiplicity. Bring them to one with Linear."
            )
        paths = _paths(in_type, max_degree)
        super().__init__(in_type, [_product(in_type[i], in_type[j], degree) for degree, i, j in paths])
        self.paths = paths

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        parts = [  # (batch, copy, component, voxel)
            part.reshape(batch, term.multiplicity, term.dimension, flat.shape[2])
            for term, part in zip(self.in_type, split_terms(flat, self.in_type), strict=True)
        ]
        products = []
        for (degree, i, j), term in zip(self.paths, self.out_type, strict=True):
            degrees = self.in_type[i].degree, self.in_type[j].degree, degree
            table = constant(coupling, *degrees, dtype=fields.dtype, device=fields.device)  # C of the path
            coupled = torch.einsum("mnk,bumv->bunkv", table, parts[i])  # (batch, copy, n, k, voxel)
            product = (coupled * parts[j].unsqueeze(3)).sum(2)  # (batch, copy, component of the product, voxel)
            products.append(product.reshape(batch, term.channels, *space))  # (batch, channel, *space)
        return torch.cat(products, 1)


def _paths(field_type: FieldType, max_degree: int) -> list[tuple[int, int, int]]:
    """(degree of the product, first term, second term) of every product that is not zero, in order."""
    paths = []
    for i, j in combinations_with_replacement(range(len(field_type)), 2):
        first, second = field_type[i].degree, field_type[j].degree
        for degree in range(abs(first - second), min(first + second, max_degree) + 1):
            if i != j or degree % 2 == 0:
                paths.append((degree, i, j))
    return sorted(paths)


def _product(first: Term, second: Term, degree: int) -> Term:
    parity = None if first.parity is None or second.parity is None else first.parity * second.parity
    return Term(first.multiplicity, degree, parity)
