"""[network]: a whole network as one table, and the convolutions that it stands for.

    table -> NetworkSpec -> Expansion(tables of [[conv]], and the order in which the network runs through them)

    level 1                    level 2                   ...                  level depth
    Stem -> Same1 -> .. -> low-pass, stride 2 -> Widen2 -> Same2 -> ..  ->  WidenN -> .. -> Last

Every convolution gives fields with their gates; the fields of a level are those of the level above, times `growth`. A
U-Net goes up again by JoinN, .., Join1, whose input is the coarser fields followed by the finer ones, and ends in Head.
With activation = "sphere" there are no gates: the fields of a level are functions on the sphere at every voxel, which
the transform Sphere samples.
Pure: equal tables, equal layers. `runtime.network` builds the network of a package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from basisgen.errors import SpecError
from basisgen.reading import check_keys, exact_number, flag, one_of, quoted, required, sub_table, whole
from basisgen.so3.field_type import FieldType, Term
from basisgen.volumes.conv_spec import MAX_KERNEL_SIZE, check_one_group, read_field_type, read_spacing
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.registry import DEFAULT_FAMILY, parse_radial

KINDS = ("classifier", "encoder", "unet")
NORMS = ("batch", "instance", "none")
ACTIVATIONS = ("gate", "smooth", "norm", "sphere")
MAX_DEPTH, MAX_CONVS, MAX_GROWTH, MAX_GRID_LIMIT = 6, 16, 4, 32
OF_UNET, OF_SPHERE = ("deep_supervision",), ("grid_limit",)
OPTIONS = (
    *("kind", "in", "out", "fields", "depth", "growth", "convs", "features", "kernel_size", "stem_size"),
    *("voxel_spacing", "radial", "even", "fine", "residual", "norm", "activation", "dropout", *OF_UNET, *OF_SPHERE),
)
Triple = tuple[int, int, int]
Spacing = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class NetworkSpec:
    """A network as the spec states it, all defaults filled in.

    fields and convs are of each level; `strides` of the way into each level, the first that of the stem.
    """

    kind: str
    into: FieldType
    out: FieldType
    fields: tuple[FieldType, ...]
    convs: tuple[int, ...]  # beside the stem
    features: FieldType | None  # of a classifier: the invariants that its linear map takes
    kernel_size: int
    stem_size: int
    spacing: Spacing
    radial: RadialFamily
    even: bool
    fine: bool
    residual: bool
    norm: str
    activation: str
    dropout: Fraction
    deep_supervision: bool
    grid_limit: int | None  # with activation = "sphere": band limit of the grid

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self.fields)

    @property
    def spacings(self) -> tuple[Spacing, ...]:
        """Of the input and of each level; an axis is halved unless it is twice as coarse as another."""
        found = [self.spacing]
        for level in range(self.depth):
            spacing = found[-1]
            halves = (step > 1 for step in _steps(spacing)) if level or not self.fine else (False,) * 3
            x, y, z = (length * (2 if half else 1) for length, half in zip(spacing, halves, strict=True))
            found.append((x, y, z))
        return tuple(found)

    @property
    def strides(self) -> tuple[Triple, ...]:
        """The stride into each level; the first is the stem's."""
        strides = []
        for fine, coarse in pairwise(self.spacings):
            x, y, z = (int(b / a) for a, b in zip(fine, coarse, strict=True))
            strides.append((x, y, z))
        return tuple(strides)

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, which `parse_network` reads back into an equal spec."""
        return {
            "kind": self.kind,
            "in": str(self.into),
            "out": str(self.out),
            "fields": list(map(str, self.fields)),
            "convs": list(self.convs),
            **({} if self.features is None else {"features": self.features.dimension}),
            "kernel_size": self.kernel_size,
            "stem_size": self.stem_size,
            "voxel_spacing": list(map(str, self.spacing)),
            "radial": {"family": self.radial.name, **self.radial.describe()},
            "even": self.even,
            "fine": self.fine,
            "residual": self.residual,
            "norm": self.norm,
            "activation": self.activation,
            "dropout": str(self.dropout),
            **({"deep_supervision": self.deep_supervision} if self.kind == "unet" else {}),
            **({} if self.grid_limit is None else {"grid_limit": self.grid_limit}),
        }


@dataclass(frozen=True)
class Expansion:
    """The layers of a network, and where they stand: names of convolutions for each level, from fine to coarse."""

    layers: tuple[Mapping[str, object], ...]  # tables of [[layer]], in the order of the network
    down: tuple[tuple[str, ...], ...]
    up: tuple[tuple[str, ...], ...]  # of a U-Net, from fine to coarse; one level fewer
    heads: tuple[str, ...]  # of a U-Net: at level 1, and with deep supervision at the levels below
    sphere: str | None = None  # the transform, with activation = "sphere"


def parse_network(table: Mapping[str, object]) -> NetworkSpec:
    """The table [network]; settings left out have the defaults of the documentation page on networks.

    Raises SpecError: one line that names the key, quotes the value and shows the cure.
    """
    check_keys(table, OPTIONS, "[network]")
    kind = one_of("kind", required(table, "kind", "[network]"), KINDS)
    into, out = (read_field_type(key, required(table, key, "[network]")) for key in ("in", "out"))
    fields = _fields(table)
    for other in (out, *fields):
        check_one_group(into, other)
    even, fine = flag(table, "even", True), flag(table, "fine", False)
    size = whole(table, "kernel_size", 3, 1, MAX_KERNEL_SIZE)
    if size % 2 == 0:
        raise SpecError(
            f"kernel_size = {size} is even, and a network keeps its grids centred by odd kernels. Take 3 or 5."
        )
    stem = whole(table, "stem_size", 6 if even and not fine else 5, 1, MAX_KERNEL_SIZE)
    if (not fine and (stem % 2 == 0) != even) or (fine and stem % 2 == 0):
        right = "even" if even and not fine else "odd"
        raise SpecError(
            f"stem_size = {stem}: the stem of a network with even = {str(even).lower()} and fine = {str(fine).lower()} "
            f"has an {right} number of taps, so that its grid is centred. Take {stem + 1}."
        )
    if kind != "unet" and "deep_supervision" in table:
        raise SpecError(f"deep_supervision is a key of a unet, and this is kind = '{kind}'. Leave it out.")
    if kind != "classifier" and "features" in table:
        raise SpecError(f"features is a key of a classifier, and this is kind = '{kind}'. Leave it out.")
    residual = flag(table, "residual", False)
    activation = one_of("activation", table.get("activation", "gate"), ACTIVATIONS)
    return NetworkSpec(
        kind,
        into,
        _scalars(kind, out),
        fields,
        _convs(table, len(fields), kind, residual),
        _features(table, fields[-1], out) if kind == "classifier" else None,
        size,
        stem,
        _spacing(table),
        _radial(table),
        even,
        fine,
        residual,
        one_of("norm", table.get("norm", "batch"), NORMS),
        activation,
        _dropout(table),
        flag(table, "deep_supervision", False),
        _grid_limit(table, activation, (*fields, *((out,) if kind == "encoder" else ()))),
    )


def expand(network: NetworkSpec) -> Expansion:
    """The convolutions a network is made of, each once: a class that the network uses several times is one layer."""
    layers: dict[str, Mapping[str, object]] = {}

    def conv(name: str, into: FieldType, out: FieldType, level: int, *, gated: bool = True) -> str:
        stem = level == 0
        layers[name] = {
            "kind": "conv",
            "name": name,
            "in": str(into),
            "out": str(out),
            "gated": gated and network.activation in ("gate", "smooth"),
            "kernel_size": list(_stem_taps(network) if stem else _taps(network.kernel_size, network.spacings[level])),
            "voxel_spacing": [str(length) for length in _relative(network.spacings[level])],
            "radial": {"family": network.radial.name, **network.radial.describe()},
        }
        return name

    down = _down(network, conv)
    up, heads = _up(network, conv) if network.kind == "unet" else ((), ())
    sphere = None
    if network.grid_limit is not None:
        sphere = "Sphere"
        signal = f"1x0..{network.grid_limit - 1}{'n' if network.into.has_parity else ''}"
        layers[sphere] = {"kind": "transform", "name": sphere, "in": signal, "grid": "driscoll_healy"}
    return Expansion(tuple(layers.values()), down, up, heads, sphere)


def _up(network: NetworkSpec, conv: Any) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The way up of a U-Net, and its heads, both from fine to coarse."""
    up = []
    for level in range(network.depth - 1, 0, -1):
        fine, coarse = network.fields[level - 1], network.fields[level]
        joined = FieldType((*coarse.terms, *fine.terms))
        again = [conv(f"Same{level}", fine, fine, level) for _ in range(max(network.convs[level - 1], 1) - 1)]
        up.append((conv(f"Join{level}", joined, fine, level), *again))
    levels = range(1, network.depth if network.deep_supervision else 2)
    heads = tuple(
        conv("Head" if level == 1 else f"Head{level}", network.fields[level - 1], network.out, level, gated=False)
        for level in levels
    )
    return tuple(reversed(up)), heads


def _down(network: NetworkSpec, conv: Any) -> tuple[tuple[str, ...], ...]:
    """The levels from fine to coarse. Of a classifier or an encoder the last convolution gives what is asked for."""
    into = network.into
    levels = []
    total = sum(network.convs) + 1
    for level, (fields, count) in enumerate(zip(network.fields, network.convs, strict=True), start=1):
        names: list[str] = []
        for place in range(count + (level == 1)):
            total -= 1
            is_stem = level == 1 and place == 0
            ends = network.kind != "unet" and total == 0
            out = (network.features or network.out) if ends else fields
            name = "Last" if ends else "Stem" if is_stem else f"Same{level}" if into == fields else f"Widen{level}"
            names.append(conv(name, into, out, 0 if is_stem else level))
            into = fields
        levels.append(tuple(names))
    return tuple(levels)


def _steps(spacing: Spacing) -> Triple:
    """The stride behind voxels of this spacing: the coarse axis is the last to be halved."""
    x, y, z = (2 if length < 2 * min(spacing) else 1 for length in spacing)
    return x, y, z


def _relative(spacing: Spacing) -> Spacing:
    """The spacing in units of the finest axis: levels whose voxels have one shape share their filters."""
    x, y, z = (length / min(spacing) for length in spacing)
    return x, y, z


def _taps(size: int, spacing: Spacing) -> Triple:
    """`size` taps along the finest axis; along a coarser one the odd number that reaches as far, of 3 or more."""
    x, y, z = (max(min(size, 3), 2 * ceil((size / length - 1) / 2) + 1) for length in _relative(spacing))
    return x, y, z


def _stem_taps(network: NetworkSpec) -> Triple:
    """The number of taps; odd along an axis without stride."""
    odd = network.stem_size - (network.stem_size % 2 == 0)
    taps = _taps(odd, network.spacing)
    x, y, z = (network.stem_size if s > 1 else t for s, t in zip(network.strides[0], taps, strict=True))
    return x, y, z


def _fields(table: Mapping[str, object]) -> tuple[FieldType, ...]:
    given = required(table, "fields", "[network]")
    if isinstance(given, list):
        if "growth" in table or not 1 <= len(given) <= MAX_DEPTH:
            raise SpecError(
                f"fields = {quoted(given)} lists the fields of each level: 1 to {MAX_DEPTH} of them, and no growth."
            )
        depth = whole(table, "depth", len(given), 1, MAX_DEPTH)
        if depth != len(given):
            raise SpecError(f"fields lists {len(given)} levels, and depth = {depth}. Leave depth out.")
        return tuple(read_field_type("fields", entry) for entry in given)
    first, growth = read_field_type("fields", given), whole(table, "growth", 2, 1, MAX_GROWTH)
    depth = whole(table, "depth", 2, 1, MAX_DEPTH)
    return tuple(
        FieldType(tuple(Term(term.multiplicity * growth**level, term.irrep) for term in first.terms))
        for level in range(depth)
    )


