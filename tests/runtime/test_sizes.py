"""Sizes at which strided networks commute with turns: found, padded to, and exact when tested there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runtime import GatedBlock, GlobalMean, exact_sizes, fit_volume
from runtime.testing import assert_equivariant
from runtime.volumes.sizes import _fit_open, off_centre
from tests.runtime.catalog import gated_conv
from tests.runtime.test_blocks import unet


def network(*strides, low_pass_size=None):
    convs = [gated_conv("4x0" if n else "1x0", "4x0") for n in range(len(strides))]
    pairs = zip(convs, strides, strict=True)
    blocks = [GatedBlock(conv, stride=stride, low_pass_size=low_pass_size) for conv, stride in pairs]
    return nn.Sequential(*blocks, GlobalMean("4x0"))


@pytest.mark.parametrize(
    ("strides", "sizes", "larger", "smaller"),
    [
        ((2, 2), 28, (29, 29, 29), (25, 25, 25)),  # 4 n + 1
        ((2, 2), 29, (29, 29, 29), (29, 29, 29)),
        ((2, 2, 2), (28, 33, 40), (33, 33, 41), (25, 33, 33)),
        (((2, 2, 1), 2), (28, 28, 12), (29, 29, 13), (25, 25, 11)),
        ((1,), 12, (12, 12, 12), (12, 12, 12)),
    ],
)
def test_exact_sizes_of_a_network(strides, sizes, larger, smaller):
    model = network(*strides)
    assert exact_sizes(model, sizes) == larger
    assert exact_sizes(model, sizes, smaller=True) == smaller


def test_exact_sizes_of_even_kernels_and_unets():
    assert exact_sizes(network(2, 2, low_pass_size=6), 30) == (32, 32, 32)
    assert exact_sizes(unet(), (30, 32, 33)) == (32, 32, 36)
    assert exact_sizes(unet(even=False), 30) == (33, 33, 33)
    assert exact_sizes(unet(voxel_spacing=(2, 2, 4)), (30, 30, 13)) == (32, 32, 14)


def test_exact_sizes_consider_layers_of_torch_too():
    assert exact_sizes(nn.Sequential(nn.Conv3d(1, 1, 3, stride=2, padding=1), nn.AvgPool3d(2)), 10) == (11, 11, 11)
    assert off_centre(nn.Conv3d(1, 1, 3, stride=3, padding=1, dilation=2), (9, 10, 11)) == (0, 1, 2)


def test_the_model_is_left_alone_and_what_cannot_be_is_said():
    model = network(2)
    before = [p.clone() for p in model.parameters()]
    exact_sizes(model, 8)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    never = nn.Sequential(nn.AvgPool3d(2, 2), nn.Conv3d(1, 1, 2, stride=2, padding=0), nn.Conv3d(1, 1, 3, stride=2))
    with pytest.raises(ValueError, match="has no layer with in_channels"):
        exact_sizes(nn.Sequential(nn.AvgPool3d(2)), 8)
    with pytest.raises(ValueError, match="no volume above 8 voxels"):
        exact_sizes(nn.Sequential(nn.Conv3d(1, 1, 3, stride=70), never), 8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=6, max_size=6))
def test_fitted_volumes_come_back(sizes):
    old, new = sizes[:3], sizes[3:]
    x = torch.randn(2, 1, *old)
    fitted = fit_volume(x, new)
    assert fitted.shape[2:] == tuple(new)
    if all(n >= o for o, n in zip(old, new, strict=True)):
        assert torch.equal(fit_volume(fitted, old), x) and fitted.sum() == pytest.approx(x.sum().item(), abs=1e-4)
    elif all(n <= o for o, n in zip(old, new, strict=True)):
        assert torch.equal(fit_volume(fit_volume(fitted, old), new), fitted)


def test_fit_volume_takes_labels_and_a_value():
    labels = torch.ones(3, 3, 3, dtype=torch.long)
    assert fit_volume(labels, 5, value=-1).sum() == 27 - (125 - 27)
    with pytest.raises(ValueError, match=r"takes volumes \(..., x, y, z\), got shape \(3, 3\)"):
        fit_volume(labels[0], 5)


def test_a_fitted_network_is_exact_at_the_users_size():
    model, size = network(2, 2), 10

    class Fitted(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.sizes = model, exact_sizes(model, size)

        def forward(self, volumes):
            return self.model(fit_volume(volumes, self.sizes))

    assert Fitted().sizes == (13, 13, 13)
    with pytest.raises(AssertionError):
        assert_equivariant(model, "1x0", "4x0", size=size, wavelengths=())
    assert_equivariant(model, "1x0", "4x0", size=13, wavelengths=())
    with pytest.raises(AssertionError):  # padded by three voxels, one side has one more: half a voxel off
        assert_equivariant(Fitted(), "1x0", "4x0", size=size, wavelengths=())
    assert_equivariant(Fitted(), "1x0", "4x0", size=11, wavelengths=())


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 3), st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([0.0, -100.0]))
def test_sizes_that_are_open_are_fitted_as_known_ones(have, want, value):
    """What exporters see picks voxels by index; what everybody else sees pads."""
    volumes = torch.randn(2, 3, *have)
    assert torch.equal(_fit_open(volumes, want, value), fit_volume(volumes, want, value=value))
    labels = torch.randint(5, have)
    assert torch.equal(_fit_open(labels, want, value), fit_volume(labels, want, value=value))
