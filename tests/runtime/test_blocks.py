import warnings
from functools import partial

import pytest
import torch
from torch import nn

from runtime import (
    AveragePool,
    BatchNorm,
    Gate,
    GatedBlock,
    Linear,
    LowPass,
    NormActivation,
    OffCentreWarning,
    ResidualBlock,
    UNet,
    turn_field,
)
from runtime.so3 import cube_turns
from runtime.volumes.unet import spacings
from tests.runtime.catalog import gated_conv
from tests.runtime.oracle import OracleConv

SMALL = "2x0 + 1x1"


def test_gated_block_is_its_recipe():
    conv = gated_conv(SMALL, "1x0 + 2x1")
    block = GatedBlock(conv, stride=2, norm=BatchNorm)
    x = torch.randn(2, 5, 7, 7, 7)
    by_hand = LowPass("1x0 + 2x1", 2)(Gate(conv.out_type)(conv(BatchNorm(SMALL)(x))))
    torch.testing.assert_close(block(x), by_hand)
    assert block.in_type == conv.in_type and block.out_type == ((1, 0, None), (2, 1, None))


def test_residual_block_is_its_recipe():
    conv1, conv2 = gated_conv(SMALL, "2x0 + 2x1"), gated_conv("2x0 + 2x1", SMALL)
    pool = partial(AveragePool, kernel_size=3, stride=2, padding=1)
    block = ResidualBlock(conv1, conv2, norm=BatchNorm, downsample=pool)
    x = torch.randn(2, 5, 7, 7, 7)
    hidden = Gate(conv1.out_type)(pool(conv1.out_type)(conv1(BatchNorm(SMALL)(x))))
    change = conv2(BatchNorm("2x0 + 2x1")(hidden))
    added = torch.cat([change[:, :5] + pool(SMALL)(x), change[:, 5:]], 1)
    torch.testing.assert_close(block(x), Gate(conv2.out_type)(added))


def test_residual_block_makes_a_linear_shortcut():
    block = ResidualBlock(gated_conv(SMALL, SMALL), gated_conv(SMALL, "4x0"))
    assert isinstance(block.shortcut, Linear) and block.shortcut.out_type == block.out_type == ((4, 0, None),)
    assert block(torch.randn(1, 5, 3, 3, 3)).shape == (1, 4, 3, 3, 3)
    conv = OracleConv(SMALL, "4x0", 1)
    assert ResidualBlock(gated_conv(SMALL, SMALL), gated_conv(SMALL, "4x0"), shortcut=conv).shortcut is conv


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ResidualBlock(gated_conv(SMALL, "1x0"), gated_conv(SMALL, SMALL)),
            "conv1's fields has field type 1x0",
        ),
        (lambda: ResidualBlock(OracleConv(SMALL, SMALL), OracleConv(SMALL, SMALL)), "its last term must be one even"),
        (
            lambda: ResidualBlock(
                gated_conv(SMALL, SMALL), gated_conv(SMALL, SMALL), shortcut=OracleConv(SMALL, "1x0", 1)
            ),
            "the shortcut's output has field type 1x0, but conv2's fields has 2x0",
        ),
        (lambda: GatedBlock(nn.Conv3d(1, 1, 3)), "Conv3d has no attribute in_type"),
    ],
)
def test_blocks_refuse_types_that_do_not_meet(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Conv(OracleConv):
    """A generated class fixes its types, so that `Conv()` makes one."""

    types = ("", "")

    def __init__(self):
        super().__init__(*self.types)


def conv_class(in_type, out_type):
    return type("Conv", (Conv,), {"types": (in_type, out_type)})


GATED = "2x0 + 1x1 + 1x0"
WIDE = "4x0 + 2x1 + 2x0"


def unet(**options):
    return UNet(
        encoder=[
            [conv_class("1x0", GATED), conv_class(SMALL, GATED)],
            [conv_class(SMALL, WIDE)],
            [conv_class("4x0 + 2x1", WIDE)],
        ],
        decoder=[
            [conv_class("4x0 + 2x1 + 2x0 + 1x1", GATED)],
            [conv_class("4x0 + 2x1 + 4x0 + 2x1", WIDE), conv_class("4x0 + 2x1", WIDE)],
        ],
        head=conv_class(SMALL, "3x0"),
        **options,
    )


@pytest.mark.parametrize(("even", "size"), [(True, 8), (True, 12), (False, 9), (False, 13)])
def test_unet_gives_the_size_it_takes(even, size):
    net = unet(even=even, norm=BatchNorm)
    assert net(torch.randn(1, 1, size, size, size)).shape == (1, 3, size, size, size)
    assert (net.in_type, net.out_type) == (((1, 0, None),), ((3, 0, None),))


def test_unet_uses_every_bridge():
    net = unet().double()
    x = torch.randn(1, 1, 8, 8, 8, dtype=torch.float64)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_unet_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(10, 8, 10\) voxels cannot .* 2 times.*are \(8, 8, 8\) and \(12, 8, 12\)"):
        unet()(torch.randn(1, 1, 10, 8, 10))
    with pytest.raises(ValueError, match=r"\(10, 9, 9\) voxels cannot .* 2 times.*are \(9, 9, 9\) and \(13, 9, 9\)"):
        unet(even=False)(torch.randn(1, 1, 10, 9, 9))
    with pytest.raises(
        ValueError, match=r"rung 1 with encoder\[0\] has field type 2x0 \+ 1x1 \+ 2x0 \+ 1x1, but decoder"
    ):
        UNet([[conv_class("1x0", GATED)], [conv_class(SMALL, GATED)]], [[conv_class(SMALL, GATED)]])
    with pytest.raises(
        ValueError, match=r"encoder\[0\] has field type 2x0 \+ 1x1, but the input of encoder\[1\] has 1x0"
    ):
        UNet([[conv_class("1x0", GATED)], [conv_class("1x0", GATED)]], [[conv_class(SMALL, GATED)]])
    with pytest.raises(ValueError, match="one encoder stage more than decoder stages"):
        UNet([[conv_class("1x0", GATED)]], [[conv_class("1x0", GATED)]])
    assert unet(activation=Gate).encoder[0][0].activation.out_type == unet().encoder[0][0].out_type


def test_norm_activation_needs_no_gates():
    block = GatedBlock(OracleConv(SMALL, SMALL), activation=NormActivation)
    assert block.out_type == block.conv.out_type


@pytest.mark.parametrize(
    "layer", [Gate(GATED), BatchNorm(SMALL), LowPass(SMALL, 2), GatedBlock(gated_conv(SMALL, SMALL))]
)
def test_wrong_channel_count_is_one_clear_error(layer):
    channels = layer.in_channels
    message = rf"takes {channels} channels \(field type 2x0 \+ 1x1.*shape \(2, 7, 5, 5, 5\).*Compare the out_type"
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 7, 5, 5, 5))


