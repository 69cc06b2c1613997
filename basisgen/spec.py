"""The spec: from TOML text or command-line options to frozen, validated layer specs. Everything in it is untrusted.

    text -> PackageSpec(name, layers of LayerSpec(name, into, out, grid, radial, execution))

Names become files and classes, so they are plain ASCII identifiers. Numbers are exact: 0.6 is 3/5.
"""

from __future__ import annotations

import keyword
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar

from basisgen.errors import SpecError
from basisgen.reading import quoted
from basisgen.so3.field_type import FieldType, parse_field_type
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.registry import parse_radial

MAX_SPEC_BYTES = 1 << 20
MAX_LAYERS = 256
MAX_NAME_LENGTH = 64
MAX_DEGREE = 12
MAX_CHANNELS = 4096
MAX_KERNEL_SIZE = 21  # taps per axis
MAX_DILATION = 16
SPACING_BOUNDS = (Decimal("1e-6"), Decimal("1e6"))
MAX_KERNEL_ELEMENTS = 1 << 28  # channels out * channels in * taps

_T = TypeVar("_T")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_MODULES = sys.stdlib_module_names | {"basisgen", "generated", "numpy", "runtime", "safetensors", "torch"}
_PACKAGE_KEYS = ("name", "defaults", "conv")
_OPTION_KEYS = ("kernel_size", "voxel_spacing", "dilation", "radial", "execution", "gated")
_LAYER_KEYS = ("name", "in", "out", *_OPTION_KEYS)


class Execution(Enum):
    """How a generated convolution runs: by a dense kernel, by three 1D passes, or as the cost model finds cheapest."""

    AUTO = "auto"
    DENSE = "dense"
    SEPARABLE = "separable"


PATHS = (Execution.DENSE, Execution.SEPARABLE)  # what AUTO chooses from


