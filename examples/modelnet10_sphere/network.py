"""Networks on signals (shape, channel, coefficient): ours, and those of the papers.

Ours, exact in the rotations, as nothing is sampled:

    f  = signals, every degree of every channel in units of its size on the training set
    h  = f x f                                 all products of each channel with itself, compiled
    b  = <f_i, f_j> of equal degree, <h_i, f_j>, and the scalars of f          power and triple correlations
    c  = B (ln(1 + |b|) sign(b) - mean) / deviation                            B: principal components
    class scores = sum over training shapes t of  a_t exp(-|c - c_t|^2 / s^2),   (K + ridge N) a = +-1

s is the median distance of training shapes; N is diagonal, the number of training shapes of each one's class over the
mean of these numbers, so that all classes weigh alike. Nothing is trained by gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from runtime.fields import as_field_type, split_terms
from runtime.spheres import (
    CobbConfig,
    Cohen,
    CohenConfig,
    Esteves,
    EstevesConfig,
    Hybrid,
    as_channels,
    as_packed,
    rotate_signal,
    signal_type,
)

BATCH = 128
ITERATIONS = 2  # of the search for principal components


@dataclass(frozen=True)
class Correlations:
    """Of ours: components kept, divided by a power of their deviation; the ridge of the linear system."""

    components: int = 200
    whitening: float = 0.2
    ridge: float = 0.15


class CorrelationNetwork(nn.Module):
    """Ours. package: with `Product`, all products of a band-limited signal's channels with themselves."""

    scale: Tensor
    mean: Tensor
    deviation: Tensor
    basis: Tensor
    shapes: Tensor
    weights: Tensor
    width: Tensor

    def __init__(self, package: ModuleType, sizes: Correlations, limit: int, classes: int) -> None:
        super().__init__()
        self.product, self.sizes, self.limit, self.classes = package.Product(), sizes, limit, classes
        for name in ("scale", "mean", "deviation", "basis", "shapes", "weights", "width"):
            self.register_buffer(name, torch.ones(()))  # until it is fitted

    def forward(self, signals: Tensor) -> Tensor:
        """(shape, channel, coefficient) -> scores (shape, class)."""
        return self._kernel(self.components(signals)) @ self.weights  # (shape, training shape) @ (.., class)

    @torch.no_grad()
    def fit(self, copies: Tensor, labels: Tensor) -> None:
        """Learns from training signals (copy, shape, channel, coefficient) of classes (shape).

        Units, means and components are those of the first copy.
        """
        self._fit_components(copies[0])
        self.shapes = self.components(copies.flatten(0, 1))  # (copy and shape, component)
        self.width = torch.cdist(self.shapes[:: len(copies)], self.shapes[:: len(copies)]).median()
        system = self._kernel(self.shapes).double()
        counts = labels.bincount(minlength=self.classes).double()
        classes = labels.repeat(len(copies))  # (copy and shape)
        system.diagonal().add_(self.sizes.ridge * (counts / counts.mean())[classes])
        targets = 2 * nn.functional.one_hot(classes, self.classes).double() - 1
        self.weights = torch.cholesky_solve(targets, torch.linalg.cholesky(system)).to(self.shapes)

    def _fit_components(self, signals: Tensor) -> None:
        sizes = [part.square().mean((0, 2)).sqrt().clamp_min(1e-6) for part in _degrees(signals, self.limit)]
        # of every degree (channel) -> (channel, coefficient)
        self.scale = torch.cat([size[:, None].expand(-1, 2 * l + 1) for l, size in enumerate(sizes)], 1)
        found = self._in_parts(self.correlations, signals)
        self.mean, self.deviation = found.mean(0), found.std(0).clamp_min(1e-6)
        found = (found - self.mean) / self.deviation
        _, values, basis = torch.pca_lowrank(found, min(self.sizes.components, *found.shape), niter=ITERATIONS)
        size = (values / len(found) ** 0.5).clamp_min(1e-6)
        self.basis = basis * size**-self.sizes.whitening

    def _kernel(self, components: Tensor) -> Tensor:
        return (-(torch.cdist(components, self.shapes) / self.width).square()).exp()

    @torch.no_grad()
    def components(self, signals: Tensor) -> Tensor:
        """(shape, channel, coefficient) -> c (shape, component)."""
        return self._in_parts(lambda part: (self.correlations(part) - self.mean) / self.deviation @ self.basis, signals)

    def correlations(self, signals: Tensor) -> Tensor:
        """ln(1 + |b|) sign(b), (shape, correlation)."""
        f = signals[..., : self.limit**2] / self.scale  # (shape, channel, coefficient)
        first, second = torch.triu_indices(f.shape[1], f.shape[1])
        found = [f[:, :, 0]]
        # (shape, channel, channel), each pair once
        found += [(p @ p.mT)[:, first, second] / p.shape[2] ** 0.5 for p in _degrees(f, self.limit)]
        in_type = as_field_type(self.product.in_type)
        low = f[..., : len(in_type) ** 2]
        h = self.product(as_channels(low))
        parts = zip(_degrees(low, len(in_type)), split_terms(h, as_field_type(self.product.out_type)), strict=True)
        for p, products in parts:
            copies = products.unflatten(1, (-1, p.shape[2]))  # (shape, copy, component)
            found.append((copies @ p.mT).flatten(1) / p.shape[2] ** 0.5)  # (shape, copy and channel)
        b = torch.cat(found, 1)
        return b.abs().log1p().copysign(b)

    @staticmethod
    def _in_parts(function: Any, signals: Tensor) -> Tensor:
        return torch.cat([function(part) for part in signals.split(BATCH)])


