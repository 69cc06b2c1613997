"""The test tool for signals: what is equivariant passes, what is not is found."""

import pytest
import torch
from torch import nn

import runtime as rt
from runtime.spheres.activation import SphereActivation
from runtime.spheres.testing import assert_equivariant
from tests.runtime_spheres.transforms import sphere_transform


class Broken(rt.FieldLayer):
    def __init__(self, change):
        super().__init__("2x0 + 2x1 + 1x2")
        self.change = change

    def forward(self, fields):
        return self.change(fields)


def scaled(channel, factor):
    def change(fields):
        scale = torch.ones(13, dtype=fields.dtype)
        scale[channel] = factor
        return fields * scale.reshape(-1, *[1] * (fields.ndim - 2))

    return change


@pytest.mark.parametrize("space", [(), (2, 3)])
def test_equivariant_layers_pass(space):
    report = assert_equivariant(rt.Linear("4x0 + 2x1 + 3x2", "2x2 + 1x0"), space=space)
    assert report.worst < 1e-13 and {e.spectrum for e in report.errors} == {"white", "falling"}
    parity = "2x0e + 1x0o + 2x1o + 1x2e"
    assert_equivariant(rt.NormActivation(parity), space=space)
    assert "16 random rotations" in str(report)


def test_a_component_that_is_scaled_or_mixed_is_found():
    for change in (scaled(3, 1.001), scaled(12, -1), lambda x: x.flip(1), lambda x: x.tanh()):
        with pytest.raises(AssertionError, match="Broken is not equivariant to"):
            assert_equivariant(Broken(change))


def test_a_scalar_that_is_not_a_pseudoscalar_is_found():
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(Broken(lambda x: x), "2x0e + 2x1o + 1x2e", "1x0e + 1x0o + 2x1o + 1x2e")


def test_what_proves_nothing_fails():
    with pytest.raises(AssertionError, match="proves nothing"):
        assert_equivariant(Broken(torch.zeros_like))
    with pytest.raises(AssertionError, match="proves nothing"):
        assert_equivariant(Broken(lambda x: x * torch.nan))
    with pytest.raises(AssertionError, match=r"shape \(16, 12\)"):
        assert_equivariant(Broken(lambda x: x[:, 1:]))
    with pytest.raises(ValueError, match="Identity has no attribute in_type"):
        assert_equivariant(nn.Identity())


def test_sampled_layers_by_band_limit_and_spectrum():
    layer = SphereActivation(sphere_transform(2, 8))
    report = assert_equivariant(layer, tolerance=0.5, limits=(2, 4, 8))
    errors = {(e.limit, e.spectrum): e.mean for e in report.errors}
    assert len(errors) == 6 and errors[2, "white"] < errors[4, "white"] < errors[8, "white"]
    assert errors[8, "falling"] < errors[8, "white"]
    with pytest.raises(AssertionError, match=r"not equivariant to 1\.0e-02"):
        assert_equivariant(layer, tolerance=0.01)


def test_an_output_that_vanishes_in_one_orientation_alone_is_an_error_and_no_division_by_it():
    """Mostly one scalar: where it is negative, ReLU leaves nothing, or a little in some orientations."""
    layer = SphereActivation(sphere_transform(1, 4))
    spectrum = {"nearly constant": lambda l: 1.0 if l == 0 else 0.3}
    report = assert_equivariant(layer, tolerance=1, rotations=400, spectra=spectrum)
    assert report.errors[0].mean < report.worst <= 2
