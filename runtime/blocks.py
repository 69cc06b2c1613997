"""Convolution, nonlinearity and normalisation in the orders that proved themselves."""

from typing import cast

from torch import Tensor, nn

from runtime.activation import Gate
from runtime.fields import FieldType
from runtime.layer import FieldLayer
from runtime.normalization import BatchNorm
from runtime.resampling import LowPass


class GatedBlock(FieldLayer):
    """Equivariant convolution, gate, and blur with stride: the standard hidden layer.

        [norm ->] conv -> gate [-> low-pass with stride]

    conv: a generated convolution whose spec says `gated = true`. stride: of the output, always behind a low-pass
    filter (`kernel_size` of it: see LowPass for volumes of even size). norm: a BatchNorm of the input fields.
    (batch, channel, x, y, z) of conv.in_type -> of conv.out_type without its gates.

    Source: Weiler et al., "3D Steerable CNNs", 2018, section 4.3.
    """

    def __init__(
        self,
        conv: nn.Module,
        *,
        stride: int = 1,
        kernel_size: int | None = None,
        norm: bool = False,
    ) -> None:
        gate = Gate(cast(FieldType, conv.out_type))
        super().__init__(cast(FieldType, conv.in_type), gate.out_type)
        self.norm = BatchNorm(self.in_type) if norm else nn.Identity()
        self.conv, self.gate = conv, gate
        self.low_pass = LowPass(self.out_type, stride, kernel_size=kernel_size) if stride > 1 else nn.Identity()

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> the same, spatial sizes divided by the stride."""
        self.check_volume(fields)
        output: Tensor = self.low_pass(self.gate(self.conv(self.norm(fields))))
        return output
