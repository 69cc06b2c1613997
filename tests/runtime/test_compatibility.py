"""Every layer under everything a user's training and shipping does to it. Writes the table of docs/layers.md.

pytest -m slow tests/runtime/test_compatibility.py                   # compares the table
UPDATE_DOCS=1 pytest -m slow tests/runtime/test_compatibility.py     # writes it
"""

import copy
import io
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import runtime as rt
from tests.runtime import test_transforms
from tests.runtime.catalog import CASES, gated_conv, randomized

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TABLE = Path(__file__).parents[2] / "docs" / "layers.md"
LAYERS = [case for case in CASES if case.name.endswith(", parity")]
DYNAMIC = dict.fromkeys((0, 2, 3, 4), torch.export.Dim.DYNAMIC)
PASSED: dict[tuple[str, str], str] = {}


def fields(layer, batch, *sizes):
    return torch.randn(batch, layer.in_channels, *(sizes * 3 if len(sizes) == 1 else sizes))


def gradients(layer, x):
    """Output and gradients of a fixed random functional of it, with the same dropout in every call."""
    torch.manual_seed(0)
    x = x.clone().requires_grad_()
    y = layer(x)
    y.float().backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def joined(results):
    """Output, gradient of the input, gradients of all parameters as one vector."""
    return [*results[:2], torch.cat([torch.zeros(1), *(gradient.flatten() for gradient in results[2:])]) + 1e-3]


