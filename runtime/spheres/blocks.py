"""Blocks of spherical networks, and the head that reads out what no rotation changes.

    A(f) = L2(N(L1 f))        N: products of fragments, which mix degrees;  L: linear, degree by degree

Source: Cobb et al. 2021, arXiv:2010.11661, section 2.4.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..fields import FieldType, FieldTypeLike, as_field_type
from ..layer import FieldLayer, check_equal_types, field_types_of
from .pooling import Invariants

LayerFactory = Callable[[FieldType], FieldLayer]


class SphericalBlock(FieldLayer):
    """Products between linear maps, with the norm of fragments behind the products.

        f -> after(norm(product(before(f))))

    product: a generated product. before, after: generated linear maps (dense, or uniform, channel-wise and
    cross-channel), or none. norm: makes a normalisation for the products, for example FragmentNorm or BatchNorm.

    Raises ValueError if types that meet differ.
    """

    def __init__(
        self,
        product: nn.Module,
        *,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
        norm: LayerFactory | None = None,
    ) -> None:
        (product_in, product_out), first, last = field_types_of(product), before or product, after or product
        super().__init__(field_types_of(first)[0], field_types_of(last)[1])
        check_equal_types(field_types_of(before)[1] if before else product_in, product_in, "before", "the product")
        check_equal_types(product_out, field_types_of(after)[0] if after else product_out, "the product", "after")
        self.before, self.product, self.after = before or nn.Identity(), product, after or nn.Identity()
        self.norm = norm(product_out) if norm else nn.Identity()

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        output: Tensor = self.after(self.norm(self.product(self.before(fields))))
        return output


class InvariantHead(nn.Module):
    """The invariants of all stages side by side, and a small network on them.

        stages -> batch norm -> linear -> ReLU -> dropout -> linear

    types: of the stages. lengths: the lengths of fields too, not the scalars alone. hidden: 0 for one linear map.
    Takes the stages (batch, channel) in a list; gives (batch, classes).
    """

    def __init__(
        self,
        types: Sequence[FieldTypeLike],
        classes: int,
        *,
        hidden: int = 256,
        dropout: float = 0.5,
        lengths: bool = False,
    ) -> None:
        super().__init__()
        self.invariants = nn.ModuleList(Invariants(as_field_type(kind), lengths=lengths) for kind in types)
        width = sum(layer.out_channels for layer in self.invariants)  # type: ignore[misc]
        self.network = head(int(width), classes, hidden, dropout)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Stages (batch, channel of its type) -> (batch, classes)."""
        found = [layer(stage) for layer, stage in zip(self.invariants, stages, strict=True)]
        output: Tensor = self.network(torch.cat(found, 1))
        return output


def head(width: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    """Batch norm and a network of one hidden layer (none if `hidden` is 0) on invariants (batch, width)."""
    if hidden == 0:
        return nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, classes))
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )
