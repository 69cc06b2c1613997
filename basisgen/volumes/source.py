"""The text of a generated convolution, and the modules that generated convolutions share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from basisgen.so3.field_type import FieldType
from basisgen.text import source_text, template
from basisgen.volumes.conv_plan import ConvPlan

LINE_LENGTH = 120
LAYOUT = 1  # of the weights of a convolution: to be changed if equal types and filters give them another meaning


def shared(*, separable: bool) -> dict[str, str]:
    """The modules that hold the base classes, by file name."""
    names = ["steerable", *(["separable", "passes", "on_cpu", "on_gpu"] if separable else [])]
    return {f"_{name}.py": source_text("basisgen.volumes", "sources", f"{name}.py") for name in names}


def module(layer: ConvPlan, made_by: str, basis_sha256: str) -> str:
    """The module of one layer."""
    spec = layer.spec
    return template("basisgen.volumes", "sources", "conv.py.jinja").render(
        made_by=made_by,
        name=spec.name,
        group=spec.out.group,
        into=str(spec.into),
        out=str(spec.gives) + (", the last term for gates" if spec.has_gates else ""),
        weights=layer.weights,
        dense_weights=layer.dense_weights,
        cost=_cost(layer),
        in_channels=spec.into.dimension,
        out_channels=spec.gives.dimension,
        in_type=_literal(map(repr, _terms(spec.into)), "    in_type = "),
        out_type=_literal(map(repr, _terms(spec.gives)), "    out_type = "),
        kernel_size=spec.grid.size,
        voxel_spacing=tuple(map(float, spec.grid.spacing)),
        dilation=spec.grid.dilation,
        sampling=_sampling(layer),
        fingerprint=_fingerprint(layer),
        basis_sha256=basis_sha256,
        filter_tensor=layer.filter_tensor,
        filters=_literal(_filters(layer), "    filters = "),
        paths=_commented(_paths(layer)),
        passes_before=layer.cost.passes_before,
        smallest=layer.smallest,
    )


def _sampling(layer: ConvPlan) -> str:
    grid, radial = layer.spec.grid, layer.spec.radial
    spacing = ", ".join(map(str, grid.spacing))
    notes = [f"{grid} taps", *([f"voxel spacing {spacing}"] if set(grid.spacing) != {1} else [])]
    notes += [f"dilation {grid.dilation}"] if grid.dilation != (1, 1, 1) else []
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in radial.describe().items() if value is not None)
    return ", ".join(notes) + f"; radial family {radial.name}" + (f" ({settings})" if settings else "")


def _fingerprint(layer: ConvPlan) -> str:
    """16 hexadecimal digits, equal for layers whose weights are interchangeable: of types, filters and paths, no names.

    Filters count by their formula, whichever settings it came from; those without one by the settings.
    """
    spec, grid, used = layer.spec, layer.spec.grid, {path.J for path in layer.paths}
    facts = (
        LAYOUT,
        (str(spec.into), str(spec.gives)),
        (grid.size, [*map(str, grid.spacing)], grid.dilation),
        [(of.J, of.formula or _sampling(layer)) for of in layer.filters.groups if of.J in used],
        [(path.out_term, path.in_term, path.J) for path in layer.paths],
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cost(layer: ConvPlan) -> str:
    """Multiply-adds per voxel at stride 1, and what each call takes to make the kernel."""
    per_voxel, per_call = layer.cost.multiply_adds, layer.cost.assembly
    plain = "as many as" if per_voxel == layer.dense_weights else f"{layer.dense_weights} in"
    return f"{per_voxel} multiply-adds per voxel, {plain} a plain convolution; {per_call} per call for the kernel"


def _filters(layer: ConvPlan) -> list[str]:
    """What the filter tensor holds, degree by degree."""
    ranges = layer.filters.ranges.items()
    return [f"Filters(J={J}, profiles={(stop - start) // (2 * J + 1)})" for J, (start, stop) in ranges]


def _paths(layer: ConvPlan) -> list[tuple[str, str]]:
    """(entry, comment) for each path: the field copies it connects, its profiles, and where its weights are."""
    terms = [(str(layer.spec.gives.terms[p.out_term]), str(layer.spec.into.terms[p.in_term])) for p in layer.paths]
    lines, first = [], 0
    for path, (out, into) in zip(layer.paths, terms, strict=True):
        profiles = "1 profile," if path.profiles == 1 else f"{path.profiles} profiles,"
        comment = f"{into} -> {out}, {profiles} weight[{first}:{first + path.weights}]"
        lines.append((f"TermPath(out={path.out_term}, into={path.in_term}, J={path.J})", comment))
        first += path.weights
    return lines


def _terms(field_type: FieldType) -> list[tuple[int, int, int | None]]:
    return [(term.multiplicity, term.irrep.degree, term.irrep.parity) for term in field_type.terms]


def _literal(entries: Iterable[str], prefix: str) -> str:
    """A tuple literal as the formatter writes it: on one line where it fits, else one entry per line."""
    entries = list(entries)
    line = f"({', '.join(entries)}{',' if len(entries) == 1 else ''})"
    return line if len(prefix) + len(line) <= LINE_LENGTH else _tall(f"{entry}," for entry in entries)


def _commented(entries: list[tuple[str, str]]) -> str:
    """A tuple literal with one entry and its comment per line."""
    return _tall(f"{entry},  # {comment}" for entry, comment in entries)


def _tall(lines: Iterable[str]) -> str:
    return "(\n" + "".join(f"        {line}\n" for line in lines) + "    )"