def _convs(table: Mapping[str, object], depth: int, kind: str, residual: bool) -> tuple[int, ...]:
    given = table.get("convs", 2 if residual else 1)
    listed = given if isinstance(given, list) else [given] * depth
    convs = tuple(n for n in listed if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_CONVS)
    if len(listed) != depth or len(convs) < depth or 0 in convs[1:]:
        raise SpecError(
            f"convs = {quoted(given)} is not the number of convolutions of a level beside the stem, 1 to {MAX_CONVS}, "
            f"or a list of {depth} of them, whose first may be 0."
        )
    if residual and (kind == "unet" or any(n % 2 for n in convs)):
        raise SpecError(
            f"residual = true pairs the convolutions of a level in blocks, and kind = '{kind}', convs = {list(convs)} "
            "cannot be paired. Take a classifier or an encoder, and even numbers."
        )
    return convs


def _features(table: Mapping[str, object], last: FieldType, out: FieldType) -> FieldType:
    count = whole(table, "features", min(last.dimension, 256), 1, 4096)
    return FieldType((Term(count, out.terms[0].irrep),))


def _scalars(kind: str, out: FieldType) -> FieldType:
    """`out`, refused where a classifier's is no class scores."""
    if kind == "classifier" and (len(out.terms) > 1 or out.terms[0].irrep.degree or out.terms[0].irrep.parity == -1):
        raise SpecError(
            f"out = '{out}' of a classifier is one score for each class: invariant scalars, for example out = '10x0"
            f'{"e" if out.has_parity else ""}\'. For other fields take kind = "encoder".'
        )
    return out


def _grid_limit(table: Mapping[str, object], activation: str, fields: tuple[FieldType, ...]) -> int | None:
    """The band limit of the grid of samples, even so that turns of the cube map the grid to itself."""
    if activation != "sphere":
        if "grid_limit" in table:
            raise SpecError(f"grid_limit is a key of activation = 'sphere', and this is '{activation}'. Leave it out.")
        return None
    largest = max(map(_band_limit, fields))
    limit = whole(table, "grid_limit", largest + 2 - largest % 2, 2, MAX_GRID_LIMIT)
    if limit % 2 or limit < largest:
        raise SpecError(
            f"grid_limit = {limit} is not an even number of at least {largest}, the band limit of the fields."
        )
    return limit


def _band_limit(fields: FieldType) -> int:
    """Of functions on the sphere, or of scalars alone; raises SpecError for other fields."""
    degrees, copies = (tuple(of) for of in zip(*((t.irrep.degree, t.multiplicity) for t in fields.terms), strict=True))
    natural = all(term.irrep.parity in (None, (-1) ** term.irrep.degree) for term in fields.terms)
    if not any(degrees):
        return 1
    if degrees != tuple(range(len(degrees))) or len(set(copies)) > 1 or not natural:
        raise SpecError(
            f"activation = 'sphere' takes functions on the sphere at every voxel, and '{fields.brief()}' is not K of "
            f"them: Kx0..L-1, for example '4x0..2{'n' if fields.has_parity else ''}'."
        )
    return len(degrees)


def _spacing(table: Mapping[str, object]) -> Spacing:
    lengths = read_spacing(table.get("voxel_spacing", 1))
    x, y, z = lengths * 3 if len(lengths) == 1 else lengths
    return x, y, z


def _radial(table: Mapping[str, object]) -> RadialFamily:
    given = table.get("radial", DEFAULT_FAMILY)
    settings = {"family": given} if isinstance(given, str) else sub_table(given, "radial")
    return parse_radial({key: value for key, value in settings.items() if value is not None})


def _dropout(table: Mapping[str, object]) -> Fraction:
    given = table.get("dropout", 0)
    number = exact_number(given)
    if number is None or not 0 <= number < 1:
        raise SpecError(f"dropout = {quoted(given)} is not a share of fields from 0 to below 1, for example 0.1.")
    return number
