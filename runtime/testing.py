"""The test that a module is equivariant: f(D_in x) = D_out f(x), exactly where the grid allows, measured elsewhere.

from runtime.testing import assert_equivariant
print(assert_equivariant(GatedBlock(Conv1(), stride=2)))
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from runtime.fields import FieldType, FieldTypeLike, as_field_type, channel_count, describe, has_parity
from runtime.so3 import cube_turns, random_rotations
from runtime.volumes.rotate import mix_components, turn_field


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

    def sample(self, size: int, voxel_spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
        """Values on a cubic grid of voxels about the origin: float64 (1, channel, x, y, z)."""
        axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        points = torch.stack(torch.meshgrid(*(axis * step for step in voxel_spacing), indexing="ij"), -1)
        envelope = torch.exp(-points.square().sum(-1) / (2 * self.width**2))
        waves = torch.cos(points @ self.waves.mT + self.phases)
        return torch.einsum("xyz,xyzk,kc->cxyz", envelope, waves, self.amplitudes)[None]


def assert_equivariant(
    module: nn.Module,
    in_type: FieldTypeLike | None = None,
    out_type: FieldTypeLike | None = None,
    *,
    size: int = 9,
    batch: int = 2,
    turns: Tensor | None = None,
    turn_tolerance: float = 1e-12,
    wavelengths: Sequence[float] = (4.0, 8.0, 16.0),
    rotations: int = 4,
    rotation_size: int | None = None,
    max_rotation_error: float | None = None,
    voxel_spacing: Sequence[float] = (1.0, 1.0, 1.0),
    seed: int = 0,
) -> EquivarianceReport:
    """Check that a module commutes with rotations, in float64 on a copy of it; the module itself is left alone.

    The module maps (batch, channel, x, y, z) to a volume or, as fields without a place, to (batch, channel). Its
    field types are `module.in_type` and `module.out_type` unless given. Random modules (dropout) get equal seeds.

    1. Turns of the cube, on normal noise of size^3 voxels: all 24, or 48 for fields with parity, or `turns`
       ((turn, 3, 3), for voxels that are not cubes). They map voxels to voxels, so only rounding may remain. A module
       that strides commutes with them only on volumes whose strided grid is centred: choose `size` so.
    2. Random rotations, on smooth fields of the given wavelengths (in the unit of `voxel_spacing`) that are rotated
       analytically: compared at the centre of the output, the point that stays. rotation_size: of the volume,
       25 or 24 as `size` is odd or even, or a larger one that gives the output a centre voxel. (Even outputs are
       compared in the mean of their middle voxels, which itself adds an error at short wavelengths.)

    Raises AssertionError if a turn's error exceeds `turn_tolerance`, if the worst rotation's error exceeds
    `max_rotation_error` (unless None), or if the output is zero or not finite, which would prove nothing;
    ValueError if the field types are unknown or no volume size fits.
    """
    in_type = as_field_type(_own_type(module, "in_type", in_type))
    out_type = as_field_type(_own_type(module, "out_type", out_type))
    run = _Run(_frozen_copy(module, seed), in_type, out_type)
    turns = cube_turns(reflections=has_parity(in_type)) if turns is None else turns
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, channel_count(in_type), size, size, size, dtype=torch.float64, generator=generator)
    errors = [run.turn_error(noise, turn) for turn in turns]
    worst = max(range(len(errors)), key=errors.__getitem__)
    worst_turn = tuple(tuple(int(entry) for entry in row) for row in turns[worst])
    if errors[worst] > turn_tolerance:
        raise AssertionError(
            f"{type(module).__name__} is not equivariant ({describe(in_type)} -> {describe(out_type)}, {size}^3): "
            f"turn {worst_turn} changes the output by {errors[worst]:.1e} of its largest value, more than "
            f"{turn_tolerance:.1e}. If the module strides, check that its strided grid is centred at this size."
        )
    measured: list[tuple[float, float]] = []
    if wavelengths:
        flip = turns[(turns < 0).sum((1, 2)).argmax()]
        size = run.size_with_centre(rotation_size or 24 + size % 2, flip, turn_tolerance)
        drawn = random_rotations(rotations, generator=generator)
        for wavelength in wavelengths:
            width = min(voxel_spacing) * size / 10
            fields = [SmoothField.random(in_type, wavelength, width, seed=seed + i) for i in range(batch)]
            measured.append((wavelength, run.rotation_error(fields, drawn, size, voxel_spacing)))
    for wavelength, error in measured:
        if max_rotation_error is not None and error > max_rotation_error:
            raise AssertionError(
                f"{type(module).__name__}: random rotations at wavelength {wavelength:g} change the output by "
                f"{error:.1e}, more than {max_rotation_error:.1e}. Use larger kernels or filters of smaller defect."
            )
    return EquivarianceReport(len(turns), errors[worst], worst_turn, tuple(measured))


def _own_type(module: nn.Module, name: str, given: FieldTypeLike | None) -> FieldTypeLike:
    if given is None and not hasattr(module, name):
        raise ValueError(f"{type(module).__name__} has no attribute {name}. Pass {name}= to assert_equivariant.")
    own: FieldTypeLike = getattr(module, name) if given is None else given
    return own


def _frozen_copy(module: nn.Module, seed: int) -> Callable[[Tensor], Tensor]:
    """The module as a pure function of its input: copied, in float64, with the same random numbers in every call."""
    module = copy.deepcopy(module).double()
    device = next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device("cpu"))

    def run(fields: Tensor) -> Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            output: Tensor = module(fields.to(device)).cpu()
        return output

    return run


@dataclass(frozen=True)
class _Run:
    """A module as a pure function between fields of known types; errors are relative, inf where not finite."""

    function: Callable[[Tensor], Tensor]
    in_type: FieldType
    out_type: FieldType

    def turn_error(self, fields: Tensor, turn: Tensor) -> float:
        """Largest change of any output value by one turn, relative to the largest value; inf if the shapes differ."""
        expected = turn_field(self._checked(self.function(fields)), turn, self.out_type)
        output = self.function(turn_field(fields, turn, self.in_type))
        if output.shape != expected.shape:
            return math.inf
        return _or_inf(_largest(output - expected) / _largest(expected))

    def size_with_centre(self, smallest: int, flip: Tensor, tolerance: float) -> int:
        """The first size from the smallest, in steps of 2, whose output has its centre where the volume has it.

        One whose output has a voxel at the centre is preferred. flip: a turn that shows whether the centres agree.
        """
        centred = []
        for size in range(smallest, smallest + 10, 2):
            volume = SmoothField.random(self.in_type, 8.0, size / 4).sample(size)
            if self.turn_error(volume, flip) <= tolerance:
                centred.append(size)
                if size % 2 == 0 or all(length % 2 for length in self.function(volume).shape[2:]):
                    return size
        if not centred:
            raise ValueError(
                f"no volume of {smallest} to {smallest + 8} voxels gives an output with the same centre. "
                "Pass another rotation_size, or wavelengths=() to leave the random rotations out."
            )
        return centred[0]

    def rotation_error(
        self, fields: Sequence[SmoothField], rotations: Tensor, size: int, voxel_spacing: Sequence[float]
    ) -> float:
        """Change of the output at the centre by random rotations, in the mean square, relative to the output."""
        straight = torch.cat([field.sample(size, voxel_spacing) for field in fields])
        output = self._checked(_centre(self.function(straight)))
        change = power = 0.0
        for rotation in rotations:
            expected = mix_components(output, rotation, self.out_type)
            turned = torch.cat([field.rotated(rotation).sample(size, voxel_spacing) for field in fields])
            change += (_centre(self.function(turned)) - expected).square().sum().item()
            power += expected.square().sum().item()
        return _or_inf(math.sqrt(change / power))

    def _checked(self, output: Tensor) -> Tensor:
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


def _largest(values: Tensor) -> float:
    return values.abs().max().item()


def _or_inf(error: float) -> float:
    return error if math.isfinite(error) else math.inf


def _centre(output: Tensor) -> Tensor:
    """(batch, channel): the value at the centre, between the middle voxels where a size is even."""
    for _ in output.shape[2:]:
        middle = (output.shape[2] - 1) // 2
        output = output.narrow(2, middle, 2 - output.shape[2] % 2).mean(2)
    return output
