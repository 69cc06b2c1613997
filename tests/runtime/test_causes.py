"""When a module does not commute with turns, the message says which of the usual causes it is, and what is found is
so."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runtime import BatchNorm, Gate, GatedBlock, GlobalMean, LowPass
from runtime.so3 import cube_turns
from runtime.testing import assert_equivariant
from runtime.turns import exact_turns, voxel_spacing_of
from tests.runtime.catalog import gated_conv
from tests.runtime.oracle import OracleConv
from tests.runtime.test_blocks import unet

SMALL = "2x0 + 1x1"


def message(module, in_type="1x0", out_type=None, **options):
    with pytest.raises(AssertionError) as error:
        assert_equivariant(module, in_type, out_type or in_type, **{"wavelengths": ()} | options)
    return str(error.value)


def test_an_even_size_under_a_stride_is_named_with_the_part_and_an_exact_size():
    model = nn.Sequential(GatedBlock(gated_conv("1x0", SMALL), stride=2), GlobalMean(SMALL))
    text = message(model, out_type=SMALL, size=8)
    assert (
        "'0.low_pass' (LowPass) strides, and at 8 x 8 x 8 voxels its grid is off centre; at 9 x 9 x 9 it is exact"
        in text
    )
    assert_equivariant(model, "1x0", SMALL, size=9, wavelengths=())


def test_a_torch_layer_that_strides_is_named_too():
    text = message(nn.Sequential(nn.AvgPool3d(2)), size=9)
    assert (
        "'0' (AvgPool3d) strides, and at 9 x 9 x 9 voxels its grid is off centre; at 10 x 10 x 10 it is exact" in text
    )


@pytest.mark.parametrize("function", [nn.ReLU(), nn.Softplus(), nn.GELU()])
def test_a_function_of_components_is_named(function):
    model = nn.Sequential(OracleConv("1x0", SMALL), function, OracleConv(SMALL, "1x0"))
    text = message(model)
    part = f"its part '1' ({type(function).__name__})"
    assert f"{part} commutes with the turns of scalars, but acts on the components of 2x0 + 1x1" in text
    assert "Use Gate or NormActivation" in text


@pytest.mark.parametrize("function", [nn.Tanh(), nn.BatchNorm3d(5)])
def test_a_function_of_components_that_turns_cannot_see_is_named(function):
    """Odd functions of components, and norms of them, commute with all signed permutations, with no other rotation."""
    model = nn.Sequential(OracleConv("1x0", SMALL), function, OracleConv(SMALL, "1x0"))
    text = message(model, wavelengths=(8,), max_rotation_error=1e-6, rotations=1)
    assert f"its part '1' ({type(function).__name__}) acts on the components of 2x0 + 1x1 one by one" in text
    steerable = nn.Sequential(OracleConv("1x0", "2x0 + 1x1 + 1x0"), Gate("2x0 + 1x1 + 1x0"))
    text = message(steerable, out_type=SMALL, wavelengths=(8,), max_rotation_error=1e-9, rotations=1)
    assert "Use larger kernels" in text


class Stretched(OracleConv):
    """A kernel that knows of a spacing the test is not told."""

    def kernel(self):
        return super().kernel() * torch.tensor([0.5, 1, 0.5])


def test_an_axis_treated_unlike_the_others_is_named():
    text = message(nn.Sequential(Stretched("1x0", "1x0")))
    assert "'0' (Stretched) commutes with the turns that keep the z axis" in text and "voxel_spacing=" in text
    layer = Stretched("1x0", "1x0")
    layer.voxel_spacing = (1.0, 1.0, 2.0)
    assert assert_equivariant(layer, wavelengths=()).turns == 8


def test_a_wrong_forward_of_right_parts_is_blamed_on_the_whole():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = OracleConv("1x0", "1x0")

        def forward(self, fields):
            return self.conv(fields) * (1 + torch.linspace(-1, 1, fields.shape[2]).abs()).view(-1, 1, 1)

    text = message(Doubled())
    assert (
        "Each part that could be tested commutes with the turns, the whole commutes with the turns that keep the x axis"
        in text
    )


def test_an_unexplained_failure_is_called_unexplained():
    text = message(nn.Conv3d(1, 1, 3, padding=1))
    assert (
        "Found by testing the parts: it does not commute with the turns at other sizes, with fewer turns or on" in text
    )


def test_parts_in_place_and_with_two_inputs_do_not_break_the_diagnosis():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.sum, self.relu = OracleConv("1x0", "3x1"), Sum(), nn.ReLU(inplace=True)

        def forward(self, fields):
            return self.relu(self.sum(self.conv(fields), self.conv(fields)))

    assert "not equivariant" in message(Branches(), out_type="3x1")


@pytest.mark.parametrize("layer", [Gate("1x0 + 1x1 + 1x0"), BatchNorm(SMALL), LowPass("1x0", 2)])
def test_layers_that_treat_axes_alike_have_all_turns(layer):
    assert len(exact_turns(layer)) == 24 and len(exact_turns(layer, reflections=True)) == 48


def test_turns_and_spacing_are_found_in_the_tree():
    conv = OracleConv("1x0", "1x0")
    conv.voxel_spacing, conv.kernel_size = (1.0, 1.0, 3.0), (5, 5, 3)
    model = nn.Sequential(conv, nn.ReLU())
    assert voxel_spacing_of(model) == (1, 1, 3) and len(exact_turns(model)) == 8
    conv.kernel_size = (5, 3, 3)
    assert len(exact_turns(model)) == 4
    assert voxel_spacing_of(nn.ReLU()) == (1, 1, 1)
    assert len(exact_turns(unet(voxel_spacing=(2, 2, 4)))) == 8
    assert torch.equal(exact_turns(nn.ReLU()), cube_turns())


def test_sizes_of_the_caller_may_differ_between_axes():
    report = assert_equivariant(OracleConv("1x0", SMALL), size=(5, 6, 7), wavelengths=(8,), rotations=1)
    assert report.turns == 24
    layer = LowPass(SMALL, (2, 2, 1), voxel_spacing=(2, 2, 4))
    layer.voxel_spacing = (2.0, 2.0, 4.0)
    assert assert_equivariant(layer, size=(9, 9, 5), wavelengths=(24,), rotations=1, max_rotation_error=0.1).turns == 8


def test_a_functional_module_without_parts_is_diagnosed():
    class Blurred(nn.Module):
        def forward(self, fields):
            return F.avg_pool3d(fields, (3, 1, 1), 1, (1, 0, 0))

    assert "keep the x axis" in message(Blurred())
