"""The test that a module is equivariant: f(D_in x) = D_out f(x), exactly where the grid allows, measured elsewhere.

from runtime.testing import assert_equivariant
print(assert_equivariant(GatedBlock(Conv1(), stride=2)))
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from runtime.causes import cause, component_cause
from runtime.fields import FieldType, FieldTypeLike, as_field_type, channel_count, describe, has_parity
from runtime.layer import lengths_per_axis, per_axis
from runtime.so3 import random_rotations
from runtime.turns import TypedFunction, exact_turns, frozen, or_inf, voxel_spacing_of
from runtime.volumes.rotate import mix_components

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class EquivarianceReport:
    """What `assert_equivariant` measured; errors are relative to the output.

    turn_error: the worst over the turns of the cube, which leave only rounding. rotation_errors: pairs (wavelength,
    error at the centre voxel over random rotations), which show how well the sampled filters are steerable.
    """

    turns: int
    turn_error: float
    worst_turn: tuple[tuple[int, ...], ...]
    rotation_errors: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        lines = [f"{self.turns} turns of the cube: error {self.turn_error:.1e}"]
        lines += [
            f"random rotations, wavelength {length:g}: error {error:.1e}" for length, error in self.rotation_errors
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class SmoothField:
    """Plane waves under a Gaussian envelope, known at every point of space, so that it rotates without interpolation.

        f(x) = exp(-|x|^2 / (2 width^2)) sum_k amplitude_k cos(wave_k . x + phase_k)

    field_type; waves (wave, 3) in radians per unit of length; amplitudes (wave, channel); phases (wave,); width.
    """

    field_type: FieldType
    waves: Tensor
    amplitudes: Tensor
    phases: Tensor
    width: float

    @classmethod
    def random(
        cls, field_type: FieldTypeLike, wavelength: float, width: float, *, waves: int = 8, seed: int = 0
    ) -> "SmoothField":
        """Waves of one length, with random directions, phases and normal amplitudes."""
        field_type, generator = as_field_type(field_type), torch.Generator().manual_seed(seed)
        directions = random_rotations(waves, generator=generator)[:, :, 0]
        amplitudes = torch.randn(waves, channel_count(field_type), dtype=torch.float64, generator=generator)
        phases = 2 * math.pi * torch.rand(waves, dtype=torch.float64, generator=generator)
        return cls(field_type, 2 * math.pi / wavelength * directions, amplitudes, phases, width)

    def rotated(self, rotation: Tensor) -> "SmoothField":
        """The field D(r) f(r^-1 x): the waves turn, and their amplitudes mix."""
        amplitudes = mix_components(self.amplitudes, rotation, self.field_type)
        return replace(self, waves=self.waves @ rotation.double().mT, amplitudes=amplitudes)

    def sample(self, size: int | Sequence[int], voxel_spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
        """Values on a grid of voxels about the origin: float64 (1, channel, x, y, z)."""
        sizes = per_axis("size", size)
        axes = [
            (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step
            for n, step in zip(sizes, voxel_spacing, strict=True)
        ]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        envelope = torch.exp(-points.square().sum(-1) / (2 * self.width**2))
        waves = torch.cos(points @ self.waves.mT + self.phases)
        return torch.einsum("xyz,xyzk,kc->cxyz", envelope, waves, self.amplitudes)[None]


def assert_equivariant(
    module: nn.Module,
    in_type: FieldTypeLike | None = None,
    out_type: FieldTypeLike | None = None,
    *,
    size: int | Iterable[int] = 9,
    batch: int = 2,
    turns: Tensor | None = None,
    turn_tolerance: float = 1e-12,
    wavelengths: Sequence[float] = (4.0, 8.0, 16.0),
    rotations: int = 4,
    rotation_size: int | Iterable[int] | None = None,
    max_rotation_error: float | None = None,
    voxel_spacing: float | Iterable[float] | None = None,
    seed: int = 0,
) -> EquivarianceReport:
    """Check that a module commutes with rotations, in float64 on a copy of it; the module itself is left alone.

    The module maps (batch, channel, x, y, z) to a volume or, as fields without a place, to (batch, channel). Its
    field types are `module.in_type` and `module.out_type` unless given; its voxel spacing is what its layers state,
    cubes if none does. Random modules (dropout) get equal seeds.

    1. Turns of the cube, on normal noise of `size` voxels, one number or three: all 24, or 48 for fields with parity;
    of
       them those that leave the grids of the module's layers what they are, where spacing, kernels or strides differ
       between axes; or `turns`, (turn, 3, 3). They map voxels to voxels, so only rounding may remain. A module that
       strides commutes with them only on volumes whose strided grid is centred: `runtime.exact_sizes` finds them.
    2. Random rotations, on smooth fields of the given wavelengths (in the unit of `voxel_spacing`) that are rotated
       analytically: compared at the centre of the output, the point that stays. rotation_size: of the volume,
       25 or 24 as `size` is odd or even, or a larger one that gives the output a centre voxel. (Even outputs are
       compared in the mean of their middle voxels, which itself adds an error at short wavelengths.)

    Raises AssertionError if a turn's error exceeds `turn_tolerance`, with the cause as far as tests of the parts find
    it; if the worst rotation's error exceeds `max_rotation_error` (unless None); or if the output is zero or not
    finite, which would prove nothing. ValueError if the field types are unknown or no volume size fits.
    """
    in_type = as_field_type(_own_type(module, "in_type", in_type))
    out_type = as_field_type(_own_type(module, "out_type", out_type))
    sizes = per_axis("size", size)
    spacing = voxel_spacing_of(module) if voxel_spacing is None else lengths_per_axis("voxel_spacing", voxel_spacing)
    turns = exact_turns(module, reflections=has_parity(in_type)) if turns is None else turns
    exact = copy.deepcopy(module).double()
    run = TypedFunction(frozen(exact, seed), in_type, out_type)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, channel_count(in_type), *sizes, dtype=torch.float64, generator=generator)
    errors = [run.turn_error(noise, turn) for turn in turns]
    worst = max(range(len(errors)), key=errors.__getitem__)
    worst_turn = tuple(tuple(int(entry) for entry in row) for row in turns[worst])
    if errors[worst] > turn_tolerance:
        shape = f"{sizes[0]}^3" if len(set(sizes)) == 1 else " x ".join(map(str, sizes))
        raise AssertionError(
            f"{type(module).__name__} is not equivariant ({describe(in_type)} -> {describe(out_type)}, {shape}): "
            f"turn {worst_turn} changes the output by {errors[worst]:.1e} of its largest value, more than "
            f"{turn_tolerance:.1e}. {cause(exact, run, noise, turns, turn_tolerance, seed)}"
        )
    measured: list[tuple[float, float]] = []
    if wavelengths:
        flip = turns[(turns < 0).sum((1, 2)).argmax()]
        smallest = per_axis("rotation_size", rotation_size or [24 + n % 2 for n in sizes])
        sizes = _sizes_with_centre(run, smallest, flip, turn_tolerance)
        drawn = random_rotations(rotations, generator=generator)
        for wavelength in wavelengths:
            width = min(n * step for n, step in zip(sizes, spacing, strict=True)) / 10
            fields = [SmoothField.random(in_type, wavelength, width, seed=seed + i) for i in range(batch)]
            measured.append((wavelength, _rotation_error(run, fields, drawn, sizes, spacing)))
    for wavelength, error in measured:
        if max_rotation_error is not None and error > max_rotation_error:
            raise AssertionError(
                f"{type(module).__name__}: random rotations at wavelength {wavelength:g} change the output by "
                f"{error:.1e}, more than {max_rotation_error:.1e}. "
                f"{component_cause(exact, run, noise, seed) or 'Use larger kernels or filters of smaller defect.'}"
            )
    return EquivarianceReport(len(turns), errors[worst], worst_turn, tuple(measured))


def _own_type(module: nn.Module, name: str, given: FieldTypeLike | None) -> FieldTypeLike:
    if given is None and not hasattr(module, name):
        raise ValueError(f"{type(module).__name__} has no attribute {name}. Pass {name}= to assert_equivariant.")
    own: FieldTypeLike = getattr(module, name) if given is None else given
    return own


def _sizes_with_centre(run: TypedFunction, smallest: Sequence[int], flip: Tensor, tolerance: float) -> Triple:
    """The first sizes from the smallest, in steps of 2, whose output has its centre where the volume has it.

    Those whose output has a voxel at the centre are preferred. flip: a turn that shows whether the centres agree.
    """
    centred = []
    for step in range(0, 10, 2):
        x, y, z = (n + step for n in smallest)
        sizes = x, y, z
        volume = SmoothField.random(run.in_type, 8.0, min(sizes) / 4).sample(sizes)
        if run.turn_error(volume, flip) <= tolerance:
            centred.append(sizes)
            if sizes[0] % 2 == 0 or all(length % 2 for length in run(volume).shape[2:]):
                return sizes
    if not centred:
        raise ValueError(
            f"no volume of {smallest[0]} to {smallest[0] + 8} voxels gives an output with the same centre. "
            "Pass another rotation_size, or wavelengths=() to leave the random rotations out."
        )
    return centred[0]


def _rotation_error(
    run: TypedFunction,
    fields: Sequence[SmoothField],
    rotations: Tensor,
    sizes: Sequence[int],
    voxel_spacing: Sequence[float],
) -> float:
    """Change of the output at the centre by random rotations, in the mean square, relative to the output."""
    straight = torch.cat([field.sample(sizes, voxel_spacing) for field in fields])
    output = run.checked(_centre(run(straight)))
    change = power = 0.0
    for rotation in rotations:
        expected = mix_components(output, rotation, run.out_type)
        turned = torch.cat([field.rotated(rotation).sample(sizes, voxel_spacing) for field in fields])
        change += (_centre(run(turned)) - expected).square().sum().item()
        power += expected.square().sum().item()
    return or_inf(math.sqrt(change / power))


def _centre(output: Tensor) -> Tensor:
    """(batch, channel): the value at the centre, between the middle voxels where a size is even."""
    for _ in output.shape[2:]:
        middle = (output.shape[2] - 1) // 2
        output = output.narrow(2, middle, 2 - output.shape[2] % 2).mean(2)
    return output
