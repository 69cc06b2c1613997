"""Every layer of signals under everything training and shipping does to it. Writes the table of docs/signals-layers.md.

pytest -m slow tests/runtime_spheres/test_signals_compatibility.py                   # compares the table
UPDATE_DOCS=1 pytest -m slow tests/runtime_spheres/test_signals_compatibility.py     # writes it
"""

import copy
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import runtime as rt
from runtime.spheres.activation import RotationActivation, SphereActivation
from runtime.spheres.blocks import InvariantHead, SphericalBlock
from runtime.spheres.cobb import Cobb, CobbConfig, Hybrid
from runtime.spheres.cohen import Cohen, CohenConfig
from runtime.spheres.esteves import Esteves, EstevesConfig
from runtime.spheres.kondor import Kondor, KondorConfig
from runtime.spheres.normalization import FragmentNorm
from runtime.spheres.pooling import Invariants, SpectralPool, SphereMean, WeightedAveragePool
from runtime.spheres.rings import panorama_rings
from runtime.spheres.signals import RandomSignalRotation, signal_type
from runtime.spheres.specs import spec_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TABLE = Path(__file__).parents[2] / "docs" / "signals-layers.md"
TYPE = signal_type(4, 4)
COBB = CobbConfig(inputs=1, limits=(4, 3, 1), channels=(4, 3, 6), width=3, classes=3, hidden=8, dropout=0.0)
ESTEVES = EstevesConfig(size=16, widths=(4, 4, 6, 6), pools=(1, 2), classes=3, auxiliary=False)
GRID = spec_text("grid", [{"kind": "transform", "name": "Transform", "in": signal_type(4, 6), "grid": "mw"}])
PROJECTED = spec_text(
    "projected", [{"kind": "product", "name": "P", "in": TYPE, "mixing": "tree", "out": "4x0 + 8x1 + 4x2"}]
)
ZONAL = spec_text("zonal", [{"kind": "zonal", "name": "Zonal", "in": TYPE, "out": signal_type(3, 3), "anchors": 2}])
ROTATIONS = """
name = "rotations"
[[layer]]
kind = "sphere_conv"
name = "OnSphere"
in = "4x0..3"
out = "2x0..2r"
grid = "near_identity"
[[layer]]
kind = "rotation_conv"
name = "OnRotations"
in = "OnSphere"
out = "3x0..1r"
grid = "equatorial"
[[layer]]
kind = "transform"
name = "Grid"
in = "OnSphere"
grid = "mw"
space = "rotations"
"""
COHEN = CohenConfig((1, 3, 4), (4, 3, 2), 3)
KONDOR = KondorConfig(limit=3, layers=2, width=2, classes=3, hidden=8, dropout=0.0)
FRONT = CohenConfig((1, 2), (4, 3), 3)
BACK = CobbConfig(
    inputs=2, limits=(3, 2, 1), channels=(3, 3, 4), width=3, classes=3, hidden=8, dropout=0.0, on_rotations=True
)
CUBE = spec_text("cube", [{"kind": "transform", "name": "Transform", "in": TYPE, "grid": "driscoll_healy"}])
TWO = spec_text("two", [{"kind": "product", "name": "Two", "in": TYPE, "second": signal_type(4, 2), "mixing": "tree"}])
PASSED: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable
    sizes: tuple[int, ...] = (64,)  # behind the batch
    space: bool = True  # takes axes behind the channels

    def __str__(self):
        return self.name

    def input(self, batch, *space):
        generator = torch.Generator().manual_seed(2)
        return torch.randn(batch, *self.sizes, *space, generator=generator)


class OfOneField(nn.Module):
    """A layer of several fields, called with one that holds the channels of all."""

    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.call(self.layer, x)


