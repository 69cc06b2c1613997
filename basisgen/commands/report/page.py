"""`basisgen report`: a package directory -> one HTML page. The recipe; the template only puts the parts in order.

    read and check -> layers, errors by wavelength, exact turns, kernels, filters, proof -> page.html.jinja

The page holds no script and asks nothing of any network. Same package, same page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from basisgen.commands.report import fields, mathml, pictures, usage
from basisgen.commands.report.error import STATED, WAVELENGTHS, WIDTH, by_wavelength, predicted
from basisgen.commands.report.formulas import ExactKernel, exact_kernel
from basisgen.commands.report.read import Layer, Package, read_package
from basisgen.commands.report.turns import named
from basisgen.commands.report.words import field_type, in_words
from basisgen.spec import KINDS
from basisgen.spheres.transform import TransformSpec
from basisgen.text import counted, grouped, percent, source_text, template, times
from basisgen.verify.statement import Pair
from basisgen.volumes.sampling.defect import Defects, measure
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import Turn, VoxelGrid

MOST_TERMS = 150  # monomials of a matrix that is printed in full
_HUGE = "too long to read; {} monomials. `basisgen show {} {}` prints it, certificate.json holds it."


def report(directory: Path, *, long: bool = False) -> str:
    """The page about the package in a directory.

    Raises OutputError where the directory holds no package, or one that fails a check.
    """
    return render(read_package(directory, long=long), directory)


def render(package: Package, directory: Path) -> str:
    """The page about a package that was read and checked; `directory` is where users will import it from."""
    page = template("basisgen.commands.report", "templates", "page.html.jinja", html=True)
    return page.render(
        package=package,
        style=Markup(source_text("basisgen.commands.report", "templates", "style.css")),
        group="rotations and reflections, O(3)" if package.has_parity else "rotations, SO(3)",
        fields=[fields.view(layer, directory) for layer in package.fields],
        graphs=any(layer.spec.kind == "product" for layer in package.fields),
        proved=[(section, name, text) for section, of in package.proved.items() for name, text in of.items()],
        checks=[check for check in package.checks.checks if check.passed and check.name != "bytecode"],
        directory=directory.name,
        **(_of_convolutions(package, directory) if package.certificate else _of_fields_alone(package)),
    )


def _of_fields_alone(package: Package) -> dict[str, Any]:
    """What the page says where there is no convolution: nothing of volumes."""
    return {"layers": [], "pairs": [], "filters": [], "summary": _summary_of_fields(package)}


def _summary_of_fields(package: Package) -> list[dict[str, str]]:
    errors = [spec.error for layer in package.fields if isinstance(spec := layer.spec, TransformSpec) and spec.error]
    kinds = [KINDS[layer.spec.kind].noun for layer in package.fields]
    cards = [
        {
            "figure": grouped(len(kinds)),
            "says": "layer" if len(kinds) == 1 else "layers",
            "more": ", ".join(counted(kinds.count(noun), noun) for noun in dict.fromkeys(kinds)),
        },
        {
            "figure": grouped(sum(layer.weights for layer in package.fields)),
            "says": "learned weights",
            "more": "biases not counted",
        },
        {"figure": "0", "says": "error under any rotation", "more": "of the layers themselves, up to rounding"},
    ]
    if errors:
        more = "of the functions that the grids were chosen for, the largest, predicted"
        cards.append({"figure": percent(max(errors)), "says": "error of activations on samples", "more": more})
    return cards


def _of_convolutions(package: Package, directory: Path) -> dict[str, Any]:
    """What the page says of convolutions."""
    assert package.certificate is not None
    defects = {name: measure(filters) for name, filters in package.filters.items()}
    waves = {name: by_wavelength(filters) for name, filters in package.filters.items()}
    return {
        "summary": _summary(package, waves),
        "layers": [_layer(layer, defects, waves, directory) for layer in package.layers],
        "wavelengths": WAVELENGTHS,
        "stated": STATED,
        "width": WIDTH,
        "network": usage.network(package, directory),
        "test": usage.test(package.layers[0], directory),
        "grids": _grids(package),
        "law": mathml.law(),
        "pairs": [_pair(pair, package) for pair in package.certificate.pairs if pair.degrees],
        "forbidden": [_title(pair) for pair in package.certificate.pairs if not pair.degrees],
        "filters": [_filters(name, package, defects[name]) for name in package.filters],
    }


def _summary(package: Package, waves: Mapping[str, list[Defects]]) -> list[dict[str, str]]:
    weights = sum(layer.weights for layer in package.layers)
    dense = sum(layer.dense_weights for layer in package.layers)
    errors = sorted(_stated_error(waves[layer.stated.filter_tensor], layer) for layer in package.layers)
    turns = sorted({len(_turns(layer.filters.grid, package)) for layer in package.layers})
    span = percent(errors[0]) if len(errors) == 1 else f"{percent(errors[0])} – {percent(errors[-1])}"
    return [
        {"figure": grouped(weights), "says": "learned weights", "more": f"plain convolutions: {grouped(dense)}"},
        {"figure": times(dense, weights), "says": "fewer weights", "more": "than plain convolutions of the same shape"},
        {
            "figure": " or ".join(map(str, turns)),
            "says": "exact turns",
            "more": "of the voxel grid: error 0, up to rounding",
        },
        {
            "figure": span,
            "says": "error at other angles",
            "more": f"per layer, for waves of {STATED} voxels: what assert_equivariant measures",
        },
    ]


def _layer(
    layer: Layer, defects: Mapping[str, Defects], waves: Mapping[str, list[Defects]], directory: Path
) -> dict[str, Any]:
    tensor = layer.stated.filter_tensor
    errors = [predicted(measured, layer.variance) for measured in waves[tensor]]
    return {
        "name": layer.name,
        "into": field_type(layer.stated.into),
        "out": field_type(layer.stated.out),
        "into_words": in_words(layer.stated.into),
        "out_words": in_words(layer.stated.out, gated=layer.stated.out != layer.stated.asked),
        "in_channels": counted(layer.in_channels, "channel"),
        "out_channels": counted(layer.out_channels, "channel"),
        "kernel": _grid_words(layer.filters.grid),
        "radial": _radial_words(layer),
        "weights": grouped(layer.weights),
        "dense": grouped(layer.dense_weights),
        "ratio": times(layer.dense_weights, layer.weights),
        "execution": _execution(layer),
        "paths": [_path(path, layer) for path in layer.paths],
        "code": usage.layer(layer, directory),
        "silent": ", ".join(layer.silent_terms),
        "defect": percent(defects[tensor].layer(layer.variance)),
        "error": percent(_stated_error(waves[tensor], layer)),
        "worst": percent(max(defects[tensor].by_degree[J].worst for J in layer.degrees)),
        "by_wavelength": [{"text": percent(error), "shade": f"{min(1.0, error / 0.3):.2f}"} for error in errors],
        "compare": usage.compare(layer),
        "worst_filter": _worst_filter(layer, defects[tensor]),
    }


def _execution(layer: Layer) -> str:
    how = {
        "dense": "the kernel is put together, then one conv3d",
        "separable": "passes along x, y and z around one mixing of channels",
    }.get(layer.execution, "")
    plain = f" instead of {grouped(layer.dense_weights)}" if layer.multiply_adds != layer.dense_weights else ""
    return (
        f"{layer.execution}: {how}; {grouped(layer.multiply_adds)} multiply-adds per voxel{plain}; "
        f"a training step takes {layer.time:.2f} times as long as a plain convolution's ({layer.timed})"
    )


def _worst_filter(layer: Layer, defects: Defects) -> str:
    J = max(layer.degrees, key=lambda J: float(defects.by_degree[J].each.max()))
    return f"J = {J}: {percent(float(defects.by_degree[J].each.max()))}"


def _path(path: Any, layer: Layer) -> dict[str, str]:
    out, into = layer.stated.out[path.out_term], layer.stated.into[path.in_term]
    weights = len(path.profiles) * out.multiplicity * into.multiplicity
    return {
        "out": field_type([out]),
        "into": field_type([into]),
        "J": str(path.J),
        "profiles": str(len(path.profiles)),
        "weights": grouped(weights),
    }


def _grids(package: Package) -> list[dict[str, Any]]:
    """The exact turns, once for all grids that have the same."""
    shared: dict[bytes, list[str]] = {}
    for name, filters in package.filters.items():
        shared.setdefault(np.stack(_turns(filters.grid, package)).tobytes(), []).append(name)
    return [
        {
            "taps": "; ".join(dict.fromkeys(_grid_words(package.filters[name].grid) for name in names)),
            "layers": ", ".join(layer.name for layer in package.layers if layer.stated.filter_tensor in names),
            "count": len(_turns(package.filters[names[0]].grid, package)),
            "of": 48 if package.has_parity else 24,
            "turns": [
                {"count": count, "what": what} for count, what in named(_turns(package.filters[names[0]].grid, package))
            ],
        }
        for names in shared.values()
    ]


def _pair(pair: Pair, package: Package) -> dict[str, Any]:
    j, l = pair.out.degree, pair.into.degree
    assert package.certificate is not None
    return {
        "title": _title(pair),
        "degrees": ", ".join(map(str, pair.degrees)),
        "dimension": pair.dimension,
        "layers": ", ".join(_using(pair, package)),
        "kernels": [
            {
                "J": J,
                "formula": _formula(exact_kernel(package.certificate, j, l, J), pair),
                "arrows": _arrows(pair, J, package),
                "used": any(J in layer.degrees for layer in package.layers if layer.name in _using(pair, package)),
            }
            for J in pair.degrees
        ],
    }


def _title(pair: Pair) -> str:
    return f"{pair.into} → {pair.out}"


def _formula(exact: ExactKernel, pair: Pair) -> Markup:
    if exact.terms > MOST_TERMS:
        return Markup("<p>{}</p>").format(_HUGE.format(exact.terms, pair.into, pair.out))
    return mathml.kernel(exact)


def _using(pair: Pair, package: Package) -> list[str]:
    return [
        layer.name
        for layer in package.layers
        if any(term.irrep == pair.out for term in layer.stated.out)
        and any(term.irrep == pair.into for term in layer.stated.into)
    ]


def _arrows(pair: Pair, J: int, package: Package) -> dict[str, Any] | None:
    """The kernel in the middle slice of its first grid, as vectors; of 1 <- 1 the column of one input component."""
    j, l = pair.out.degree, pair.into.degree
    if max(j, l) != 1:
        return None
    layer = next(layer for layer in package.layers if layer.name in _using(pair, package))
    groups = [group for group in layer.filters.groups if group.J == J]
    if not groups:
        return None
    first = J**2 - (j - l) ** 2
    C = package.tensors[f"clebsch_gordan_{j}_{l}"][:, :, first : first + 2 * J + 1]
    grid = layer.filters.grid
    middle = (grid.size[2] - 1) // 2
    filters = sum(group.values[:, :, :, middle] / np.linalg.norm(group.values) for group in groups)
    kernel: NDArray[np.float64] = np.einsum("mnM,Mxy->mnxy", C, filters)
    column = (0 if J % 2 == 0 else 2) if j == l == 1 else 0  # odd J turns a vector out of the plane it lies in
    shown = kernel[:, column] if j == 1 else kernel[0]
    if abs(shown).max() < 1e-9 * abs(kernel).max() or not shown.any():
        return None
    what = {(1, 0): "of a unit scalar", (0, 1): "as a row", (1, 1): f"of a unit vector along {'xyz'[column]}"}[j, l]
    z = f"{grid.coordinates[2, 0, 0, middle]:g}".replace("-", "−")
    return {"picture": pictures.arrows(shown, grid), "says": f"{what}, z\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{z}"}


def _filters(name: str, package: Package, defects: Defects) -> dict[str, Any]:
    filters = package.filters[name]
    groups: dict[int, list[dict[str, Any]]] = {J: [] for J in defects.by_degree}
    for group in filters.groups:
        energies, index = defects.by_degree[group.J], len(groups[group.J])
        groups[group.J].append(
            {
                "orders": [str(M).replace("-", "−") for M in range(-group.J, group.J + 1)],
                "profile": _profile(group, index),
                "defect": percent(float(energies.each[index])),
                "picture": pictures.slices(group, filters.grid),
                "radial": pictures.radial_plot(group, filters.grid),
            }
        )
    return {
        "name": name,
        "taps": _grid_words(filters.grid),
        "count": len(filters.values),
        "slices": pictures.slice_names(filters.grid),
        "all": len(pictures.slice_indices(filters.grid)) == filters.grid.size[2],
        "degrees": [
            {"J": J, "random": percent(e.random), "worst": percent(e.worst), "groups": groups[J]}
            for J, e in defects.by_degree.items()
        ],
    }


def _profile(group: FilterGroup, index: int) -> Markup:
    """phi(r); filters whose taps are numbers without a formula are counted."""
    if group.formula is None:
        return Markup("filter {}").format(index + 1)
    return Markup("φ(r) = ") + mathml.profile(group.formula)


def _stated_error(waves: list[Defects], layer: Layer) -> float:
    """The one number that stands for a layer."""
    return predicted(waves[WAVELENGTHS.index(STATED)], layer.variance)


def _turns(grid: VoxelGrid, package: Package) -> tuple[Turn, ...]:
    return grid.exact_turns(mirrors=package.has_parity)


def _grid_words(grid: VoxelGrid) -> str:
    text = f"{' × '.join(map(str, grid.size))} taps"
    if set(grid.spacing) != {1}:
        text += f", voxels of {' × '.join(f'{float(spacing):g}' for spacing in grid.spacing)}"
    if set(grid.dilation) != {1}:
        text += f", dilation {' × '.join(map(str, grid.dilation))}"
    return text


def _radial_words(layer: Layer) -> str:
    settings = [
        f"{key} {_plain(value)}" for key, value in layer.radial.items() if value is not None and key != "family"
    ]
    return str(layer.radial["family"]) + (f" ({', '.join(settings)})" if settings else "")


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
