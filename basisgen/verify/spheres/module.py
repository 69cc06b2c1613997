"""The package's own layers between fields on the sphere, run apart on random fields, against their definitions.

product    out[path, t, t', k, M] = sum_mn C[m, n; M] f[t, k, m] g[t', k, n], or a projection of these
linear     one matrix per irrep, or its uniform, channel-wise and cross-channel factors, over the root of the fan in
transform  the sums over harmonics at the samples, and over samples, by the tables
zonal      every degree times its number, read off the broken line through the anchors
           on the rotation group, and correlations: group
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from basisgen.verify.isolation import IsolationError, run_apart, sites
from basisgen.verify.spheres import group
from basisgen.verify.spheres.couplings import tables
from basisgen.verify.spheres.statement import Correlation, Degrees, Linear, Product, Statement, Term, Transform, Zonal
from basisgen.verify.spheres.zonal import convolution

Array = NDArray[Any]
Layer = Product | Linear | Transform | Zonal | Correlation

BATCH = 2
MAX_NUMBERS = 1 << 22  # of one layer's input, output or weights
MAX_IN_ALL = 1 << 23  # the same, of all layers that are run
MAX_STEPS = 1 << 19  # of all products: fragments multiplied, times components of the result
MAX_TERMS = 1 << 20  # of a product at a time
MAX_WORK = 1 << 31  # of all transforms: multiply-adds by the definition
MAX_FACTS = 1 << 16
MAX_RESIDUAL = 1e-12
PROBE = Path(__file__).with_name("probe.py")


def check_modules(
    package: str,
    statement: Statement,
    entries: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, bytes],
    tensors: Mapping[str, Array],
    random: np.random.Generator,
) -> tuple[float, list[str], list[str]]:
    """The worst residual, the complaints, and the layers that are too large to run. `entries` is the spec by name.

    The tensors are those of the package, which were found right before.
    """
    inputs: dict[str, Array] = {}
    wanted: dict[str, Array] = {}
    of_all: list[Layer] = [*statement.products, *statement.linear, *statement.transforms, *statement.zonal]
    of_all += statement.correlations
    chosen = affordable(of_all)
    too_large = [layer.name for layer in of_all if layer not in chosen]
    for layer in chosen:
        if isinstance(layer, Product):
            given, right = _of_product(layer, tables(tensors), random)
        elif isinstance(layer, Linear):
            given, right = _of_linear(layer, entries[layer.name], random)
        elif isinstance(layer, Zonal | Correlation):
            given, right = _of_convolution(layer, tensors, random)
        else:
            given, right = _of_transform(layer, tensors, random)
        inputs |= {f"{layer.name}.{key}": value for key, value in given.items()}
        wanted |= {f"{layer.name}{key}": value for key, value in right.items()}
    if not chosen:
        return 0.0, [], too_large
    layers = {layer.name: entries[layer.name]["kind"] for layer in chosen}
    outputs, error = _run(package, layers, inputs, files, 8 * sum(value.size for value in wanted.values()))
    worst, complaints = (0.0, [error]) if error is not None else _compared(outputs, wanted)
    return worst, complaints, too_large


def _of_product(
    layer: Product, couplings: Mapping[Degrees, tuple[Array, Array]], random: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Random inputs, and the output by the definition; so for the other kinds."""
    fields = [random.normal(size=(BATCH, _channels(terms))) for terms in layer.factors[: 2 if layer.second else 1]]
    given = {str(k): field for k, field in enumerate(fields)}
    out = product(layer, fields[0], fields[-1], couplings)
    if layer.projected is not None:
        weight, out = projection(layer, out, random)
        given["weight"] = weight
    return given, {"": out}