CASES = [
    Case("SphereActivation", lambda package: SphereActivation(package(GRID).Transform(), F.silu, limit=4)),
    Case(
        "SphereActivation(cube)",
        lambda package: SphereActivation(package(CUBE).Transform(), F.silu, limit=2, cube=True),
        (16,),
    ),
    Case("RotationActivation", lambda package: RotationActivation(package(ROTATIONS).Grid(), F.silu, limit=2), (20,)),
    Case("FragmentNorm", lambda _: FragmentNorm(TYPE)),
    Case("BatchNorm", lambda _: rt.BatchNorm(TYPE)),
    Case("FieldDropout", lambda _: rt.FieldDropout(TYPE, 0.3)),
    Case("Linear", lambda _: rt.Linear(TYPE, TYPE)),
    Case("SpectralPool", lambda _: SpectralPool(TYPE, 2)),
    Case("Invariants", lambda _: Invariants(TYPE)),
    Case(
        "InvariantHead",
        lambda _: OfOneField(InvariantHead([TYPE], 3, hidden=8, dropout=0.0), lambda head, x: head([x])),
        (64,),
        False,
    ),
    Case("RandomSignalRotation", lambda _: RandomSignalRotation(TYPE)),
    Case("generated transform", lambda package: package(GRID).Transform(), (144,), False),
    Case("generated product", lambda package: package(COBB.spec()).Product1()),
    Case(
        "generated product of two",
        lambda package: OfOneField(package(TWO).Two(), lambda layer, x: layer(x[:, :64], x[:, 64:])),
        (80,),
    ),
    Case("generated product, projected", lambda package: package(PROJECTED).P()),
    Case("generated linear", lambda package: package(COBB.spec()).Lift(), (16,)),
    Case("generated linear maps", lambda package: package(COBB.spec()).Mix1(), (112,)),
    Case("generated transform of rotations", lambda package: package(ROTATIONS).Grid(), (70,), False),
    Case("generated sphere_conv", lambda package: package(ROTATIONS).OnSphere()),
    Case("generated rotation_conv", lambda package: package(ROTATIONS).OnRotations(), (70,)),
    Case("generated zonal", lambda package: package(ZONAL).Zonal()),
    Case(
        "SphericalBlock",
        lambda package: SphericalBlock(
            package(COBB.spec()).Product1(), after=package(COBB.spec()).Mix1(), norm=FragmentNorm
        ),
    ),
    Case("WeightedAveragePool", lambda _: WeightedAveragePool(panorama_rings(8)), (3, 8, 16), False),
    Case("SphereMean", lambda _: SphereMean(panorama_rings(8)), (3, 8, 16), False),
    Case("Cohen", lambda package: Cohen(package(COHEN.spec()), COHEN), (16,), False),
    Case("Esteves", lambda package: Esteves(package(ESTEVES.spec()), ESTEVES), (2, 16, 16), False),
    Case("Cobb", lambda package: Cobb(package(COBB.spec()), COBB), (16,), False),
    Case("Hybrid", lambda package: Hybrid(package(Hybrid.spec(FRONT, BACK)), FRONT, BACK), (16,), False),
    Case("Kondor", lambda package: Kondor(package(KONDOR.spec()), KONDOR), (9,), False),
]


def gradients(layer, x):
    torch.manual_seed(0)
    x = x.clone().requires_grad_()
    y = layer(x)
    y.float().backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def compiled_(case, layer):
    """torch.compile(fullgraph=True), training: forward and backward as in eager mode."""
    torch._dynamo.reset()
    other = copy.deepcopy(layer)
    x = case.input(4)
    ours = gradients(torch.compile(layer, fullgraph=True, backend="aot_eager"), x)
    torch.testing.assert_close(ours, gradients(other, x), rtol=1e-4, atol=1e-5)


def exported(case, layer):
    """torch.export with a dynamic batch."""
    layer = layer.eval()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(layer, (case.input(3),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(case.input(5)), layer(case.input(5)), rtol=1e-4, atol=1e-5)


def onnx(case, layer):
    """ONNX with a dynamic batch, run by onnxruntime."""
    import onnxruntime

    layer = layer.eval()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(layer, (case.input(3),), dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = case.input(5)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), layer(x), rtol=1e-3, atol=1e-4)


