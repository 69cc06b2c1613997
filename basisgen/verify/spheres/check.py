"""The lines of `basisgen verify` about layers between fields on the sphere.

paths       products couple what they say, are independent, complete where they say so, and trees are trees
couplings   every coefficient is Racah's, the nearest float64
transforms  every number of the tables, in 60 digits, the nearest float64
linear      as many weights as the factors have, as many maps as Schur's lemma gives
zonal       every number of the interpolation, the nearest float64; as many weights as it has independent columns
sphere_conv, rotation_conv  harmonics and D^l at the points of filters, the nearest float64; the same counts
layers      the package's own code on random fields against the definitions, in a separate process
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres import rotations, transforms, zonal
from basisgen.verify.spheres.couplings import expected
from basisgen.verify.spheres.module import check_modules
from basisgen.verify.spheres.paths import check_paths
from basisgen.verify.spheres.statement import Statement, StatementError, read_statement
from basisgen.verify.verdict import Check

Entries = Mapping[str, Mapping[str, Any]]  # layer -> its part of the spec
Tensors = Mapping[str, NDArray[Any]]

KINDS = ("product", "linear", "transform", "sphere_conv", "rotation_conv", "zonal")
_APART = "layers between fields on the sphere, on random fields, in a separate process"


def check_products(entries: Entries, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """Paths, and the numbers of their couplings."""
    return _reported("paths", lambda: _paths_and_couplings(read_statement(entries, sections), tensors))


def check_linear(entries: Entries, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """The counts, which are the claim."""
    return _reported("linear", lambda: _counts(read_statement(entries, sections), sections))


def check_transforms(entries: Entries, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """The numbers of the tables."""
    return _reported("transforms", lambda: _tables(read_statement(entries, sections), tensors))


def check_zonal(entries: Entries, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """The interpolations and the counts."""
    return _reported("zonal", lambda: _interpolations(read_statement(entries, sections), sections, tensors))


def check_correlations(entries: Entries, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """The numbers at the points of filters, and the counts."""
    return _reported("correlations", lambda: _filters(read_statement(entries, sections), sections, tensors))


def check_layers(
    package: str,
    entries: Entries,
    sections: Mapping[str, Any],
    tensors: Tensors,
    files: Mapping[str, bytes],
    random: np.random.Generator,
    why_not: str | None,
) -> Check:
    """The package's own code, where nothing speaks against running it."""
    if why_not is not None:
        return Check("layers", _APART, "", not_done=why_not, optional=True)
    statement = read_statement(entries, sections)
    worst, complaints, too_large = check_modules(package, statement, entries, files, tensors, random)
    if len(too_large) == len(entries):
        return Check("layers", _APART, "", not_done="its layers are too large to run", optional=True)
    apart = f"; not {', '.join(too_large)}: too large to run" if too_large else ""
    return Check("layers", _APART + apart, f"{worst:.1e}", tuple(complaints))


