"""Convolution, nonlinearity and normalisation in proven orders."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..activation import Gate
from ..fields import FieldType, channel_count
from ..layer import FieldLayer, check_equal_types, field_types_of, per_axis
from ..linear import Linear
from .resampling import LowPass, PerAxis
from .sizes import warn_off_centre

LayerFactory = Callable[[FieldType], FieldLayer]
"""Makes a layer for a field type, for example BatchNorm, NormActivation or partial(BatchNorm, sync=True)."""


class GatedBlock(FieldLayer):
    """Equivariant convolution, gate, and blur with stride: the standard hidden layer.

        [norm ->] conv -> activation [-> low-pass with stride]

    conv: a generated convolution whose spec says `gated = true`; `activation=NormActivation` takes one without gates.
    stride: of the output, one number or three for x, y, z, always behind a low-pass filter along the strided axes
    (`low_pass_size` its kernel: 6 for volumes of even size, see LowPass). norm: makes the normalisation of the input
    fields, for example BatchNorm.

    At sizes where the strided grid is off centre, so that turns of the volume change the output, an OffCentreWarning
    names the nearest exact ones.

    Source: Weiler et al., "3D Steerable CNNs", 2018, section 4.3.
    """

    def __init__(
        self,
        conv: nn.Module,
        *,
        stride: PerAxis = 1,
        low_pass_size: PerAxis | None = None,
        norm: LayerFactory | None = None,
        activation: LayerFactory = Gate,
    ) -> None:
        in_type, raw_type = field_types_of(conv)
        active = activation(raw_type)
        super().__init__(in_type, active.out_type)
        self.norm = norm(self.in_type) if norm else nn.Identity()
        self.conv, self.activation = conv, active
        self.low_pass = strided_low_pass(self.out_type, per_axis("GatedBlock: stride", stride), low_pass_size)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x / stride, y / stride, z / stride)."""
        self.check_volume(fields)
        output: Tensor = self.activation(self.conv(self.norm(fields)))
        if not isinstance(self.low_pass, nn.Identity):
            warn_off_centre(self.low_pass, output.shape[2:], "GatedBlock")
            output = self.low_pass(output)
        return output


def strided_low_pass(
    field_type: FieldType, stride: tuple[int, int, int], kernel_size: PerAxis | None = None
) -> nn.Module:
    """The LowPass before striding; along axes that are not strided it does nothing. Identity if none is."""
    if max(stride) == 1:
        return nn.Identity()
    if kernel_size is not None:
        given = per_axis("low_pass_size", kernel_size)
        kernel_size = tuple(size if step > 1 else 1 for size, step in zip(given, stride, strict=True))
    return LowPass(field_type, stride, kernel_size=kernel_size)


class ResidualBlock(FieldLayer):
    """Two convolutions beside a shortcut, each behind its normalisation.

        f -> activation2( conv2(norm2(activation1(down(conv1(norm1(f)))))) + shortcut(down(f)) )

    conv1, conv2: generated convolutions with `gated = true`; `activation=NormActivation` takes ones without gates.
    The gates of the last activation are conv2's alone. norm: makes both normalisations, for example BatchNorm.
    downsample: makes both coarser samplings; the source's is partial(AveragePool, kernel_size=3, stride=2, padding=1),
    with the kernel size of conv1; numbers may be three, for x, y, z. shortcut: from conv1.in_type to the fields of
    conv2; unless given, the identity if these types are equal, else Linear.

    Raises ValueError if the fields of conv1 are not those conv2 takes, or a given shortcut has other types.
    Source: Weiler et al., "3D Steerable CNNs", 2018, the ResNet for CATH; He et al., 2016.
    """

    def __init__(
        self,
        conv1: nn.Module,
        conv2: nn.Module,
        *,
        norm: LayerFactory | None = None,
        activation: LayerFactory = Gate,
        downsample: LayerFactory | None = None,
        shortcut: nn.Module | None = None,
    ) -> None:
        (in_type, raw1), (hidden_type, raw2) = field_types_of(conv1), field_types_of(conv2)
        active1, active2 = activation(raw1), activation(raw2)
        super().__init__(in_type, active2.out_type)
        check_equal_types(active1.out_type, hidden_type, "conv1's fields", "conv2's input")
        if shortcut is None:
            shortcut = nn.Identity() if in_type == self.out_type else Linear(in_type, self.out_type, bias=False)
        else:
            check_equal_types(field_types_of(shortcut)[0], in_type, "the shortcut's input", "conv1's input")
            check_equal_types(field_types_of(shortcut)[1], self.out_type, "the shortcut's output", "conv2's fields")
        self.norm1, self.conv1 = (norm(in_type) if norm else nn.Identity()), conv1
        self.down1, self.activation1 = (downsample(raw1) if downsample else nn.Identity()), active1
        self.norm2, self.conv2 = (norm(hidden_type) if norm else nn.Identity()), conv2
        self.down, self.shortcut = (downsample(in_type) if downsample else nn.Identity()), shortcut
        self.activation2 = active2
        self._gates = channel_count(raw2) - channel_count(self.out_type)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x', y', z')."""
        self.check_volume(fields)
        hidden = self.activation1(self.down1(self.conv1(self.norm1(fields))))
        change = self.conv2(self.norm2(hidden))
        kept = F.pad(self.shortcut(self.down(fields)), (0, 0, 0, 0, 0, 0, 0, self._gates))  # nothing added to the gates
        output: Tensor = self.activation2(change + kept)
        return output
