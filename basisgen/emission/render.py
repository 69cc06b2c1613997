"""From a package plan to the bytes of its files. Pure: same plan, same bytes; templates hold no logic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from safetensors.numpy import save

import basisgen
from basisgen.emission.certificate import certificate, to_json
from basisgen.emission.plan import LayerPlan, PackagePlan
from basisgen.so3.field_type import FieldType
from basisgen.spec import PackageSpec
from basisgen.volumes.sampling.defect import Defects, measure

LINE_LENGTH = 120
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1


def render(plan: PackagePlan) -> dict[str, bytes]:
    """Every file of the package, by name; manifest.json holds the digests of the others."""
    header = {"version": basisgen.__version__, "command": plan.spec.command}
    text = {"__init__.py": _init(plan, header), "_steerable.py": _template("steerable.py")}
    text |= {"_separable.py": _template("separable.py")} if plan.products else {}
    text |= {"certificate.json": _certificate(plan)}
    text |= {f"{module_name(layer)}.py": _layer(layer, header) for layer in plan.layers}
    content = {name: body.encode() for name, body in text.items()} | {"basis.safetensors": save(dict(plan.tensors))}
    return content | {MANIFEST: to_json(manifest(plan, content)).encode()}


def module_name(layer: LayerPlan) -> str:
    """The module of a layer: its class name in lower case."""
    return layer.spec.name.lower()


def made_from(spec: PackageSpec) -> dict[str, Any]:
    """What determines a package, as the head of its manifest says it: equal facts, equal bytes."""
    return {
        "format": MANIFEST_FORMAT,
        "basisgen": basisgen.__version__,
        "name": spec.name,
        "command": spec.command,
        "spec": [layer.describe() for layer in spec.layers],
    }


def manifest(plan: PackagePlan, content: dict[str, bytes]) -> dict[str, Any]:
    """What the package is made from and of, as plain JSON values."""
    measured = {layer.filter_tensor: measure(layer.filters) for layer in plan.layers}
    return {
        **made_from(plan.spec),
        **({"tuned": plan.spec.tuned.describe()} if plan.spec.tuned else {}),
        "filters": {name: {"defect": defects.describe()} for name, defects in measured.items()},
        "layers": {layer.spec.name: _layer_facts(layer, measured[layer.filter_tensor]) for layer in plan.layers},
        "sha256": {name: hashlib.sha256(content[name]).hexdigest() for name in sorted(content)},
    }


def _layer_facts(layer: LayerPlan, defects: Defects) -> dict[str, Any]:
    return {
        "filter_tensor": layer.filter_tensor,
        "weights": layer.weights,
        "dense_weights": layer.dense_weights,
        "defect_of_random_weights": round(defects.layer(layer.variance), 4),
        "execution": layer.execution.value,
        "cost": {
            "multiply_adds_per_voxel": layer.cost.multiply_adds,
            "multiply_adds_per_voxel_of_conv3d": layer.dense_weights,
            "numbers_moved_per_voxel": layer.cost.numbers_moved,
            "assembly_multiply_adds": layer.cost.assembly,
            "predicted_ratio_to_conv3d": round(layer.predicted_ratio, 2),
        },
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader("basisgen.emission"), PackageLoader("basisgen.volumes", "sources")]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Python, not HTML; every value is a validated identifier or our own text
    )


def _template(name: str) -> str:
    return (files("basisgen.volumes") / "sources" / name).read_text("utf-8")


def _certificate(plan: PackagePlan) -> str:
    return to_json(certificate(plan))


def _init(plan: PackagePlan, header: dict[str, str]) -> str:
    layers = [{"module": module_name(layer), "name": layer.spec.name} for layer in plan.layers]
    return (
        _environment()
        .get_template("init.py.jinja")
        .render(
            **header,
            name=plan.spec.name,
            summary="a convolution" if len(layers) == 1 else f"{len(layers)} convolutions",
            group=_group(plan.spec.layers[0].out),
            imports=sorted(layers, key=lambda layer: layer["module"]),
            exports=[layer["name"] for layer in layers],
        )
    )


def _layer(layer: LayerPlan, header: dict[str, str]) -> str:
    spec = layer.spec
    return (
        _environment()
        .get_template("conv.py.jinja")
        .render(
            **header,
            name=spec.name,
            group=_group(spec.out),
            into=str(spec.into),
            out=str(spec.out) + (", the last term for gates" if spec.gated else ""),
            kernel=_kernel(layer),
            weights=layer.weights,
            dense_weights=layer.dense_weights,
            table=_table(layer),
            in_channels=spec.into.dimension,
            out_channels=spec.out.dimension,
            in_type=_literal(_terms(spec.into), "    in_type = "),
            out_type=_literal(_terms(spec.out), "    out_type = "),
            kernel_size=spec.grid.size,
            dilation=spec.grid.dilation,
            filter_tensor=layer.filter_tensor,
            rows=_literal([(J, *rows) for J, rows in layer.rows.items()], "    rows = "),
            paths=_rows([(path.out_term, path.in_term, path.J) for path in layer.paths]),
            passes_before=layer.cost.passes_before,
        )
    )


def _group(field_type: FieldType) -> str:
    return "rotations and inversion, O(3)" if field_type.has_parity else "rotations, SO(3)"


def _kernel(layer: LayerPlan) -> str:
    grid, radial = layer.spec.grid, layer.spec.radial
    spacing = ", ".join(map(str, grid.spacing))
    notes = [f"{grid} taps", *([f"voxel spacing {spacing}"] if set(grid.spacing) != {1} else [])]
    notes += [f"dilation {grid.dilation}"] if grid.dilation != (1, 1, 1) else []
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in radial.describe().items() if value is not None)
    return ", ".join(notes) + f"; radial family {radial.name}" + (f" ({settings})" if settings else "")


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(layer: LayerPlan) -> str:
    """One line per path, in the order of the weights."""
    lines = [("out", "in", "J", "profiles", "weights")]
    for path in layer.paths:
        out, into = layer.spec.out.terms[path.out_term], layer.spec.into.terms[path.in_term]
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