@dataclass(frozen=True)
class LayerSpec:
    """One convolution: class name, field types, taps, radial family, execution."""

    name: str
    into: FieldType
    out: FieldType
    grid: VoxelGrid
    radial: RadialFamily
    execution: Execution
    gated: bool = False  # `out` already holds the gates

    def __post_init__(self) -> None:
        assert self.into.has_parity == self.out.has_parity

    def describe(self) -> dict[str, Any]:
        """The layer in plain JSON values; equal descriptions compile to equal layers."""
        return {
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


@dataclass(frozen=True)
class Tuning:
    """What `basisgen tune` measured, and where: for each layer the time of both ways over a plain convolution's."""

    setting: str
    ratios: Mapping[str, Mapping[str, float]]  # layer -> dense, separable -> ratio

    def choice(self, layer: str) -> Execution | None:
        """The faster way of a layer; None where it was not measured."""
        ratios = self.ratios.get(layer)
        return None if ratios is None else Execution(min(ratios, key=lambda way: ratios[way]))

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, which `parse` reads."""
        return {"setting": self.setting, "ratios": {name: dict(ratios) for name, ratios in self.ratios.items()}}

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Tuning:
        """Reads what `describe` wrote; raises SpecError."""
        ways = {path.value for path in PATHS}
        try:
            setting, ratios = table["setting"], {name: dict(entry) for name, entry in table["ratios"].items()}
            good = isinstance(setting, str) and setting.isprintable() and len(setting) < 1000
            good = good and all(
                isinstance(name, str)
                and entry.keys() == ways
                and all(isinstance(ratio, float) and 0 < ratio < 1e6 for ratio in entry.values())
                for name, entry in ratios.items()
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise SpecError(f"tuned = {quoted(table)} is not what basisgen tune writes. Compile with --force.")
        return cls(setting, ratios)


@dataclass(frozen=True)
class PackageSpec:
    """A package: its name, its layers in order, the command that makes it, and what `basisgen tune` measured."""

    name: str
    layers: tuple[LayerSpec, ...]
    command: str
    tuned: Tuning | None = None


def parse_package(text: str) -> PackageSpec:
    """Reads a TOML spec.

    Raises SpecError with one line that quotes the value, names the rule and shows the cure.
    """
    table = _parse_toml(text)
    _check_keys(table, _PACKAGE_KEYS, "the spec")
    name = identifier(_required(table, "name", "the spec"), "package name")
    defaults = _table(table.get("defaults", {}), "[defaults]")
    _check_keys(defaults, _OPTION_KEYS, "[defaults]")
    layers = table.get("conv", [])
    if isinstance(layers, Mapping):
        raise SpecError("the spec has a table [conv]. Write [[conv]], in double brackets, once per layer.")
    if not isinstance(layers, list) or not layers:
        raise SpecError("the spec has no layer. Add one: [[conv]] with name, in and out.")
    if len(layers) > MAX_LAYERS:
        raise SpecError(f"the spec has {len(layers)} layers, the limit is {MAX_LAYERS}. Split it into packages.")
    parsed = tuple(parse_layer({**defaults, **_table(layer, "[[conv]]")}) for layer in layers)
    _check_distinct([layer.name for layer in parsed])
    return PackageSpec(name, parsed, f"basisgen compile {name}.toml")


def parse_layer(table: Mapping[str, object]) -> LayerSpec:
    """One layer from its table, defaults already merged in.

    Raises SpecError; every message begins with the layer's name.
    """
    name = identifier(_required(table, "name", "a [[conv]]"), "layer name")
    try:
        return _parse_named_layer(name, table)
    except SpecError as error:
        raise SpecError(f"layer {name!r}: {error}") from None


def parse_value(text: str) -> object:
    """A command line's option: a whole number, a decimal, a fraction p/q, true, false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", text, re.ASCII):
        return Decimal(text)
    if re.fullmatch(r"\d{1,18}/[1-9]\d{0,17}", text, re.ASCII):
        return Fraction(text)
    return text


def single_layer_package(name: object, layer: LayerSpec) -> PackageSpec:
    """The package of one layer that `basisgen conv` makes; its command line is rebuilt from the layer, in full."""
    facts = layer.describe()
    out = FieldType(layer.out.terms[:-1]) if layer.gated else layer.out
    words = ["basisgen conv", f'"{layer.into}"', f'"{out}"', "--gated" if layer.gated else ""]
    defaults = {"kernel_size": None, "voxel_spacing": ["1"] * 3, "dilation": [1] * 3, "execution": "auto"}
    for key, default in defaults.items():
        if facts[key] != default:
            words.append(f"--{key.replace('_', '-')} {_option(facts[key])}")
    radial = dict(facts["radial"])
    family = radial.pop("family")
    words += [] if family == "shells" else [f"--family {family}"]
    words += [f"--radial {key}={_option(value)}" for key, value in radial.items() if value is not None]
    name = identifier(name, "package name")
    return PackageSpec(name, (layer,), " ".join([*filter(None, words), f"--name {name}"]))


def _option(value: object) -> str:
    """A value as a command-line option: lists with commas."""
    if not isinstance(value, list):
        return str(value)
    return ",".join(map(str, value)) if len(value) != 1 else f"[{value[0]}]"


def _parse_named_layer(name: str, table: Mapping[str, object]) -> LayerSpec:
    _check_keys(table, _LAYER_KEYS, "it")
    into = _field_type(table, "in")
    out = _field_type(table, "out")
    if into.has_parity != out.has_parity:
        raise SpecError(
            f"in = '{into}' and out = '{out}' are of different groups: with parity (O(3)) and without (SO(3)). "
            "Give all degrees a letter e or o, or none."
        )
    gated = table.get("gated", False)
    if not isinstance(gated, bool):
        raise SpecError(f"gated = {quoted(gated)} is not true or false.")
    grid = VoxelGrid(
        _triple(_integer(table, "kernel_size", MAX_KERNEL_SIZE)),
        _triple(_spacing(table.get("voxel_spacing", 1))),
        _triple(_integer({"dilation": 1, **table}, "dilation", MAX_DILATION)),
    )
    out = out.with_gates() if gated else out
    _check_size(into, out, grid)
    radial = parse_radial(_table(table.get("radial", {"family": "shells"}), "radial"))
    execution = _execution(table.get("execution", "auto"), radial)
    return LayerSpec(name, into, out, grid, radial, execution, gated)


def _parse_toml(text: str) -> dict[str, object]:
    if len(text.encode("utf-8", "replace")) > MAX_SPEC_BYTES:
        raise SpecError(f"the spec is larger than {MAX_SPEC_BYTES} bytes.")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise SpecError("the spec is not TOML that can be read: its values are nested too deeply.") from None
    except ValueError as error:  # TOMLDecodeError is one
        place = re.search(r"at line (\d+)", str(error))
        line = text.split("\n")[int(place[1]) - 1].strip() if place else ""
        reads = f" The line reads {quoted(line)}." if line else ""
        raise SpecError(f"the spec is not TOML: {_one_line(str(error))}.{reads}") from None


def _check_keys(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise SpecError(f"{where} has an unknown key {quoted(key)}. Known keys: {', '.join(known)}.")


def _required(table: Mapping[str, object], key: str, where: str) -> object:
    if key not in table:
        raise SpecError(f"{where} has no key '{key}'. Add {key} = ...")
    return table[key]


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} = {quoted(value)} is not a table.")
    return value


def identifier(value: object, what: str) -> str:
    """A name that becomes a module, a class or a directory: `value` itself if it may be one.

    Raises SpecError, which begins with `what`.
    """
    example = "for example 'tetris'" if what.startswith("package") else "for example 'Conv1'"
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise SpecError(
            f"{what} {quoted(value)} is not an identifier of ASCII letters, digits and underscores that starts "
            f"with a letter. Choose one, {example}."
        )
    if len(value) > MAX_NAME_LENGTH:
        raise SpecError(f"{what} {quoted(value)} is longer than {MAX_NAME_LENGTH} characters.")
    if keyword.iskeyword(value) or keyword.issoftkeyword(value) or "__" in value:
        raise SpecError(f"{what} '{value}' is reserved in Python. Choose another, {example}.")
    if what.startswith("package") and value in _MODULES:
        raise SpecError(f"{what} '{value}' would hide the module of that name. Choose another, {example}.")
    if value in ("SteerableConv3d", "SeparableConv3d"):
        raise SpecError(f"{what} '{value}' is the name of a generated base class. Choose another, {example}.")
    return value


def _check_distinct(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if list(names).count(name) > 1:
            raise SpecError(f"two layers are named '{name}'. Give each its own name.")
        if other != name:
            raise SpecError(f"layers '{other}' and '{name}' differ in case only, and become one file. Rename one.")


def _field_type(table: Mapping[str, object], key: str) -> FieldType:
    value = _required(table, key, "it")
    if not isinstance(value, str) or len(value) > 10_000:
        raise SpecError(f"{key} = {quoted(value)} is not a field type. Write text, for example '4x0 + 2x1'.")
    field_type = parse_field_type(value)
    for term in field_type.terms:
        if term.irrep.degree > MAX_DEGREE:
            raise SpecError(f"{key} = {quoted(value)}: degree {term.irrep.degree} is over the limit, {MAX_DEGREE}.")
    return field_type


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


def _integer(table: Mapping[str, object], key: str, largest: int) -> list[int]:
    value = _required(table, key, "it")
    values = value if isinstance(value, list) else [value]
    for number in values:
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= largest:
            raise SpecError(
                f"{key} = {quoted(value)} is not a whole number from 1 to {largest}, or three of them, [x, y, z]."
            )
    return _one_or_three(key, value, values)


def _spacing(value: object) -> list[Fraction]:
    values = value if isinstance(value, list) else [value]
    low, high = SPACING_BOUNDS
    for number in values:
        if not isinstance(number, int | Decimal | Fraction) or not low <= _as_number(number) <= high:
            raise SpecError(
                f"voxel_spacing = {quoted(value)} is not a length from {low:f} to {high:f}, or three, [x, y, z]."
            )
    return _one_or_three("voxel_spacing", value, [Fraction(str(number)) for number in values])


def _as_number(number: int | Decimal | Fraction) -> Decimal:
    """The number for comparison; nan and truth values become -1, which is within no bounds."""
    decimal = Decimal(number.numerator) / number.denominator if isinstance(number, Fraction) else Decimal(number)
    return Decimal(-1) if decimal.is_nan() or isinstance(number, bool) else decimal


def _one_or_three(key: str, value: object, values: list[_T]) -> list[_T]:
    if len(values) not in (1, 3):
        raise SpecError(f"{key} = {quoted(value)} has {len(values)} entries. Give one number, or three: [x, y, z].")
    return values


def _triple(values: list[_T]) -> tuple[_T, _T, _T]:
    x, y, z = values * 3 if len(values) == 1 else values
    return x, y, z


def _execution(value: object, radial: RadialFamily) -> Execution:
    choices = [choice.value for choice in Execution]
    if value not in choices:
        raise SpecError(f"execution = {quoted(value)} is not one of {', '.join(choices)}.")
    if value == Execution.SEPARABLE.value and not radial.separable:
        raise SpecError(
            f"execution = 'separable' needs filters that are products of functions of x, y and z, which "
            f'\'{radial.name}\' ones are not. Set radial = {{ family = "hermite" }}, or execution = "auto".'
        )
    return Execution(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
