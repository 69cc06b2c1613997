"""How equivariant layers are: |A(R f) - R A(f)| / |A(R f)|, mean over random signals f, each with a random rotation R.

Layers compute in float32; signals have normal coefficients, all of variance 1, and are turned exactly, in float64.
Published, in float32, of signals whose band limit and spectrum the sources at hand do not tell (Cobb et al. 2021,
arXiv:2010.11661): a product and a convolution 5.0e-7, ReLU on samples of the sphere 0.34, of the rotation group 0.37.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from examples.sphere_cost.layers import OURS, build
from examples.sphere_cost.preset import Preset
from examples.sphere_cost.specs import spec
from runtime.fields import FieldTypeLike
from runtime.spheres import RotationActivation, SphereActivation, rotation_type, signal_type
from runtime.spheres.specs import spec_text
from runtime.spheres.testing import assert_equivariant

WHITE = {"white": lambda degree: 1.0}
PUBLISHED = {"product": 5.0e-7, "sphere": 0.34, "rotations": 0.37}
OVERSAMPLING = {"sphere": (1, 2, 4), "rotations": (1, 2)}
NAMES = {"sphere": "ReLU on samples of the sphere", "rotations": "ReLU on samples of the rotation group"}


@dataclass(frozen=True)
class LayerError:
    """The mean and the worst error of one layer at one band limit; kind: a key of PUBLISHED."""

    layer: str
    kind: str
    L: int
    mean: float
    worst: float


def measure_errors(preset: Preset) -> Iterator[LayerError]:
    """Strict layers, then activations on the smallest grid and on finer ones."""
    for L in preset.error_limits:
        for mixing in preset.mixing:
            package_spec = spec(L, mixing, preset.channels)
            field = signal_type(preset.channels, L)
            with imported(compile_package(package_spec), package_spec.name) as package:
                for way in OURS:
                    yield _error(f"{mixing}, {way}", "product", build(package, way), field, L, preset)
        for kind, factors in OVERSAMPLING.items():
            for factor in factors:
                layer, field = _activation(kind, L, factor)
                yield _error(f"{NAMES[kind]}, oversampling {factor}", kind, layer, field, L, preset)


def _activation(kind: str, L: int, factor: int) -> tuple[nn.Module, FieldTypeLike]:
    """ReLU on the samples of one signal, and the signal's field type."""
    type_of, activation = {
        "sphere": (signal_type, SphereActivation),
        "rotations": (rotation_type, RotationActivation),
    }[kind]
    grid = {"kind": "transform", "name": "Grid", "in": type_of(1, factor * L), "grid": "mw", "space": kind}
    name = f"sphere_cost_{kind}_{factor}_{L}"
    with imported(compile_package(parse_package(spec_text(name, [grid]))), name) as package:
        return activation(package.Grid(), F.relu, limit=L), type_of(1, L)


def _error(name: str, kind: str, layer: nn.Module, field: FieldTypeLike, L: int, preset: Preset) -> LayerError:
    single = InSinglePrecision(layer)
    found = assert_equivariant(
        single, field, field, tolerance=math.inf, rotations=preset.test_rotations, spectra=WHITE, seed=L
    ).errors[0]
    return LayerError(name, kind, L, found.mean, found.worst)


class InSinglePrecision(nn.Module):
    """A layer that computes in float32 whatever it gets, and stays so when this module is converted."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.kept = (layer.float(),)  # in a tuple it is no submodule

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel) in any precision -> the same precision."""
        output: Tensor = self.kept[0](fields.float())
        return output.to(fields.dtype)
