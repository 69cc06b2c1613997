"""Pointwise functions on the sphere at every voxel, in place of gates.

The fields after a convolution are whole signals: K x 0, K x 1, .. K x (L - 1) are K functions on the sphere at every
voxel. Their samples go through a function and become coefficients again.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import runtime
from runtime.fields import FieldType, channel_count
from runtime.spheres import SphereActivation


class OnSphere(runtime.FieldLayer):
    """A function of the samples of signals one after another, each from degree 0 up; exact under turns of the cube.

    transform: a generated one of a single signal. function: of signals whose scalars are even; signals whose scalars
    are odd, 0o, take tanh, as a reflection changes their sign.
    """

    def __init__(self, field_type: runtime.FieldType, transform: nn.Module, function: Any) -> None:
        super().__init__(field_type)
        self.signals = _signals(self.in_type)
        functions = [torch.tanh if terms[0].is_odd_scalar else function for terms in self.signals]
        self.activations = nn.ModuleList(
            SphereActivation(transform, function, limit=len(terms), cube=True, signals=terms[0].multiplicity)
            for terms, function in zip(self.signals, functions, strict=True)
        )

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same shape."""
        self.check(fields)
        parts = torch.split(fields, [channel_count(terms) for terms in self.signals], 1)
        return torch.cat([activation(part) for activation, part in zip(self.activations, parts, strict=True)], 1)


class Unchanged(runtime.FieldLayer):
    """The fields as they are, where another layer is the activation."""

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same."""
        return fields


def convolutions(package: ModuleType) -> list[Any]:
    """The classes of a package's convolutions in order."""
    return [layer for layer in _layers(package) if hasattr(layer, "kernel_size")]


def on_sphere(package: ModuleType, field_type: Any, function: Any) -> OnSphere | None:
    """The activation of fields in packages with a transform; None in others, and for scalars alone."""
    transforms = [layer for layer in _layers(package) if not hasattr(layer, "kernel_size")]
    terms = runtime.as_field_type(field_type)
    if not transforms or not any(term.degree for term in terms):
        return None
    return OnSphere(terms, transforms[0](), function)


def _layers(package: ModuleType) -> list[Any]:
    return [getattr(package, name) for name in package.__all__]


def _signals(field_type: FieldType) -> list[FieldType]:
    """The signals of a field type: each term of degree 0 begins one."""
    starts = [index for index, term in enumerate(field_type) if term.degree == 0]
    ends = [*starts[1:], len(field_type)]
    return [field_type[start:end] for start, end in zip(starts, ends, strict=True)]
