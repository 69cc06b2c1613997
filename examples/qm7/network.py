"""The trained networks: numbers that no rotation changes, for every centre, and a small network on them.

Ours, two stages of compiled products on densities of neighbours:

    f1 = W sum_j e(element j) T(i, j)           densities of the five elements about centre i, mixed
    h1 = V (f1 x f1)                            all products of the channels with themselves, mixed degree by degree
    s  = numbers of every atom, from its element and, of centres, the invariants of f1 and h1
    f2 = W' sum_j s_j T(i, j) + U h1            densities of learned numbers
    h2 = V' (f2 x f2)
    E  = sum over centres of  mlp(invariants of f1, h1) + mlp'(invariants of f2, h2, and of f1 with f2)

Invariants are degree-0 parts and inner products, x -> sign(x) ln(1 + |x|), batch norm over the centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from examples.qm7.data import ELEMENTS
from examples.qm7.geometry import Batch, Shells
from runtime import Linear
from runtime.fields import as_field_type
from runtime.spheres import Cobb, CobbConfig

NUMBERS = 16  # learned for every atom


class DensityNetwork(nn.Module):
    """Ours, on the tables of `Shells`.

    package: with `Product`, of some channels with themselves, and `Inner`, degree 0 of the product of two such fields.
    """

    def __init__(self, package: ModuleType, shells: Shells, width: int) -> None:
        super().__init__()
        first, second = Stage(package, len(ELEMENTS), shells, True), Stage(package, NUMBERS, shells, False)
        self.stages = nn.ModuleList([first, second])
        self.elements = nn.Embedding(len(ELEMENTS), NUMBERS)
        self.heads = nn.ModuleList(
            [Head(first.invariants + NUMBERS, width, 1 + NUMBERS), Head(second.invariants + NUMBERS, width, 1)]
        )

    def forward(self, batch: Batch) -> Tensor:
        """Energies (molecule)."""
        molecules, centres = batch.centre.shape
        here = batch.centre.flatten().nonzero()[:, 0]  # centres that are there
        kinds = batch.kinds.clamp_min(0)
        weights = nn.functional.one_hot(kinds, len(ELEMENTS)).to(batch.signals[0])  # (molecule, atom, number)
        numbers = self.elements(kinds)  # (molecule, atom, number)
        energies = torch.zeros(molecules * centres, 1).to(numbers)
        fields: list[Tensor] = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            fields, invariants = stage(batch.signals, weights, fields)
            own = numbers[:, :centres].flatten(0, 1)  # (centre, number)
            out = head(torch.cat([invariants, own], 1)[here])  # (centre that is there, energy and numbers)
            out = torch.zeros(molecules * centres, out.shape[1]).to(out).index_copy(0, here, out)
            energies = energies + out[:, :1]
            if out.shape[1] > 1:
                changed = (own + out[:, 1:]).unflatten(0, (molecules, centres))
                weights = numbers = torch.cat([changed, numbers[:, centres:]], 1)
        return energies.reshape(molecules, centres).sum(1)


class Stage(nn.Module):
    """Densities of numbers of the atoms -> f, and h, the mixed products of f with itself."""

    def __init__(self, package: ModuleType, numbers: int, shells: Shells, first: bool) -> None:
        super().__init__()
        self.product, self.inner = package.Product(), package.Inner()
        field_type, copies = as_field_type(self.product.in_type), numbers * len(shells.radii)
        self.lifts = nn.ModuleList(Linear([(copies, *term[1:])], [term], bias=False) for term in field_type)
        self.carry = None if first else Linear(field_type, field_type, bias=False)
        self.mix = Linear(self.product.out_type, field_type, bias=False)
        self.scalars = sum(term.multiplicity for term in field_type if term.degree == 0)
        self.invariants = 2 * self.scalars + (3 if first else 4) * self.inner.out_channels

    def forward(
        self, tables: Sequence[Tensor], weights: Tensor, before: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """f and h (1, channel, centre), and their invariants (centre, invariant), also those with the f before."""
        f = self._densities(tables, weights)
        if self.carry is not None:
            f = f + self.carry(before[-1])
        h = self.mix(self.product(f))
        pairs = [(f, f), (f, h), (h, h), *((field, f) for field in before[:1])]
        found = [f[:, : self.scalars], h[:, : self.scalars], *(self.inner(a, b) for a, b in pairs)]
        return [f, h], torch.cat(found, 1)[0].T

    def _densities(self, tables: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Of numbers of the atoms (molecule, atom, number), mixed: (1, channel, centre)."""
        lifted = []
        for lift, table in zip(self.lifts, tables, strict=True):
            sums = weights.mT @ table.flatten(2)  # (molecule, number, radius and order and centre)
            lifted.append(lift(sums.reshape(len(sums), -1, table.shape[3])))  # (molecule, channel, centre)
        return torch.cat(lifted, 1).transpose(0, 1).flatten(1)[None]


class PotentialNetwork(nn.Module):
    """Efficient layers of Cobb et al. 2021 on the potentials about every centre, and a sum over the centres.

        E = sum_i mlp(network(potentials of centre i), element of i)

    A reconstruction: the paper does not state its sizes. package: compiled from `config.spec()`.
    """

    def __init__(self, package: ModuleType, config: CobbConfig, width: int) -> None:
        super().__init__()
        self.encoder = Cobb(package, config)
        self.elements = nn.Embedding(len(ELEMENTS), NUMBERS)
        self.head = Head(config.classes + NUMBERS, width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Energies (molecule)."""
        signals = torch.cat([part.movedim(2, 1)[batch.centre] for part in batch.signals], 1)  # (centre, channel)
        kinds = batch.kinds[:, : batch.centre.shape[1]][batch.centre]  # (centre that is there)
        found = self.head(torch.cat([self.encoder(signals), self.elements(kinds)], 1))[:, 0]
        return torch.zeros(batch.centre.shape).to(found).masked_scatter(batch.centre, found).sum(1)


class Head(nn.Module):
    """Invariants (centre, invariant) -> numbers (centre, number); the first, an energy, is 0 at the beginning."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs)
        self.hidden = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width // 2), nn.SiLU())
        self.last = nn.Linear(width // 2, outputs)
        nn.init.zeros_(self.last.weight[0])
        nn.init.zeros_(self.last.bias[0])

    def forward(self, invariants: Tensor) -> Tensor:
        """(centre, invariant) -> (centre, number)."""
        return self.last(self.hidden(self.norm(invariants.abs().log1p().copysign(invariants))))