def _reported(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    try:
        return check()
    except StatementError as error:
        return [Check(name, "in its documented form", "", (f"certificate.json: {error}",))]


def _paths_and_couplings(statement: Statement, tensors: Tensors) -> list[Check]:
    wrong = tuple(complaint for product in statement.products for complaint in check_paths(product))
    how = "products are independent, complete where they say so, and trees are minimal"
    checks = [Check("paths", how, "0, exactly", wrong)]
    how = "coefficients of the products are Racah's, the nearest float64"
    if wrong:
        return [*checks, Check("couplings", how, "", not_done="what it needs failed")]
    wanted = expected(_paths(statement))
    found = tuple(_differences(tensors, wanted, "coupling_"))
    return [*checks, Check("couplings", f"{wanted['coupling_values'].size} {how}", "0, exactly", found)]


def _paths(statement: Statement) -> list[tuple[int, int, int]]:
    """The degrees of all couplings, sorted."""
    of_products = ((product, output) for product in statement.products for output in product.outputs)
    return sorted({product.degrees(output, pair) for product, output in of_products for pair in output.paths})


def _tables(statement: Statement, tensors: Tensors) -> list[Check]:
    wanted: dict[str, NDArray[Any]] = {}
    for name, layer in {layer.tables: layer for layer in statement.transforms}.items():
        if layer.on_rotations:
            wanted |= rotations.expected_transform(name, layer)
        else:
            wanted |= transforms.expected(name, layer.grid, layer.of_grid, layer.band_limit)
    count = sum(value.size for value in wanted.values())
    how = f"{count} numbers of the transforms in 60 digits, the nearest float64"
    return [Check("transforms", how, "0, exactly", tuple(_differences(tensors, wanted, "transform_")))]


def _counts(statement: Statement, sections: Mapping[str, Any]) -> list[Check]:
    complaints = []
    for layer in statement.linear:
        claim = sections["linear"]["layers"][layer.name]
        stated = claim["weights"], claim["dimension"]
        if stated != (layer.weights, layer.dimension):
            found = f"{layer.weights} weights, and maps of dimension {layer.dimension}"
            complaints.append(f"certificate.json: linear: {layer.name} has {found}, stated are {stated}")
    how = "linear maps have as many weights as their factors, and their dimension is Schur's"
    return [Check("linear", how, "0, exactly", tuple(complaints))]


def _interpolations(statement: Statement, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    wanted = {layer.table: zonal.expected(len(layer.out), layer.anchors) for layer in statement.zonal}
    complaints = list(_differences(tensors, wanted, "zonal_"))
    for layer in statement.zonal:
        claim, counts = sections["zonal"]["layers"][layer.name], zonal.counts(layer)
        if (stated := (claim["weights"], claim["dimension"])) != counts:
            complaints.append(f"certificate.json: zonal: {layer.name} has weights and maps {counts}, stated {stated}")
    how = "numbers of linear interpolation between anchors, the nearest float64; as many maps as weights"
    return [Check("zonal", f"{sum(w.size for w in wanted.values())} {how}", "0, exactly", tuple(complaints))]


def _filters(statement: Statement, sections: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    kind = "rotation_conv" if statement.correlations[0].on_rotations else "sphere_conv"
    complaints = []
    for layer in statement.correlations:
        claim = sections[kind]["layers"][layer.name]
        stated = claim["multiplicities"], claim["weights"], claim["dimension"]
        found = [list(pair) for pair in layer.multiplicities], layer.weights, layer.dimension
        if stated != found:
            complaints.append(f"certificate.json: {kind}: {layer.name} has {found}, stated are {stated!r:.200}")
    tables = {layer.table: layer for layer in statement.correlations}
    wanted = {f"{name}_values": rotations.expected_filter(layer) for name, layer in tables.items()}
    complaints += _differences(tensors, wanted, kind)
    count = sum(value.size for value in wanted.values())
    what = "D^l" if kind == "rotation_conv" else "harmonics"
    how = f"{count} {what} at the points of filters, the nearest float64; weights and dimension are Schur's count"
    return [Check(kind, how, "0, exactly", tuple(complaints))]


def _differences(found: Tensors, wanted: Tensors, prefix: str) -> Iterator[str]:
    ours = {name for name in found if name.startswith(prefix)}
    for name in sorted(ours | wanted.keys()):
        where = f"basis.safetensors: {name:.100}"
        if name not in wanted or name not in found:
            yield f"{where} is {'not a tensor of this package' if name in found else 'missing'}"
            continue
        value, right = np.ascontiguousarray(found[name]), np.ascontiguousarray(wanted[name])
        if value.dtype != right.dtype or value.shape != right.shape:
            yield f"{where} is {value.dtype} {value.shape}, not {right.dtype} {right.shape}"
        elif value.tobytes() != right.tobytes():
            bits = f"V{value.itemsize}"
            different = np.nonzero(value.ravel().view(bits) != right.ravel().view(bits))[0]
            k = int(different[0])
            numbers = f"{len(different)} numbers differ, number {k} is {value.ravel()[k]!r}, not {right.ravel()[k]!r}"
            yield f"{where}: {numbers}"
