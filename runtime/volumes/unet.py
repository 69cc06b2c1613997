"""A U-Net of generated convolutions."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..activation import Gate
from ..fields import FieldType
from ..layer import FieldLayer, check_equal_types, field_types_of, lengths_per_axis, per_axis
from .blocks import GatedBlock, LayerFactory, strided_low_pass
from .resampling import PerAxis, Upsample, with_sizes

Stage = Sequence[type[nn.Module]]


class UNet(FieldLayer):
    """Equivariant U-Net: down a ladder of resolutions and up again, each rung bridged to the same rung.

        encoder[0] ------------- concatenate -> decoder[0] [-> head]
            low-pass, stride 2        ^ upsample by 2
            encoder[1] --------- concatenate -> decoder[1]
                low-pass              ^ upsample
                encoder[2]  ----------|

    encoder, decoder: for every rung, from fine to coarse, the classes of generated convolutions with `gated = true`;
    the encoder has one rung more, the bottom. Each is a GatedBlock with `norm` and `activation`. A decoder's first
    convolution takes the fields of the rung below followed by those of the encoder of the same rung. head: the class
    of a last convolution without gates.

    Volumes have even sizes, divisible by 2 at every rung (`even` kernels of size 6, so that all grids are centred and
    the turns of the cube commute exactly); with even=False odd sizes, 2^rungs m + 1, and kernels of size 5.

    strides: from each rung to the next, 2 unless given; one number or three for x, y, z, each 1 or 2. Where voxels are
    not cubes, give their `voxel_spacing` instead: an axis is halved only once it is less than twice as coarse as the
    finest, so that the coarse axis is the last to be halved: 2 x 2 x 4 mm becomes 4 x 4 x 4, then 8 x 8 x 8. The spec
    of each rung's convolutions states that rung's spacing: `spacings(voxel_spacing, rungs)` lists them.

    Raises ValueError if the field types of consecutive convolutions do not meet, or rungs are missing; for a volume
    whose sizes cannot be halved so often, with the nearest that can.
    Source: Ronneberger, Fischer and Brox, "U-Net", 2015; blur before striding as in Weiler et al., 2018.
    """

    def __init__(
        self,
        encoder: Sequence[Stage],
        decoder: Sequence[Stage],
        head: type[nn.Module] | None = None,
        *,
        norm: LayerFactory | None = None,
        activation: LayerFactory = Gate,
        even: bool = True,
        strides: Sequence[PerAxis] | None = None,
        voxel_spacing: float | Iterable[float] | None = None,
    ) -> None:
        if len(encoder) != len(decoder) + 1 or not all([*encoder, *decoder]):
            raise ValueError(
                f"UNet takes one encoder stage more than decoder stages (the bottom), none of them empty, got "
                f"{len(encoder)} and {len(decoder)}."
            )
        steps = _strides(len(decoder), strides, voxel_spacing)
        down = [_stage(stage, norm, activation) for stage in encoder]
        up = [_stage(stage, norm, activation) for stage in decoder]
        last = head() if head is not None else nn.Identity()
        fine = down[0] if not up else up[0]
        super().__init__(_in_type(down[0]), field_types_of(last)[1] if head is not None else _out_type(fine))
        self.strides, self.even = steps, even
        self._products = tuple(math.prod([stride[axis] for stride in steps]) for axis in range(3))
        for rung, (finer, coarser) in enumerate(pairwise(down)):
            check_equal_types(
                _out_type(finer), _in_type(coarser), f"encoder[{rung}]", f"the input of encoder[{rung + 1}]"
            )
            joined = _out_type(up[rung + 1] if rung + 1 < len(up) else coarser) + _out_type(finer)
            check_equal_types(joined, _in_type(up[rung]), f"rung {rung + 1} with encoder[{rung}]", f"decoder[{rung}]")
        if head is not None:
            check_equal_types(_out_type(fine), field_types_of(last)[0], "decoder[0]", "the head's input")
        self.encoder, self.decoder, self.head = nn.ModuleList(down), nn.ModuleList(up), last
        self.blurs = nn.ModuleList(
            strided_low_pass(_out_type(s), stride, 6 if even else 5) for s, stride in zip(down[:-1], steps, strict=True)
        )
        self.upsamples = nn.ModuleList(
            Upsample(_out_type(s), stride, keep_corners=not even)
            for s, stride in zip([*up[1:], down[-1]][: len(up)], steps, strict=True)
        )

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x, y, z)."""
        self.check_volume(fields)
        self._check_sizes(fields)
        bridges = []
        for stage, blur in zip(self.encoder[:-1], self.blurs, strict=True):
            bridges.append(stage(fields))
            fields = blur(bridges[-1])
        fields = self.encoder[-1](fields)
        for stage, upsample in zip(reversed(self.decoder), reversed(self.upsamples), strict=True):
            bridge = bridges.pop()
            fields = stage(torch.cat([with_sizes(upsample(fields), bridge.shape[2:]), bridge], 1))
        output: Tensor = self.head(fields)
        return output

    def off_centre(self, sizes: Sequence[int]) -> tuple[int, int, int]:
        """Voxels along x, y, z by which a volume is too large to be halved so often; see `runtime.exact_sizes`."""
        rest = 0 if self.even else 1
        x, y, z = [(n - rest) % product for n, product in zip(sizes, self._products, strict=True)]
        return x, y, z

    def _check_sizes(self, fields: Tensor) -> None:
        """Raise ValueError unless every size is a multiple of the product of its strides; for odd sizes, plus 1."""
        sizes = fields.shape[2:]
        excess = self.off_centre(sizes)
        if any(excess):
            products = self._products
            smaller = tuple(n - more for n, more in zip(sizes, excess, strict=True))
            larger = tuple(n - more + p if more else n for n, more, p in zip(sizes, excess, products, strict=True))
            raise ValueError(
                f"UNet: a volume of {tuple(fields.shape[2:])} voxels cannot be halved and doubled {len(self.strides)} "
                f"times. The nearest sizes that can are {smaller} and {larger}: pad or crop with "
                f"basisgen_runtime.fit_volume. (even={self.even}: sizes are multiples of {tuple(products)}"
                f"{'' if self.even else ', plus 1'}.)"
            )


