"""The package's own code, run in a separate process on random weights and volumes, against `expected`.

The process works on copies of the very bytes that were checked; nothing comes back from it but one answer over a pipe.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from basisgen.verify.isolation import IsolationError, run_apart, sites
from basisgen.verify.manifest import Layer, Term
from basisgen.verify.rotations import Turn, generating, permutation
from basisgen.verify.statement import Certificate
from basisgen.verify.tensors import Form, header, read_tensors
from basisgen.verify.volumes import expected
from basisgen.verify.volumes.expected import Array
from basisgen.verify.volumes.probe import ORDERS

Comparison = tuple[str, Array, Array]  # what it is, got, wanted

MAX_RESIDUAL = 1e-12
TURNED_VOLUMES = 2
MAX_KERNEL = 1 << 23  # elements, of a layer that is run
MAX_VOLUME = 1 << 24  # elements
MAX_PAIRS = 1 << 14  # of terms
MAX_KERNELS = 1 << 24  # elements, of all layers together
MAX_UNFOLDED = 1 << 26  # elements, of the matrix that torch makes of a volume: every window of it
MAX_WORK = 1 << 33  # multiply-adds, of one run of each
MAX_FACTS = 1 << 22  # bytes
PROBE = Path(__file__).with_name("probe.py")


class ProbeError(Exception):
    """The package's code failed, or is not what the manifest says."""


@dataclass(frozen=True)
class Run:
    """One module to build and apply: its stride and padding, its input, and the turn that made the input, if any."""

    stride: tuple[int, int, int]
    padding: tuple[int, int, int] | str
    volume: Array  # (channel in, x, y, z)
    turn: Turn | None = None


@dataclass(frozen=True)
class Experiment:
    """Random weights and inputs for one layer. The first run is on a random volume, the next on that volume turned."""

    layer: Layer
    weight: Array
    bias: Array  # of the invariant channels
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Property:
    """What was found of one property: the worst residual, relative to the largest value, and the complaints."""

    residual: float
    complaints: tuple[str, ...]


def check_module(
    package: str,
    layers: Iterable[Layer],
    certificate: Certificate,
    tensors: Mapping[str, Array],
    files: Mapping[str, bytes],
    random: np.random.Generator,
) -> dict[str, Property]:
    """What was found of the properties "kernel", "convolution" and "turns" of some layers of a package.

    Raises ProbeError if the code fails or is not what the manifest says.
    """
    experiments = [design(layer, certificate, random) for layer in layers]
    outputs = run_probe(package, experiments, files)
    kernels = {e.layer.name: expected.kernel(e.layer, certificate, tensors, e.weight) for e in experiments}
    comparisons = {
        "kernel": ((f"{name}.kernel()", outputs[f"{name}.kernel"], kernel) for name, kernel in kernels.items()),
        "convolution": (c for e in experiments for c in _convolutions(e, kernels[e.layer.name], outputs)),
        "turns": (c for e in experiments for c in _turns(e, certificate, outputs)),
    }
    return {name: _judge(found) for name, found in comparisons.items()}


def design(layer: Layer, certificate: Certificate, random: np.random.Generator) -> Experiment:
    """Random weights, a random volume one voxel larger than the kernel, some turns of it, and a strided run."""
    weight = random.normal(size=expected.weight_count(layer, certificate))
    bias = random.normal(size=len(expected.invariant_channels(layer.out)))
    size = _volume_size(layer)
    volume = random.normal(size=(expected.channels(layer.into), *size))
    turns = [g for g in expected.grid_turns(layer) if permutation(size, layer.spacing, g) is not None]
    chosen = [turns[k] for k in random.permutation(len(turns))[:TURNED_VOLUMES]]
    runs = [Run((1, 1, 1), "same", volume)]
    for g in chosen:
        turned = expected.turned_field(volume, layer.into, layer.spacing, certificate, g)
        runs.append(Run((1, 1, 1), "same", turned, g))
    return Experiment(layer, weight, bias, (*runs, Run((2, 1, 2), (1, 0, 2), volume)))


def run_probe(package: str, experiments: Sequence[Experiment], files: Mapping[str, bytes]) -> Mapping[str, Array]:
    """The outputs of the package's code for the experiments, by name; shapes, types and state checked.

    Raises ProbeError.
    """
    with tempfile.TemporaryDirectory(prefix="basisgen-verify-") as name:
        directory = Path(name)
        place = directory / "generated" / package
        place.mkdir(parents=True)
        for file, body in files.items():
            (place / file).write_bytes(body)
        inputs = {f"{e.layer.name}.weight": e.weight for e in experiments}
        inputs |= {f"{e.layer.name}.bias": e.bias for e in experiments if len(e.bias)}
        inputs |= {f"{e.layer.name}.volume.{k}": run.volume for e in experiments for k, run in enumerate(e.runs)}
        save_file({key: np.ascontiguousarray(value) for key, value in inputs.items()}, directory / "inputs.safetensors")
        layers = {e.layer.name: [{"stride": run.stride, "padding": run.padding} for run in e.runs] for e in experiments}
        (directory / "task.json").write_text(json.dumps({"package": package, "layers": layers}))
        forms = {name: ("F64", shape) for e in experiments for name, shape in output_shapes(e).items()}
        most = MAX_FACTS + len(header(forms)) + 8 * sum(prod(shape) for _, shape in forms.values())
        try:
            answer = run_apart(PROBE, [str(directory), *sites()], directory, most)
        except IsolationError as error:
            raise ProbeError(f"the package's code {error}") from None
    facts, outputs = _read_answer(answer, forms)
    for experiment in experiments:
        _check_facts(experiment, facts)
    return outputs


