"""The execution plan as a table for people: `basisgen compile -v`, and `basisgen tune` for what it measured."""

from __future__ import annotations

from collections.abc import Sequence

from basisgen.emission.package import PackagePlan
from basisgen.layer import LayerPlan
from basisgen.spheres.product_plan import ProductPlan
from basisgen.text import aligned
from basisgen.tuning import WAYS
from basisgen.volumes.conv_plan import ConvPlan

COLUMNS = ("layer", "runs", "multiply-adds", "of conv3d's", "numbers moved", "assembly", "predicted", "measured")
BASES = {"conv": "torch.nn.Conv3d's", "product": "stock torch's there"}
EXPLANATION = """\
multiply-adds   per voxel, forward; of conv3d's: over those of a plain convolution of the same shape
numbers moved   written and read again between input and output, per voxel; a dense convolution has none
assembly        multiply-adds from weights to kernel, once per call
predicted       the time of a training step over a plain convolution's, on a large volume
measured        the same, by basisgen tune"""


def as_text(plan: PackagePlan) -> str:
    """Aligned columns, one line per layer, and what they mean."""
    convolutions, tuned = _convolutions(plan), plan.spec.tuned
    rows = aligned([COLUMNS, *(_cells(layer, plan) for layer in convolutions)], left=2)
    table = [*rows, "", EXPLANATION, *([f"                {tuned.setting}"] if tuned else [])] if convolutions else []
    others = _other_kinds(plan)
    return "\n".join([*table, *([""] if table and others else []), *others])


def _other_kinds(plan: PackagePlan) -> list[str]:
    """What layers that are not convolutions cost, in the words of their facts."""
    rows: list[Sequence[str]] = [("layer", "kind", "cost")]
    for layer in plan.layers:
        if not isinstance(layer, ConvPlan):
            numbers = {"weights": layer.weights, **layer.facts().get("cost", {})}
            words = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in numbers.items())
            words += "; by Triton on a GPU" if isinstance(layer, ProductPlan) and layer.by_triton else ""
            rows.append((layer.spec.name, layer.spec.kind, words))
    return aligned(rows, left=3) if len(rows) > 1 else []


def tuning_as_text(before: PackagePlan, after: PackagePlan) -> str:
    """What was measured of each layer, and what that changes; `before` need hold no layers but these."""
    tuned, were = after.spec.tuned, {layer.spec.name: _way(layer) for layer in before.layers}
    assert tuned is not None
    text = [f"Measured on {tuned.setting}:"]
    for kind, ways in WAYS.items():
        rows: list[Sequence[str]] = [("layer", "runs", *ways)]
        for layer in after.layers:
            if layer.spec.kind == kind and (ratios := tuned.ratios.get(layer.spec.name)) is not None:
                way, was = _way(layer), were[layer.spec.name]
                runs = f"{way}, {'as before' if way == was else f'was {was}'}"
                rows.append((layer.spec.name, runs, *(f"{ratios[key]:.2f}" for key in ways)))
        if len(rows) > 1:
            text += ["", f"Time of a training step over {BASES[kind]}:", "", *aligned(rows, left=2)]
    return "\n".join(text)


def _way(layer: LayerPlan) -> str:
    """How a layer runs that has a choice."""
    if isinstance(layer, ConvPlan):
        return layer.execution.value
    return "triton" if isinstance(layer, ProductPlan) and layer.by_triton else "stock"


def _convolutions(plan: PackagePlan) -> list[ConvPlan]:
    return [layer for layer in plan.layers if isinstance(layer, ConvPlan)]


def _cells(layer: ConvPlan, plan: PackagePlan) -> Sequence[str]:
    cost, tuned = layer.cost, plan.spec.tuned
    measured = tuned.ratios.get(layer.spec.name) if tuned else None
    runs = layer.execution.value
    if cost.passes_before is not None:
        runs += f", {cost.passes_before} + {3 - cost.passes_before} passes"
    if layer.smallest:
        first = layer.smallest.on_cpu.get(1)
        runs += f", from {first:,} voxels" if first else ", on GPUs alone"
    return (
        layer.spec.name,
        runs,
        f"{cost.multiply_adds:,}",
        f"{cost.multiply_adds / layer.dense_weights:.3f}",
        f"{cost.numbers_moved:,}",
        f"{cost.assembly:.1e}",
        f"{layer.predicted_ratio:.2f}",
        "" if measured is None else f"{measured[layer.execution.value]:.2f}",
    )
