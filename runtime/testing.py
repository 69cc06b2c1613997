"""The test that a module is equivariant: f(D_in x) = D_out f(x), exactly where the grid allows, measured elsewhere.

For example, of a block:

    from basisgen_runtime.testing import assert_equivariant

    print(assert_equivariant(GatedBlock(Conv1(), stride=2)))
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .causes import cause, component_cause
from .fields import FieldType, FieldTypeLike, as_field_type, channel_count, describe, has_parity
from .layer import lengths_per_axis, per_axis
from .so3 import random_rotations
from .turns import TypedFunction, exact_turns, frozen, or_inf, voxel_spacing_of
from .volumes.rotate import mix_components

Triple = tuple[int, int, int]
Turn = tuple[tuple[int, ...], ...]  # the rows of its matrix


@dataclass(frozen=True)
class EquivarianceReport:
    """What `assert_equivariant` measured; errors are relative to the output.

    turn_error: the worst over the turns of the cube, which leave only rounding. rotation_errors: pairs (wavelength,
    error at the centre voxel over random rotations), which show how well the sampled filters are steerable.
    """

    turns: int
    turn_error: float
    worst_turn: Turn
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
        waves = torch.cos(points @ self.waves.mT + self.phases)  # (x, y, z, wave)
        return torch.einsum("xyz,xyzk,kc->cxyz", envelope, waves, self.amplitudes)[None]  # (1, channel, x, y, z)


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
    field types are `module.in_type` and `module.out_type` unless given; its voxel spacing is the one its layers
    state, else cubes. Random modules (dropout) get equal seeds.

    1. Turns of the cube, on normal noise of `size` voxels, one number or three. `turns`, (turn, 3, 3), are all 24, or
       48 for fields with parity, that leave the grids of the module's layers what they are. They map voxels to voxels,
       so only rounding may remain. A strided module needs a centred strided grid: `runtime.exact_sizes` finds sizes.
    2. Random rotations, on smooth fields of the given wavelengths, in the unit of `voxel_spacing`, rotated
       analytically: compared at the centre of the output, the point that stays; an even output, which adds an error
       at short wavelengths, in the mean of its middle voxels. rotation_size: of the volume, 24, 25 or more.

    Raises AssertionError, with the cause as far as tests of the parts find it, if the error of a turn exceeds
    `turn_tolerance` or that of the rotations `max_rotation_error`, or if the output is zero or not finite, which
    would prove nothing; ValueError if the field types are unknown or no volume size fits.
    """
    sizes = per_axis("size", size)
    subject = _subject(module, in_type, out_type, (batch, *sizes), seed)
    spacing = voxel_spacing_of(module) if voxel_spacing is None else lengths_per_axis("voxel_spacing", voxel_spacing)
    turns = exact_turns(module, reflections=has_parity(subject.run.in_type)) if turns is None else turns
    worst, turn_error = _check_turns(subject, turns, turn_tolerance)
    smallest = per_axis("rotation_size", rotation_size or [24 + n % 2 for n in sizes])
    measured = _measure_rotations(subject, wavelengths, rotations, smallest, spacing, turns, turn_tolerance)
    _check_rotations(subject, measured, max_rotation_error)
    return EquivarianceReport(len(turns), turn_error, worst, measured)


@dataclass(frozen=True)
class _Subject:
    """The module under test: its copy in float64, that as a function of fields, and what both are tested with."""

    name: str
    exact: nn.Module
    run: TypedFunction
    noise: Tensor  # (batch, channel, x, y, z)
    generator: torch.Generator
    seed: int


def _subject(
    module: nn.Module,
    in_type: FieldTypeLike | None,
    out_type: FieldTypeLike | None,
    shape: tuple[int, int, int, int],
    seed: int,
) -> _Subject:
    """The subject with noise of a shape (batch, x, y, z)."""
    into = as_field_type(_own_type(module, "in_type", in_type))
    out = as_field_type(_own_type(module, "out_type", out_type))
    exact = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape[0], channel_count(into), *shape[1:], dtype=torch.float64, generator=generator)
    run = TypedFunction(frozen(exact, seed), into, out)
    return _Subject(type(module).__name__, exact, run, noise, generator, seed)


def _check_turns(subject: _Subject, turns: Tensor, tolerance: float) -> tuple[Turn, float]:
    """The worst turn and its error; raises AssertionError if it exceeds the tolerance."""
    errors = [subject.run.turn_error(subject.noise, turn) for turn in turns]
    worst = max(range(len(errors)), key=errors.__getitem__)
    turn = tuple(tuple(int(entry) for entry in row) for row in turns[worst])
    if errors[worst] > tolerance:
        sizes, types = subject.noise.shape[2:], (subject.run.in_type, subject.run.out_type)
        shape = f"{sizes[0]}^3" if len(set(sizes)) == 1 else " x ".join(map(str, sizes))
        raise AssertionError(
            f"{subject.name} is not equivariant ({' -> '.join(map(describe, types))}, {shape}): turn {turn} changes "
            f"the output by {errors[worst]:.1e} of its largest value, more than {tolerance:.1e}. "
            f"{cause(subject.exact, subject.run, subject.noise, turns, tolerance, subject.seed)}"
        )
    return turn, errors[worst]


def _measure_rotations(
    subject: _Subject,
    wavelengths: Sequence[float],
    rotations: int,
    smallest: Triple,
    spacing: Sequence[float],
    turns: Tensor,
    tolerance: float,
) -> tuple[tuple[float, float], ...]:
    """(wavelength, error) for each wavelength, on the first volume from the smallest whose centre stays."""
    if not wavelengths:
        return ()
    flip = turns[(turns < 0).sum((1, 2)).argmax()]
    sizes = _sizes_with_centre(subject.run, smallest, flip, tolerance)
    drawn = random_rotations(rotations, generator=subject.generator)
    width = min(n * step for n, step in zip(sizes, spacing, strict=True)) / 10
    measured = []
    for wavelength in wavelengths:
        seeds = range(subject.seed, subject.seed + len(subject.noise))
        fields = [SmoothField.random(subject.run.in_type, wavelength, width, seed=seed) for seed in seeds]
        measured.append((wavelength, _rotation_error(subject.run, fields, drawn, sizes, spacing)))
    return tuple(measured)


def _check_rotations(subject: _Subject, measured: Sequence[tuple[float, float]], most: float | None) -> None:
    """Raises AssertionError if an error exceeds the largest allowed."""
    for wavelength, error in measured:
        if most is not None and error > most:
            found = component_cause(subject.exact, subject.run, subject.noise, subject.seed)
            raise AssertionError(
                f"{subject.name}: random rotations at wavelength {wavelength:g} change the output by {error:.1e}, more "
                f"than {most:.1e}. {found or 'Use larger kernels or filters of smaller defect.'}"
            )


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
