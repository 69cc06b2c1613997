"""What the benchmarks of speed time: layers, whole networks, and who runs them.

plain       torch.nn.Conv3d with the same channels, taps and padding
default     ours, as a spec without settings has it: filters of family `separable`, dense or by passes as it decides
dense       the same filters: the kernel from its weights, then conv3d
separable   the same filters: passes along x, y and z around one mixing of channels
35 products the passes with levels = 4 at every kernel size
escnn       R3Conv at its defaults, in training mode
e3nn        the voxel convolution, lmax 4, 3 radial functions, with its self-connection
"""

from __future__ import annotations

import copy
import importlib
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import runtime  # noqa: E402
from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package, plan  # noqa: E402
from basisgen.spec import PackageSpec, parse_package  # noqa: E402
from basisgen.volumes.conv_plan import ConvPlan  # noqa: E402

Row = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A convolution and the batch it is timed on."""

    into: str
    out: str
    size: int
    samples: int
    stride: int = 1
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9, 11)


LAYERS = {
    "hidden": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 24, 2),
    "hidden, stride 2": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 24, 2, 2),
    "wide": Layer("64x0 + 32x1 + 16x2 + 8x3", "64x0 + 32x1 + 16x2 + 8x3", 16, 2, 1, (5, 7, 9)),
    "tetris 1": Layer("1x0", "12x0 + 4x1 + 4x2", 36, 8, 1, (5, 7)),
    "tetris 2": Layer("4x0 + 4x1 + 4x2", "48x0 + 16x1 + 16x2", 40, 8, 2, (5,)),
    "tetris 3": Layer("16x0 + 16x1 + 16x2", "64x0 + 16x1 + 16x2", 22, 8, 2, (5,)),
    "tiny 8": Layer("8x0 + 4x1 + 2x2", "8x0 + 4x1 + 2x2", 8, 1, 1, (3, 5, 7)),
    "tiny 12": Layer("8x0 + 4x1 + 2x2", "8x0 + 4x1 + 2x2", 12, 1, 1, (3, 5, 7)),
    "small 8": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 8, 1, 1, (3, 5, 7)),
}


def spec_of(layer: Layer, size: int, *settings: str) -> PackageSpec:
    """A layer with the default filters, or with given settings."""
    lines = (f'in = "{layer.into}"', f'out = "{layer.out}"', f"kernel_size = {size}", *settings)
    return parse_package("\n".join(['name = "timed"', "[[conv]]", 'name = "Conv"', *lines]))


def ours(layer: Layer, size: int, *settings: str) -> nn.Module:
    """A generated convolution."""
    spec = spec_of(layer, size, *settings)
    with imported(compile_package(spec), spec.name) as package:
        module: nn.Module = package.Conv(stride=layer.stride)
    return module


def planned(layer: Layer, size: int, *settings: str) -> ConvPlan:
    """What the compiler makes of it."""
    (found,) = plan(spec_of(layer, size, *settings)).layers
    assert isinstance(found, ConvPlan)
    return found


def facts(layer: Layer, size: int) -> Row:
    """The number of the default filters, and their defect for random weights."""
    of = planned(layer, size)
    filters = sum(stop - start for start, stop in of.ranges.values())
    return {"filters": filters, "defect": round(of.numbers.defects.layer(of.variance), 4)}


def plain(layer: Layer, size: int) -> nn.Module:
    """torch.nn.Conv3d of the same shape."""
    return nn.Conv3d(channels(layer.into), channels(layer.out), size, layer.stride, size // 2)


class Unwrapped(nn.Module):
    """An escnn convolution from tensor to tensor."""

    def __init__(self, convolution: Any) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z')."""
        wrap = importlib.import_module("escnn.nn").GeometricTensor
        output: Tensor = self.convolution(wrap(volume, self.convolution.in_type)).tensor
        return output


