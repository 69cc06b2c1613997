"""The text of a generated convolution, and the modules that generated convolutions share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from basisgen.so3.field_type import FieldType
from basisgen.text import source_text, template
from basisgen.volumes.conv_plan import ConvPlan

LINE_LENGTH = 120


def shared(*, separable: bool) -> dict[str, str]:
    """The modules that hold the base classes, by file name."""
    names = ["steerable", "separable"] if separable else ["steerable"]
    return {f"_{name}.py": source_text("basisgen.volumes", "sources", f"{name}.py") for name in names}


def module(layer: ConvPlan, made_by: str) -> str:
    """The module of one layer."""
    spec = layer.spec
    return template("basisgen.volumes", "sources", "conv.py.jinja").render(
        made_by=made_by,
        name=spec.name,
        group=spec.out.group,
        into=str(spec.into),
        out=str(spec.gives) + (", the last term for gates" if spec.has_gates else ""),
        kernel=_kernel(layer),
        weights=layer.weights,
        dense_weights=layer.dense_weights,
        table=_table(layer),
        in_channels=spec.into.dimension,
        out_channels=spec.gives.dimension,
        in_type=_literal(_terms(spec.into), "    in_type = "),
        out_type=_literal(_terms(spec.gives), "    out_type = "),
        kernel_size=spec.grid.size,
        dilation=spec.grid.dilation,
        filter_tensor=layer.filter_tensor,
        rows=_literal([(J, *rows) for J, rows in layer.rows.items()], "    rows = "),
        paths=_rows([(path.out_term, path.in_term, path.J) for path in layer.paths]),
        passes_before=layer.cost.passes_before,
    )


def _kernel(layer: ConvPlan) -> str:
    grid, radial = layer.spec.grid, layer.spec.radial
    spacing = ", ".join(map(str, grid.spacing))
    notes = [f"{grid} taps", *([f"voxel spacing {spacing}"] if set(grid.spacing) != {1} else [])]
    notes += [f"dilation {grid.dilation}"] if grid.dilation != (1, 1, 1) else []
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in radial.describe().items() if value is not None)
    return ", ".join(notes) + f"; radial family {radial.name}" + (f" ({settings})" if settings else "")


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(layer: ConvPlan) -> str:
    """One line per path, in the order of the weights."""
    lines = [("out", "in", "J", "profiles", "weights")]
    for path in layer.paths:
        out, into = layer.spec.gives.terms[path.out_term], layer.spec.into.terms[path.in_term]
        lines.append((str(out), str(into), str(path.J), str(path.profiles), str(path.weights)))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}"
        for a, b, c, d, e in lines
    )


def _terms(field_type: FieldType) -> list[tuple[int, int, int | None]]:
    return [(term.multiplicity, term.irrep.degree, term.irrep.parity) for term in field_type.terms]


def _literal(entries: list[Any], prefix: str) -> str:
    """A tuple literal as the formatter writes it: on one line where it fits, else one entry per line."""
    line = f"({', '.join(map(repr, entries))}{',' if len(entries) == 1 else ''})"
    return line if len(prefix) + len(line) <= LINE_LENGTH else _tall("(", map(repr, entries), ")")


def _rows(entries: list[Any]) -> str:
    """A tuple literal with one entry per line; the formatter wants a single entry on the line of its name."""
    return _tall("(", map(repr, entries), ")") if len(entries) > 1 else f"({entries[0]!r},)"


def _tall(opening: str, entries: Iterable[str], closing: str) -> str:
    return opening + "\n" + "".join(f"        {entry},\n" for entry in entries) + "    " + closing