def spacings(voxel_spacing: float | Iterable[float], rungs: int) -> list[tuple[float, float, float]]:
    """The voxel spacing at each rung of a UNet made with that of its input: the coarse axis is the last to be
    halved."""
    found = [lengths_per_axis("voxel_spacing", voxel_spacing)]
    for _ in range(rungs - 1):
        x, y, z = (length * (2 if length < 2 * min(found[-1]) else 1) for length in found[-1])
        found.append((x, y, z))
    return found


def _strides(
    halvings: int, strides: Sequence[PerAxis] | None, voxel_spacing: float | Iterable[float] | None
) -> tuple[tuple[int, int, int], ...]:
    if voxel_spacing is not None:
        if strides is not None:
            raise ValueError("UNet takes strides or a voxel_spacing, from which it finds them, not both.")
        rungs = spacings(voxel_spacing, halvings + 1)
        strides = [[round(b / a) for a, b in zip(fine, coarse, strict=True)] for fine, coarse in pairwise(rungs)]
    strides = [2] * halvings if strides is None else strides
    triples = tuple(per_axis("UNet: strides", stride) for stride in strides)
    if len(triples) != halvings or any(max(triple) > 2 for triple in triples):
        raise ValueError(f"UNet takes a stride of 1 or 2 for each of its {halvings} steps down, got {strides!r}.")
    return triples


def _stage(convs: Stage, norm: LayerFactory | None, activation: LayerFactory) -> nn.Sequential:
    blocks = [GatedBlock(conv(), norm=norm, activation=activation) for conv in convs]
    for left, right in pairwise(blocks):
        check_equal_types(left.out_type, right.in_type, type(left.conv).__name__, type(right.conv).__name__)
    return nn.Sequential(*blocks)


def _in_type(stage: nn.Sequential) -> FieldType:
    return field_types_of(stage[0])[0]


def _out_type(stage: nn.Sequential) -> FieldType:
    return field_types_of(stage[-1])[1]
