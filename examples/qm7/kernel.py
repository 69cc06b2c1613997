"""Ours: kernel ridge regression on invariants that a compiled product makes of the signals about every centre.

    p_i      degree-0 products of all pairs of signals about centre i, degree by degree: of densities (element, radius),
             or of potentials (element), each divided by the atomic number of the element
    x_i      principal components of p_i over the centres of an element, divided by their deviation^whitening
    k(i, j)  exp(-|x_i - x_j|^2 / (2 sigma^2)) for centres of one element, else 0
    K(A, B)  sum over centres i of A and j of B of  k(i, j)
    E(A)     sum over training molecules B of  K(A, B) alpha_B,       alpha = (K + lambda I)^-1 energies

Everything is learned from the training molecules alone. Sources: the sum over centres, Bartok, Kondor, Csanyi, Phys.
Rev. B 87, 184115 (2013); radial weights, Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from examples.qm7.data import ELEMENTS
from examples.qm7.geometry import Batch, Geometry, Shells

BATCH = 128  # molecules whose invariants are made together
BLOCK = 256  # molecules in the rows of a part of the kernel
SAMPLE = 4000  # centres that principal components are made from
LEAST = 1e-3  # deviation of a component that is kept, in units of the largest


@dataclass(frozen=True)
class KernelConfig:
    """Settings of a kernel.

    shells          radial functions of the densities; without them the signals are potentials
    limit           band limit of the potentials
    near, power     a density at radius r is multiplied by 1 / (1 + (r / near)^power); bohr
    slope           signals of degree l are multiplied by (1 + l)^-slope
    components      principal components, at most
    whitening       0: components as they are; 1: all of equal deviation
    sigma           of the Gaussian; x has a mean square distance from its mean of 1
    ridge           lambda, in units of the mean of the kernel's diagonal
    """

    shells: Shells | None = None
    limit: int = 0
    near: float = 4.0
    power: float = 4.0
    slope: float = 0.0
    components: int = 300
    whitening: float = 0.5
    sigma: float = 2.4
    ridge: float = 1e-5


@dataclass(frozen=True)
class Centres:
    """The centres of one element in some molecules, those with the most of them first.

    order   (molecule): molecules by falling number of centres
    slots   slot s: x of centre s (molecule, component) of those of them, the first ones, that have more than s
    """

    order: Tensor
    slots: tuple[Tensor, ...]


class KernelRidge(nn.Module):
    """Energies of molecules from those of the training molecules, in double precision; call `fit` first.

    package: with `Pairs`, degree 0 of the products of all pairs of signals: for every element every radius, if any.
    """

    def __init__(self, package: ModuleType, config: KernelConfig) -> None:
        super().__init__()
        self.config, self.pairs = config, package.Pairs()
        if config.shells is None:
            self.weights = 1 / torch.tensor(ELEMENTS, dtype=torch.float64)  # (copy)
        else:
            radii = torch.tensor(config.shells.radii, dtype=torch.float64)
            self.weights = (1 / (1 + (radii / config.near) ** config.power)).repeat(len(ELEMENTS))  # (copy)
        self.maps: dict[int, tuple[Tensor, Tensor]] = {}  # of an element: mean (pair), map (pair, component)
        self.trained: dict[int, Centres] = {}
        self.alpha = torch.empty(0, dtype=torch.float64)  # (training molecule)

    def fit(self, geometry: Geometry, train: Tensor, energies: Tensor) -> None:
        """Learn the energies (molecule) of the molecules `train`."""
        self.maps = {element: _principal(pairs, self.config) for element, pairs in self._some(geometry, train)}
        parts = [self._reduced(geometry.batch(part)) for part in train.split(BATCH)]
        kinds = torch.cat([kinds for kinds, _ in parts])
        self.trained = _sorted(kinds, {e: torch.cat([x[e] for _, x in parts]) for e in self.maps})
        kernel = self._kernel(self.trained, len(train))
        kernel.diagonal().add_(self.config.ridge * kernel.diagonal().mean())
        self.alpha = torch.cholesky_solve(energies.double()[:, None], torch.linalg.cholesky(kernel))[:, 0]

    def forward(self, batch: Batch) -> Tensor:
        """Energies (molecule)."""
        centres = _sorted(*self._reduced(batch))
        return (self._kernel(centres, len(batch)) @ self.alpha).float()

    def invariants(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Elements (molecule, centre), -1 where there is none, and p of the centres that are there (centre, pair)."""
        degrees = []
        for degree, signal in enumerate(batch.signals):
            copies = signal.reshape(len(signal), -1, 2 * degree + 1, signal.shape[-1])  # (molecule, copy, m, centre)
            scaled = copies * self.weights[:, None, None] * (1 + degree) ** -self.config.slope
            degrees.append(scaled.flatten(1, 2).movedim(2, 1)[batch.centre])  # (centre, channel)
        kinds = torch.where(batch.centre, batch.kinds[:, : batch.centre.shape[1]], -1)
        return kinds, self.pairs(torch.cat(degrees, 1))

    def _some(self, geometry: Geometry, train: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Of every element in the molecules, p of some of its centres, evenly spaced."""
        counts = torch.bincount(geometry.kinds[train].clamp_min(0).flatten(), minlength=len(ELEMENTS)).tolist()
        found: dict[int, list[Tensor]] = {element: [] for element in range(1, len(ELEMENTS)) if counts[element]}
        seen = dict.fromkeys(found, 0)
        for part in train.split(BATCH):
            kinds, pairs = self.invariants(geometry.batch(part))
            for element in found:
                own = pairs[kinds[kinds >= 0] == element]
                step = -(-counts[element] // SAMPLE)
                found[element].append(own[-seen[element] % step :: step])
                seen[element] += len(own)
        for element, chosen in found.items():
            yield element, torch.cat(chosen)

    def _reduced(self, batch: Batch) -> tuple[Tensor, dict[int, Tensor]]:
        """Elements (molecule, centre), -1 where there is none, and of every element x (centre, component)."""
        kinds, pairs = self.invariants(batch)
        own = kinds[kinds >= 0]  # (centre that is there)
        return kinds, {element: (pairs[own == element] - mean) @ to for element, (mean, to) in self.maps.items()}

    def _kernel(self, rows: dict[int, Centres], count: int) -> Tensor:
        """(molecule, training molecule)."""
        same = rows is self.trained
        trained = len(next(iter(self.trained.values())).order)
        kernel = torch.zeros(count, trained, dtype=torch.float64)
        for element, columns in self.trained.items():
            own = rows[element]
            left = [_left(x / self.config.sigma) for x in own.slots]
            right = [_right(x / self.config.sigma) for x in columns.slots]
            part = torch.zeros_like(kernel)
            for start in range(0, len(left[0]) if left else 0, BLOCK):
                first = start if same else 0  # the others follow by symmetry
                for a in left:
                    a = a[start : start + BLOCK]
                    for b in right if len(a) else ():
                        part[start : start + len(a), first : len(b)] += (a @ b[first:].T).exp_()
            if same:
                part = part.triu() + part.triu(1).T
            kernel += torch.empty_like(part).index_copy_(0, own.order, part)[:, columns.order.argsort()]
        return kernel


def _sorted(kinds: Tensor, x: dict[int, Tensor]) -> dict[int, Centres]:
    """The centres of elements (molecule, centre), with x (centre, component) of every element."""
    centres = {}
    for element, values in x.items():
        counts = (kinds == element).sum(1)  # (molecule)
        order = counts.argsort(descending=True, stable=True)
        first = (counts.cumsum(0) - counts)[order]  # of each molecule in `values`
        slots = [values[first[: int((counts > slot).sum())] + slot] for slot in range(int(counts.max()))]
        centres[element] = Centres(order, tuple(slots))
    return centres


def _principal(pairs: Tensor, config: KernelConfig) -> tuple[Tensor, Tensor]:
    """Mean (pair) and map (pair, component) of p (centre, pair)."""
    mean = pairs.mean(0)
    _, lengths, vectors = torch.svd_lowrank(pairs - mean, q=min(config.components, *pairs.shape))
    ratios = lengths / lengths[0]  # of deviations
    kept = ratios > LEAST
    weights = ratios[kept] ** -config.whitening
    size = (ratios[kept] * weights).norm() * lengths[0] / len(pairs) ** 0.5
    return mean, vectors[:, kept] * weights / size


def _left(x: Tensor) -> Tensor:
    """With `_right`: left(x) . right(y) = -|x - y|^2 / 2."""
    return torch.cat([x, -x.square().sum(1, keepdim=True) / 2, torch.ones_like(x[:, :1])], 1)


def _right(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1]), -x.square().sum(1, keepdim=True) / 2], 1)
