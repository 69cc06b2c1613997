"""Signals as coefficients: points, evaluation, smoothing, rotations."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch.nn import functional as F

from runtime.so3 import random_rotations
from runtime.spheres.signals import (
    RandomSignalRotation,
    as_channels,
    as_packed,
    band_limit,
    evaluate,
    fit,
    harmonics,
    point_density,
    power_spectrum,
    rotate_signal,
    signal_type,
    smooth,
)


def directions(count):
    return F.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


def test_harmonics_are_orthonormal_and_scipys():
    points = directions(20)
    y, x, z = points[:, 0], points[:, 2], points[:, 1]  # the standard axes (x, y, z) are our (z, x, y)
    theta, phi = torch.arccos(z), torch.atan2(y, x)
    table = harmonics(9, points)
    for l in range(9):
        for m in range(-l, l + 1):
            theirs = sph_harm_y(l, abs(m), theta.numpy(), phi.numpy()) * (-1) ** m * math.sqrt(2 if m else 1)
            expected = theirs.imag if m < 0 else theirs.real
            np.testing.assert_allclose(table[:, l * l + l + m], expected, atol=1e-13)


def test_channels_and_packed_are_one_signal():
    packed = torch.randn(2, 3, 16, 5)
    fields = as_channels(packed)
    assert fields.shape == (2, 48, 5)
    terms = signal_type(3, 4)
    assert [term.degree for term in terms] == [0, 1, 2, 3] and band_limit(terms) == 4
    assert torch.equal(as_packed(fields, terms), packed)
    # degree 1, copy 2, m = 0: after 3 scalars and two vectors
    assert torch.equal(fields[:, 3 + 2 * 3 + 1], packed[:, 2, 2])
    with pytest.raises(ValueError, match="is not made of signals"):
        as_packed(torch.zeros(1, 5), "2x0 + 1x1")
    with pytest.raises(ValueError, match="5 coefficients, which is not a square"):
        as_channels(torch.zeros(1, 1, 5))


def test_fit_finds_a_band_limited_signal():
    f, points = torch.randn(3, 25, dtype=torch.float64), directions(200)
    torch.testing.assert_close(fit(points, evaluate(f, points), 5), f, atol=1e-10, rtol=0)
    with pytest.raises(ValueError, match="20 points do not determine the 25 coefficients of band limit 5"):
        fit(points[:20], torch.zeros(20), 5)


def test_a_ridge_fits_few_points():
    points, values = directions(10), torch.randn(10, dtype=torch.float64)
    f = fit(points, values, 5, ridge=1e-9)
    torch.testing.assert_close(evaluate(f, points), values, atol=1e-5, rtol=0)


def test_point_density_is_the_adjoint_of_evaluation():
    f, points, weights = torch.randn(25, dtype=torch.float64), directions(7), torch.randn(7, dtype=torch.float64)
    torch.testing.assert_close(evaluate(f, points) @ weights, f @ point_density(points, weights, 5))


def test_smoothing_is_diffusion():
    """The mean stays; twice with w is once with w sqrt(2); a point becomes a Gaussian of that width."""
    f = point_density(torch.tensor([[0.0, 1, 0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64), 16)
    wide = smooth(f, 0.35)
    assert wide[0] == f[0]
    torch.testing.assert_close(smooth(smooth(f, 0.1), 0.1), smooth(f, 0.1 * math.sqrt(2)))
    angle = torch.linspace(0, 1, 7, dtype=torch.float64)
    values = evaluate(wide, torch.stack([angle.sin(), angle.cos(), 0 * angle], -1))
    gaussian = torch.exp(-(angle**2) / (2 * 0.35**2)) / (2 * math.pi * 0.35**2)
    assert (values - gaussian).abs().max() < 0.05 * gaussian[0]


@pytest.mark.parametrize("count", [1, 4])
def test_rotation_moves_the_values(count):
    """(D f)(r u) = f(u), one rotation for all samples or one each."""
    f, points = torch.randn(4, 2, 64, dtype=torch.float64), directions(30)
    r = random_rotations(count)
    turned = as_packed(rotate_signal(as_channels(f), r if count > 1 else r[0], signal_type(2, 8)), signal_type(2, 8))
    for i in range(4):
        r_i = r[i if count > 1 else 0]
        torch.testing.assert_close(evaluate(turned[i], points @ r_i.mT), evaluate(f[i], points), atol=1e-11, rtol=0)


def test_augmentation_turns_in_training_alone():
    layer = RandomSignalRotation("2x0 + 2x1 + 2x2")
    x = torch.randn(5, 18, 3)
    assert layer.eval()(x) is x
    y = layer.train()(x)
    assert y.shape == x.shape and not torch.allclose(y[:, 2:], x[:, 2:])
    before, after = (power_spectrum(as_packed(z, layer.in_type).movedim(2, -1)) for z in (x, y))
    torch.testing.assert_close(before, after)
