"""Every layer commutes with rotations; the test itself sees those that do not."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

import runtime as rt
from runtime.fields import describe, has_parity
from runtime.so3 import cube_turns
from runtime.strategies import field_types, rotations, smooth_fields
from runtime.testing import SmoothField, assert_equivariant
from runtime.volumes.rotate import mix_components
from tests.runtime.catalog import CASES, randomized
from tests.runtime.oracle import OracleConv


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_is_equivariant(case):
    report = assert_equivariant(
        randomized(case.make()), size=case.size, **{"rotations": 2, "wavelengths": (8,)} | case.check
    )
    assert report.turns == (48 if "parity" in case.name else 24)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_parameter_has_a_gradient(case):
    """DDP waits for the gradient of every parameter, also of those without elements."""
    layer = case.make()
    x = torch.randn(2, layer.in_channels, *[case.size] * 3, requires_grad=True)
    layer(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@settings(max_examples=12, deadline=None)
@given(field_types())
def test_layers_take_any_field_type(field_type):
    turns = cube_turns(reflections=has_parity(field_type))[3::11]
    for layer in (
        rt.Gate(rt.gated_type(field_type)),
        rt.NormActivation(field_type),
        rt.Norm(field_type),
        rt.BatchNorm(field_type),
        rt.GroupNorm(field_type),
        rt.FieldDropout(field_type, 0.01),
        rt.Linear(field_type, field_type),
    ):
        assert_equivariant(layer, size=3, wavelengths=(), turns=turns)


def test_oracle_convolution_improves_with_the_wavelength():
    torch.manual_seed(0)
    report = assert_equivariant(OracleConv("1x0 + 1x1", "2x0 + 1x1 + 1x2", 5), batch=1)
    errors = [error for _, error in report.rotation_errors]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.05
    assert "24 turns" in str(report) and "wavelength 16" in str(report)


class PerComponent(nn.Module):
    """A function of each channel by itself."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, fields):
        return self.function(fields)


BROKEN = {
    "plain convolution": (nn.Conv3d(4, 4, 3, padding=1), "1x0 + 1x1"),
    "scalar convolution": (nn.Conv3d(1, 1, 3, padding=1), "1x0"),
    "relu of vectors": (PerComponent(F.relu), "1x1"),
    "batch norm per channel": (nn.BatchNorm3d(5), "1x2"),
    "shifted odd scalar": (PerComponent(lambda f: f + 1), "1x0o"),
    "relu of odd scalars": (PerComponent(F.relu), "1x0o"),
    "field read as its transpose": (PerComponent(lambda f: f.flip(1)), "2x1"),
    "one axis blurred": (PerComponent(lambda f: F.avg_pool3d(f, (3, 1, 1), 1, (1, 0, 0))), "1x0"),
    "one axis strided": (PerComponent(lambda f: f[:, :, ::2]), "1x0"),
    "stride off centre": (PerComponent(lambda f: f[:, :, ::2, ::2, ::2]), "1x0"),
    "zero": (PerComponent(lambda f: 0 * f), "1x0"),
    "not finite": (PerComponent(lambda f: f / 0), "1x0"),
    "not finite when turned": (PerComponent(lambda f: f / (f[0, 0, 0, 0, 0] < -2)), "1x0"),
    "wrong channel count": (PerComponent(lambda f: f[:, :1]), "1x0 + 1x1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_module_is_rejected(name):
    module, field_type = BROKEN[name]
    with pytest.raises(AssertionError):
        assert_equivariant(module, field_type, field_type, size=8)


def test_failure_names_the_turn_and_the_error():
    with pytest.raises(AssertionError, match=r"Conv3d is not equivariant \(1x0 -> 1x0, 9\^3\): turn \(\(.*e[+-]\d\d"):
        assert_equivariant(nn.Conv3d(1, 1, 3), "1x0", "1x0")


def test_reflections_are_tested_only_with_parity():
    relu = PerComponent(F.relu)
    assert_equivariant(relu, "1x0", "1x0")
    assert_equivariant(relu, "1x0e", "1x0e")
    with pytest.raises(AssertionError):
        assert_equivariant(relu, "1x0o", "1x0o")


def test_rotations_see_what_turns_cannot():
    """x -> x^3 per component commutes with all signed permutations, but with no other rotation."""
    cube = PerComponent(lambda fields: fields**3)
    report = assert_equivariant(cube, "1x1", "1x1")
    assert report.turn_error < 1e-12 < 0.1 < min(error for _, error in report.rotation_errors)
    with pytest.raises(AssertionError, match="wavelength"):
        assert_equivariant(cube, "1x1", "1x1", max_rotation_error=0.1)


def test_turns_may_be_a_subgroup():
    """A blur of different width along z is equivariant to turns about z alone, as on anisotropic voxels."""
    blur = PerComponent(lambda fields: F.avg_pool3d(fields, (3, 3, 5), 1, (1, 1, 2)))
    about_z = cube_turns()[cube_turns()[:, 2, 2] == 1]
    report = assert_equivariant(blur, "1x0", "1x0", turns=about_z, voxel_spacing=(1, 1, 2))
    assert report.turns == 4
    with pytest.raises(AssertionError):
        assert_equivariant(blur, "1x0", "1x0")


def test_module_is_left_alone():
    layer = rt.BatchNorm("2x0 + 1x1")
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    assert_equivariant(layer, wavelengths=())
    assert layer.training and layer.weight.dtype == torch.float32
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_unknown_field_types_are_refused():
    with pytest.raises(ValueError, match=r"Conv3d has no attribute in_type\. Pass in_type="):
        assert_equivariant(nn.Conv3d(1, 1, 3))


@settings(max_examples=20, deadline=None)
@given(field_types(parity=False), rotations())
def test_smooth_field_rotates_as_a_field_does(field_type, rotation):
    """f'(r x) = D(r) f(x), at a point where neither grid has a voxel centre but both fields are known."""
    field = SmoothField.random(field_type, 7.0, 3.0)
    x = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)

    def value(f, point):
        envelope = torch.exp(-point.square().sum() / (2 * f.width**2))
        return (envelope * torch.cos(f.waves @ point + f.phases) @ f.amplitudes)[None]

    expected = mix_components(value(field, x), rotation, field_type)
    torch.testing.assert_close(value(field.rotated(rotation), rotation @ x), expected)


@settings(max_examples=10, deadline=None)
@given(smooth_fields("1x0"))
def test_smooth_field_sample_is_its_formula(field):
    values = field.sample(5)
    point = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    expected = torch.exp(-point.square().sum() / (2 * field.width**2)) * (
        torch.cos(field.waves @ point + field.phases) @ field.amplitudes
    )
    torch.testing.assert_close(values[0, :, 3, 0, 2], expected)
    assert describe(field.field_type) == "1x0"
