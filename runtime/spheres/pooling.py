"""Pooling and read-outs of signals: on samples, on the spectrum, and what no rotation changes."""

import math

import torch
from torch import Tensor, nn

from ..fields import FieldTypeLike, as_field_type, describe, split_terms
from ..layer import FieldLayer
from .rings import cell_areas


class WeightedAveragePool(nn.Module):
    """Mean of 2 x 2 samples, weighted by the area that each stands for: half as many rings and longitudes.

        pool(f) = mean(w f) / mean(w),        w: area of a sample of the ring, or sin of its colatitude as given

    colatitudes (ring,), float64, of an even number of rings. weights: other than areas, (ring,).
    Raises ValueError if the number of rings is odd.
    Source: Esteves et al. 2018, section 4.2.
    """

    weights: Tensor

    def __init__(self, colatitudes: Tensor, *, weights: Tensor | None = None) -> None:
        super().__init__()
        if len(colatitudes) % 2:
            raise ValueError(f"WeightedAveragePool halves the rings, but there are {len(colatitudes)}: an odd number.")
        areas = cell_areas(colatitudes.double(), 1) if weights is None else weights.double()
        pairs = areas.reshape(-1, 2)  # (half ring, 2)
        shares = (pairs / pairs.sum(1, keepdim=True)).reshape(-1)  # (ring)
        self.register_buffer("weights", shares.to(torch.get_default_dtype()), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, channel, ring, longitude) -> (batch, channel, ring / 2, longitude / 2)."""
        if samples.ndim != 4 or samples.shape[2] != len(self.weights) or samples.shape[3] % 2:
            raise ValueError(
                f"WeightedAveragePool takes samples (batch, channel, {len(self.weights)}, longitude), with an even "
                f"number of longitudes, got {tuple(samples.shape)}."
            )
        weighted = samples * self.weights.to(samples)[:, None]
        halves = (samples.shape[2] // 2, 2, samples.shape[3] // 2, 2)  # ring, of a pair, longitude, of a pair
        return weighted.reshape(*samples.shape[:2], *halves).sum(3).mean(4)


class SphereMean(nn.Module):
    """Mean of samples over the sphere, weighted by area or as given.

    Exact for a band-limited signal if the weights are those of a quadrature.
    """

    weights: Tensor

    def __init__(self, colatitudes: Tensor, *, weights: Tensor | None = None) -> None:
        super().__init__()
        areas = cell_areas(colatitudes.double(), 1) if weights is None else weights.double()
        self.register_buffer("weights", (areas / areas.sum()).to(torch.get_default_dtype()), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, channel, ring, longitude) -> (batch, channel)."""
        return samples.mean(-1) @ self.weights.to(samples)  # (batch, channel, ring) @ (ring)


class SpectralPool(FieldLayer):
    """Low-pass: the fields of degrees below a limit alone. Exact.

    Raises ValueError if nothing is left.
    Source: Esteves et al. 2018, section 4.2.
    """

    def __init__(self, in_type: FieldTypeLike, limit: int) -> None:
        terms = as_field_type(in_type)
        kept = tuple(term for term in terms if term.degree < limit)
        if not kept:
            raise ValueError(f"field type {describe(terms)} has no degree below {limit}: nothing is left.")
        super().__init__(terms, kept)
        self.limit = limit

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        parts = zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        return torch.cat([part for term, part in parts if term.degree < self.limit], 1)


class Invariants(FieldLayer):
    """What no rotation changes: the scalars, and with `lengths` the length of every other field.

    The lengths are rms of components, with a finite gradient at zero: sqrt(mean_m f_m^2 + eps). Parities: odd scalars
    have lengths. squared: without the root.

    Gives one term of degree 0 (0e with parities): even scalars first, then lengths, in the order of the terms.
    Raises ValueError if there are no scalars and `lengths` is off.
    """

    def __init__(
        self, in_type: FieldTypeLike, *, lengths: bool = True, squared: bool = False, eps: float = 1e-8
    ) -> None:
        terms = as_field_type(in_type)
        multiplicity = sum(term.multiplicity for term in terms if lengths or term.is_even_scalar)
        if multiplicity == 0:
            raise ValueError(f"field type {describe(terms)} has no even scalars: set lengths=True.")
        super().__init__(terms, [(multiplicity, 0, terms[0].parity and 1)])
        self.lengths, self.squared, self.eps = lengths, squared, eps

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, copy, *space)."""
        self.check(fields)
        scalars, lengths = [], []
        for term, part in zip(self.in_type, split_terms(fields, self.in_type), strict=True):
            if term.is_even_scalar:
                scalars.append(part)
            elif self.lengths:
                # (batch, copy, component, *space)
                copies = torch.unflatten(part, 1, (term.multiplicity, term.dimension))
                square = copies.square().mean(2)  # (batch, copy, *space)
                lengths.append(square if self.squared else (square + self.eps).sqrt() - math.sqrt(self.eps))
        return torch.cat(scalars + lengths, 1)