def test_unet_halves_the_coarse_axis_last():
    assert spacings((2, 2, 4), 3) == [(2, 2, 4), (4, 4, 4), (8, 8, 8)]
    assert spacings((1, 1, 3), 3) == [(1, 1, 3), (2, 2, 3), (4, 4, 6)]
    net = unet(voxel_spacing=(2, 2, 4))
    assert net.strides == ((2, 2, 1), (2, 2, 2)) == unet(strides=[(2, 2, 1), 2]).strides
    assert net(torch.randn(1, 1, 8, 12, 6)).shape == (1, 3, 8, 12, 6)
    odd = unet(voxel_spacing=(2, 2, 4), even=False)
    assert odd(torch.randn(1, 1, 9, 13, 5)).shape == (1, 3, 9, 13, 5)


def test_unet_with_a_coarse_axis_commutes_with_the_turns_that_keep_it():
    about_z = cube_turns()[cube_turns()[:, 2].abs().argmax(1) == 2]
    net = unet(voxel_spacing=(2, 2, 4)).double()
    x = torch.randn(1, 1, 8, 8, 6, dtype=torch.float64)
    assert len(about_z) == 8
    for turn in about_z[1:4]:
        torch.testing.assert_close(net(turn_field(x, turn, "1x0")), turn_field(net(x), turn, "3x0"))


@pytest.mark.parametrize("options", [{"strides": [2]}, {"strides": [2, 3]}, {"strides": [2, 2], "voxel_spacing": 1}])
def test_unet_refuses_strides_that_do_not_fit(options):
    with pytest.raises(
        ValueError, match=r"UNet takes (a stride of 1 or 2 for each of its 2|strides or a voxel_spacing)"
    ):
        unet(**options)


def test_gated_block_strides_per_axis():
    conv = gated_conv(SMALL, "1x0 + 2x1")
    x = torch.randn(1, 5, 7, 7, 6)
    block = GatedBlock(conv, stride=(2, 2, 1), low_pass_size=5)
    by_hand = LowPass("1x0 + 2x1", (2, 2, 1), kernel_size=(5, 5, 1))(Gate(conv.out_type)(conv(x)))
    assert torch.equal(block(x), by_hand) and block(x).shape[2:] == (4, 4, 6)


def test_gated_block_warns_where_its_grid_is_off_centre_and_names_the_nearest_exact_sizes():
    block = GatedBlock(gated_conv(SMALL, SMALL), stride=2)
    with pytest.warns(
        OffCentreWarning, match=r"at 8 x 8 x 7 voxels stride 2 .*sizes here are 7 and 9 x 9 x 7; basisgen_runtime.exact"
    ):
        block(torch.randn(1, 5, 8, 8, 7))
    block(torch.randn(1, 5, 7, 7, 9))  # a warning would be an error
    GatedBlock(gated_conv(SMALL, SMALL), stride=2, low_pass_size=6)(torch.randn(1, 5, 8, 8, 8))


def test_the_warning_comes_once():
    block = GatedBlock(gated_conv(SMALL, SMALL), stride=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            block(torch.randn(1, 5, 8, 8, 8))
    assert len(caught) == 1