class OfCoefficients(nn.Module):
    """A builder's network on the signals below its band limit."""

    def __init__(self, network: nn.Module, limit: int) -> None:
        super().__init__()
        self.network, self.limit = network, limit

    def forward(self, signals: Tensor) -> Tensor:
        """(shape, channel, coefficient) -> (shape, class)."""
        logits: Tensor = self.network(as_channels(signals[..., : self.limit**2]))
        return logits


class OfSamples(nn.Module):
    """The two-branch network on samples of two channels, one for each branch."""

    def __init__(self, package: ModuleType, config: EstevesConfig, branches: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.branches, self.limit = Esteves(package, config), list(branches), config.size // 2
        self.transform = getattr(package, f"Transform{config.size}")()

    def forward(self, signals: Tensor) -> Tensor:
        """(shape, channel, coefficient) -> (shape, class)."""
        two = signals[:, self.branches, : self.limit**2].flatten(0, 1)  # (shape and branch, coefficient)
        samples = self.transform.synthesis(two).unflatten(0, (-1, 2)).squeeze(2)  # (shape, branch, ring, longitude)
        logits: Tensor = self.network(samples)
        return logits


def cohen(package: ModuleType, config: CohenConfig) -> nn.Module:
    """The network of Cohen et al. 2018."""
    return OfCoefficients(Cohen(package, config), config.limits[0])


def hybrid(package: ModuleType, front: CohenConfig, back: CobbConfig) -> nn.Module:
    """The hybrid of Cobb et al. 2021, a reconstruction."""
    return OfCoefficients(Hybrid(package, front, back), front.limits[0])


def turned(signals: Tensor, rotations: Tensor) -> Tensor:
    """Signals (shape, channel, coefficient), each turned exactly by its rotation (shape, 3, 3) of the sphere's axes."""
    field_type = signal_type(signals.shape[1], round(signals.shape[2] ** 0.5))
    return as_packed(rotate_signal(as_channels(signals), rotations, field_type), field_type)


def _degrees(signals: Tensor, limit: int) -> tuple[Tensor, ...]:
    """(shape, channel, m) of every degree."""
    return torch.split(signals[..., : limit**2], [2 * degree + 1 for degree in range(limit)], 2)
