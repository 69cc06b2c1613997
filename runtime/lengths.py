"""Lengths of fields: what is left of them that no rotation changes."""

import torch
from torch import Tensor

from .fields import FieldTypeLike, Term, as_field_type, copy_count, has_parity, split_terms
from .layer import FieldLayer


class Norm(FieldLayer):
    """Every field becomes an invariant, one even scalar: its length. Even scalars are invariant already, and stay.

        even scalars:     s -> s
        all other fields: f -> |f|, or |f|^2 with `squared`        odd scalars, which reflections change, included

    The way from fields to what need not be equivariant: losses, classifiers, other libraries' layers. |f| has the
    gradient f / |f|, 0 at f = 0, and no second derivative there; |f|^2 has all derivatives everywhere. The sum of
    squares is taken in float32 or better, for any input.

    out_type: one term, the copies of all terms in their order. (batch, channel, *space) -> (batch, copy, *space).
    """

    def __init__(self, in_type: FieldTypeLike, *, squared: bool = False) -> None:
        in_type = as_field_type(in_type)
        parity = 1 if has_parity(in_type) else None
        super().__init__(in_type, (Term(copy_count(in_type), 0, parity),))
        self.squared = squared

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, copy, *space)."""
        self.check(fields)
        parts = zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        return torch.cat([part if term.is_even_scalar else self._lengths(part, term) for term, part in parts], 1)

    def _lengths(self, part: Tensor, term: Term) -> Tensor:
        # (batch, copy, component, *space)
        copies = part.reshape(part.shape[0], term.multiplicity, term.dimension, *part.shape[2:])
        wide = copies.to(torch.promote_types(part.dtype, torch.float32))
        lengths = wide.square().sum(2) if self.squared else torch.linalg.vector_norm(wide, dim=2)
        return lengths.to(part.dtype)

    def extra_repr(self) -> str:
        """The field types, and whether lengths are squared, for printing a network."""
        return super().extra_repr() + (", squared" if self.squared else "")