def _of_linear(
    layer: Linear, entry: Mapping[str, Any], random: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    field = random.normal(size=(BATCH, _channels(layer.into)))
    weight, bias, out = linear(layer, entry, field, random)
    return {"0": field, "weight": weight} | ({"bias": bias} if len(bias) else {}), {"": out}


def _of_convolution(
    layer: Zonal | Correlation, tensors: Mapping[str, Array], random: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    field = random.normal(size=(BATCH, _channels(layer.into)))
    if isinstance(layer, Zonal):
        weight, bias, out = convolution(layer, field, random)
    else:
        weight, bias, out = group.correlation(layer, field, tensors[f"{layer.table}_values"], random)
    return {"0": field, "weight": weight, "bias": bias}, {"": out}


def _of_transform(
    layer: Transform, tensors: Mapping[str, Array], random: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    name, rotations = layer.tables, layer.on_rotations
    grid = (len(tensors[f"{name}_{key}"]) for key in (("cos", "trig", "around") if rotations else ("cos", "trig")))
    field = random.normal(size=(BATCH, _channels(layer.field)))
    samples = random.normal(size=(BATCH, layer.field[0].multiplicity, *grid))
    forth, back = (group.synthesis, group.analysis) if rotations else (synthesis, analysis)
    right = {"": forth(layer, field, tensors, name), ".analysis": back(layer, samples, tensors, name)}
    return {"0": field, "1": samples}, right


def _compared(outputs: Mapping[str, Array], wanted: Mapping[str, Array]) -> tuple[float, list[str]]:
    """The worst residual, relative to the largest value, and the complaints."""
    worst, complaints = 0.0, []
    for name, right in wanted.items():
        value = outputs.get(name)
        if value is None or value.shape != right.shape or value.dtype != np.float64:
            complaints.append(f"{name}: the output is {'missing' if value is None else value.shape}, not {right.shape}")
            continue
        residual = float(abs(value - right).max() / (abs(right).max() or 1.0))
        worst = max(worst, residual)
        if not residual <= MAX_RESIDUAL:
            complaints.append(f"{name}: the output is off by {residual:.1e} of its largest value")
    return worst, complaints


def projection(layer: Product, products: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Random weights, and sum_t U[t', t] h[t] / sqrt(T) for each irrep of the output: the same for all channels."""
    terms = [Term(output.number * layer.channels, output.degree, output.parity) for output in layer.outputs]
    of = dict(zip(layer.outputs, _split(products, terms, layer.channels), strict=True))
    weights, parts = [], []
    for output, fragments in layer.projection:
        weights.append(random.normal(size=(fragments, output.number)))
        # (fragment out, fragment in) and (batch, fragment in, channel, component)
        mixed = np.einsum("ut,btkm->bukm", weights[-1], of[output]) / output.number**0.5
        parts.append(mixed.reshape(len(products), -1))
    return np.concatenate([weight.ravel() for weight in weights]), np.concatenate(parts, axis=1)


def product(layer: Product, x: Array, y: Array, couplings: Mapping[Degrees, tuple[Array, Array]]) -> Array:
    """The product by its definition; `couplings` are (m, n, M) and C."""
    first, second = (_split(field, terms, layer.channels) for field, terms in zip((x, y), layer.factors, strict=True))
    parts = []
    for output in layer.outputs:
        for i, j in output.paths:
            l1, l2, l = layer.degrees(output, (i, j))
            orders, C = couplings[l1, l2, l]
            by_M = np.argsort(orders[:, 2], kind="stable")
            (m, n, M), C = orders[by_M].T + np.array([[l1], [l2], [l]]), C[by_M]
            starts = np.searchsorted(M, range(2 * l + 1))  # every M has coefficients
            t, u = np.indices((first[i].shape[1], second[j].shape[1])).reshape(2, -1)
            if layer.second is None and i == j:
                kept = (t < u) | ((t == u) & (l % 2 == 0))
                t, u = t[kept], u[kept]
            for some in np.array_split(np.arange(len(t)), 1 + len(t) * len(C) * layer.channels * len(x) // MAX_TERMS):
                # (batch, pair of fragments, channel, coefficient)
                terms = first[i][:, t[some]][..., m] * second[j][:, u[some]][..., n] * C
                # (batch, pair of fragments and channel and component)
                parts.append(np.add.reduceat(terms, starts, axis=-1).reshape(len(x), -1))
    return np.concatenate(parts, axis=1)


def linear(
    layer: Linear, entry: Mapping[str, Any], x: Array, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Random weights and bias, and the output by the definition."""
    channels, after = int(entry["channels"] or 1), int(entry["out_channels"] or 1)
    weights, results = [], {}
    fields = _by_irrep(x, layer.into)
    for irrep, multiplicity in _multiplicities(layer.out).items():
        field = fields[irrep]  # (batch, copy, component)
        for name in layer.maps or ("dense",):
            shape, subscripts, view = _factor(name, field, multiplicity, channels, after)
            weight = random.normal(size=shape)
            weights.append(weight.ravel())
            made = np.einsum(subscripts, weight, field.reshape(view)) / shape[-1] ** 0.5
            field = made.reshape(len(x), -1, field.shape[2])  # (batch, copy, component)
        results[irrep] = field
    bias = random.normal(size=sum(term.multiplicity for term in layer.out if term.degree == 0 and term.parity != -1))
    parts, taken, first = [], dict.fromkeys(results, 0), 0
    for term in layer.out:
        irrep = term.degree, term.parity
        part = results[irrep][:, taken[irrep] : taken[irrep] + term.multiplicity]
        taken[irrep] += term.multiplicity
        if term.degree == 0 and term.parity != -1:
            part = part + bias[first : first + term.multiplicity, None]
            first += term.multiplicity
        parts.append(part.reshape(len(x), -1))  # (batch, copy and component)
    return np.concatenate(weights), bias, np.concatenate(parts, axis=1)


def synthesis(layer: Transform, field: Array, tensors: Mapping[str, Array], name: str) -> Array:
    """sum_lm f_lm P_l|m|(theta_t) trig_m(phi_p)."""
    L, K = layer.band_limit, layer.field[0].multiplicity
    trig, table = tensors[f"{name}_trig"], tensors[f"{name}_synthesis"]
    out = np.zeros((len(field), K, table.shape[1], len(trig)))
    for l, part in enumerate(_split(field, layer.field, K)):
        for m in range(-l, l + 1):
            out += part[:, 0, :, m + l, None, None] * table[_row(L, abs(m), l)][:, None] * trig[:, m + L - 1]
    return out


def analysis(layer: Transform, samples: Array, tensors: Mapping[str, Array], name: str) -> Array:
    """sum_t analysis[|m|, l, t] 1/n sum_p f(t, p) trig_m(phi_p)."""
    L = layer.band_limit
    waves = samples @ tensors[f"{name}_trig"] / samples.shape[-1]  # (batch, signal, ring, order)
    parts = []
    for l in range(L):
        # (batch, signal, ring) @ (ring)
        orders = [waves[..., m + L - 1] @ tensors[f"{name}_analysis"][_row(L, abs(m), l)] for m in range(-l, l + 1)]
        parts.append(np.stack(orders, axis=-1).reshape(len(samples), -1))  # (batch, signal and order)
    return np.concatenate(parts, axis=1)


def _factor(
    name: str, field: Array, multiplicity: int, channels: int, after: int
) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
    """Shape of the weights, the sum, and how the field (batch, copy, component) is seen."""
    batch, now, components = field.shape
    t = now // channels
    if name == "dense":
        return (multiplicity, now), "oi,bim->bom", (batch, now, components)
    view = (batch, t, channels, components)
    if name == "uniform":
        return (multiplicity // after, t), "ut,btkm->bukm", view
    if name == "channel":
        return (channels, t, t), "kut,btkm->bukm", view
    return (t, after, channels), "tck,btkm->btcm", view


def _run(
    package: str, layers: Mapping[str, str], inputs: Mapping[str, Array], files: Mapping[str, bytes], size: int
) -> tuple[Mapping[str, Array], str | None]:
    with tempfile.TemporaryDirectory(prefix="basisgen-verify-") as temporary:
        directory = Path(temporary)
        place = directory / "generated" / package
        place.mkdir(parents=True)
        for file, body in files.items():
            (place / file).write_bytes(body)
        save_file({key: np.ascontiguousarray(value) for key, value in inputs.items()}, directory / "inputs.safetensors")
        (directory / "task.json").write_text(json.dumps({"package": package, "layers": layers}))
        try:
            answer = run_apart(PROBE, [str(directory), *sites()], directory, MAX_FACTS + size + 1024 * len(layers))
        except IsolationError as error:
            return {}, f"the package's code {error}"
    length = int.from_bytes(answer[:8], "little")
    try:
        facts = json.loads(answer[8 : 8 + length])
        return ({}, f"the package's code failed: {facts['error']}") if facts else (load(answer[8 + length :]), None)
    except (ValueError, KeyError, TypeError) as error:
        return {}, f"the package's code left no readable result: {error}"


def affordable(layers: Sequence[Layer]) -> list[Layer]:
    """The layers, in order, that can be run within the memory and time of a check; those too large are passed over."""
    chosen: list[Layer] = []
    numbers = steps = work = 0
    for layer in layers:
        more = _size(layer), _steps(layer), _work(layer)
        small = more[0] <= MAX_NUMBERS and numbers + more[0] <= MAX_IN_ALL
        if small and steps + more[1] <= MAX_STEPS and work + more[2] <= MAX_WORK:
            chosen.append(layer)
            numbers, steps, work = numbers + more[0], steps + more[1], work + more[2]
    return chosen


def _steps(layer: Layer) -> int:
    return sum(output.number * (2 * output.degree + 1) for output in layer.outputs) if isinstance(layer, Product) else 0


def _work(layer: Layer) -> int:
    if not isinstance(layer, Transform):
        return 0
    of_signal = group.work(layer) if layer.on_rotations else 4 * (layer.band_limit * layer.of_grid) ** 2
    return BATCH * layer.field[0].multiplicity * of_signal


def _size(layer: Layer) -> int:
    if isinstance(layer, Product):
        out = sum(output.number * layer.channels * (2 * output.degree + 1) for output in layer.outputs)
        return max(out, layer.weights, *map(_channels, layer.factors))
    if isinstance(layer, Linear):
        pairs = [into * _multiplicities(layer.out).get(irrep, 0) for irrep, into in _multiplicities(layer.into).items()]
        return max(sum(pairs), _channels(layer.into), _channels(layer.out))
    if isinstance(layer, Zonal):
        return max(len(layer.out) * layer.filters, _channels(layer.into), _channels(layer.out))
    if isinstance(layer, Correlation):
        return max(layer.weights, layer.dimension, _channels(layer.into), _channels(layer.out))
    return layer.field[0].multiplicity * 8 * layer.of_grid**2 * (2 * layer.orders if layer.on_rotations else 1)


def _channels(terms: Sequence[Term]) -> int:
    return sum(term.multiplicity * (2 * term.degree + 1) for term in terms)


def _split(field: Array, terms: Sequence[Term], channels: int) -> list[Array]:
    """(batch, fragment, channel, component) of every term."""
    found, first = [], 0
    for term in terms:
        shape = (len(field), term.multiplicity // channels, channels, 2 * term.degree + 1)
        found.append(field[:, first : first + prod(shape[1:])].reshape(shape))
        first += prod(shape[1:])
    return found


def _by_irrep(field: Array, terms: Sequence[Term]) -> dict[tuple[int, int | None], Array]:
    parts: dict[tuple[int, int | None], list[Array]] = {}
    for term, part in zip(terms, _split(field, terms, 1), strict=True):
        parts.setdefault((term.degree, term.parity), []).append(part[:, :, 0])
    return {irrep: np.concatenate(found, axis=1) for irrep, found in parts.items()}


def _multiplicities(terms: Sequence[Term]) -> dict[tuple[int, int | None], int]:
    found: dict[tuple[int, int | None], int] = {}
    for term in terms:
        found[term.degree, term.parity] = found.get((term.degree, term.parity), 0) + term.multiplicity
    return found


def _row(L: int, m: int, l: int) -> int:
    """The number of row (m, l) among those with l >= m, in order of m, then l."""
    return m * L - m * (m - 1) // 2 + l - m
