"""What a layer costs: multiply-adds from its plan, time in turns with the others, memory in a process apart."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from basisgen.emission.imported import imported
from basisgen.emission.render import render
from basisgen.pipeline import plan
from examples.common.cost import Run, fastest, memory_is_known, training_step
from examples.common.measure import parameter_count
from examples.sphere_cost.layers import E3NN, OURS, build
from examples.sphere_cost.memory import peak
from examples.sphere_cost.preset import Case, Preset
from examples.sphere_cost.specs import multiply_adds, spec

Row = dict[str, Any]


def measure(case: Case, preset: Preset, with_e3nn: bool) -> Row:
    """A row of the results: of every layer of a case its counts, milliseconds and bytes."""
    planned = plan(spec(case.L, case.mixing, preset.channels))
    ways = (*OURS, *([E3NN] if with_e3nn else []))
    counts = multiply_adds(planned)
    with imported(render(planned), planned.spec.name) as package, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        layers = {way: build(package, way) for way in ways}
        x = torch.randn(preset.batch, package.Product().in_channels, requires_grad=True)
        times = milliseconds(layers, x, preset.rounds)
        found: Row = {way: {"multiply_adds": counts[way], "weights": parameter_count(layers[way])} for way in ways}
        for way in ways:
            found[way] |= {name: of_layer[way] for name, of_layer in times.items()}
            found[way]["bytes"] = peak(package, way, preset.memory_batch) if memory_is_known() else None
        beside = {"difference": difference(layers, x)} if with_e3nn else {}
    return {**asdict(case), **beside, "layers": found}


def milliseconds(layers: dict[str, nn.Module], x: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Of a forward pass without gradients, and of a training step, of each layer on fields (batch, channel)."""
    gradient = torch.randn_like(x)

    def forward(layer: nn.Module) -> None:
        with torch.no_grad():
            layer(x)

    forwards: dict[str, Run] = {way: partial(forward, layer) for way, layer in layers.items()}
    steps: dict[str, Run] = {way: partial(training_step, layer, x, gradient) for way, layer in layers.items()}
    return {"forward_ms": fastest(forwards, rounds), "step_ms": fastest(steps, rounds)}


@torch.no_grad()
def difference(layers: dict[str, nn.Module], x: Tensor) -> float:
    """How far e3nn's layer is from the unconstrained one when it gets its weights, over the largest number."""
    ours, theirs = layers["unconstrained"], layers[E3NN]
    theirs.take_weights(ours[1])
    expected = ours(x)
    return float((theirs(x) - expected).abs().max() / expected.abs().max())
