"""Every layer once, for the tests that hold for all of them: with and without parity."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import runtime as rt
from runtime.fields import describe
from tests.runtime.oracle import OracleConv

PLAIN = "2x0 + 2x1 + 1x2 + 1x0"
PARITY = "2x0e + 2x1o + 1x1e + 2x0o + 1x2e + 1x0e"


@dataclass(frozen=True)
class Case:
    """A layer to test: how to make it, the volume size on which it is exact, its tolerance for random rotations."""

    name: str
    make: Callable[[], nn.Module]
    size: int = 9
    check: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def gated_conv(in_type: str, out_type: str, **options: Any) -> OracleConv:
    return OracleConv(in_type, describe(rt.gated_type(out_type)), **options)


def randomized(layer: nn.Module) -> nn.Module:
    """The layer with parameters and running statistics away from their initial ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    for tensor in layer.state_dict().values():
        if tensor.ndim == 1:
            tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
    return layer


def _unet(field_type: str, head: str, even: bool) -> nn.Module:
    up = f"{field_type} + {field_type}"
    fine, coarse = partial(gated_conv, head, field_type), partial(gated_conv, field_type, field_type)
    return rt.UNet(
        [[fine], [coarse]], [[partial(gated_conv, up, field_type)]], partial(OracleConv, field_type, head), even=even
    )


def _layers(t: str, small: str, scalars: str) -> list[Case]:
    gated = describe(rt.gated_type(t))
    block = partial(gated_conv, small, small)
    return [
        Case("Gate", lambda: rt.Gate(gated), check={"max_rotation_error": 1e-12}),
        Case("Gate(silu)", lambda: rt.Gate(gated, activation=F.silu), check={"max_rotation_error": 1e-12}),
        Case("NormActivation", lambda: rt.NormActivation(t), check={"max_rotation_error": 1e-12}),
        Case(
            "NormActivation(softplus)",
            lambda: rt.NormActivation(t, activation=F.softplus),
            check={"max_rotation_error": 1e-12},
        ),
        Case("Norm", lambda: rt.Norm(t), check={"max_rotation_error": 1e-12}),
        Case("Norm(squared)", lambda: rt.Norm(t, squared=True), check={"max_rotation_error": 1e-12}),
        Case("BatchNorm", lambda: rt.BatchNorm(t), check={"max_rotation_error": 1e-4}),
        Case("BatchNorm.eval", lambda: rt.BatchNorm(t).eval(), check={"max_rotation_error": 1e-12}),
        Case("GroupNorm", lambda: rt.GroupNorm(t), check={"max_rotation_error": 1e-4}),
        Case("InstanceNorm", lambda: rt.InstanceNorm(t, per_component=True), check={"max_rotation_error": 1e-4}),
        Case("FieldDropout", lambda: rt.FieldDropout(t, 0.3), check={"max_rotation_error": 1e-12}),
        Case(
            "TensorProductActivation",
            lambda: rt.TensorProductActivation(small, max_degree=2),
            check={"max_rotation_error": 1e-12},
        ),
        Case("Linear", lambda: rt.Linear(t, t), check={"max_rotation_error": 1e-12}),
        Case("LowPass", lambda: rt.LowPass(t, 2), check={"max_rotation_error": 0.01}),
        Case("LowPass(even)", lambda: rt.LowPass(t, 2, kernel_size=6), size=8),
        Case("LowPass(reflect)", lambda: rt.LowPass(t, scale=2, padding_mode="reflect")),
        Case("AveragePool", lambda: rt.AveragePool(t, 3, 2, padding=1), check={"max_rotation_error": 0.1}),
        Case("NormMaxPool", lambda: rt.NormMaxPool(t, 2), size=8, check={"wavelengths": ()}),
        Case("Upsample", lambda: rt.Upsample(t), size=8, check={"wavelengths": ()}),
        Case("Upsample(keep_corners)", lambda: rt.Upsample(t, keep_corners=True), check={"wavelengths": ()}),
        Case("GlobalMean", lambda: rt.GlobalMean(t), check={"max_rotation_error": 0.01}),
        Case("GatedBlock", lambda: rt.GatedBlock(block(), stride=2, norm=rt.BatchNorm)),
        Case(
            "ResidualBlock",
            lambda: rt.ResidualBlock(
                block(),
                block(),
                norm=rt.BatchNorm,
                downsample=partial(rt.AveragePool, kernel_size=3, stride=2, padding=1),
            ),
        ),
        Case(
            "ResidualBlock(norm)",
            lambda: rt.ResidualBlock(
                OracleConv(small, small), OracleConv(small, scalars), norm=rt.BatchNorm, activation=rt.NormActivation
            ),
        ),
        Case("UNet", lambda: _unet(small, scalars, even=True), size=8, check={"wavelengths": ()}),
        Case("UNet(odd)", lambda: _unet(small, scalars, even=False), size=9, check={"wavelengths": ()}),
    ]


CASES = [
    *_layers(PLAIN, "1x0 + 1x1 + 1x2", "4x0"),
    *(
        Case(f"{case.name}, parity", case.make, case.size, case.check)
        for case in _layers(PARITY, "1x0e + 1x1o + 1x0o", "4x0e")
    ),
]
