"""The test that a module commutes with rotations of signals, f(D x) = D f(x), for rotations drawn uniformly.

For example, of a block:

    from basisgen_runtime.spheres.testing import assert_equivariant

    print(assert_equivariant(SphericalBlock(Product1(), after=Mix1())))
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..fields import FieldType, FieldTypeLike, as_field_type, describe, has_parity
from ..so3 import random_rotations
from ..turns import frozen
from ..volumes.rotate import mix_components

Spectrum = Callable[[int], float]
SPECTRA: dict[str, Spectrum] = {"white": lambda l: 1.0, "falling": lambda l: 1 / (1 + l) ** 2}
"""Amplitude of a coefficient by degree."""


@dataclass(frozen=True)
class SignalError:
    """Errors over random signals below a band limit, of one spectrum: |f(D x) - D f(x)| over the larger of the two.

    Of the two, since an activation may leave nothing of a signal in one orientation and a little in another.
    """

    limit: int
    spectrum: str
    mean: float
    worst: float


@dataclass(frozen=True)
class SignalReport:
    """What `assert_equivariant` measured, for every band limit and spectrum. Exact layers have rounding errors only."""

    rotations: int
    errors: tuple[SignalError, ...]

    @property
    def worst(self) -> float:
        """The largest of all errors."""
        return max(error.worst for error in self.errors)

    def __str__(self) -> str:
        lines = [f"{self.rotations} random rotations: error, mean and worst"]
        lines += [f"band limit {e.limit:3}, {e.spectrum:8} {e.mean:.1e} {e.worst:.1e}" for e in self.errors]
        return "\n".join(lines)


def assert_equivariant(
    module: nn.Module,
    in_type: FieldTypeLike | None = None,
    out_type: FieldTypeLike | None = None,
    *,
    tolerance: float = 1e-12,
    rotations: int = 16,
    limits: Sequence[int] | None = None,
    spectra: Mapping[str, Spectrum] | None = None,
    space: Sequence[int] = (),
    seed: int = 0,
) -> SignalReport:
    """Check that a module commutes with rotations of signals, in float64 on a copy; the module itself is left alone.

    The module maps (batch, channel, *space) to the same with other channels. Its field types are its attributes
    `in_type` and `out_type` unless given. Each sample, normal coefficients, is turned exactly by a different rotation
    (D^l); for fields with parity every second one is a reflection too. Random modules (dropout) get equal seeds; batch
    norms take the statistics of evaluation if the module is in evaluation.

    tolerance: of the mean error of every band limit and spectrum. Layers that are exact keep 1e-12; for activations on
    samples state what you need. limits: signals of degrees below these; the module's own unless given. spectra:
    amplitude of a coefficient by degree, white and falling as 1 / (1 + l)^2 unless given. space: axes behind channels.

    Raises AssertionError if an error exceeds the tolerance, or if the output is zero or not finite, which would prove
    nothing; ValueError if the field types are unknown.
    """
    in_type, out_type = _types(module, in_type, out_type)
    function = frozen(copy.deepcopy(module).double(), seed)
    generator = torch.Generator().manual_seed(seed)
    turns = random_rotations(rotations, generator=generator)
    if has_parity(in_type):
        turns[1::2] *= -1
    limits = [max(term.degree for term in in_type) + 1] if limits is None else limits
    found = []
    for limit in limits:
        for name, spectrum in (spectra or SPECTRA).items():
            fields = _draw(in_type, limit, spectrum, (rotations, *space), generator)
            errors = _errors(function, fields, turns, in_type, out_type)
            found.append(SignalError(limit, name, float(errors.mean()), float(errors.max())))
    measured = SignalReport(rotations, tuple(found))
    if not all(error.mean <= tolerance for error in found):
        raise AssertionError(
            f"{type(module).__name__} is not equivariant to {tolerance:.1e} ({describe(in_type)} -> "
            f"{describe(out_type)}).\n{measured}"
        )
    return measured


def _types(module: nn.Module, *given: FieldTypeLike | None) -> tuple[FieldType, FieldType]:
    names = ("in_type", "out_type")
    for name, field_type in zip(names, given, strict=True):
        if field_type is None and not hasattr(module, name):
            raise ValueError(f"{type(module).__name__} has no attribute {name}. Pass {name}= to assert_equivariant.")
    types: Any = [getattr(module, name) if own is None else own for name, own in zip(names, given, strict=True)]
    return as_field_type(types[0]), as_field_type(types[1])


def _draw(
    field_type: FieldType, limit: int, spectrum: Spectrum, sizes: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Normal coefficients (batch, channel, *space), zero from the limit on."""
    scale = torch.tensor(
        [spectrum(term.degree) if term.degree < limit else 0.0 for term in field_type for _ in range(term.channels)]
    )
    shape = (sizes[0], len(scale), *sizes[1:])
    noise = torch.randn(shape, dtype=torch.float64, generator=generator)
    return noise * scale.double().reshape(-1, *[1] * (len(sizes) - 1))


def _errors(
    function: Callable[[Tensor], Tensor], fields: Tensor, turns: Tensor, in_type: FieldType, out_type: FieldType
) -> Tensor:
    """(sample,)."""
    before = function(mix_components(fields, turns, in_type))
    after = function(fields)
    if after.ndim < 2 or after.shape[1] != sum(term.channels for term in out_type) or after.shape[0] != len(fields):
        raise AssertionError(
            f"the output has shape {tuple(after.shape)}, which field type {describe(out_type)} is not."
        )
    sizes = [f.flatten(1).norm(dim=1) for f in (before, after)]  # (rotation, channel and site) -> (rotation)
    size = torch.maximum(*sizes)
    if not (bool(size.isfinite().all()) and bool((size > 0).any())):
        raise AssertionError("the output is zero or not finite, which proves nothing: check the weights.")
    # (rotation, channel and site) -> (rotation)
    change = (before - mix_components(after, turns, out_type)).flatten(1).norm(dim=1)
    errors = torch.where(change > 0, change / size, 0.0)  # what is zero both times is right
    return torch.where(errors.isfinite(), errors, math.inf)