def compiled(case):
    """torch.compile(fullgraph=True): forward and backward as in eager mode."""
    layer = randomized(case.make())
    x = fields(layer, 2, case.size)
    torch._dynamo.reset()
    other = copy.deepcopy(layer)
    for ours, theirs in zip(
        gradients(torch.compile(layer, fullgraph=True, backend="aot_eager"), x), gradients(other, x), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def three_sizes(case):
    """torch.compile(fullgraph=True), made into code, at three sizes one after another: forward as in eager mode."""
    layer = randomized(case.make()).eval()
    torch._dynamo.reset()
    compiled_layer = torch.compile(layer, fullgraph=True)
    with torch.no_grad():
        for step in range(3):
            x = fields(layer, 2, case.size + 2 * step * (2 if "UNet" in case.name else 1))
            torch.testing.assert_close(compiled_layer(x), layer(x), rtol=1e-4, atol=1e-5)


def dynamic(case):
    """torch.compile(fullgraph=True, dynamic=True) at three sizes: forward and backward as in eager mode."""
    layer = randomized(case.make())
    torch._dynamo.reset()
    compiled_layer = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    other = copy.deepcopy(layer)
    for step in range(3):
        x = fields(layer, 2 + step, case.size + 2 * step * (2 if "UNet" in case.name else 1))
        for each in (layer, other):
            each.zero_grad()
        for ours, theirs in zip(gradients(compiled_layer, x), gradients(other, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def exported(case):
    """torch.export with dynamic batch and volume."""
    layer = randomized(case.make()).eval()
    program = torch.export.export(layer, (fields(layer, 2, case.size),), dynamic_shapes=(DYNAMIC,)).module()
    for batch, size in ((1, case.size + 4), (3, case.size)):
        x = fields(layer, batch, size)
        torch.testing.assert_close(program(x), layer(x))


def onnx(case):
    """ONNX with dynamic batch and volume, run by onnxruntime; needs a newer torch than 2.6 for some layers."""
    layer = randomized(case.make()).eval()
    try:
        program = torch.onnx.export(
            layer, (fields(layer, 2, case.size),), dynamo=True, dynamic_shapes=(DYNAMIC,), verbose=False
        )
    except torch.onnx.OnnxExporterError as error:
        if torch.__version__ >= "2.7":
            raise
        pytest.skip(f"the exporter of torch 2.6 fails: {str(error.__cause__).splitlines()[0]}")
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, size in ((1, case.size + 4), (3, case.size)):
        x = fields(layer, batch, size)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), layer(x), rtol=1e-4, atol=1e-4)


def bfloat16(case):
    """Autocast to bf16: bf16 in and out, forward and backward near float32."""
    layer = randomized(case.make())
    x = fields(layer, 2, case.size).bfloat16()
    exact = gradients(copy.deepcopy(layer).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(layer, x)
    assert rounded[0].dtype == torch.bfloat16
    for ours, theirs in zip(joined(rounded), joined(exact), strict=True):
        assert (ours - theirs).norm() < 0.1 * theirs.norm()


def copied(case):
    """deepcopy, pickle and an EMA copy compute the same and share nothing."""
    layer = randomized(case.make())
    gradients(layer, fields(layer, 2, case.size))  # a used layer
    layer.eval()
    buffer = io.BytesIO(pickle.dumps(layer))
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    average.update_parameters(layer)
    x = fields(layer, 2, case.size)
    for other in (copy.deepcopy(layer), pickle.load(buffer), average):
        torch.testing.assert_close(other(x), layer(x))
        own = {tensor.data_ptr() for tensor in layer.parameters() if tensor.numel()}
        assert not own & {tensor.data_ptr() for tensor in other.parameters()}


def any_size(case):
    """Any batch size and unequal sides, in training and evaluation; each sample is its own in evaluation."""
    layer = randomized(case.make())
    step = 4 if "UNet" in case.name else 1
    for batch, sizes in ((1, (0, 0, 0)), (5, (0, step, 2 * step))):
        x = fields(layer, batch, *(case.size + size for size in sizes))
        assert layer.train()(x).isfinite().all()
        torch.testing.assert_close(layer.eval()(x)[:1], layer(x[:1]), rtol=1e-4, atol=1e-5)


CAPABILITIES = {
    "compile": compiled,
    "three sizes": three_sizes,
    "dynamic": dynamic,
    "export": exported,
    "ONNX": onnx,
    "bf16": bfloat16,
    "copies": copied,
    "sizes": any_size,
    **test_transforms.CAPABILITIES,
}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layer(case, capability):
    if capability == "three sizes" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on CPU")
    PASSED[case.name, capability] = CAPABILITIES[capability](case) or "yes"


def test_table_in_the_docs_is_current():
    if len(PASSED) < len(LAYERS) * len(CAPABILITIES) and not os.environ.get("UPDATE_DOCS"):
        pytest.skip("not every test of the table ran and passed in this process")
    lines = [
        "# What each layer supports",
        "",
        "Written by `UPDATE_DOCS=1 pytest -m slow tests/runtime/test_compatibility.py`, which tests each cell.",
        "",
        *(f"* **{name}** {' '.join(check.__doc__.split())}" for name, check in CAPABILITIES.items()),
        "",
        f"| layer | {' | '.join(CAPABILITIES)} |",
        f"|---|{'---|' * len(CAPABILITIES)}",
    ]
    for case in LAYERS:
        cells = (PASSED.get((case.name, capability), "no") for capability in CAPABILITIES)
        lines.append(f"| `{case.name.removesuffix(', parity')}` | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_DOCS"):
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    assert TABLE.read_text() == text


def network():
    return nn.Sequential(
        rt.GatedBlock(gated_conv("1x0", "4x0 + 2x1 + 2x2")),
        rt.ResidualBlock(
            gated_conv("4x0 + 2x1 + 2x2", "4x0 + 2x1 + 2x2"),
            gated_conv("4x0 + 2x1 + 2x2", "4x0 + 2x1 + 2x2"),
            norm=rt.BatchNorm,
            downsample=partial(rt.AveragePool, kernel_size=3, stride=2, padding=1),
        ),
        rt.FieldDropout("4x0 + 2x1 + 2x2", 0.1),
        rt.GatedBlock(gated_conv("4x0 + 2x1 + 2x2", "8x0"), norm=rt.BatchNorm),
        rt.GlobalMean("8x0"),
        rt.Linear("8x0", "2x0"),
    )


def task():
    """Blobs of two widths, at random places."""
    generator = torch.Generator().manual_seed(0)
    points = 4 * torch.rand(16, 1, 3, generator=generator) - 2
    kinds = torch.zeros(16, 1, dtype=torch.long)
    volumes = [
        rt.voxelize(points[i : i + 1], kinds[i : i + 1], channels=1, size=9, sigma=0.8 + i % 2, unit_sum=False)
        for i in range(16)
    ]
    return torch.cat(volumes), torch.arange(16) % 2


def train(model, steps):
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x, target = task()
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_whole_network_trains_under_bf16():
    torch.manual_seed(0)
    losses = train(network(), 25)
    assert losses[-1] < 0.3 < losses[0], losses


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
def test_a_network_trains_compiled_as_it_does_not():
    torch._dynamo.reset()
    model = nn.Sequential(
        rt.GatedBlock(gated_conv("1x0", "2x0 + 1x1"), stride=2),
        rt.GatedBlock(gated_conv("2x0 + 1x1", "2x0"), norm=rt.BatchNorm),
        rt.GlobalMean("2x0"),
    )
    other = copy.deepcopy(model)
    losses, expected = train(torch.compile(model, fullgraph=True), 4), train(other, 4)
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses[-1] < losses[0]


def test_a_frozen_network_is_exported():
    torch.manual_seed(0)
    frozen = rt.freeze(network())
    x = torch.randn(2, 1, 9, 9, 9)
    program = torch.export.export(frozen, (x,), dynamic_shapes=(DYNAMIC,)).module()
    graph = torch.onnx.export(frozen, (x,), dynamo=True, dynamic_shapes=(DYNAMIC,), verbose=False)
    session = onnxruntime.InferenceSession(graph.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {node.op_type for node in graph.model_proto.graph.node} >= {"Conv"}
    for batch, size in ((1, 13), (3, 9)):
        x = torch.randn(batch, 1, size, size, size)
        torch.testing.assert_close(program(x), frozen(x))
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), frozen(x), rtol=1e-4, atol=1e-4)