def escnn(layer: Layer, size: int) -> nn.Module:
    """R3Conv for SO(3) at its defaults."""
    gspaces, enn = importlib.import_module("escnn.gspaces"), importlib.import_module("escnn.nn")
    space = gspaces.rot3dOnR3()
    types = [enn.FieldType(space, [space.irrep(l) for n, l in _terms(text) for _ in range(n)]) for text in _both(layer)]
    return Unwrapped(enn.R3Conv(*types, kernel_size=size, padding=size // 2, stride=layer.stride))


def e3nn(layer: Layer, size: int) -> nn.Module:
    """The voxel convolution; all fields even, so that every J is allowed as it is in SO(3). It has no stride."""
    if layer.stride != 1:
        raise NotImplementedError("it has no stride")
    o3 = importlib.import_module("e3nn.o3")
    convolution = importlib.import_module("e3nn.nn.models.v2104.voxel_convolution").Convolution
    types = ["+".join(f"{n}x{l}e" for n, l in _terms(text)) for text in _both(layer)]
    harmonics = o3.Irreps("+".join(f"1x{l}e" for l in range(5)))
    module: nn.Module = convolution(*types, harmonics, diameter=size, num_radial_basis=3, steps=(1.0, 1.0, 1.0))
    return module


BUILDERS: dict[str, Callable[[Layer, int], nn.Module]] = {
    "plain": plain,
    "default": ours,
    "dense": lambda layer, size: ours(layer, size, 'execution = "dense"'),
    "separable": lambda layer, size: ours(layer, size, 'execution = "separable"'),
    "35 products": lambda layer, size: ours(
        layer, size, 'execution = "separable"', 'radial = { family = "separable", levels = 4 }'
    ),
    "escnn": escnn,
    "e3nn": e3nn,
}


@dataclass(frozen=True)
class Network:
    """A whole network: a spec of convolutions, how they are put together, and the batch it is timed on."""

    spec: str
    assemble: Callable[[Any], nn.Module]  # of the package's classes
    size: int
    samples: int


def u_net(package: Any) -> nn.Module:
    """The network of `basisgen new --preset segmentation`."""
    stages = [[package.Fine], [package.Coarse]], [[package.Joined]]
    return runtime.UNet(*stages, head=package.Head, norm=runtime.BatchNorm)


def cath(package: Any) -> nn.Module:
    """The stack of the CATH example's preset `fine`."""
    from examples.common.stack import Stack, SteerableStack

    stack = Stack(strides=(2, 2, 1, 1), size=32, activation="silu", feature_norm=True)
    return SteerableStack(package, stack, 3)


def _convolutions(gated: str, last: str, kernel_size: int = 5) -> str:
    """A spec of gated convolutions, `name: in -> out; ..`, and one without gates, with the default filters."""
    lines = ['name = "timed"', "[defaults]", f"kernel_size = {kernel_size}"]
    for text in (*gated.split("; "), last):
        name, _, types = text.partition(": ")
        into, _, out = types.partition(" -> ")
        flag = str(text != last).lower()
        lines += ["[[conv]]", f'name = "{name}"', f'in = "{into}"', f'out = "{out}"', f"gated = {flag}"]
    return "\n".join(lines)


FINE, COARSE = "4x0 + 2x1 + 2x2", "8x0 + 4x1 + 4x2"
SMALL, LARGE = "8x0e + 4x1o + 2x2e", "16x0e + 8x1o + 4x2e"
NETWORKS = {
    "U-Net": Network(
        _convolutions(
            f"Fine: 1x0 -> {FINE}; Coarse: {FINE} -> {COARSE}; Joined: {COARSE} + {FINE} -> {FINE}",
            f"Head: {FINE} -> 3x0",
        ),
        u_net,
        size=32,
        samples=2,
    ),
    "CATH": Network(
        _convolutions(
            f"Conv1: 1x0e -> {SMALL}; Conv2: {SMALL} -> {SMALL}; Conv3: {SMALL} -> {LARGE}", f"Conv4: {LARGE} -> 64x0e"
        ),
        cath,
        size=32,
        samples=16,
    ),
}


def network(name: str) -> nn.Module:
    """A whole network with the default filters, each convolution dense or by passes as it decides."""
    spec = parse_package(NETWORKS[name].spec)
    with imported(compile_package(spec), spec.name) as package:
        return NETWORKS[name].assemble(package)


def plain_twin(module: nn.Module) -> nn.Module:
    """The same network with a torch.nn.Conv3d of the same shape in place of every generated convolution."""
    twin = copy.deepcopy(module)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "to_conv3d"):
                setattr(parent, name, child.to_conv3d())
    return twin


def machine(device: str = "cpu") -> str:
    """What the figures were taken on."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _both(layer: Layer) -> tuple[str, str]:
    return layer.into, layer.out


def _terms(text: str) -> list[tuple[int, int]]:
    return [(int(n), int(l)) for n, l in (term.strip().split("x") for term in text.split("+"))]


def channels(text: str) -> int:
    """How many components the fields have."""
    return sum(n * (2 * l + 1) for n, l in _terms(text))
