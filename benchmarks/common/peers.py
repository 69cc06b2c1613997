"""A ready network of ours with the convolutions, norms and gates of escnn or of e3nn in place of ours.

The rest stays: the order of the layers, fields, kernel sizes, strides, low-pass, mean, upsampling. Where the libraries
leave a choice, it is the one of their documentation:

    escnn   fields of SO(3); R3Conv with its default basis; InnerBatchNorm of scalars, IIDBatchNorm3d of other fields
            (of all fields, it learnt nothing here: its statistics have no gradient); GatedNonLinearity1
    e3nn    the recipe of its voxel convolution: spherical harmonics up to degree 2, times 3 smooth radial functions,
            coupled by FullyConnectedTensorProduct, and a self-connection; BatchNorm, Gate. All fields are even, so that
            every degree is allowed as it is in SO(3). Its own class has no stride and no even kernel, so the recipe is
            written out here, and keeps its kernel in evaluation, as escnn does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime import network
from runtime.fields import FieldType, Term, as_field_type

LMAX, RADIAL = 2, 3  # of e3nn


def swapped(package: Any, library: str) -> nn.Module:
    """The network of a compiled package in the layers of a library. Raises ImportError where it is not installed."""
    convolution, norm, gate = LIBRARIES[library]
    importlib.import_module(library)
    order = dict(vars(package.network))
    levels = {
        name: tuple(tuple(partial(convolution, layer) for layer in level) for level in order[name])
        for name in ("down", "up")
        if name in order
    }
    heads = {"heads": tuple(partial(convolution, layer) for layer in order["heads"])} if "heads" in order else {}
    same: Any = SimpleNamespace(**{**order, **levels, **heads, "__name__": library, "network": None})
    same.network = same
    return network(same, norm=norm, activation=gate)


def _gates_second(fields: FieldType) -> FieldType:
    """Scalars, gates, other fields: a generated type has its gates last."""
    if not any(term.degree for term in fields) or fields[-1].degree:
        return fields
    return (fields[0], fields[-1], *fields[1:-1])


class _Layer(nn.Module):
    """A layer from fields to fields; of a generated convolution, with the gates behind the scalars."""

    def __init__(self, in_type: FieldType, out_type: FieldType) -> None:
        super().__init__()
        self.in_type, self.out_type = in_type, out_type


class EscnnConv(_Layer):
    """R3Conv with the types, taps and padding of a generated convolution."""

    def __init__(self, like: Any, stride: int | Sequence[int] = 1, bias: bool = True) -> None:
        super().__init__(as_field_type(like.in_type), _gates_second(as_field_type(like.out_type)))
        taps = like.kernel_size[0]
        step = stride if isinstance(stride, int) else stride[0]
        self.of_fields = _escnn("R3Conv")(
            _of_escnn(self.in_type),
            _of_escnn(self.out_type),
            kernel_size=taps,
            padding=(taps - 1) // 2,
            stride=step,
            bias=bias,
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z')."""
        return _through(self.of_fields, volumes)


class EscnnNorm(_Layer):
    """InnerBatchNorm of scalars, IIDBatchNorm3d of the other fields, whose statistics have no gradient."""

    def __init__(self, fields: FieldType) -> None:
        super().__init__(fields, fields)
        groups = [[term for term in fields if not term.degree], [term for term in fields if term.degree]]
        self.channels = [sum(term.channels for term in group) for group in groups if group]
        names = "InnerBatchNorm", "IIDBatchNorm3d"
        norms = [_escnn(name)(_of_escnn(group)) for name, group in zip(names, groups, strict=True) if group]
        self.of_fields = nn.ModuleList(norms)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same shape."""
        parts = volumes.split(self.channels, 1)
        return torch.cat([_through(norm, part) for norm, part in zip(self.of_fields, parts, strict=True)], 1)


class EscnnGate(_Layer):
    """ReLU of the scalars, GatedNonLinearity1 of the other fields."""

    def __init__(self, fields: FieldType) -> None:
        scalars, gated = fields[0], fields[2:]
        super().__init__(fields, (scalars, *gated))
        self.scalars = scalars.channels
        if gated:
            roles = ["gate"] * fields[1].multiplicity + ["gated"] * sum(term.multiplicity for term in gated)
            self.of_fields = _escnn("GatedNonLinearity1")(_of_escnn(fields[1:]), gates=roles)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel with gates, x, y, z) -> (batch, channel, x, y, z)."""
        if len(self.out_type) == 1:
            return torch.relu(volumes)
        scalars, others = volumes.tensor_split([self.scalars], 1)
        return torch.cat([torch.relu(scalars), _through(self.of_fields, others)], 1)