def affordable(layers: Iterable[Layer]) -> list[Layer]:
    """The layers, in order, that can be run within the memory and time of a check; those too large are passed over."""
    chosen, kernels, work = [], 0, 0
    for layer in layers:
        taps, into, out = prod(layer.size), expected.channels(layer.into), expected.channels(layer.out)
        voxels, kernel = prod(_volume_size(layer)), into * out * taps
        small = kernel <= MAX_KERNEL and max(into, out) * voxels <= MAX_VOLUME
        small = small and len(layer.into) * len(layer.out) <= MAX_PAIRS and into * taps * voxels <= MAX_UNFOLDED
        if small and kernels + kernel <= MAX_KERNELS and work + kernel * voxels <= MAX_WORK:
            chosen.append(layer)
            kernels, work = kernels + kernel, work + kernel * voxels
    return chosen


def same_padding(layer: Layer) -> tuple[int, ...]:
    """dilation * (size - 1) // 2 per axis."""
    return tuple(d * (n - 1) // 2 for n, d in zip(layer.size, layer.dilation, strict=True))


def output_shapes(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """What the probe computes for one layer: every tensor's name and shape."""
    layer = experiment.layer
    out, into = expected.channels(layer.out), expected.channels(layer.into)
    shapes: dict[str, tuple[int, ...]] = {f"{layer.name}.kernel": (out, into, *layer.size)}
    for k, run in enumerate(experiment.runs):
        shape = expected.output_size(run.volume.shape[1:], layer, run.stride, _padding(run, layer))
        names = [f"output.{k}", "conv3d", *(ORDERS if layer.separable else ())]
        shapes |= {f"{layer.name}.{name}": (out, *shape) for name in names}
    return shapes


def _volume_size(layer: Layer) -> list[int]:
    """One voxel larger than the kernel."""
    return [(n - 1) * d + 2 for n, d in zip(layer.size, layer.dilation, strict=True)]


def _read_answer(answer: bytes, forms: Mapping[str, Form]) -> tuple[dict[str, Any], Mapping[str, Array]]:
    stop = 8 + int.from_bytes(answer[:8], "little")
    try:
        facts = json.loads(answer[8:stop])
        error = facts.get("error") if isinstance(facts, dict) else "its facts are not a table"
    except (RecursionError, ValueError):
        error = "its facts are not JSON"
    if error is not None:
        raise ProbeError(f"the package's code failed: {error!s:.300}")
    outputs, complaints = read_tensors(answer[stop:], forms)
    if complaints:
        raise ProbeError(f"the outputs of the package's code: {complaints[0]}")
    return facts, outputs


def _check_facts(experiment: Experiment, facts: Mapping[str, Any]) -> None:
    layer = experiment.layer
    state = {"weight": [len(experiment.weight)]} | ({"bias": [len(experiment.bias)]} if len(experiment.bias) else {})
    wanted = {
        "in_type": _triples(layer.into),
        "out_type": _triples(layer.out),
        "kernel_size": list(layer.size),
        "dilation": list(layer.dilation),
        "state": state,
    }
    stated = facts.get(layer.name)
    for key, value in wanted.items():
        got = stated.get(key) if isinstance(stated, dict) else None
        if got != value:
            raise ProbeError(f"{layer.name}.{key} is {got!r:.200}, the manifest says {value!r:.200}")


def _convolutions(experiment: Experiment, kernel: Array, outputs: Mapping[str, Array]) -> Iterator[Comparison]:
    """Each output against the correlation of its input with the expected kernel."""
    layer = experiment.layer
    bias = np.zeros(len(kernel))
    bias[expected.invariant_channels(layer.out)] = experiment.bias
    for k, run in enumerate(experiment.runs):
        output = expected.correlate(run.volume, kernel, bias, layer, run.stride, _padding(run, layer))
        where = f"{layer.name}: stride {run.stride}, padding {run.padding}, "
        yield f"{where} forward", outputs[f"{layer.name}.output.{k}"], output
    yield f"{where} to_conv3d", outputs[f"{layer.name}.conv3d"], output
    for order in ORDERS if layer.separable else ():
        yield f"{where} passes in the order of a {order.upper()}", outputs[f"{layer.name}.{order}"], output


def _turns(experiment: Experiment, certificate: Certificate, outputs: Mapping[str, Array]) -> Iterator[Comparison]:
    """The module's kernel under turns that generate all of its taps', and its outputs for the turned volumes."""
    layer = experiment.layer
    for g in generating(expected.grid_turns(layer)):
        turned, mixed = expected.turned_kernel(outputs[f"{layer.name}.kernel"], layer, certificate, g)
        yield f"{layer.name}.kernel() under the turn {g.tolist()}", turned, mixed
    for k, run in enumerate(experiment.runs):
        if run.turn is not None:
            straight = outputs[f"{layer.name}.output.0"]
            turned = expected.turned_field(straight, layer.out, layer.spacing, certificate, run.turn)
            yield f"{layer.name} under the turn {run.turn.tolist()}", outputs[f"{layer.name}.output.{k}"], turned


def _judge(comparisons: Iterable[Comparison]) -> Property:
    worst, complaints = 0.0, []
    for what, got, wanted in comparisons:
        residual = float(abs(got - wanted).max() / (abs(wanted).max() or 1.0))
        worst = max(worst, residual)
        if not residual <= MAX_RESIDUAL:
            complaints.append(f"{what} is off by {residual:.1e} of its largest value")
    return Property(worst, tuple(complaints))


def _padding(run: Run, layer: Layer) -> tuple[int, ...]:
    return same_padding(layer) if isinstance(run.padding, str) else run.padding


def _triples(terms: Sequence[Term]) -> list[list[int | None]]:
    return [[term.multiplicity, term.irrep.degree, term.irrep.parity] for term in terms]
