"""The text of generated layers between fields on the sphere, and the modules that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from basisgen.so3.field_type import FieldType
from basisgen.spheres.product_plan import ProductPlan
from basisgen.text import aligned, grouped, source_text, template

LINE_LENGTH = 120
__all__ = ["aligned", "grouped", "literal", "product_module", "render", "shared", "terms", "wrapped"]

PACKAGE = "basisgen.spheres"
LAYOUT = "product 1"  # of the output of products; part of their fingerprint


def shared(*names: str) -> dict[str, str]:
    """Modules that layers share, by file name: `_name`."""
    return {f"_{name}": source_text(PACKAGE, "sources", name) for name in names}


def render(template_name: str, **values: Any) -> str:
    """The text of one of our templates with its values."""
    return template(PACKAGE, "sources", template_name).render(**values)


def product_module(layer: ProductPlan, made_by: str, basis_sha256: str) -> str:
    """The module of one product."""
    spec = layer.spec
    own, of_all = layer.cost
    products = [term.irrep for term in spec.products.terms]
    return render(
        "product.py.jinja",
        made_by=made_by,
        name=spec.name,
        group=spec.into.group,
        into=str(spec.into),
        second=None if spec.second is None else str(spec.second),
        out=str(spec.out),
        products=None if spec.projected is None else str(spec.products),
        weights=grouped(layer.weights),
        mixing=layer.mixing,
        own=grouped(own),
        of_all=grouped(of_all),
        entries=grouped(layer.entries),
        table="\n".join(aligned(_product_table(layer), 1)),
        in_channels=spec.into.dimension,
        second_channels=None if spec.second is None else spec.second.dimension,
        out_channels=spec.out.dimension,
        in_type=terms(spec.into, "    in_type = "),
        second_type=None if spec.second is None else terms(spec.second, "    second_type = "),
        out_type=terms(spec.out, "    out_type = "),
        products_type=None if spec.projected is None else terms(spec.products, "    products_type = "),
        fingerprint=_fingerprint(layer),
        basis_sha256=basis_sha256,
        channels=spec.channels,
        by_triton=layer.by_triton,
        paths=[(products.index(irrep), wrapped(pairs, 12)) for irrep, pairs in layer.paths_of.items()],
    )


def _fingerprint(layer: ProductPlan) -> str:
    """16 hexadecimal digits, equal for products that give the same of the same fields: of types and paths, no names."""
    spec = layer.spec
    paths = [(str(irrep), pairs) for irrep, pairs in layer.paths_of.items()]
    types = (str(spec.into), spec.second and str(spec.second), str(spec.products))
    facts = (LAYOUT, *types, spec.channels, paths, *([str(spec.projected)] if spec.projected else []))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _product_table(layer: ProductPlan) -> list[tuple[str, ...]]:
    """One line per irrep of the output."""
    lines: list[tuple[str, ...]] = [("out", "paths", "of", "coefficients")]
    for irrep in layer.paths_of:
        paths = [path for path in layer.spec.paths if path.out == irrep]
        entries = sum(layer.coefficients[layer.spec.degrees_of(path)] * path.fragments for path in paths)
        number = sum(path.fragments for path in paths)
        lines.append((str(irrep), grouped(number), grouped(layer.dimensions[irrep]), grouped(entries)))
    return lines


def terms(field: FieldType, prefix: str) -> str:
    """A field type as the literal of its (multiplicity, degree, parity)."""
    return literal([(term.multiplicity, term.irrep.degree, term.irrep.parity) for term in field.terms], prefix)


def literal(entries: Sequence[Any], prefix: str) -> str:
    """A tuple literal as the formatter writes it: on one line where it fits, else one entry per line."""
    line = f"({', '.join(map(repr, entries))}{',' if len(entries) == 1 else ''})"
    if len(prefix) + len(line) <= LINE_LENGTH:
        return line
    return "(\n" + "".join(f"        {entry!r},\n" for entry in entries) + "    )"


def wrapped(entries: Sequence[Any], indent: int) -> str:
    """Entries with commas in lines that fit, for a literal that is written by hand."""
    lines, line = [], ""
    for entry in entries:
        text = f"{entry!r}, "
        if len(line) + len(text) - 1 > LINE_LENGTH - indent:
            lines.append(line.rstrip())
            line = ""
        line += text
    return ("\n" + " " * indent).join([*lines, line.rstrip()])