def autocast(case, layer):
    """Autocast to bf16, forward and backward: near float32."""
    layer.eval()
    x = case.input(8)
    exact = gradients(copy.deepcopy(layer), x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(layer, x)
    assert (rounded[0].float() - exact[0]).norm() < 0.1 * exact[0].norm()
    assert (rounded[1].float() - exact[1]).norm() < 0.2 * exact[1].norm()  # four norms deep in one of the networks


def vmapped(case, layer):
    """torch.func.vmap over a further axis in evaluation, and gradients of each sample."""
    layer = layer.eval()
    x = torch.stack([case.input(2), 2 * case.input(2), 3 * case.input(2)])
    y = torch.func.vmap(layer)(x)
    torch.testing.assert_close(y, torch.stack([layer(each) for each in x]), rtol=1e-4, atol=1e-5)
    per_sample = torch.func.vmap(torch.func.grad(lambda one: layer(one[None]).square().sum()))(case.input(3))
    alone = [torch.func.grad(lambda one: layer(one[None]).square().sum())(one) for one in case.input(3)]
    torch.testing.assert_close(per_sample, torch.stack(alone), rtol=1e-4, atol=1e-4)


def halved(case, layer):
    """The layer in bfloat16, weights and input: near float32."""
    layer = layer.eval()
    exact = layer(case.input(4))
    rounded = copy.deepcopy(layer).bfloat16()(case.input(4).bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.1 * exact.norm()


def float16(case, layer):
    """The layer in float16, weights and input: near float32."""
    layer = layer.eval()
    exact = layer(case.input(4))
    rounded = copy.deepcopy(layer).half()(case.input(4).half())
    assert rounded.dtype == torch.float16
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


def empty(case, layer):
    """An empty batch, forward and backward, in evaluation."""
    layer = layer.eval()
    x = case.input(0).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.shape[0] == 0 and x.grad.shape == x.shape and y.shape[1:] == layer(case.input(1)).shape[1:]


def axes(case, layer):
    """Any number of axes behind the channels; each place is its own in evaluation."""
    if not case.space:
        pytest.skip("takes no axes behind")
    layer = layer.eval()
    x = case.input(2, 3, 1, 2)
    assert layer(x).shape[2:] == (3, 1, 2)
    torch.testing.assert_close(layer(x)[:, :, 2, 0, 1], layer(x[:, :, 2, 0, 1]), rtol=1e-4, atol=1e-5)


CAPABILITIES = {
    "compile": compiled_,
    "export": exported,
    "ONNX": onnx,
    "AMP": autocast,
    "vmap": vmapped,
    "bf16": halved,
    "fp16": float16,
    "batch 0": empty,
    "axes": axes,
}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case, capability, compiled):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = case.make(compiled)
        CAPABILITIES[capability](case, layer)
    PASSED.add((case.name, capability))


def test_table_in_the_docs_is_current():
    wanted = {(case.name, name) for case in CASES for name in CAPABILITIES if case.space or name != "axes"}
    if not wanted <= PASSED and not os.environ.get("UPDATE_DOCS"):
        pytest.skip("not every test of the table ran and passed in this process")
    lines = [
        "# What each layer of signals supports",
        "",
        "Written by `UPDATE_DOCS=1 pytest -m slow tests/runtime_spheres/test_signals_compatibility.py`, which tests "
        "each cell.",
        "",
        *(f"* **{name}** {' '.join(check.__doc__.split())}" for name, check in CAPABILITIES.items()),
        "",
        f"| layer | {' | '.join(CAPABILITIES)} |",
        f"|---|{'---|' * len(CAPABILITIES)}",
    ]
    for case in CASES:
        cells = []
        for name in CAPABILITIES:
            none = name == "axes" and not case.space
            cells.append("-" if none else "yes" if (case.name, name) in PASSED else "no")
        lines.append(f"| `{case.name}` | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_DOCS"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text