class E3nnConv(_Layer):
    """The voxel convolution. In evaluation it keeps its kernel."""

    lattice: Tensor
    radial: Tensor
    harmonics: Tensor

    def __init__(self, like: Any, stride: int | Sequence[int] = 1, bias: bool = True) -> None:
        super().__init__(as_field_type(like.in_type), _gates_second(as_field_type(like.out_type)))
        o3, taps = importlib.import_module("e3nn.o3"), like.kernel_size[0]
        self.step = stride if isinstance(stride, int) else stride[0]
        self.padding = (taps - 1) // 2
        into, out = _of_e3nn(self.in_type), _of_e3nn(self.out_type)
        degrees = "+".join(f"1x{J}e" for J in range(LMAX + 1))
        axis = torch.arange(taps) - (taps - 1) / 2
        lattice = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)  # (x, y, z, 3)
        functions = importlib.import_module("e3nn.math").soft_one_hot_linspace(
            lattice.norm(dim=-1), 0.0, taps / 2, RADIAL, basis="smooth_finite", cutoff=True
        )
        self.register_buffer("radial", functions)  # (x, y, z, radial)
        self.register_buffer("harmonics", o3.spherical_harmonics(degrees, lattice, True, normalization="component"))
        self.product = o3.FullyConnectedTensorProduct(
            into, degrees, out, shared_weights=False, compile_left_right=False, compile_right=True
        )
        self.weight = nn.Parameter(torch.randn(RADIAL, self.product.weight_numel))
        self.self_connection = o3.Linear(into, out, biases=bias) if taps % 2 else None
        self.kept: Tensor | None = None

    def kernel(self) -> Tensor:
        """(channel out, channel in, x, y, z)."""
        weight = self.radial @ self.weight / self.radial[..., 0].numel()  # (x, y, z, weight)
        # (x, y, z, channel in, channel out) -> (channel out, channel in, x, y, z)
        return self.product.right(self.harmonics, weight).permute(4, 3, 0, 1, 2)

    def train(self, mode: bool = True) -> E3nnConv:
        """Keeps the kernel for evaluation."""
        with torch.no_grad():
            self.kept = None if mode else self.kernel().contiguous()
        return super().train(mode)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z')."""
        kernel = self.kernel() if self.kept is None else self.kept
        answer = F.conv3d(volumes, kernel, None, self.step, self.padding)
        if self.self_connection is None:
            return answer
        step = self.step
        at_centre = volumes[..., ::step, ::step, ::step]  # where the kernel's middle tap is
        return answer + self.self_connection(at_centre.movedim(1, -1)).movedim(-1, 1)


class _E3nnLast(_Layer):
    """A layer of e3nn's, whose channels are the last axis."""

    def __init__(self, in_type: FieldType, out_type: FieldType, layer: nn.Module) -> None:
        super().__init__(in_type, out_type)
        self.of_fields = layer

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same axes."""
        answer: Tensor = self.of_fields(volumes.movedim(1, -1)).movedim(-1, 1)
        return answer


def e3nn_norm(fields: FieldType) -> nn.Module:
    """BatchNorm."""
    return _E3nnLast(fields, fields, importlib.import_module("e3nn.nn").BatchNorm(_of_e3nn(fields)))


def e3nn_gate(fields: FieldType) -> nn.Module:
    """Gate: ReLU of the scalars, sigmoid of the gates."""
    enn, (scalars, *others) = importlib.import_module("e3nn.nn"), fields
    if not others:
        return _E3nnLast(fields, fields, enn.Activation(_of_e3nn(fields), [torch.relu]))
    gates, *gated = others
    texts = [_of_e3nn(part) for part in ((scalars,), (gates,), gated)]
    layer = enn.Gate(texts[0], [torch.relu], texts[1], [torch.sigmoid], texts[2])
    return _E3nnLast(fields, (scalars, *gated), layer)


def _escnn(name: str) -> Any:
    return getattr(importlib.import_module("escnn.nn"), name)


def _of_escnn(fields: Sequence[Term]) -> Any:
    space = _space()
    copies = [space.irrep(term.degree) for term in fields for _ in range(term.multiplicity)]
    return _escnn("FieldType")(space, copies)


def _space() -> Any:
    return importlib.import_module("escnn.gspaces").rot3dOnR3()


def _through(module: Any, volumes: Tensor) -> Tensor:
    """A layer of escnn's as a map of tensors."""
    answer: Tensor = module(_escnn("GeometricTensor")(volumes, module.in_type)).tensor
    return answer


def _of_e3nn(fields: Sequence[Term]) -> str:
    return "+".join(f"{term.multiplicity}x{term.degree}e" for term in fields)


LIBRARIES: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "escnn": (EscnnConv, EscnnNorm, EscnnGate),
    "e3nn": (E3nnConv, e3nn_norm, e3nn_gate),
}
