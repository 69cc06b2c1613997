"""Turns of the cube and modules: which turns a module claims to commute with, and by how much it does not.

f(D_in(r) x) = D_out(r) f(x)        exactly, up to rounding, for the turns r that map the voxels to one another
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fields import FieldType, channel_count, describe
from .so3 import CUBE_TURNS, cube_turns
from .volumes.rotate import turn_field
from .volumes.sizes import OffCentreWarning

_SETTINGS = ("voxel_spacing", "kernel_size", "stride", "padding", "dilation", "scale", "factor")


def voxel_spacing_of(module: nn.Module) -> tuple[float, float, float]:
    """The voxel spacing of the first layer in the module that states one: of a network, that of its input. Else
    cubes."""
    for layer in module.modules():
        spacing = getattr(layer, "voxel_spacing", None)
        if spacing is not None:
            x, y, z = map(float, spacing)
            return x, y, z
    return 1.0, 1.0, 1.0


def exact_turns(module: nn.Module, *, reflections: bool = False) -> Tensor:
    """The turns of the cube, (turn, 3, 3), that leave the grids of a module's layers what they are.

    All 24 (48 with reflections) where every layer with field types treats the axes alike; fewer where voxel spacing,
    kernel size, stride or another setting differs between axes that a turn exchanges.
    """
    settings: list[tuple[float, ...]] = []
    for layer in module.modules():
        if hasattr(layer, "in_type"):
            settings += _triples(getattr(layer, name, None) for name in _SETTINGS)
            settings += _triples(getattr(layer, "strides", ()))
    kept = [
        all(tuple(setting[axis] for axis in axes) == setting for setting in settings)
        for axes, _ in CUBE_TURNS[: 48 if reflections else 24]
    ]
    return cube_turns(reflections=reflections)[torch.tensor(kept)]


def _triples(values: Iterable[object]) -> list[tuple[float, ...]]:
    return [tuple(value) for value in values if isinstance(value, tuple | list) and len(value) == 3]


@dataclass(frozen=True)
class TypedFunction:
    """A function between fields of known types; errors are relative, inf where not finite."""

    function: Callable[[Tensor], Tensor]
    in_type: FieldType
    out_type: FieldType

    def __call__(self, fields: Tensor) -> Tensor:
        """The output, without warnings about sizes whose strided grid is off centre."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OffCentreWarning)
            return self.function(fields)

    def turn_error(self, fields: Tensor, turn: Tensor) -> float:
        """Largest change of any output value by one turn, relative to the largest value; inf if the shapes differ."""
        expected = turn_field(self.checked(self(fields)), turn, self.out_type)
        output = self(turn_field(fields, turn, self.in_type))
        if output.shape != expected.shape:
            return math.inf
        return or_inf(_largest(output - expected) / _largest(expected))

    def checked(self, output: Tensor) -> Tensor:
        """The output, or AssertionError if its shape is not that of `out_type`, or it is zero or not finite."""
        if output.ndim not in (2, 5) or output.shape[1] != channel_count(self.out_type):
            raise AssertionError(
                f"the output has shape {tuple(output.shape)}, not (batch, {channel_count(self.out_type)}[, x, y, z]) "
                f"as field type {describe(self.out_type)} says."
            )
        if not 0 < _largest(output) < math.inf:
            raise AssertionError(
                "the output is zero or not finite, which proves nothing: check the weights, or try another seed."
            )
        return output


def frozen(module: nn.Module, seed: int) -> Callable[[Tensor], Tensor]:
    """A module in float64 as a pure function of its input: with the same random numbers in every call."""
    device = next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device("cpu"))

    def run(fields: Tensor) -> Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            output: Tensor = module(fields.to(device)).cpu()
        return output

    return run


def or_inf(error: float) -> float:
    """The error, inf if it is not finite."""
    return error if math.isfinite(error) else math.inf


def _largest(values: Tensor) -> float:
    return values.abs().max().item()
