"""A convolution as a spec states it: from one table to a frozen, validated `ConvSpec`. All of it is untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from basisgen.errors import SpecError
from basisgen.layer import SpecDefaults
from basisgen.reading import check_keys, exact_number, flag, one_of, quoted, required, sub_table
from basisgen.so3.field_type import FieldType, parse_field_type
from basisgen.volumes.execution import Execution
from basisgen.volumes.kernels.constraint import allowed_degrees
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.registry import DEFAULT_FAMILY, parse_radial

KIND = "conv"
MAX_DEGREE = 12
MAX_CHANNELS = 4096
MAX_KERNEL_SIZE = 21  # taps per axis
MAX_DILATION = 16
SPACING_BOUNDS = (Fraction(1, 10**6), Fraction(10**6))
MAX_ANISOTROPY = 1000  # of the distances of taps along two axes
MAX_KERNEL_ELEMENTS = 1 << 28  # channels out * channels in * taps
MAX_WORK = 1 << 25  # see `work`: some two minutes, and 2 GB
OPTIONS = ("kernel_size", "voxel_spacing", "dilation", "radial", "execution", "gated")

_T = TypeVar("_T")


@dataclass(frozen=True)
class ConvSpec(SpecDefaults):
    """One convolution: class name, field types, taps, radial family, execution."""

    kind = KIND

    name: str
    into: FieldType
    out: FieldType
    grid: VoxelGrid
    radial: RadialFamily
    execution: Execution
    gated: bool = False

    def __post_init__(self) -> None:
        assert self.into.has_parity == self.out.has_parity

    @property
    def gives(self) -> FieldType:
        """The fields the module returns: `out`, with `gated` also one scalar per non-scalar field copy."""
        return self.out.with_gates() if self.gated else self.out

    @property
    def has_gates(self) -> bool:
        """Whether the last term of `gives` holds gates: with `gated`, where there is a field to gate."""
        return self.gives != self.out

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        return {
            "kind": KIND,
            "name": self.name,
            "in": str(self.into),
            "out": str(self.out),
            "gated": self.gated,
            "kernel_size": list(self.grid.size),
            "voxel_spacing": [str(spacing) for spacing in self.grid.spacing],
            "dilation": list(self.grid.dilation),
            "radial": {"family": self.radial.name, **self.radial.describe()},
            "execution": self.execution.value,
        }

    def command_line(self) -> str:
        """See LayerSpec: `basisgen conv ...`, in full, except for options that have their default values."""
        facts = self.describe()
        words = ["basisgen conv", f'"{self.into}"', f'"{self.out}"', "--gated" if self.gated else ""]
        defaults = {"kernel_size": None, "voxel_spacing": ["1"] * 3, "dilation": [1] * 3, "execution": "auto"}
        for key, default in defaults.items():
            if facts[key] != default:
                words.append(f"--{key.replace('_', '-')} {_option(facts[key])}")
        radial = dict(facts["radial"])
        family = radial.pop("family")
        words += [] if family == DEFAULT_FAMILY else [f"--family {family}"]
        words += [f"--radial {key}={_option(value)}" for key, value in radial.items() if value is not None]
        return " ".join(filter(None, words))


def parse_conv(name: str, table: Mapping[str, object]) -> ConvSpec:
    """A convolution from its table, defaults merged in; settings that are None count as absent.

    Raises SpecError.
    """
    check_keys(table, ("kind", "name", "in", "out", *OPTIONS), "it")
    into, out = (read_field_type(key, required(table, key, "it")) for key in ("in", "out"))
    check_one_group(into, out)
    gated = flag(table, "gated", False)
    grid = VoxelGrid(
        _triple(_integer(table, "kernel_size", MAX_KERNEL_SIZE)),
        _triple(read_spacing(table.get("voxel_spacing", 1))),
        _triple(_integer({"dilation": 1, **table}, "dilation", MAX_DILATION)),
    )
    _check_size(into, out.with_gates() if gated else out, grid)
    _check_anisotropy(grid)
    _check_work(into, out, grid)
    given = table.get("radial", DEFAULT_FAMILY)
    settings = {"family": given} if isinstance(given, str) else sub_table(given, "radial")
    radial = parse_radial({key: value for key, value in settings.items() if value is not None})
    execution = _execution(table.get("execution", "auto"), radial)
    return ConvSpec(name, into, out, grid, radial, execution, gated)


def read_field_type(key: str, value: object) -> FieldType:
    """A field type within the limits of degree; raises SpecError that begins with the key."""
    if not isinstance(value, str) or len(value) > 10_000:
        raise SpecError(f"{key} = {quoted(value)} is not a field type. Write text, for example '4x0 + 2x1'.")
    field_type = parse_field_type(value)
    alone = [part.strip() for part in value.split("+")]  # without `MULx`
    for irrep in (term.irrep for term in field_type.terms):
        if irrep.degree > MAX_DEGREE:
            hint = f" A number alone is a degree: for scalar channels write '{irrep}x0'." if str(irrep) in alone else ""
            raise SpecError(f"{key} = {quoted(value)}: degree {irrep.degree} is over the limit, {MAX_DEGREE}.{hint}")
    return field_type


def check_one_group(into: FieldType, out: FieldType) -> None:
    """Raises SpecError where one type has a parity and the other has none."""
    if into.has_parity != out.has_parity:
        raise SpecError(
            f"in = '{into}' and out = '{out}' are of different groups: with parity (O(3)) and without (SO(3)). "
            "Give all degrees a letter e or o, or none."
        )


def _check_size(into: FieldType, out: FieldType, grid: VoxelGrid) -> None:
    for key, field_type in (("in", into), ("out", out)):
        if field_type.dimension > MAX_CHANNELS:
            raise SpecError(f"{key} = '{field_type}' has {field_type.dimension} channels, the limit is {MAX_CHANNELS}.")
    taps = grid.size[0] * grid.size[1] * grid.size[2]
    if into.dimension * out.dimension * taps > MAX_KERNEL_ELEMENTS:
        raise SpecError(
            f"the dense kernel would have {out.dimension} x {into.dimension} x {taps} elements, the limit is "
            f"{MAX_KERNEL_ELEMENTS}. Take fewer channels or a smaller kernel_size."
        )


def _check_anisotropy(grid: VoxelGrid) -> None:
    shortest, longest = min(grid.pitch), max(grid.pitch)
    if longest > MAX_ANISOTROPY * shortest:
        raise SpecError(
            f"neighbouring taps are {float(shortest):g} apart along one axis and {float(longest):g} along another: the "
            f"limit is {MAX_ANISOTROPY} times as far. Give voxel_spacing in one unit, or take another dilation."
        )


def work(into: FieldType, out: FieldType, grid: VoxelGrid) -> int:
    """The operations of sampling, for each radial profile.

    Every one of the 2J+1 filters of every degree J is a polynomial of degree J at every tap, and there are passes along
    the axes to measure or to choose it.
    """
    taps, longest = grid.size[0] * grid.size[1] * grid.size[2], max(grid.size)
    return sum((2 * J + 1) * (J + longest) * taps for J in _degrees(into, out))


def _degrees(into: FieldType, out: FieldType) -> set[int]:
    pairs = {(o.irrep, i.irrep) for o in out.terms for i in into.terms}
    return {J for pair in pairs for J in allowed_degrees(*pair)}


def _check_work(into: FieldType, out: FieldType, grid: VoxelGrid) -> None:
    """Bounds what sampling costs before it begins."""
    operations = work(into, out, grid)
    if operations > MAX_WORK:
        raise SpecError(
            f"filters of degree up to {max(_degrees(into, out))} on {grid} taps are too much work: {operations:.1e} "
            f"operations for each radial profile, the limit is {MAX_WORK:.1e}. Take a smaller kernel_size or lower "
            "degrees."
        )


def _integer(table: Mapping[str, object], key: str, largest: int) -> list[int]:
    value = required(table, key, "it")
    values = value if isinstance(value, list) else [value]
    for number in values:
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= largest:
            raise SpecError(
                f"{key} = {quoted(value)} is not a whole number from 1 to {largest}, or three of them, [x, y, z]."
            )
    return _one_or_three(key, value, values)


def read_spacing(value: object) -> list[Fraction]:
    """One length or three, exact; raises SpecError."""
    values = value if isinstance(value, list) else [value]
    low, high = SPACING_BOUNDS
    lengths = [length for length in map(exact_number, values) if length is not None and low <= length <= high]
    if len(lengths) < len(values):
        raise SpecError(
            f"voxel_spacing = {quoted(value)} is not a length from {float(low):f} to {float(high):.0f}, "
            "or three, [x, y, z]."
        )
    return _one_or_three("voxel_spacing", value, lengths)


def _one_or_three(key: str, value: object, values: list[_T]) -> list[_T]:
    if len(values) not in (1, 3):
        raise SpecError(f"{key} = {quoted(value)} has {len(values)} entries. Give one number, or three: [x, y, z].")
    return values


def _triple(values: list[_T]) -> tuple[_T, _T, _T]:
    x, y, z = values * 3 if len(values) == 1 else values
    return x, y, z


def _execution(value: object, radial: RadialFamily) -> Execution:
    named = Execution(one_of("execution", value, [choice.value for choice in Execution]))
    if named is Execution.SEPARABLE and not radial.separable:
        raise SpecError(
            f"execution = 'separable' needs filters that are products of functions of x, y and z, which "
            f'\'{radial.name}\' ones are not. Set radial = {{ family = "separable" }}, or execution = "auto".'
        )
    return named


def _option(value: object) -> str:
    """A value as a command-line option: lists with commas."""
    if not isinstance(value, list):
        return str(value)
    return ",".join(map(str, value)) if len(value) != 1 else f"[{value[0]}]"
