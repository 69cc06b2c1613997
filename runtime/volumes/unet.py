"""A U-Net of generated convolutions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from runtime.activation import Gate
from runtime.fields import FieldType
from runtime.layer import FieldLayer, check_equal_types, field_types_of
from runtime.volumes.blocks import GatedBlock, LayerFactory
from runtime.volumes.resampling import LowPass, Upsample

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
    convolution takes the fields of the rung below followed by those of the encoder of its own rung. head: the class
    of a last convolution without gates.

    Volumes have even sizes, divisible by 2 at every rung (`even` kernels of size 6, so that all grids are centred and
    the turns of the cube commute exactly); with even=False odd sizes, 2^rungs m + 1, and kernels of size 5.

    Raises ValueError if the field types of consecutive convolutions do not meet, or rungs are missing.
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
    ) -> None:
        if len(encoder) != len(decoder) + 1 or not all([*encoder, *decoder]):
            raise ValueError(
                f"UNet takes one encoder stage more than decoder stages (the bottom), none of them empty, got "
                f"{len(encoder)} and {len(decoder)}."
            )
        down = [_stage(stage, norm, activation) for stage in encoder]
        up = [_stage(stage, norm, activation) for stage in decoder]
        last = head() if head is not None else nn.Identity()
        fine = down[0] if not up else up[0]
        super().__init__(_in_type(down[0]), field_types_of(last)[1] if head is not None else _out_type(fine))
        for rung, (finer, coarser) in enumerate(pairwise(down)):
            check_equal_types(
                _out_type(finer), _in_type(coarser), f"encoder[{rung}]", f"the input of encoder[{rung + 1}]"
            )
            joined = _out_type(up[rung + 1] if rung + 1 < len(up) else coarser) + _out_type(finer)
            check_equal_types(joined, _in_type(up[rung]), f"rung {rung + 1} with encoder[{rung}]", f"decoder[{rung}]")
        if head is not None:
            check_equal_types(_out_type(fine), field_types_of(last)[0], "decoder[0]", "the head's input")
        self.encoder, self.decoder, self.head = nn.ModuleList(down), nn.ModuleList(up), last
        self.blurs = nn.ModuleList(LowPass(_out_type(s), 2, kernel_size=6 if even else 5) for s in down[:-1])
        self.upsamples = nn.ModuleList(
            Upsample(_out_type(s), 2, keep_corners=not even) for s in [*up[1:], down[-1]][: len(up)]
        )

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x, y, z)."""
        self.check_volume(fields)
        bridges = []
        for stage, blur in zip(self.encoder[:-1], self.blurs, strict=True):
            bridges.append(stage(fields))
            fields = blur(bridges[-1])
        fields = self.encoder[-1](fields)
        for stage, upsample in zip(reversed(self.decoder), reversed(self.upsamples), strict=True):
            finer, bridge = upsample(fields), bridges.pop()
            if finer.shape[2:] != bridge.shape[2:]:
                raise ValueError(
                    f"UNet: a volume of {tuple(bridge.shape[2:])} voxels comes back as {tuple(finer.shape[2:])} after "
                    "halving and doubling. Use sizes divisible by 2 at every rung (even=True), or odd at every rung."
                )
            fields = stage(torch.cat([finer, bridge], 1))
        output: Tensor = self.head(fields)
        return output


def _stage(convs: Stage, norm: LayerFactory | None, activation: LayerFactory) -> nn.Sequential:
    blocks = [GatedBlock(conv(), norm=norm, activation=activation) for conv in convs]
    for left, right in pairwise(blocks):
        check_equal_types(left.out_type, right.in_type, type(left.conv).__name__, type(right.conv).__name__)
    return nn.Sequential(*blocks)


def _in_type(stage: nn.Sequential) -> FieldType:
    return field_types_of(stage[0])[0]


def _out_type(stage: nn.Sequential) -> FieldType:
    return field_types_of(stage[-1])[1]
